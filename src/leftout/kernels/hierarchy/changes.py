"""How is Σ_ij C_ij m E K₄ found: by drawn neurons, or by orthants?"""

from abc import ABC, abstractmethod
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.core.blocks import blocks
from leftout.kernels.hierarchy.fourth_order import Pullers, pullers
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
        """Return about how much all pairs take, the result not counted."""


def change_of(
    inputs: Float64[Tensor, "n d"], pulled: Pull, *, draw: Draw | None, memory: int | float | str | None
) -> Changes:
    """Return the change: a mean over drawn neurons, or for None exactly, of ReLU."""
    if draw is None:
        return Orthants(inputs, pulled, memory)
    return Neurons(pullers(inputs, pulled), draw)


@final
class Neurons(Changes):
    """The mean over drawn neurons."""

    def __init__(self, examples: Pullers, draw: Draw) -> None:
        self.examples, self.draw = examples, draw

    def between(self, queries: Float64[Tensor, "m d"], inputs: Float64[Tensor, "n d"] | None) -> SampledMean:
        left = self._known(queries)
        right = left if inputs is None else self._known(inputs)
        return expected_change(self.draw, self.examples, left, right)

    def own(self, inputs: Float64[Tensor, "n d"]) -> SampledMean:
        return expected_own_change(self.draw, self.examples, self._known(inputs))

    def bytes(self, rows: int, columns: int) -> int:
        points = rows + columns + len(self.examples.inputs)
        return 8 * (TEMPORARIES * rows * columns + HELD * PIECE * points)

    def _known(self, points: Float64[Tensor, "n d"]) -> Float64[Tensor, "n d"]:
        """Return the examples themselves where they are what is asked for: their responses are there."""
        own = self.examples.inputs
        return own if points.shape == own.shape and torch.equal(points, own) else points


@final
class Orthants(Changes):
    """The expectation over all ReLU networks, exactly.

    Queries are taken a third of the number of examples at a time: each time all fours of those, the examples
    and the inputs are looked at.
    """

    def __init__(
        self, inputs: Float64[Tensor, "n d"], pulled: Pull, memory: int | float | str | None
    ) -> None:
        self.inputs, self.pairs, self.memory = inputs, pulled.pairs, memory

    def between(self, queries: Float64[Tensor, "m d"], inputs: Float64[Tensor, "n d"] | None) -> SampledMean:
        if inputs is None:
            return _exact(self._among(queries, queries, whole=True))
        parts = [self._among(queries[part], inputs, whole=True) for part in self._parts(queries)]
        return _exact(torch.cat(parts) if parts else queries.new_zeros(0, len(inputs)))

    def own(self, inputs: Float64[Tensor, "n d"]) -> SampledMean:
        parts = [self._among(inputs[part], inputs[part], whole=False) for part in self._parts(inputs)]
        return _exact(torch.cat(parts) if parts else inputs.new_zeros(0))

    def bytes(self, rows: int, columns: int) -> int:
        return 8 * TEMPORARIES * rows * columns  # the table of all fours says itself what it needs

    def _parts(self, queries: Tensor) -> list[slice]:
        return list(blocks(len(queries), max(1, len(self.inputs) // 3)))

    def _among(self, left: Tensor, right: Tensor, *, whole: bool) -> Tensor:
        """Return the change between all pairs, or the pairs of equal place."""
        # Inputs that come up on several sides are one input of the table.
        distinct, places = torch.unique(torch.cat([left, right, self.inputs]), dim=0, return_inverse=True)
        a, b, own = places.split([len(left), len(right), len(self.inputs)])
        table = fourth_order(distinct, memory=self.memory)
        if whole:
            return exact_change(table, self.pairs, a, b, own)
        return torch.cat(
            [exact_change(table, self.pairs, a[[k]], b[[k]], own).flatten() for k in range(len(a))]
        )


def _exact(value: Tensor) -> SampledMean:
    return SampledMean(value, torch.zeros_like(value))
