"""The kernel, a function of two batches of inputs, and what leaving examples out makes of it.

A kernel says how alike two inputs are to the network it stands for. Subclasses give `block`, the
values between two small batches, and `diagonal`; `assemble` cuts large matrices into tiles.

`refit(keep, labels, …)` is the kernel without some of the training examples, or with other labels of
them. A kernel that has seen no labels stays as it is, and its matrices lose rows and columns
(`KernelOfSubset`); one that is fitted to labels is fitted again (`label_dependent`).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from leftout.kernels.distortion import Distortion
from leftout.kernels.tiles import FeatureBytes, Tile, TileWork, pair_tiles

Normalise = Literal["unit", "sphere", "standard"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Queries compared with all training inputs, once for every kernel that is refitted.

    Attributes:
        cross: K(queries, training inputs).
        pairs: what a kernel that is fitted to labels needs to be fitted again; None of others.
    """

    cross: Float64[Tensor, "mrows rows"]
    pairs: Any = None


class RefitKernel(ABC):
    """A kernel fitted to some of the training examples, between inputs that were compared before."""

    @property
    @abstractmethod
    def kernel(self) -> "Kernel":
        """Return it as a kernel between any inputs."""

    @property
    @abstractmethod
    def gram(self) -> Float64[Tensor, "k k"]:
        """Return the kernel between the examples that it is fitted to."""

    @property
    @abstractmethod
    def definite(self) -> bool:
        """Return whether the Gram matrix has no negative eigenvalue, whatever the labels."""

    @abstractmethod
    def cross(self, comparison: Comparison) -> Float64[Tensor, "m k"]:
        """Return the kernel between queries and the examples that it is fitted to."""

    @abstractmethod
    def without_gram(self) -> "RefitKernel":
        """Return the same without its Gram matrix: one is kept for every example left out."""


