"""Errors and shares of wrong answers at other sample sizes, with the half width of their interval.

For both measures m the logarithm is modelled as a function of κ plus `gain` times log E0 (for squared errors
theory gives gain = 1; for wrong answers it is fitted on parts of the examples):

    log m(n') = log m(n) + [f(κ) + gain·log E0]_n' − [f(κ) + gain·log E0]_n,     m(n) measured, left out

so that errors of theory and sample that are the same at n and n' cancel. Halves of the examples are a
backtest of a factor of two in n, quarters of a factor of four: half of their error is subtracted. The
standard error is that of a mean over examples of each example's contribution, by its left-out errors along
the ridge.
"""

import math
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, final

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from leftout.diagnostics.learning_curve.population_curve import BEND, Point
from leftout.diagnostics.learning_curve.ridge_path import RidgePath
from leftout.diagnostics.learning_curve.subsamples import Backtest, Sample
from leftout.dynamics.fitted import Fitted

THEORY: dict[str, float] = {"errors": 0.015, "wrong": 0.03}
"""Least relative error of theory for each factor e in n, however well the backtest went."""

Measure = Literal["errors", "wrong"]
"""The measure that is forecast: mean squared error, or share of wrong answers."""


@dataclass(frozen=True)
class Forecast:
    """A number at each requested size, with the half width of its interval in the logarithm."""

    values: tuple[float, ...]
    half: tuple[float, ...]

    @property
    def low(self) -> tuple[float, ...]:
        """Return the lower ends."""
        return tuple(v * math.exp(-h) for v, h in zip(self.values, self.half, strict=True))

    @property
    def high(self) -> tuple[float, ...]:
        """Return the upper ends; infinite where the interval is wider than numbers are."""
        # Where nobody is wrong, a share of wrong answers of 1e-300 is known to within hundreds of decades.
        most = math.log(sys.float_info.max)
        return tuple(
            v * math.exp(h) if h <= most else math.inf for v, h in zip(self.values, self.half, strict=True)
        )


