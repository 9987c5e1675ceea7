"""How high can an agreement with noisy truth be? As high as the truth itself, judged by how seeds agree.

Let the loss of a query after training be t(S) + e(S, seed) over subsets S, the noise e of each seed
independent with mean 0. The mean of R seeds has reliability

    rel_R = var t / (var t + var e / R) = R ρ / (1 + (R − 1) ρ),        ρ = var t / (var t + var e),

where ρ is the correlation of two seeds (Spearman and Brown). Whoever knows t exactly correlates with the mean
of R seeds as √rel_R: that is the ceiling. Rank correlations go through the linear ones of normal numbers,
ρ = 2 sin(π ρ_S / 6), and back.

Of 48 subsets, ρ of a query is known to some 0.1, and √rel is curved: taken query by query the ceiling would
be too low, from the mean ρ too high. So estimates are drawn towards their mean until their variance over
queries is what remains after that of their noise, which the resamples show.
"""

from itertools import combinations

import numpy as np
from jaxtyping import Float64

from leftout.diagnostics.referee.intervals import Draws, PerQuery, measure_queries


def seed_agreement(
    name: str, replicates: Float64[np.ndarray, "r m c"], draws: Draws, *, top: int = 1
) -> PerQuery:
    """Return the mean over pairs of seeds of a measure, for each query."""
    pairs = [
        measure_queries(name, replicates[a], replicates[b], draws, top=top)
        for a, b in combinations(range(len(replicates)), 2)
    ]
    return PerQuery(
        np.mean([pair.estimate for pair in pairs], axis=0),
        np.mean([pair.resampled for pair in pairs], axis=0),
    )


def ceilings(
    agreement: PerQuery, draws: Draws, *, seeds: int
) -> tuple[Float64[np.ndarray, " m"], Float64[np.ndarray, " b"]]:
    """Return the highest Spearman correlation with the mean of the seeds: of each query, and in resamples
    their mean.

    Args:
        agreement: mean Spearman correlation of two seeds, of each query.
        seeds: how many the truth is the mean of.
    """
    deviations = agreement.resampled - agreement.estimate
    noise = float(np.nanmean(np.nanvar(deviations, axis=1)))
    of_queries = highest_rank_correlation(shrunk(agreement.estimate[None], noise)[0], seeds)
    drawn = np.take_along_axis(agreement.resampled, draws.queries, axis=1)
    # A resample has the noise of the estimate and that of its own draw.
    means = np.nanmean(highest_rank_correlation(shrunk(drawn, 2 * noise), seeds), axis=1)
    return of_queries, means


def shrunk(correlations: Float64[np.ndarray, "b m"], noise: float) -> Float64[np.ndarray, "b m"]:
    """Return correlations drawn towards the mean of their row, so that the variance of noise is gone."""
    mean = np.nanmean(correlations, axis=1, keepdims=True)
    variance = np.nanvar(correlations, axis=1, keepdims=True)
    share = np.sqrt(np.clip(variance - noise, 0, None) / np.where(variance > 0, variance, 1))
    towards_mean: np.ndarray = mean + share * (correlations - mean)
    return towards_mean


def highest_rank_correlation(
    agreement: Float64[np.ndarray, "*rows m"], seeds: int
) -> Float64[np.ndarray, "*rows m"]:
    """Return which Spearman correlation with the mean of seeds the truth has, where two seeds agree so well.

    Example:
        >>> highest_rank_correlation(np.array([0.0, 0.5, 1.0]), 3).round(2).tolist()
        [0.0, 0.86, 1.0]
    """
    linear = 2 * np.sin(np.pi * np.clip(agreement, 0, 1) / 6)
    reliability = seeds * linear / (1 + (seeds - 1) * linear)
    highest: np.ndarray = 6 / np.pi * np.arcsin(np.sqrt(reliability) / 2)
    return highest