class Kernel(ABC):
    """k(x, z), symmetric and, unless it says otherwise, positive semi-definite.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> class Linear(lo.kernels.Kernel):
        ...     record = {"name": "linear"}
        ...     def block(self, queries, inputs):
        ...         return queries @ inputs.T
        ...     def diagonal(self, inputs):
        ...         return inputs.square().sum(1)
        ...     def check(self, name, inputs):
        ...         assert inputs.ndim == 2
        >>> lo.kernels.gram(Linear(), torch.tensor([[3.0, 4.0], [4.0, -3.0]]))
        tensor([[25.,  0.],
                [ 0., 25.]], dtype=torch.float64)
    """

    normalise: Normalise | None = None
    """How loading should scale inputs for this kernel when the user does not say."""

    definite: bool = True
    """Whether its matrices are positive semi-definite; those of kernels that see labels need not be."""

    @property
    def outputs(self) -> int | None:
        """Return k where the kernel tells outputs apart, None where one value serves all of them.

        Its matrices then have k rows an input, input by input: row i·k + o is output o of input i.
        """
        return None

    @property
    def dtype(self) -> torch.dtype | None:
        """Return the dtype that it is evaluated in whatever was asked; None where it follows."""
        return None

    @abstractmethod
    def block(self, queries: Float[Tensor, "m ..."], inputs: Float[Tensor, "n ..."]) -> Float[Tensor, "m n"]:
        """Return k(queries, inputs), in the dtype and on the device of the inputs.

        A kernel that tells outputs apart returns (m k, n k).
        """

    @abstractmethod
    def diagonal(self, inputs: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        """Return k(x, x) for every input; (n k) where outputs are told apart."""

    @abstractmethod
    def check(self, name: str, inputs: Tensor) -> None:
        """Raise unless `inputs`, called `name` in messages, are what this kernel is defined on."""

    @property
    @abstractmethod
    def record(self) -> dict[str, Any]:
        """Return name and parameters, JSON-like: enough to say which kernel this was."""

    is_trained: bool = False
    """Whether the model is the network as it stands, so that only edits of the data move it."""

    def network_outputs(self, inputs: Float[Tensor, "n ..."]) -> int | None:
        """Return how many outputs its network has, or None where it is of no network in particular."""
        first = self.initial(inputs[:1])
        return self.outputs if first is None else first.shape[1]

    @property
    def part(self) -> str:
        """Return in words which of a network's weights it moves; empty where all, or where there is none."""
        return ""

    depends_on_labels: bool = False
    """Whether it is fitted to labels, and another kernel without an example."""

    @property
    def label_blind(self) -> "Kernel":
        """Return the kernel before it saw a label: itself, unless it is fitted to labels."""
        return self

    @property
    def doubt(self) -> str:
        """Return why its values should not be relied on; empty where they can be."""
        return ""

    def fit_labels(
        self, inputs: Tensor, labels: Tensor | None, targets: Tensor | None = None, **options: Any
    ) -> "Kernel":
        """Return the kernel that the labels of training examples make of it: itself, if it sees none."""
        return self

    def freeze_labels(self) -> "Kernel":
        """Return the kernel as it is now, whatever is left out or relabelled."""
        return self

    def refit(
        self,
        keep: Int64[Tensor, " k"],
        labels: Int64[Tensor, " k"] | None,
        targets: Float64[Tensor, "k c"],
        *,
        gram: Float64[Tensor, "rows rows"],
    ) -> RefitKernel:
        """Return the kernel fitted to some of the training examples.

        Args:
            keep: rows of the training examples.
            labels, targets: of these, in their order; not looked at by a kernel that sees none.
            gram: the kernel between all training inputs.
        """
        return KernelOfSubset(self, keep, gram)

    def initial(self, inputs: Float[Tensor, "n ..."]) -> Tensor | None:
        """Return f_0 at the inputs, (n, k), or None where f_0 = 0 (infinitely wide networks)."""
        return None

    def prior(self) -> "Kernel | None":
        """Return the kernel of the Gaussian process that its networks are before training, or None.

        None where it is not known from the kernel how a network's weights are drawn: of a matrix, a
        function or a network as it is, and of `TwoLayerReLU`, which does not depend on their scale
        (`ArcCosine(scale)` is its prior).
        """
        return None

    def distortion(self, inputs: Tensor) -> Distortion | None:
        """Return how far it is from the kernel that it approximates, on a sample; None if it is exact."""
        return None

    def row_numbers(self, inputs: Tensor) -> int | None:
        """Return d, where the kernel is a product of rows of d numbers that `rows` makes; else None."""
        return None

    @property
    def copies_rows(self) -> bool:
        """Return whether those rows take memory beside the inputs."""
        return True

    def rows(self, inputs: Float[Tensor, "n ..."]) -> Float64[Tensor, "nr d"]:
        """Return those rows, in the order of the kernel's own, on the device of the inputs."""
        raise NotImplementedError

    def within(self, budget: int) -> "Kernel":
        """Return the kernel as a model with so many bytes uses it: itself, unless it makes features.

        What the two learn of inputs they share.
        """
        return self

    def feature_bytes(self, inputs: Tensor) -> FeatureBytes | None:
        """Return what it takes for features of such inputs, None where it makes none."""
        return None

    def tiles(self, queries: Tensor, inputs: Tensor | None, work: TileWork) -> Iterator[Tile]:
        """Return tiles that cover K(queries, inputs), or a triangle of K(queries) if `inputs` is None.

        In a triangle, tiles on the diagonal are square. Values are on the device of `work`.

        Raises:
            MemoryBudgetError: it does not fit; nothing was allocated.
        """
        return pair_tiles(self.block, queries, inputs, work)


@final
class KernelOfSubset(RefitKernel):
    """A kernel that does not depend on labels, on some of the training examples: a sub-matrix."""

    def __init__(self, kernel: Kernel, keep: Int64[Tensor, " k"], gram: Float64[Tensor, "rows rows"]) -> None:
        self._kernel = kernel
        self._rows = rows_of_examples(keep, kernel.outputs or 1)
        # Both axes at once: no copy of whole rows, which takes twice as long.
        self._gram: Tensor | None = gram[self._rows[:, None], self._rows]

    @property
    def kernel(self) -> Kernel:
        return self._kernel

    @property
    def gram(self) -> Float64[Tensor, "k k"]:
        assert self._gram is not None, "it was dropped"
        return self._gram

    @property
    def definite(self) -> bool:
        return self._kernel.definite

    def cross(self, comparison: Comparison) -> Float64[Tensor, "m k"]:
        return comparison.cross[:, self._rows]

    def without_gram(self) -> "KernelOfSubset":
        lean = copy(self)
        lean._gram = None
        return lean


def rows_of_examples(examples: Int64[Tensor, " e"], outputs: int) -> Int64[Tensor, " rows"]:
    """Return the rows that examples have in a matrix with `outputs` rows an example."""
    if outputs == 1:
        return examples
    return (examples[:, None] * outputs + torch.arange(outputs, device=examples.device)).flatten()
