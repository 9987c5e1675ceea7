"""The expected error of n examples. More data is like less ridge: at the same κ the same modes are learned.

Two functions of κ describe the population, both measured along the ridge of one sample (`ridge_path`):

    D(κ) = Σ λ/(λ + κ)                       modes learned
    B(κ) = Σ (κ/(λ + κ))² v² + noise         the unlearned part of the target

For any n and ridge, κ is the root of D(κ) + ridge/κ = n, and with D₂ = Σ (λ/(λ + κ))² = D + dD/dlog κ

    error(n) = n / (n − D₂) · B(κ).

A sample at its smallest ridge reaches a κ that larger samples have at larger ridges: down to it nothing is
extrapolated. Below it, both functions are extended as powers of κ, with the exponent of their last factor
`WINDOW` of κ; `bend` extends them with a share of the curvature in that window instead. Every prediction is
linear in the measured logarithms, a set of weights on them, so its standard error follows from the errors of
the examples.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.diagnostics.learning_curve.ridge_path import RidgePath

WINDOW = 20.0
"""Factor of κ, at the small end, from which exponents are read. Measured on MNIST, CIFAR-10 and digits from
250 to 1000 examples: 8 is noisier, and bends at the end, where theory is loosest, mislead it more."""

BEND = 0.5
"""Share of the curvature in the window with which the tail may go on bending, either way."""

STEP = 0.1
"""Difference in log κ for slopes."""


@dataclass(frozen=True)
class Point:
    """The point of the population's curve that n examples at a ridge reach.

    Attributes:
        log_kappa: log κ.
        log_excess: log E0, E0 = n/(n − D₂).
        extrapolated: whether κ lies below the smallest κ of the sample.
    """

    log_kappa: float
    log_excess: float
    extrapolated: bool


@dataclass(frozen=True, eq=False)
class PopulationCurve:
    """D and B of the population, as measured along one path."""

    path: RidgePath

    @cached_property
    def log_left(self) -> Float64[Tensor, " q"]:
        """Return log B at the ridges of the path."""
        return self.path.errors.mean(1).log() - self.path.log_excess

    def at(self, rows: float, ridge: float) -> Point:
        """Return κ and E0 for a kernel matrix with `rows` rows, by bisection in log κ."""
        places = self.path.log_kappa
        low, high = float(places[0]) - 60.0, float(places[-1]) + 60.0
        for _ in range(100):
            middle = (low + high) / 2
            if self._modes(middle) + ridge * math.exp(-middle) > rows:
                low = middle
            else:
                high = middle
        slope = (self._log_modes(low - STEP) - self._log_modes(low + STEP)) / (2 * STEP)
        twice = self._modes(low) * (1 - min(max(slope, 0.0), 1.0))
        return Point(
            log_kappa=low,
            log_excess=-math.log1p(-min(twice / rows, 1 - 1e-9)),
            extrapolated=low < float(places[0]) - 1e-9,
        )

    def weights(self, log_kappa: float, *, bend: float = 0.0) -> Float64[Tensor, " q"]:
        """Return w such that w · values, any function's values on the path, is that function at κ.

        Args:
            bend: share of the window's curvature with which the tail goes on; 0 is a power law.
        """
        places = self.path.log_kappa
        weights = torch.zeros_like(places)
        if log_kappa >= float(places[-1]):
            weights[-1] = 1
            return weights
        if log_kappa <= float(places[0]):
            beyond = log_kappa - float(places[0])
            slope, bent, curvature = self._tail
            weights = beyond * ((1 - bend) * slope + bend * bent) + bend * beyond**2 * curvature
            weights[0] += 1
            return weights
        right = int(torch.searchsorted(places, log_kappa))
        share = (log_kappa - float(places[right - 1])) / float(places[right] - places[right - 1])
        weights[right - 1], weights[right] = 1 - share, share
        return weights

    @cached_property
    def _tail(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return weights of the slope of a line, and of slope and curvature of a parabola, in the window."""
        places = self.path.log_kappa - self.path.log_kappa[0]
        inside = places <= max(math.log(WINDOW), float(places[3]))
        near = places[inside]
        padded = []
        for degree, row in ((1, 1), (2, 1), (2, 2)):
            powers = torch.stack([near**j for j in range(degree + 1)], dim=1)
            weights = torch.zeros_like(places)
            weights[inside] = torch.linalg.pinv(powers)[row]
            padded.append(weights)
        return padded[0], padded[1], padded[2]

    def _log_modes(self, log_kappa: float) -> float:
        return float(self.weights(log_kappa) @ self.path.log_modes)

    def _modes(self, log_kappa: float) -> float:
        return math.exp(min(self._log_modes(log_kappa), 700.0))
