"""What is carried from layer to layer: covariance K and tangent kernel T of pairs of inputs.

K is what units of a layer have in common at two inputs over random weights; T what a step of training on one
input changes at the other. T is 0 at the inputs: data are not trained.

Layers that do not act on each input alone need the variances of both inputs of a pair. Those come from a pass
of each input with itself, made once for each input and not for each pair: `OwnVariances` keeps what every
layer asked for, `KeptVariances` hands it out again in the same order.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from leftout.kernels.layers.covariance import Covariance

Check = Callable[[str, Tensor, int], None]
"""Given the name of inputs, their variances (… n) and the number of the first of them, raises or returns."""

Expand = Callable[[Tensor, int], Tensor]
"""Of variances (… n) several numbers for each, (t … n): the variance first, and so many at least."""


@dataclass(frozen=True)
class State:
    """Covariance and tangent kernel at one layer.

    Attributes:
        tangent: T, or None while it is 0.
        trained: whether T is wanted.
    """

    covariance: Covariance
    tangent: Tensor | None
    trained: bool

    def after(self, covariance: Covariance, slope: Tensor | float) -> "State":
        """Return the state behind a layer without weights: T is multiplied by `slope`."""
        tangent = None if self.tangent is None else self.tangent * slope
        return replace(self, covariance=covariance, tangent=tangent)

    def at_same_position(self) -> "State":
        """Return the state without pairs of different positions."""
        if self.covariance.positions != "pairs":
            return self
        tangent = self.tangent
        if tangent is not None:
            tangent = self.covariance.with_value(tangent).at_same_position().k12
        return replace(self, covariance=self.covariance.at_same_position(), tangent=tangent)

    def total(self) -> Tensor:
        """Return the kernel: T where it is wanted, else K."""
        if not self.trained:
            return self.covariance.k12
        return torch.zeros_like(self.covariance.k12) if self.tangent is None else self.tangent


class Variances(ABC):
    """What layers need of both inputs of every pair: their variances, or what follows from these alone."""

    @abstractmethod
    def of(
        self, covariance: Covariance, check: Check | None = None, expand: Expand | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return K11 and K22, (… m) and (… n), of inputs at their positions.

        Args:
            check: raises if the layer that asks is not made for such variances.
            expand: what is wanted instead is a function of these variances alone, made once for each input.
        """

    def over_pairs(self, covariance: Covariance, check: Check | None = None) -> tuple[Tensor, Tensor]:
        """Return K11 and K22 with axes that broadcast over pairs."""
        return covariance.over_pairs(*self.of(covariance, check))


class OwnVariances(Variances):
    """Variances of inputs that are compared with themselves; each that was asked for is kept.

    Args:
        name: of the inputs in messages, where they are to be checked by the layers; None where they were.
        first: number of the first of them.
    """

    def __init__(self, name: str | None = None, first: int = 0) -> None:
        self.kept: list[Tensor] = []
        self.expansions: list[Expand | None] = []
        self._name = name
        self._first = first

    def of(
        self, covariance: Covariance, check: Check | None = None, expand: Expand | None = None
    ) -> tuple[Tensor, Tensor]:
        own = covariance.own()
        if self._name is not None and check is not None:
            check(self._name, own, self._first)
        self.kept.append(own if expand is None else expand(own, 0))
        self.expansions.append(expand)
        return self.kept[-1], self.kept[-1]


class KeptVariances(Variances):
    """Variances that were kept when each side was compared with itself, in the order of the layers."""

    def __init__(self, x: Sequence[Tensor], z: Sequence[Tensor]) -> None:
        self._next: Iterator[tuple[Tensor, Tensor]] = iter(zip(x, z, strict=True))

    def of(
        self, covariance: Covariance, check: Check | None = None, expand: Expand | None = None
    ) -> tuple[Tensor, Tensor]:
        return next(self._next)
