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
from leftout.kernels.layers.hermite import GRID, SeriesActivation, in_chunks, terms_on_grid, trapezoid

TERMS = (40 / math.pi) ** 2
"""Degrees for each unit of s: 2y√p = 40."""

FEWEST = 41
"""Degrees where s is small and terms fall like s^p / p! instead."""

LARGEST = 32.0
"""Largest variance of a pre-activation: degrees grow like s, and tanh is a step long before."""


@final
@dataclass(frozen=True)
class Tanh(SeriesActivation):
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
    degrees_apart = 2
    numbers_kept = 2 + GRID + (FEWEST + math.ceil(2 * TERMS)) // 2  # of variances of 2

    def expand(self, variances: Tensor, least: int) -> Tensor:
        """Return s, 0, and b_p for p = 0, 2, 4, …, as many as the largest variance asks for.

        The term p of a pair is at most that of its two variances' geometric mean: where both sides go as far
        as the larger asks for, what is left out is as small as there.
        """
        top = float(variances.max()) if variances.numel() else 0.0
        terms = terms_on_grid((FEWEST + math.ceil(TERMS * top)) // 2 + 1, least)
        # The step of the rule follows the degrees: those of a higher one alias where it is too long.
        top = (2 * terms - FEWEST) / TERMS
        half_width = min(2.0, math.pi / 2 / math.sqrt(top))
        step = 2 * math.pi * half_width / 60
        points, basis = trapezoid(step, 2 * terms, variances.device)
        basis = 2 * basis[::2]  # both factors are even, so half the line counts twice

        def coefficients(sizes: Tensor) -> Tensor:
            # 1 − tanh² loses its digits where tanh is near 1.
            slopes = (sizes.sqrt()[:, None] * points).cosh_().reciprocal_().square_()
            return torch.cat([sizes[:, None], torch.zeros_like(sizes)[:, None], slopes @ basis.T], dim=1)

        return in_chunks(coefficients, variances.double())

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
