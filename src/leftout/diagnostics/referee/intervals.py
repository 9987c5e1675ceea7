"""A measure of agreement for every query, its mean over the queries, and how sure both are.

What was trained again is a column (a subset, or a training example left out): all queries are judged by the
same columns. So the interval of one query comes from resampling columns; that of the mean over queries from
resampling columns, the same for all queries, and queries too, as another data set would have other ones.
Resampling both counts the noise of single numbers in both ways, so the interval of a mean is a little too
wide, never too narrow.

The ends are percentiles of the resamples. A resample draws columns twice, which shifts a correlation by some
1 / columns; both ends are moved back by the mean of that shift.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Generator, Tensor

from leftout.core.blocks import blocks
from leftout.core.progress import with_progress
from leftout.diagnostics.retraining.measures import MEASURES, Resamples, ScoredPairs, resample_weights

NUMBERS = 2**20
"""Weights of resamples that are worked on at a time."""


@final
@dataclass(frozen=True, eq=False)
class Draws:
    """Resamples of columns and of queries.

    Attributes:
        weights: how often each column was drawn.
        queries: which queries were drawn.
    """

    weights: Float64[Tensor, "b c"]
    queries: Int64[np.ndarray, "b m"]


def draw_resamples(columns: int, queries: int, resamples: int, seed: int) -> Draws:
    """Return resamples of columns and of queries."""
    generator = Generator().manual_seed(seed)
    weights = resample_weights(columns, resamples, generator)
    return Draws(weights, np.random.default_rng(seed).integers(queries, size=(resamples, queries)))


@final
@dataclass(frozen=True, eq=False)
class PerQuery:
    """A measure of every query, as it is and in resamples of the columns.

    Attributes:
        estimate: NaN of a query whose numbers are all equal.
        resampled: moved by the mean shift that drawing columns twice makes.
    """

    estimate: Float64[np.ndarray, " m"]
    resampled: Float64[np.ndarray, "b m"]

    def ends(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        """Return both ends of the interval of each query."""
        low, high = np.nanquantile(self.resampled, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return low, high

    def mean_resampled(self, draws: Draws) -> Float64[np.ndarray, " b"]:
        """Return the mean over queries in each resample of columns and queries.

        NaN of a resample that drew one column only, where no query has a measure.
        """
        drawn = np.take_along_axis(self.resampled, draws.queries, axis=1)
        known = np.isfinite(drawn)
        totals, counts = np.where(known, drawn, 0.0).sum(axis=1), known.sum(axis=1)
        means: np.ndarray = np.divide(totals, counts, out=np.full_like(totals, np.nan), where=counts > 0)
        return means


def measure_queries(
    name: str,
    predictions: Float64[np.ndarray, "m c"],
    truth: Float64[np.ndarray, "m c"],
    draws: Draws,
    *,
    top: int = 1,
) -> PerQuery:
    """Return a measure of `MEASURES` for each query, over its columns."""
    estimates, resampled = [], []
    columns = truth.shape[1]
    plain = torch.ones(1, columns, dtype=torch.float64, device="cpu")
    rows = list(zip(predictions, truth, strict=True))
    for predicted, exact in with_progress(rows, what=f"resamples of {name}"):
        pairs = ScoredPairs(torch.from_numpy(predicted.copy()), torch.from_numpy(exact.copy()))
        estimates.append(MEASURES[name](Resamples(pairs, plain, top)))
        size = max(1, NUMBERS // columns)
        resampled.append(
            torch.cat(
                [
                    MEASURES[name](Resamples(pairs, draws.weights[block], top))
                    for block in blocks(len(draws.weights), size)
                ]
            )
        )
    estimate = torch.cat(estimates).numpy()
    values = torch.stack(resampled, dim=1).numpy()
    return PerQuery(estimate, values - (np.nanmean(values, axis=0) - estimate))
