"""GELU, φ(u) = u Φ(u) with Φ the normal distribution function, and not its approximation by tanh.

With a = K11, b = K22, c = K12, DS = ab − c², Δ = (1 + a)(1 + b) − c² = 1 + a + b + DS,
e = 1/(1 + a) + 1/(1 + b) and P = atan2(√Δ, −c) / 2π (the chance that u and v both exceed an independent
normal number of their own), by parts:

    E[φ φ]   = c P + (DS + c² e) / 2π√Δ,
    E[φ' φ'] = P + c B / 2π√Δ,                            its derivative in c,
    B = (((1 + a + b)(3 + a + b) + ab) / (1 + a)(1 + b) + e DS) / Δ.

Every sum but that with c P is one of positive terms, however large the variances are; all is taken in powers
of (1 + a)(1 + b), where numbers are of order 1.
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
class Gelu(PairActivation):
    """The Gaussian error linear unit.

    Source:
        Hendrycks & Gimpel 2016, "Gaussian error linear units"; the expectations are derived here.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> from leftout.kernels.layers import Dense, Gelu
        >>> lo.kernels.serial(Dense(), Gelu(), Dense()).block(torch.eye(2), torch.eye(2))
        tensor([[1.7621, 0.1592],
                [0.1592, 1.7621]])
    """

    arrays = 4

    def respond(self, covariance: Covariance, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        gap, total = covariance.gap_and_total(x, z)
        f, g = (1 + x).reciprocal(), (1 + z).reciprocal()
        longer = f.sqrt() * g.sqrt()
        c = covariance.k12 * longer
        d = (gap * longer).mul_(total * longer)
        # |a||b| in the same units: ab f g, from the gap and the total, as c² + d loses no digit either.
        ab = (x * f) * (z * g)
        e, fg = f + g, f * g
        rest = e - fg  # 1 + a + b
        delta = d + rest
        slope = (2 * fg + rest).mul_(rest).addcmul_(ab, fg).addcmul_(e, d).div_(delta)  # B
        root = delta.sqrt_()
        chance = torch.atan2(root, -c).div_(2 * math.pi)
        twice_pi_root = root.mul_(2 * math.pi)
        values = d.addcmul_(e.expand_as(d), c.square()).div_(twice_pi_root).addcmul_(c, chance)
        return values.div_(longer), chance.addcmul_(c, slope.div_(twice_pi_root))