@final
class Forecaster:
    """Forecasts of one measure from all examples, backtested on parts of them."""

    def __init__(self, fitted: Fitted, samples: Backtest, sizes: tuple[int, ...], measure: Measure) -> None:
        self.fitted = fitted
        self.samples = samples
        self.sizes = sizes
        self.measure = measure
        self.gain = 1.0 if measure == "errors" else gain_of_excess(samples)
        everything = samples.full
        self.here = self._point(everything, everything.n)
        self.points = [self._point(everything, size) for size in sizes]

    @cached_property
    def backtest_errors(self) -> dict[int, float]:
        """Return log (forecast / measured) at n, by the size of the parts that the forecast is from."""
        log_error = math.log(self._mean(self.samples.full.at_rule)[0])
        errors = {}
        for parts in self.samples.parts.values():
            logs = [self._log_forecast(sample) for sample in parts]
            errors[parts[0].n] = sum(logs) / len(logs) - log_error
        return errors

    def forecast(self, deviations: float, members: Bool[Tensor, " n"] | None = None) -> Forecast:
        """Return the forecast, for all examples or for the mask `members` of them.

        Args:
            deviations: half the interval of a normal number, in standard deviations.
        """
        sample = self.samples.full
        anchor = float(self._mean(sample.at_rule, members)[0])
        values = [
            anchor * math.exp(self._change(sample, self.here, point, members) - self._correction(size))
            for point, size in zip(self.points, self.sizes, strict=True)
        ]
        half = [
            math.hypot(deviations * self._sampling_error(point), deviations / 1.96 * self._bias(point, size))
            for point, size in zip(self.points, self.sizes, strict=True)
        ]
        return Forecast(tuple(values), tuple(half))

    def _correction(self, size: int) -> float:
        """Return half of the backtest error at the same factor in n, constant beyond the largest factor.

        Half, as it was measured once, with noise; 0 for sizes below n, which have no backtest.
        """
        n = self.samples.full.n
        errors = sorted((math.log(n / smaller), error) for smaller, error in self.backtest_errors.items())
        places, wrongs = zip((0.0, 0.0), *errors, strict=True)
        return 0.5 * float(np.interp(math.log(size / n), places, wrongs))

    def _point(self, sample: Sample, n: int) -> Point:
        return sample.curve.at(n * self.fitted.outputs_per_example, self.fitted.rule.effective_ridge(n))

    def _log_forecast(self, sample: Sample) -> float:
        """Return the logarithm at n as forecast from a part."""
        here, there = (self._point(sample, n) for n in (sample.n, self.samples.full.n))
        return math.log(self._mean(sample.at_rule)[0]) + self._change(sample, here, there)

    def _change(
        self, sample: Sample, here: Point, there: Point, members: Bool[Tensor, " n"] | None = None
    ) -> float:
        """Return the log of the ratio of the measure at point `there` to that at point `here`."""
        path = sample.curve.path
        values = self._mean(path, members).log() - self.gain * path.log_excess
        shift = sample.curve.weights(there.log_kappa) - sample.curve.weights(here.log_kappa)
        return float(shift @ values) + self.gain * (there.log_excess - here.log_excess)

    def _mean(self, path: RidgePath, members: Bool[Tensor, " n"] | None = None) -> Float64[Tensor, " q"]:
        """Return the mean over examples at each ridge; half a wrong answer is added, to stay above 0."""
        per_example = self._per_example(path)
        per_example = per_example if members is None else per_example[:, members]
        if self.measure == "errors":
            return per_example.mean(1)
        return (per_example.sum(1) + 0.5) / (per_example.shape[1] + 1)

    def _per_example(self, path: RidgePath) -> Float64[Tensor, "q e"]:
        if self.measure == "errors":
            return path.errors
        assert path.wrong is not None
        return path.wrong.double()

    def _sampling_error(self, point: Point) -> float:
        """Return the standard error in the logarithm, from the variation over examples."""
        sample = self.samples.full
        path, at_rule = sample.curve.path, sample.at_rule
        shift = sample.curve.weights(point.log_kappa) - sample.curve.weights(self.here.log_kappa)
        contributions = shift @ (self._per_example(path) / self._mean(path)[:, None])
        contributions = contributions + self._per_example(at_rule)[0] / self._mean(at_rule)[0]
        return float(contributions.std()) / math.sqrt(len(contributions))

    def _bias(self, point: Point, size: int) -> float:
        """Return the error of theory and extrapolated tail, in the logarithm."""
        sample = self.samples.full
        path = sample.curve.path
        rates = [error / math.log(sample.n / n) for n, error in self.backtest_errors.items()]
        theory = max(THEORY[self.measure], math.sqrt(sum(x * x for x in rates) / len(rates)))
        bent = sample.curve.weights(point.log_kappa, bend=BEND)
        values = self._mean(path).log() - self.gain * path.log_excess
        bend = float((bent - sample.curve.weights(point.log_kappa)) @ values)
        return math.hypot(theory * math.log(size / sample.n), bend)


def gain_of_excess(samples: Backtest) -> float:
    """Return the slope of the log share of wrong answers in log E0.

    Fitted, together with that in log B, to the paths of all examples and of their parts, which over-fit more
    at the same κ; 1, as for squared errors, where too few answers are wrong.
    """
    every_sample = [samples.full, *(sample for parts in samples.parts.values() for sample in parts)]
    logarithms = [sample.answers for sample in every_sample]
    log_unlearned, excess, share = (torch.cat(columns) for columns in zip(*logarithms, strict=True))
    if len(share) < 3:
        return 1.0
    matrix = torch.stack([torch.ones_like(log_unlearned), log_unlearned, excess], dim=1)
    return float((torch.linalg.pinv(matrix) @ share)[2])
