"""Which source of training examples is worth more? The information in single examples, and in all together.

    each       weights SI and function F-SI of every example left out alone: their mean and median
    whole      the model without the source: loss change, SI and F-SI of all of it together, exactly

The two differ where examples of a source replace each other: if every example of a source is there twice,
none alone carries information, and either half could go. Intervals are bootstrap intervals over the examples
of a source: how far the mean would move with other examples like these. They ignore that leave-one-out values
of one training set depend on each other.
"""

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float64

from leftout.attribution.engine.query_blocks import queries_of
from leftout.attribution.information import information
from leftout.attribution.leave_out import leave_out
from leftout.core.blocks import blocks
from leftout.core.checks import as_list, check_count, check_seed
from leftout.core.errors import OptionError
from leftout.curation.prune import one_time
from leftout.data.pairs import Data
from leftout.dynamics.fitted import Fitted, check_fitted
from leftout.dynamics.rules import At

DRAWS = 2000
"""Bootstrap samples: the ends of a 95 % interval are then themselves within some 5 % of its length."""

LEVEL = 0.95

DRAWN = 10**6
"""Examples drawn at a time, so that memory does not grow with the size of a source."""


@dataclass(frozen=True)
class IntervalEstimate:
    """A number and its 95 % bootstrap interval, which is infinite for a single example."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Source:
    """The information in one source and its effect on the query loss.

    Attributes:
        name: as it was given.
        count: of its training examples.
        weights, function: mean information of an example left out alone, in nats.
        median_weights, median_function: the median.
        loss: mean query loss without the whole source minus loss with it: positive = it helped.
        loss_each: the same for each of its examples, `loss` / `count`.
        whole_weights, whole_function: information in all examples of the source together, in nats.
    """

    name: str
    count: int
    weights: IntervalEstimate
    function: IntervalEstimate
    median_weights: IntervalEstimate
    median_function: IntervalEstimate
    loss: float
    loss_each: float
    whole_weights: float
    whole_function: float


@dataclass(frozen=True)
class Difference:
    """The difference of two sources' mean `function` information per example, in nats.

    Attributes:
        clear: whether the interval of the difference lies above zero.
    """

    more: str
    less: str
    estimate: IntervalEstimate
    clear: bool


@dataclass(frozen=True)
class Sources:
    """Sources, worth most for each example first.

    Attributes:
        sources: by the mean of `function`, largest first.
        differences: each of them against the next.
        time: of training; inf is the end.
        reason: the first difference in one sentence.
    """

    sources: tuple[Source, ...]
    differences: tuple[Difference, ...]
    time: float
    reason: str

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row for each source, and intervals in columns `…_low` and `…_high`."""
        rows = []
        for source in self.sources:
            row: dict[str, Any] = {}
            for name, field in vars(source).items():
                if isinstance(field, IntervalEstimate):
                    row |= {name: field.value, f"{name}_low": field.low, f"{name}_high": field.high}
                else:
                    row[name] = field
            rows.append(row)
        return pd.DataFrame(rows)


def sources(
    fitted: Fitted, query: Data, source: Iterable[Any], *, at: At = None, draws: int = DRAWS, seed: int = 0
) -> Sources:
    """Return what each source of training examples is worth, per example and as a whole.

    Args:
        source: where each training example comes from, a name or number for each of them.
        at: training time; None is the end.
        draws: bootstrap samples of an interval.
        seed: of these samples; the names of sources make no difference.

    Raises:
        OptionError: not one source for each training example, one that is missing, or only one.

    Cost:
        `information` of every example and of one group for each source, and `leave_out` of the same groups.

    Source:
        Smooth unique information, section 5 and figure 2a.

    Example:
        >>> import leftout as lo
        >>> train, query = lo.load("digits", n_train=40, n_query=10)
        >>> fitted = lo.fit(lo.kernels.TwoLayerReLU(), train, rule=lo.Ridge(0.1))
        >>> found = lo.sources(fitted, query, ["web"] * 20 + ["scan"] * 20, draws=100)
        >>> [(source.name, source.count, round(source.function.value, 5)) for source in found.sources]
        [('web', 20, 0.00143), ('scan', 20, 0.00124)]
        >>> found.differences[0].clear
        False
    """
    check_fitted(fitted)
    check_count("draws", draws)
    check_seed(seed)
    time = one_time(fitted, at)
    rows = rows_by_source(named_sources(source, len(fitted)))
    examples = queries_of(fitted, query)
    at = None if time == math.inf else time
    single = information(fitted, examples, at=at)
    together = information(fitted, examples, at=at, groups=rows)
    loss = leave_out(fitted, examples, rows, at=at).values.mean(0)
    single_values = np.stack([single["weights"].values, single["function"].values], axis=1)  # (n, 2)
    draws_of = {
        name: _bootstrap(single_values[members], int(draws), [int(seed), members[0]])
        for name, members in rows.items()
    }
    rated = [
        _source(name, single_values[members], draws_of[name], float(loss[j]), together.isel(group=j))
        for j, (name, members) in enumerate(rows.items())
    ]
    ordered = sorted(rated, key=lambda source: -source.function.value)
    differences = tuple(
        _difference(first, second, draws_of[first.name].means[:, 1] - draws_of[second.name].means[:, 1])
        for first, second in pairwise(ordered)
    )
    return Sources(tuple(ordered), differences, time, _reason(ordered, differences))


