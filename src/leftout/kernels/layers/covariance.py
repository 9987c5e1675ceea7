"""Covariances of pairs of inputs at one layer, in the form that loses no digits there.

With K12 the covariance of a unit at two inputs and K11, K22 its variances, a pair is held either as K12, or
as *gap* and *total*,

    D = √(K11 K22) − K12,        S = √(K11 K22) + K12,        √(K11 K22) = (S + D) / 2.

The angle is 2 atan2(√D, √S). Gap and total keep every digit of small angles and are what rows of numbers
start with (`leftout.kernels.layers.angles`); images hold K12, whose gap is a difference, 0 exactly for equal
images.

Sums of independent parts a + b keep the form: with c = √(a11 a22), d = √(b11 b22) and
P = √((a11 + b11)(a22 + b22)),

    D = D_a + D_b + e,    S = S_a + S_b + e,    e = P − c − d = (√(a11 b22) − √(b11 a22))² / (P + c + d),

all positive. A bias is such a part, of covariance b for all pairs.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

Positions = Literal["none", "same", "pairs"]


@dataclass(frozen=True)
class Covariance:
    """Covariances of pairs of inputs, and where their axes are.

    Attributes:
        value: K12, or None where gap and total are held.
        gap, total: D and S, or None where K12 is held.
        positions: axes before those of inputs. "none"; "same", (h w), one position of both inputs;
            "pairs", (h w h w), of a position of one and a position of the other.
        outer: whether the last axes are (m, n), all pairs, and not (n), each input with itself.
    """

    value: Tensor | None = None
    gap: Tensor | None = None
    total: Tensor | None = None
    positions: Positions = "none"
    outer: bool = True

    @property
    def keeps_gap(self) -> bool:
        """Return whether gap and total are held."""
        return self.value is None

    @cached_property
    def k12(self) -> Tensor:
        """Return K12."""
        if self.value is not None:
            return self.value
        gap, total = self.held_gap
        return (total - gap).div_(2)

    @property
    def held_gap(self) -> tuple[Tensor, Tensor]:
        """Return gap and total where they are held."""
        assert self.gap is not None
        assert self.total is not None
        return self.gap, self.total

    @property
    def sides(self) -> tuple[int, ...]:
        """Return height and width of the positions of one input; empty without positions."""
        count = {"none": 0, "same": 2, "pairs": 4}[self.positions]
        return tuple(self.k12.shape[:count][-2:])

    def with_value(self, value: Tensor) -> "Covariance":
        """Return others in the place of these, held as K12."""
        return Covariance(value, None, None, self.positions, self.outer)

    def with_gap(self, gap: Tensor, total: Tensor) -> "Covariance":
        """Return others in the place of these, held as gap and total."""
        return Covariance(None, gap, total, self.positions, self.outer)

    def times(self, factor: Tensor | float) -> "Covariance":
        """Return all multiplied by positive numbers."""
        if self.value is not None:
            return self.with_value(self.value * factor)
        gap, total = self.held_gap
        return self.with_gap(gap * factor, total * factor)

    def gap_and_total(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return D and S; `x` and `z` are the variances, spread over the pairs."""
        if self.keeps_gap:
            return self.held_gap
        scale = root_below(x) * root_below(z)
        return (scale - self.k12).clamp_min_(0), scale.add_(self.k12).clamp_min_(0)

    def own(self) -> Tensor:
        """Return variances at every position, (… n), of inputs compared with themselves."""
        assert not self.outer
        if self.keeps_gap:
            return self.held_gap[1] / 2  # the gap is 0
        return same_position(self.k12) if self.positions == "pairs" else self.k12

    def over_pairs(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return numbers of each input and position, (… m) and (… n), with axes for all pairs."""
        if self.outer:
            x, z = x[..., :, None], z[..., None, :]
        if self.positions == "pairs":
            x, z = x[:, :, None, None], z[None, None]
        return x, z

    def at_same_position(self) -> "Covariance":
        """Return those of pairs of positions that are one position."""
        if self.positions != "pairs":
            return self
        return replace(self.with_value(same_position(self.k12).contiguous()), positions="same")

    def without_positions(self, value: Tensor) -> "Covariance":
        """Return covariances of inputs as a whole in the place of those of their positions."""
        return replace(self.with_value(value), positions="none")


def same_position(values: Tensor) -> Tensor:
    """Return (h w …) of (h w h w …): the entries with both inputs at the same position."""
    return values.diagonal(0, 0, 2).diagonal(0, 0, 1).movedim((-2, -1), (0, 1))


def root_below(variances: Tensor) -> Tensor:
    """Return square roots, lower by two roundings.

    Products of two of them are lower by four. The covariance of equal images is their variance up to the
    rounding of a sum or a function in another order, so it is not below that product: they have no angle.
    Opposite images have an angle of π likewise.
    """
    return variances.sqrt().mul_(1 - 2 * torch.finfo(variances.dtype).eps)


def sum_excess(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor], ab: Tensor) -> Tensor:
    """Return e of a sum of independent parts from their variances, spread over pairs, and c + d.

    Where a part, or an input, is 0, so is e.
    """
    (a11, a22), (b11, b22) = a, b
    excess = (a11.sqrt() * b22.sqrt() - b11.sqrt() * a22.sqrt()).square_()
    norms = (a11 + b11).sqrt() * (a22 + b22).sqrt() + ab
    return excess.div_(norms.clamp_min_(torch.finfo(norms.dtype).tiny))
