"""How far does a prediction from n examples reach, and how far may it be off?

Of errors and of shares of wrong answers alike, the logarithm is taken for a function of κ plus `gain` times
log E0 (of squared errors the theory says gain = 1; of wrong answers it is fitted on parts of the examples):

    log m(n') = log m(n) + [f(κ) + gain·log E0]_n' − [f(κ) + gain·log E0]_n,     m(n) measured, left out

so that what is wrong at n with theory and sample alike cancels. Halves of the examples rehearse a factor of
two in n, quarters one of four: half of what they were wrong by is taken off. The standard error is that of a
mean over examples: what each one's left-out errors along the whole ridge add to the anchor and to the
weights' sum.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, final

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from leftout.diagnostics.learning_curve.population_curve import BEND, Point
from leftout.diagnostics.learning_curve.ridge_path import RidgePath
from leftout.diagnostics.learning_curve.subsamples import Rehearsal, Sample
from leftout.dynamics.fitted import Fitted

THEORY: dict[str, float] = {"errors": 0.015, "wrong": 0.03}
"""Least relative error of theory for each factor e in n, however well a rehearsal went."""

Measure = Literal["errors", "wrong"]
"""What is foretold: mean squared errors, or shares of wrong answers."""


@dataclass(frozen=True)
class Foretold:
    """A number at each size asked for, with the half width of its interval in the logarithm."""

    values: tuple[float, ...]
    half: tuple[float, ...]

    @property
    def low(self) -> tuple[float, ...]:
        """Return the lower ends."""
        return tuple(v * math.exp(-h) for v, h in zip(self.values, self.half, strict=True))

    @property
    def high(self) -> tuple[float, ...]:
        """Return the upper ends."""
        return tuple(v * math.exp(h) for v, h in zip(self.values, self.half, strict=True))


@final
class Forecast:
    """Predictions of one measure from all examples, rehearsed on parts of them."""

    def __init__(self, fitted: Fitted, found: Rehearsal, sizes: tuple[int, ...], measure: Measure) -> None:
        self.fitted = fitted
        self.found = found
        self.sizes = sizes
        self.measure = measure
        self.gain = 1.0 if measure == "errors" else gain_of_excess(found)
        whole = found.whole
        self.here = self._point(whole, whole.n)
        self.points = [self._point(whole, size) for size in sizes]

    @cached_property
    def rehearsal(self) -> dict[int, float]:
        """Return log foretold over log measured at n, by the size of the parts that foretold it."""
        whole = math.log(self._mean(self.found.whole.own)[0])
        told = {}
        for samples in self.found.parts.values():
            logs = [self._foretold(sample) for sample in samples]
            told[samples[0].n] = sum(logs) / len(logs) - whole
        return told

    def all(self, deviations: float, members: Bool[Tensor, " n"] | None = None) -> Foretold:
        """Return the predictions, of all examples or of some of them.

        Args:
            deviations: half the interval of a normal number, in standard deviations.
        """
        whole = self.found.whole
        anchor = float(self._mean(whole.own, members)[0])
        values = [
            anchor * math.exp(self._change(whole, self.here, point, members) - self._rehearsed(size))
            for point, size in zip(self.points, self.sizes, strict=True)
        ]
        half = [
            math.hypot(deviations * self._sampling(point), deviations / 1.96 * self._model(point, size))
            for point, size in zip(self.points, self.sizes, strict=True)
        ]
        return Foretold(tuple(values), tuple(half))

    def _rehearsed(self, size: int) -> float:
        """Return half of what parts were wrong by, at the same factor in n; the largest's beyond it.

        Half: it is seen once, with noise. For sizes below n the parts' rehearsal says nothing.
        """
        n = self.found.whole.n
        told = sorted((math.log(n / part), wrong) for part, wrong in self.rehearsal.items())
        places, wrongs = zip((0.0, 0.0), *told, strict=True)
        return 0.5 * float(np.interp(math.log(size / n), places, wrongs))

    def _point(self, sample: Sample, n: int) -> Point:
        return sample.curve.at(n * self.fitted.outputs_per_example, self.fitted.rule.effective_ridge(n))

    def _foretold(self, sample: Sample) -> float:
        """Return the logarithm at n that a part foretells."""
        here, there = (self._point(sample, n) for n in (sample.n, self.found.whole.n))
        return math.log(self._mean(sample.own)[0]) + self._change(sample, here, there)

    def _change(
        self, sample: Sample, here: Point, there: Point, members: Bool[Tensor, " n"] | None = None
    ) -> float:
        """Return the log of the measure there over here."""
        path = sample.curve.path
        values = self._mean(path, members).log() - self.gain * path.log_excess
        shift = sample.curve.weights(there.log_kappa) - sample.curve.weights(here.log_kappa)
        return float(shift @ values) + self.gain * (there.log_excess - here.log_excess)

    def _mean(self, path: RidgePath, members: Bool[Tensor, " n"] | None = None) -> Float64[Tensor, " q"]:
        """Return the mean over examples at each ridge, of wrong answers half a one above what was seen."""
        each = self._each(path)
        each = each if members is None else each[:, members]
        if self.measure == "errors":
            return each.mean(1)
        return (each.sum(1) + 0.5) / (each.shape[1] + 1)

    def _each(self, path: RidgePath) -> Float64[Tensor, "q e"]:
        if self.measure == "errors":
            return path.errors
        assert path.wrong is not None
        return path.wrong.double()

    def _sampling(self, point: Point) -> float:
        """Return the standard error in the logarithm, as the examples at hand vary."""
        whole = self.found.whole
        path, own = whole.curve.path, whole.own
        shift = whole.curve.weights(point.log_kappa) - whole.curve.weights(self.here.log_kappa)
        added = shift @ (self._each(path) / self._mean(path)[:, None])
        added = added + self._each(own)[0] / self._mean(own)[0]
        return float(added.std()) / math.sqrt(len(added))

    def _model(self, point: Point, size: int) -> float:
        """Return how far theory and tail may lead astray, in the logarithm."""
        whole = self.found.whole
        path = whole.curve.path
        seen = [told / math.log(whole.n / n) for n, told in self.rehearsal.items()]
        theory = max(THEORY[self.measure], math.sqrt(sum(x * x for x in seen) / len(seen)))
        bent = whole.curve.weights(point.log_kappa, bend=BEND)
        values = self._mean(path).log() - self.gain * path.log_excess
        bend = float((bent - whole.curve.weights(point.log_kappa)) @ values)
        return math.hypot(theory * math.log(size / whole.n), bend)


def gain_of_excess(found: Rehearsal) -> float:
    """Return by how much more is wrong where more is over-fitted, log share of wrong answers over log E0.

    Fitted, beside log B, to the paths of all examples and of their parts, which at the same κ over-fit
    more; 1, as of errors, where too few answers are wrong to tell.
    """
    samples = [found.whole, *(sample for some in found.parts.values() for sample in some)]
    told = [sample.answers for sample in samples]
    left, excess, share = (torch.cat(columns) for columns in zip(*told, strict=True))
    if len(share) < 3:
        return 1.0
    matrix = torch.stack([torch.ones_like(left), left, excess], dim=1)
    return float((torch.linalg.pinv(matrix) @ share)[2])
