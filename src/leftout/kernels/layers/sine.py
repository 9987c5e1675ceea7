"""Sine and cosine, from the characteristic function of u ± v.

    E[sin u sin v] = ½ (e^{−Var(u − v) / 2} − e^{−Var(u + v) / 2}),        E[cos u cos v] with a plus,

and one is the expectation of the other's derivatives. In gap and total, with h = (√K11 − √K22)² / 2,

    Var(u − v) / 2 = D + h,        Var(u + v) / 2 = S + h,        S − D = 2 K12.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from leftout.kernels.layers.covariance import Covariance
from leftout.kernels.layers.layer import PairActivation


@final
@dataclass(frozen=True)
class Sine(PairActivation):
    """The sine of every unit; `Scale(frequency)` before it for another frequency.

    Source:
        Rahimi & Recht 2007, "Random features for large-scale kernel machines" (the expectation).

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> from leftout.kernels.layers import Dense, Sine
        >>> lo.kernels.serial(Dense(), Sine(), Dense()).block(torch.eye(2), torch.eye(2))
        tensor([[2.0000, 0.0000],
                [0.0000, 2.0000]])
    """

    def respond(self, covariance: Covariance, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        return _sines_and_cosines(covariance, x, z)


@final
@dataclass(frozen=True)
class Cosine(PairActivation):
    """The cosine of every unit.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> from leftout.kernels.layers import Cosine, Dense
        >>> lo.kernels.serial(Dense(), Cosine(), Dense()).block(torch.eye(2), torch.eye(2))
        tensor([[2.0000, 0.7358],
                [0.7358, 2.0000]])
    """

    keeps_zero = False

    def respond(self, covariance: Covariance, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        sines, cosines = _sines_and_cosines(covariance, x, z)
        return cosines, sines


def _sines_and_cosines(covariance: Covariance, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return E[sin u sin v] and E[cos u cos v]."""
    gap, total = covariance.gap_and_total(x, z)
    lengths_apart = (x.sqrt() - z.sqrt()).square_().div_(2)
    half = (gap + lengths_apart).neg_().exp_().div_(2)
    both = (total - gap).neg_()
    return torch.expm1(both).mul_(half).neg_(), both.exp_().add_(1).mul_(half)
