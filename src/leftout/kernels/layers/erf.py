"""The error function, erf(u) itself and not a rescaled one.

    E[erf(u) erf(v)] = (2/π) arcsin(2 K12 / √((1 + 2 K11)(1 + 2 K22))),
    E[erf' erf']     = (4/π) / √((1 + 2 K11)(1 + 2 K22) − 4 K12²).

The number Δ under the last root loses digits when K is large and the inputs nearly equal; in gap and total it
is a sum of positive terms,

    Δ = 1 + 2 (K11 + K22) + 4 D S,        arcsin(…) = atan2(2 K12, √Δ).
"""

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from leftout.kernels.layers.covariance import Covariance
from leftout.kernels.layers.layer import PairActivation


@final
@dataclass(frozen=True)
class Erf(PairActivation):
    """The error function of every unit.

    Source:
        Williams 1997, "Computing with infinite networks"; the second formula is the derivative of the first.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> from leftout.kernels.layers import Dense, Erf
        >>> lo.kernels.serial(Dense(), Erf(), Dense()).block(torch.eye(2), torch.eye(2))
        tensor([[2.0679, 0.0000],
                [0.0000, 2.0679]])
    """

    def respond(self, covariance: Covariance, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        gap, total = covariance.gap_and_total(x, z)
        root = (gap * total).mul_(4).add_(2 * x + 2 * z + 1).sqrt_()
        values = torch.atan2(2 * covariance.k12, root).mul_(2 / math.pi)
        return values, root.reciprocal_().mul_(4 / math.pi)
