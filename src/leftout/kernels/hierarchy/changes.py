"""The change Σ_ij C_ij m E K₄ of the kernel: as a mean over drawn neurons, or exactly by orthants."""

from abc import ABC, abstractmethod
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.core.blocks import blocks
from leftout.kernels.hierarchy.fourth_order import WeightedExamples
from leftout.kernels.hierarchy.pull import Pull
from leftout.kernels.hierarchy.relu_fourth import exact_change, fourth_order
from leftout.kernels.hierarchy.sampled import (
    HELD,
    PIECE,
    Draw,
    SampledMean,
    expected_change,
    expected_own_change,
)
from leftout.kernels.tiles import TEMPORARIES


class Changes(ABC):
    """m times the change of the kernel of a network trained on some examples."""

    @abstractmethod
    def between(self, queries: Float64[Tensor, "m d"], inputs: Float64[Tensor, "n d"] | None) -> SampledMean:
        """Return it for all pairs, of the queries among themselves where `inputs` is None."""

    @abstractmethod
    def own(self, inputs: Float64[Tensor, "n d"]) -> SampledMean:
        """Return it for every input with itself."""

    @abstractmethod
    def bytes(self, rows: int, columns: int) -> int:
        """Return about how many bytes all pairs take, those of the result not counted."""


def change_of(
    inputs: Float64[Tensor, "n d"], pulled: Pull, *, draw: Draw | None, memory: int | float | str | None
) -> Changes:
    """Return the change: a mean over drawn neurons, or for None exactly, of ReLU."""
    if draw is None:
        return Orthants(inputs, pulled, memory)
    return Neurons(WeightedExamples(inputs, pulled), draw)


@final
class Neurons(Changes):
    """The mean over drawn neurons."""

    def __init__(self, examples: WeightedExamples, draw: Draw) -> None:
        self.examples, self.draw = examples, draw

    def between(self, queries: Float64[Tensor, "m d"], inputs: Float64[Tensor, "n d"] | None) -> SampledMean:
        x = self._reuse_examples(queries)
        z = x if inputs is None else self._reuse_examples(inputs)
        return expected_change(self.draw, self.examples, x, z)

    def own(self, inputs: Float64[Tensor, "n d"]) -> SampledMean:
        return expected_own_change(self.draw, self.examples, self._reuse_examples(inputs))

    def bytes(self, rows: int, columns: int) -> int:
        points = rows + columns + len(self.examples.inputs)
        return 8 * (TEMPORARIES * rows * columns + HELD * PIECE * points)

    def _reuse_examples(self, points: Float64[Tensor, "n d"]) -> Float64[Tensor, "n d"]:
        """Return the tensor of the examples if the points equal it: their responses are not made twice."""
        examples = self.examples.inputs
        return examples if points.shape == examples.shape and torch.equal(points, examples) else points


@final
class Orthants(Changes):
    """The expectation over all ReLU networks, exactly.

    Queries are taken a third of the number of examples at a time: each time the table has all fours of those,
    the examples and the inputs.
    """

    def __init__(
        self, inputs: Float64[Tensor, "n d"], pulled: Pull, memory: int | float | str | None
    ) -> None:
        self.inputs, self.pairs, self.memory = inputs, pulled.pairs, memory

    def between(self, queries: Float64[Tensor, "m d"], inputs: Float64[Tensor, "n d"] | None) -> SampledMean:
        if inputs is None:
            return _exact(self._among(queries, queries))
        changes = [self._among(queries[rows], inputs) for rows in self._blocks(queries)]
        return _exact(torch.cat([queries.new_zeros(0, len(inputs)), *changes]))

    def own(self, inputs: Float64[Tensor, "n d"]) -> SampledMean:
        changes = [self._among(inputs[rows], inputs[rows], all_pairs=False) for rows in self._blocks(inputs)]
        return _exact(torch.cat([inputs.new_zeros(0), *changes]))

    def bytes(self, rows: int, columns: int) -> int:
        return 8 * TEMPORARIES * rows * columns  # the table of all fours checks its own memory

    def _blocks(self, queries: Tensor) -> list[slice]:
        return list(blocks(len(queries), max(1, len(self.inputs) // 3)))

    def _among(self, queries: Tensor, inputs: Tensor, *, all_pairs: bool = True) -> Tensor:
        """Return the change between all pairs, or the pairs of equal place."""
        # Inputs that occur on several sides are one input of the table.
        distinct, places = torch.unique(torch.cat([queries, inputs, self.inputs]), dim=0, return_inverse=True)
        a, b, examples = places.split([len(queries), len(inputs), len(self.inputs)])
        table = fourth_order(distinct, memory=self.memory)
        if all_pairs:
            return exact_change(table, self.pairs, a, b, examples)
        return torch.cat(
            [exact_change(table, self.pairs, a[[k]], b[[k]], examples).flatten() for k in range(len(a))]
        )


def _exact(change: Tensor) -> SampledMean:
    return SampledMean(change, torch.zeros_like(change))
