"""The hyperbolic tangent, by a series: there is no closed form. `leftout.kernels.layers.hermite` has it.

tanh' is even, so only even p count. tanh(√s z) is analytic in a strip of half-width y = π / 2√s, at whose
edge h_p grows like e^{y√p}. So terms fall like e^{−2y√p}, p of them at most: `TERMS` · s degrees leave
e^{−40}. And the trapezoid rule of step h has b_p up to e^{−2πy/h + y√p}: h = 2πy / 60 leaves e^{−40} as well.
"""

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from leftout.core.errors import DataError
from leftout.kernels.layers.covariance import Covariance
from leftout.kernels.layers.hermite import (
    correlation,
    half_line,
    hermite_functions,
    series,
    slope_coefficients,
)
from leftout.kernels.layers.layer import ActivationLayer

TERMS = (40 / math.pi) ** 2
"""Degrees for each unit of s: 2y√p = 40."""

FEWEST = 41
"""Degrees where s is small and terms fall like s^p / p! instead."""

LARGEST = 32.0
"""Largest variance of a pre-activation: degrees grow like s, and tanh is a step long before."""


@final
@dataclass(frozen=True)
class Tanh(ActivationLayer):
    """The hyperbolic tangent of every unit, of variances of at most 32.

    Source:
        Neal 1996, "Bayesian learning for neural networks", chapter 2 (the limit of one hidden layer); the
        series is Mehler's; truncation and step are derived here.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> from leftout.kernels.layers import Dense, Tanh
        >>> lo.kernels.serial(Dense(), Tanh(), Dense()).block(torch.eye(2), torch.eye(2))
        tensor([[1.7174, 0.0000],
                [0.0000, 1.7174]])
    """

    limited = True

    def respond(self, covariance: Covariance, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        b1, b2 = _coefficients(x, z)
        degrees = 2 * torch.arange(b1.shape[-1], dtype=b1.dtype, device=b1.device)
        square = correlation(covariance.k12, x, z).square_()
        return series(square, b1 / (degrees + 1), b2).mul_(covariance.k12), series(square, b1, b2)

    def check(self, name: str, variances: Tensor, first: int) -> None:
        """Raise if a variance is larger than the series is made for.

        Raises:
            DataError: names the first row.
        """
        check_tanh_variances(name, variances, first, what="a variance of pre-activations", normalise="sphere")


def check_tanh_variances(name: str, variances: Tensor, first: int, *, what: str, normalise: str) -> None:
    """Raise if a variance of pre-activations, called `what`, is larger than the series is made for.

    Args:
        variances: inputs in the last axis.
        first: number of the first of them.
    """
    largest = variances.reshape(-1, variances.shape[-1]).amax(0)
    large = (largest > LARGEST).nonzero().flatten()
    if len(large):
        row = int(large[0])
        raise DataError(
            f"`{name}` must have {what} ≤ {LARGEST:g}: beyond that tanh is a step; row {first + row} has "
            f"{float(largest[row]):.3g} ({len(large)} of {len(largest)} rows do). "
            f'Load them with normalise="{normalise}".'
        )


def _coefficients(x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return b_p of both sides for p = 0, 2, 4, …, as many as the larger variances ask for.

    The term p of a pair is at most that of its two variances' geometric mean, so the series may end
    where that of the largest does.
    """
    top = max((float(side.max()) for side in (x, z) if side.numel()), default=0.0)
    highest = FEWEST + math.ceil(TERMS * top)
    half_width = min(2.0, math.pi / 2 / math.sqrt(top)) if top > 0 else 2.0
    step = 2 * math.pi * half_width / 60
    points = half_line(step, x.device)
    # Both factors are even, so half the line counts twice; ψ_p is bounded, as h_p is not.
    weights = 2 * step * (2 * math.pi) ** -0.25 * torch.exp(-points.square() / 4)
    basis = hermite_functions(points, highest)[::2] * weights  # (t, z)
    b1 = slope_coefficients(_slopes, x, basis, points)
    return b1, b1 if z is x else slope_coefficients(_slopes, z, basis, points)


def _slopes(pre_activations: Tensor) -> Tensor:
    # 1 − tanh² loses its digits where tanh is near 1.
    return pre_activations.cosh().reciprocal_().square_()
