"""The kernel on the training inputs, and between them and queries; what was compared last is kept."""

from typing import final, overload

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from leftout.core.product_matrix import ProductMatrix
from leftout.core.structured_matrix import StructuredMatrix
from leftout.core.views import rows_within
from leftout.kernels import assemble
from leftout.kernels.base import Comparison, Kernel, RefitKernel, rows_of_examples
from leftout.kernels.label_dependent import FittedLabelKernel

MATRICES_OF_PAIRS = 3
"""Matrices of pairs that are kept beside K(queries, X) for a kernel that is fitted to labels."""


COMPARISON_SHARE = 8
"""A comparison that takes more than one of so many parts of the memory is not kept."""


@final
class KernelRows:
    """Rows of a kernel over the training inputs.

    A kernel with k outputs has k rows an example, side by side; another has one.

    Attributes:
        kernel: between any inputs.
        inputs: of the training examples.
        gram: K(inputs, inputs), without ridge.
        dtype: in which the kernel is evaluated.
        memory: budget in bytes.
        tile_dtype: of the tiles in which `gram` is factored, where it is an `EvaluatedMatrix`.
        outputs_per_example: rows of an example.
    """

    def __init__(
        self,
        kernel: Kernel,
        inputs: Float[Tensor, "n ..."],
        gram: Float64[Tensor, "rows rows"],
        *,
        dtype: torch.dtype,
        memory: int,
        tile_dtype: torch.dtype = torch.float64,
    ) -> None:
        self.kernel = kernel
        self.inputs = inputs
        self.gram = gram
        self.dtype = dtype
        self.memory = memory
        self.tile_dtype = tile_dtype
        self.outputs_per_example = kernel.outputs or 1
        # A kernel fitted to labels knows its own examples by their pairs; on others it is a kernel like any.
        on_these = isinstance(kernel, FittedLabelKernel) and kernel.fitted_on(inputs)
        self._by_pairs = kernel if on_these and isinstance(kernel, FittedLabelKernel) else None
        self._last: tuple[Tensor, Comparison] | None = None

    @property
    def matrices(self) -> int:
        """Return how many matrices (queries × rows) a comparison holds."""
        return 1 if self._by_pairs is None else 1 + MATRICES_OF_PAIRS

    def with_kernel(self, kernel: Kernel, gram: Float64[Tensor, "rows rows"] | None = None) -> "KernelRows":
        """Return the same rows of another kernel, which has the same matrix if none is given."""
        rows = KernelRows(
            kernel,
            self.inputs,
            self.gram if gram is None else gram,
            dtype=self.dtype,
            memory=self.memory,
            tile_dtype=self.tile_dtype,
        )
        rows._last = self._last if gram is None else None
        return rows

    def keep_comparison(self, queries: Float[Tensor, "m ..."]) -> None:
        """Compare queries with the training inputs once, and keep that for them and slices of them.

        Nothing is kept where `comparison_is_kept` says that it is too large.
        """
        size = 8 * self.matrices * len(queries) * self.outputs_per_example * len(self.gram)
        if comparison_is_kept(size, self.memory):
            self._last = (queries, self.compare(queries))

    def compare(self, queries: Float[Tensor, "m ..."]) -> Comparison:
        """Return queries compared with the training inputs, for this kernel and all its refits."""
        if self._last is not None:
            place = rows_within(queries, self._last[0])
            if place is not None:
                comparison = self._last[1]
                pairs = None if comparison.pairs is None else comparison.pairs.of(place, slice(None))
                return Comparison(comparison.cross[self.of_examples(place)], pairs)
        if self._by_pairs is not None:
            return self._by_pairs.compare(queries)
        if isinstance(self.gram, ProductMatrix):  # the rows of the training inputs are there
            rows = self.kernel.rows(queries.to(self.gram.device))
            return Comparison(ProductMatrix(rows, self.gram.left, room=self.gram.room))
        return Comparison(self.between(queries, self.inputs))

    def compare_training(self, examples: slice) -> Comparison:
        """Return some training inputs compared with all of them; nothing is evaluated."""
        if self._by_pairs is not None:
            return self._by_pairs.compare_training(examples)
        return Comparison(self.gram[self.of_examples(examples)])

    def between(
        self, queries: Float[Tensor, "m ..."], inputs: Float[Tensor, "a ..."]
    ) -> Float64[Tensor, "mrows arows"]:
        """Return the kernel between any two batches; nothing that is known of the training inputs is used."""
        return assemble.cross(
            self.kernel, queries, inputs, dtype=self.dtype, device=self.gram.device, memory=self.memory
        )

    def before_labels(self) -> "KernelRows":
        """Return the rows of the kernel before it saw a label: the same unless it is fitted to labels."""
        kernel = self.kernel.label_blind
        if kernel is self.kernel:
            return self
        if self._by_pairs is not None:
            return self.with_kernel(kernel, self._by_pairs.gram_before_labels)
        gram = assemble.gram(
            kernel, self.inputs, dtype=self.dtype, device=self.gram.device, memory=self.memory
        )
        return self.with_kernel(kernel, gram)

    def refit(
        self, keep: Int64[Tensor, " k"], labels: Int64[Tensor, " k"] | None, targets: Float64[Tensor, "k c"]
    ) -> RefitKernel:
        """Return the kernel fitted to some of the examples, with these labels of them."""
        return self.kernel.refit(keep, labels, targets, gram=self.gram)

    @overload
    def of_examples(self, examples: slice) -> slice: ...

    @overload
    def of_examples(self, examples: Int64[Tensor, " e"]) -> Int64[Tensor, " rows"]: ...

    def of_examples(self, examples: slice | Int64[Tensor, " e"]) -> slice | Int64[Tensor, " rows"]:
        """Return the rows that belong to some examples, example by example."""
        outputs = self.outputs_per_example
        if isinstance(examples, slice):
            return examples if outputs == 1 else slice(examples.start * outputs, examples.stop * outputs)
        return rows_of_examples(examples, outputs)

    def among(self, examples: Int64[Tensor, " e"], others: Int64[Tensor, " o"]) -> Float64[Tensor, "e o"]:
        """Return the kernel between some training examples and others, summed over its outputs."""
        outputs = self.outputs_per_example
        if outputs == 1:
            block = self.gram[examples[:, None], others]
            return block.numbers if isinstance(block, StructuredMatrix) else block
        rows = [self.summed_over_outputs(slice(row, row + 1))[0, others] for row in examples.tolist()]
        return torch.stack(rows)

    def summed_over_outputs(self, examples: slice) -> Float64[Tensor, "e n"]:
        """Return the kernel between some examples and all, summed over its outputs."""
        outputs = self.outputs_per_example
        rows = self.gram[self.of_examples(examples)]
        if isinstance(rows, ProductMatrix):
            return rows.summed_over(outputs)
        if outputs == 1:
            return rows.make_numbers() if isinstance(rows, StructuredMatrix) else rows.clone()
        pairs = torch.unflatten(torch.unflatten(rows, 1, (-1, outputs)), 0, (-1, outputs))  # (e, b, n, b)
        return pairs.diagonal(dim1=1, dim2=3).sum(2)


def comparison_is_kept(size: int, memory: int) -> bool:
    """Return whether a comparison of so many bytes is kept."""
    return size <= memory // COMPARISON_SHARE
