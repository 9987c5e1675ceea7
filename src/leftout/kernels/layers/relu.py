"""Rectifiers: φ(u) = u for u > 0 and a u below; a = 0 is the ReLU, a = −1 the absolute value.

With θ the angle of a pair and c = √(K11 K22),

    E[φ(u) φ(v)] = (1 + a²) / 2 · K12 + (1 − a)² / 2π · c (sin θ − θ cos θ),
    E[φ'(u) φ'(v)] = (1 + a²) / 2 − (1 − a)² / 2π · θ.

In gap D and total S, √(DS) = c sin θ and (S − D) / 2 = c cos θ; what the second term of the first line adds
to K12 it takes from D and adds to S. All of the gap is kept: equal inputs have D = 0 behind every rectifier,
exactly.
"""

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from leftout.core.checks import is_real
from leftout.core.errors import OptionError
from leftout.kernels.layers.angles import angle
from leftout.kernels.layers.covariance import Covariance
from leftout.kernels.layers.layer import PairActivation


@dataclass(frozen=True)
class LeakyRelu(PairActivation):
    """A rectifier that multiplies what is negative by a number.

    Args:
        negative_slope: a.

    Source:
        Cho & Saul 2009, "Kernel methods for deep learning" (a = 0); the gap recursion is derived here.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> from leftout.kernels.layers import Dense, LeakyRelu
        >>> kernel = lo.kernels.serial(Dense(), LeakyRelu(0.1), Dense())
        >>> kernel.block(torch.eye(2), torch.eye(2))
        tensor([[2.0200, 0.2578],
                [0.2578, 2.0200]])
    """

    negative_slope: float

    homogeneous = True

    def __post_init__(self) -> None:
        if not is_real(self.negative_slope) or not math.isfinite(self.negative_slope):
            raise OptionError(f"`negative_slope` must be a finite number; got {self.negative_slope!r}.")

    @property
    def words(self) -> str:
        return f"LeakyRelu {self.negative_slope:.3g}"

    def respond(self, covariance: Covariance, x: Tensor, z: Tensor) -> tuple[Covariance, Tensor]:
        return rectify(covariance, x, z, float(self.negative_slope))


@final
@dataclass(frozen=True)
class Relu(PairActivation):
    """The rectifier max(u, 0).

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> from leftout.kernels.layers import Dense, Relu
        >>> lo.kernels.serial(Dense(), Relu(), Dense()).block(torch.eye(2), torch.eye(2))
        tensor([[2.0000, 0.3183],
                [0.3183, 2.0000]])
    """

    homogeneous = True

    def respond(self, covariance: Covariance, x: Tensor, z: Tensor) -> tuple[Covariance, Tensor]:
        return rectify(covariance, x, z, 0.0)


@final
@dataclass(frozen=True)
class Abs(PairActivation):
    """The absolute value of every unit.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> from leftout.kernels.layers import Abs, Dense
        >>> lo.kernels.serial(Dense(), Abs(), Dense()).block(torch.eye(2), torch.eye(2))
        tensor([[4.0000, 1.2732],
                [1.2732, 4.0000]])
    """

    homogeneous = True

    def respond(self, covariance: Covariance, x: Tensor, z: Tensor) -> tuple[Covariance, Tensor]:
        return rectify(covariance, x, z, -1.0)


def rectify(covariance: Covariance, x: Tensor, z: Tensor, slope: float) -> tuple[Covariance, Tensor]:
    """Return covariances behind a rectifier, and E[φ' φ']."""
    kept, bent = (1 + slope**2) / 2, (1 - slope) ** 2 / (2 * math.pi)
    gap, total = covariance.gap_and_total(x, z)
    if not covariance.keeps_gap:
        root = gap.mul_(total).sqrt_()
        theta = torch.atan2(root, covariance.k12, out=total)
        added = root.addcmul_(theta, covariance.k12, value=-1).mul_(bent)
        return covariance.with_value(added.add_(covariance.k12, alpha=kept)), theta.mul_(-bent).add_(kept)
    theta = angle(gap, total)
    # Two roots: a product of the two may be beyond what numbers reach.
    added = gap.sqrt().mul_(total.sqrt()).addcmul_(theta, covariance.k12, value=-1).mul_(bent)
    share = theta.mul_(-bent).add_(kept)
    # Below θ = 1e-16 the rounding of what is added, εθ, exceeds the gap θ²/2, which then is 0 to any use.
    after = (gap * kept).sub_(added).clamp_min_(0)
    return covariance.with_gap(after, added.add_(total, alpha=kept)), share
