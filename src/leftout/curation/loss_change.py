"""By how much does the loss rise without examples, over all queries and in every class?

Every query is asked of the model with everyone and of that without the examples, so what is compared are
pairs. With d the differences of m queries, and s their standard deviation (m − 1 in its denominator):

    mean(d) ± t s / √m,   t the quantile of Student's t, m − 1 degrees of freedom, at 1 − (1 − level) / tests

All upper bounds hold together with probability `level` or more (Bonferroni), as only a rise is harm; lower
and upper ones together with 1 − 2 (1 − level). Of fewer than two queries nothing is known, and the interval
is everything. A class has become worse in accuracy where so many more of its queries turned from right to
wrong than from wrong to right that chance explains it with a probability below (1 − level) / tests (the sign
test of McNemar 1947).
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.stats import binom, t

LEVEL = 0.95
"""Probability with which all upper bounds of a removal order hold together."""


@dataclass(frozen=True)
class LossChange:
    """What removal does to the loss of some queries.

    Attributes:
        of: the class, or "" where they are all queries.
        queries: how many.
        before: their mean loss with everyone.
        change: mean of the loss without the examples minus that with everyone.
        low, high: bounds of it.
        tolerated: the largest rise that is accepted.
        accuracy_change: of the share that is right; None for regression.
        less_accurate: whether more turned wrong than chance explains.
    """

    of: str
    queries: int
    before: float
    change: float
    low: float
    high: float
    tolerated: float
    accuracy_change: float | None = None
    less_accurate: bool = False

    @property
    def is_harmless(self) -> bool:
        """Return whether a rise beyond the tolerated one is excluded, and accuracy did not fall."""
        return self.high <= self.tolerated and not self.less_accurate

    @property
    def text(self) -> str:
        """Return the change and its interval, as shares of the loss before, or as they are where it was 0."""
        unit = self.before if self.before > 0 else 1.0
        form = "+.2%" if self.before > 0 else "+.3g"
        change, low, high = (format(value / unit, form) for value in (self.change, self.low, self.high))
        return f"{change} ({low} to {high})"


def loss_changes(
    before: Float64[np.ndarray, " m"],
    change: Float64[np.ndarray, " m"],
    *,
    tolerances: tuple[float, float],
    tests: int,
    labels: Int64[np.ndarray, " m"] | None = None,
    classes: tuple[str, ...] = (),
    right: tuple[Bool[np.ndarray, " m"], Bool[np.ndarray, " m"]] | None = None,
    level: float = LEVEL,
) -> tuple[LossChange, ...]:
    """Return the change over all queries, and then that in every class.

    Args:
        before: loss of each query with everyone.
        change: its loss without the examples minus that.
        tolerances: rise of the mean loss that is accepted, and of that of a class, as shares of it.
        tests: upper bounds that shall hold together with these.
        labels: class number of each query; None where there are no classes.
        right: whether each is right, with everyone and without the examples.
        level: probability that all upper bounds hold.
    """
    alpha = (1 - level) / tests

    def of_rows(rows: Bool[np.ndarray, " m"], of: str, tolerance: float) -> LossChange:
        m = int(rows.sum())
        if m == 0:
            return LossChange(of, 0, math.nan, math.nan, -math.inf, math.inf, math.nan)
        mean, base = float(change[rows].mean()), float(before[rows].mean())
        half = math.inf if m < 2 else float(t.ppf(1 - alpha, m - 1) * change[rows].std(ddof=1) / math.sqrt(m))
        accuracy, worse = None, False
        if right is not None:
            lost, won = (int((a & ~b & rows).sum()) for a, b in (right, right[::-1]))
            accuracy = (won - lost) / m
            worse = bool(lost > won and binom.sf(lost - 1, lost + won, 0.5) < alpha)
        return LossChange(of, m, base, mean, mean - half, mean + half, tolerance * base, accuracy, worse)

    changes = [of_rows(np.ones(len(before), dtype=bool), "", tolerances[0])]
    if labels is not None:
        changes += [of_rows(labels == number, name, tolerances[1]) for number, name in enumerate(classes)]
    return tuple(changes)


def worst_change(changes: tuple[LossChange, ...]) -> LossChange | None:
    """Return that of the class that comes nearest to what is tolerated, or is furthest beyond it; None
    without classes.
    """

    def beyond(change: LossChange) -> float:
        if change.queries < 2 or change.less_accurate:
            return math.inf
        if change.tolerated > 0:
            return change.high / change.tolerated
        return math.inf if change.high > 0 else -math.inf  # no loss before: any rise is beyond

    return max(changes[1:], key=beyond, default=None)