def named_sources(source: Iterable[Any], n: int) -> list[str]:
    """Return the name of each training example's source.

    Raises:
        OptionError: not one source for each training example, one that is missing, or only one.
    """
    listed = as_list("source", source)
    # A set has no order; of a dictionary the keys would be taken; a text would be taken apart.
    if not isinstance(listed, Iterable) or isinstance(listed, Set | Mapping | str):
        raise OptionError(
            "`source` must be a sequence of names, one for each training example, in their order; got "
            f"{type(listed).__name__}."
        )
    listed = list(listed)
    if len(listed) != n:
        raise OptionError(
            f"`source` must name where each of the {n} training examples comes from; got {len(listed)} names."
        )
    for row, name in enumerate(listed):
        # NaN is the only value that differs from itself.
        if name is None or name != name or not str(name).strip():
            raise OptionError(
                f"`source` must name a source for every training example; that of row {row} is "
                f"{name!r}. Name it, or leave the example out."
            )
    names = [str(name) for name in listed]
    if len(set(names)) < 2:
        raise OptionError(
            f"`source` must name at least two sources to compare; all {n} examples come from {names[0]!r}."
        )
    return names


def rows_by_source(names: Sequence[str]) -> dict[str, list[int]]:
    """Return the training rows of each source, sources in the order in which they first come."""
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        rows.setdefault(name, []).append(row)
    return rows


@dataclass(frozen=True, eq=False)
class SourceDraw:
    """Means and medians of bootstrap samples, by weights and by function."""

    means: Float64[np.ndarray, "d 2"]
    medians: Float64[np.ndarray, "d 2"]


def _bootstrap(values: Float64[np.ndarray, "c 2"], draws: int, seed: list[int]) -> SourceDraw:
    """Return samples of as many examples as there are, drawn with replacement."""
    generator = np.random.default_rng(seed)
    means, medians = np.empty((2, draws, 2))
    for block in blocks(draws, max(1, DRAWN // len(values))):
        chosen = values[generator.integers(len(values), size=(block.stop - block.start, len(values)))]
        means[block], medians[block] = chosen.mean(1), np.median(chosen, axis=1)
    return SourceDraw(means, medians)


def _source(
    name: str, values: Float64[np.ndarray, "c 2"], drawn: SourceDraw, loss: float, together: xr.Dataset
) -> Source:
    count = len(values)
    mean = [_estimate(values[:, j].mean(), drawn.means[:, j], count) for j in (0, 1)]
    median = [_estimate(np.median(values[:, j]), drawn.medians[:, j], count) for j in (0, 1)]
    return Source(
        name=name,
        count=count,
        weights=mean[0],
        function=mean[1],
        median_weights=median[0],
        median_function=median[1],
        loss=loss,
        loss_each=loss / count,
        whole_weights=float(together["weights"]),
        whole_function=float(together["function"]),
    )


def _estimate(centre: float, drawn: Float64[np.ndarray, " d"], count: int) -> IntervalEstimate:
    if count < 2:
        return IntervalEstimate(float(centre), -math.inf, math.inf)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return IntervalEstimate(float(centre), float(low), float(high))


def _difference(first: Source, second: Source, drawn: Float64[np.ndarray, " d"]) -> Difference:
    difference = first.function.value - second.function.value
    estimate = _estimate(difference, drawn, min(first.count, second.count))
    return Difference(first.name, second.name, estimate, estimate.low > 0)


def _reason(ordered: Sequence[Source], differences: Sequence[Difference]) -> str:
    first, second = ordered[0], ordered[1]
    if not differences[0].clear:
        return (
            f"An example of {first.name} tells the model {first.function.value:.3g} nats about the "
            f"queries on average, one of {second.name} {second.function.value:.3g}: the difference is "
            "within what other examples of them could make."
        )
    return (
        f"An example of {first.name} tells the model {first.function.value:.3g} nats about the queries "
        f"on average, one of {second.name}, the next, {second.function.value:.3g}: more by "
        f"{differences[0].estimate.low:.3g} to {differences[0].estimate.high:.3g} (95 %)."
    )
