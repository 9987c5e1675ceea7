"""Measures of agreement of two lists of numbers, for a sample and many resamples of it.

A resample is a weight per pair: how often it was drawn. So each measure is written once, for weights
(b, n), and the sample itself is the resample in which every pair was drawn once. Ranks are those of the
resample, ties share their mean rank, and Kendall's tau is tau-b, as if every pair were listed as often as it
was drawn. NaN marks a resample in which a measure does not exist.
"""

import math
from collections.abc import Callable
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float64, Int64
from torch import Generator, Tensor
from torch.nn.functional import pad


@final
class Ranks:
    """n numbers in sorted order, from which ranks in any resample follow."""

    def __init__(self, values: Float64[Tensor, " n"] | Int64[Tensor, " n"]) -> None:
        ordered, self.order = values.sort(stable=True)
        last = torch.ones(len(values), dtype=torch.bool, device="cpu")
        last[:-1] = ordered[1:] != ordered[:-1]
        self.ends = last.nonzero().flatten()  # (g,), where each of the g different numbers ends
        self.group = torch.empty_like(self.order)  # which of them every number is
        self.group[self.order] = last.cumsum(0) - last.long()

    def up_to(self, weights: Float64[Tensor, "b n"]) -> Float64[Tensor, "b g"]:
        """Return how many draws are less than or equal to each distinct number."""
        return _gather_columns(_gather_columns(weights, self.order).cumsum(1), self.ends)


@final
class ScoredPairs:
    """Scores and truth of n pairs, sorted once for all resamples."""

    def __init__(self, scores: Float64[Tensor, " n"], truth: Float64[Tensor, " n"]) -> None:
        # Each is scaled by itself, so that squares of small ones do not underflow; the ratio of the two
        # scales enters slope and relative error, which alone depend on it.
        sizes = [float(values.abs().max()) or 1.0 for values in (scores, truth)]
        self.scores = scores / sizes[0]
        self.truth = truth / sizes[1]
        self.ratio = sizes[0] / sizes[1]

    def __len__(self) -> int:
        return len(self.scores)

    @cached_property
    def score_ranks(self) -> Ranks:
        """Return the scores in order."""
        return Ranks(self.scores)

    @cached_property
    def truth_ranks(self) -> Ranks:
        """Return the truth in order."""
        return Ranks(self.truth)

    @cached_property
    def joint(self) -> Ranks:
        """Return the pairs by score, those of equal score by truth."""
        return Ranks(self.score_ranks.group * len(self) + self.truth_ranks.group)

    @cached_property
    def largest_scores(self) -> Int64[Tensor, " n"]:
        """Return the pairs from the largest |score| down; of equals, the first given first."""
        return _largest_first(self.scores)

    @cached_property
    def largest_truth(self) -> Int64[Tensor, " n"]:
        """Return the pairs from the largest |truth| down; of equals, the first given first."""
        return _largest_first(self.truth)

    @cached_property
    def merges(self) -> list["Merge"]:
        """Return the steps of a merge sort of the truth, the pairs being in the order of `joint`."""
        levels = math.ceil(math.log2(len(self))) if len(self) > 1 else 0
        rank = torch.full((2**levels,), len(self), device="cpu")  # padding up to a power of two has weight 0
        rank[: len(self)] = self.truth_ranks.group[self.joint.order]
        return [Merge(rank, 2**level) for level in range(levels)]


@final
class Merge:
    """One step of a merge sort: blocks of two sorted halves of length `half`."""

    def __init__(self, rank: Int64[Tensor, " n"], half: int) -> None:
        blocks = -rank.view(-1, 2, half)  # largest first
        ordered, order = blocks[:, 0].sort(dim=1)
        number = torch.arange(len(blocks), device="cpu")[:, None]
        self.half = half
        self.left = (order + number * 2 * half).flatten()
        above = torch.searchsorted(ordered, blocks[:, 1].contiguous())  # left ones strictly larger
        self.above = (above + number * (half + 1)).flatten()

    def inversions(self, weights: Float64[Tensor, "b n"]) -> Float64[Tensor, " b"]:
        """Return the number of pairs, one from each half of a block, in the wrong order."""
        b = len(weights)
        up_to = _gather_columns(weights, self.left).view(b, -1, self.half).cumsum(2)
        count = _gather_columns(pad(up_to, (1, 0)).flatten(1), self.above)  # (b, n/2)
        right = weights.view(b, -1, 2, self.half)[:, :, 1].flatten(1)
        inversions: Tensor = torch.linalg.vecdot(count, right)
        return inversions


@final
class Resamples:
    """Pairs of scores and truth, and how often each was drawn in b resamples."""

    def __init__(self, pairs: ScoredPairs, weights: Float64[Tensor, "b n"], top: int) -> None:
        self.pairs = pairs
        self.weights = weights
        self.top = top
        self.count = weights.sum(1)

    @cached_property
    def score_groups(self) -> Float64[Tensor, "b g"]:
        """Return how many drawn scores are less than or equal to each distinct one."""
        return self.pairs.score_ranks.up_to(self.weights)

    @cached_property
    def truth_groups(self) -> Float64[Tensor, "b g"]:
        """Return the same for the truth."""
        return self.pairs.truth_ranks.up_to(self.weights)

    @cached_property
    def central_moments(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return Σ s², Σ st, Σ t² about the means of each resample."""
        return _central_moments(self, self.pairs.scores[None], self.pairs.truth[None])


def resample_weights(columns: int, resamples: int, generator: Generator) -> Float64[Tensor, "b n"]:
    """Return how often each column was drawn in each resample of as many columns."""
    drawn = torch.randint(columns, (resamples, columns), generator=generator, device="cpu")
    weights = torch.zeros(resamples, columns, dtype=torch.float64, device="cpu")
    return weights.scatter_add_(1, drawn, torch.ones_like(weights))


def pearson(resamples: Resamples) -> Float64[Tensor, " b"]:
    """Return the linear correlation."""
    return _correlation(resamples, *resamples.central_moments)


def spearman(resamples: Resamples) -> Float64[Tensor, " b"]:
    """Return the linear correlation of the ranks."""
    scores = _gather_columns(_middle(resamples.score_groups), resamples.pairs.score_ranks.group)
    truth = _gather_columns(_middle(resamples.truth_groups), resamples.pairs.truth_ranks.group)
    return _correlation(resamples, *_central_moments(resamples, scores, truth))


def kendall(resamples: Resamples) -> Float64[Tensor, " b"]:
    """Return tau-b: concordant minus discordant pairs, over the roots of those not tied.

    Cost:
        2bn log n, by merge sort.
    """
    joint = resamples.pairs.joint
    tied = [_squares(resamples.score_groups), _squares(resamples.truth_groups)]
    both = _squares(joint.up_to(resamples.weights))
    every = resamples.count.square()
    weights = _gather_columns(resamples.weights, joint.order)
    if resamples.pairs.merges:
        weights = pad(weights, (0, 2 ** len(resamples.pairs.merges) - len(resamples.pairs)))
    discordant = torch.zeros_like(every)
    for merge in resamples.pairs.merges:
        discordant += merge.inversions(weights)
    # Counts of ordered pairs, whole numbers: concordant + discordant = those not tied in either.
    difference = every - tied[0] - tied[1] + both - 4 * discordant
    return difference / ((every - tied[0]).sqrt() * (every - tied[1]).sqrt())


def top_overlap(resamples: Resamples) -> Float64[Tensor, " b"]:
    """Return the share of the `top` largest |truth| that are among the `top` largest |scores|."""
    scores = _top_counts(resamples, resamples.pairs.largest_scores)
    truth = _top_counts(resamples, resamples.pairs.largest_truth)
    return torch.minimum(scores, truth).sum(1) / resamples.top


def slope(resamples: Resamples) -> Float64[Tensor, " b"]:
    """Return the slope of the least-squares line, with intercept, of truth against scores."""
    ss, st, _ = resamples.central_moments
    return torch.where(_varies(resamples.score_groups), st / ss / resamples.pairs.ratio, math.nan)


def relative_error(resamples: Resamples) -> Float64[Tensor, " b"]:
    """Return √(Σ (s − t)² / Σ t²)."""
    scores, truth, ratio = resamples.pairs.scores, resamples.pairs.truth, resamples.pairs.ratio
    # Both in units of the larger, so that no square overflows.
    larger = max(ratio, 1.0)
    missed = resamples.weights @ (scores * min(ratio, 1.0) - truth / larger).square()
    size = resamples.weights @ truth.square()
    return torch.where(size > 0, (missed / size).sqrt() * larger, math.nan)


Measure = Callable[[Resamples], Tensor]

MEASURES: dict[str, Measure] = {
    measure.__name__: measure for measure in (pearson, spearman, kendall, top_overlap, slope, relative_error)
}


def _central_moments(
    resamples: Resamples, scores: Float64[Tensor, "_ n"], truth: Float64[Tensor, "_ n"]
) -> tuple[Tensor, Tensor, Tensor]:
    weights, count = resamples.weights, resamples.count[:, None]
    # About the mean of each resample: a common mean would lose digits by cancellation.
    s = scores - (weights * scores).sum(1, keepdim=True) / count
    t = truth - (weights * truth).sum(1, keepdim=True) / count
    heavy = weights * s
    vecdot = torch.linalg.vecdot
    return vecdot(heavy, s), vecdot(heavy, t), vecdot(weights * t, t)


def _correlation(resamples: Resamples, ss: Tensor, st: Tensor, tt: Tensor) -> Tensor:
    # Rounding leaves a small variance of equal numbers: whether there is any follows from the draws.
    there = _varies(resamples.score_groups) & _varies(resamples.truth_groups)
    return torch.where(there, st / (ss.sqrt() * tt.sqrt()), math.nan).clamp(-1, 1)


def _varies(up_to: Float64[Tensor, "b g"]) -> Tensor:
    """Return whether more than one distinct number was drawn."""
    return (_counts(up_to) > 0).sum(1) > 1


def _counts(up_to: Float64[Tensor, "b g"]) -> Float64[Tensor, "b g"]:
    return up_to.diff(dim=1, prepend=up_to.new_zeros(len(up_to), 1))


def _squares(up_to: Float64[Tensor, "b g"]) -> Float64[Tensor, " b"]:
    """Return the number of tied ordered pairs, those with themselves included."""
    return _counts(up_to).square().sum(1)


def _middle(up_to: Float64[Tensor, "b g"]) -> Float64[Tensor, "b g"]:
    """Return the mean rank of each distinct number."""
    return up_to - (_counts(up_to) - 1) / 2


def _largest_first(values: Float64[Tensor, " n"]) -> Int64[Tensor, " n"]:
    order: Tensor = values.abs().sort(descending=True, stable=True).indices
    return order


def _top_counts(resamples: Resamples, order: Int64[Tensor, " n"]) -> Float64[Tensor, "b n"]:
    """Return how many of each pair are among the first `top` in this order."""
    ordered = _gather_columns(resamples.weights, order)
    before = ordered.cumsum(1) - ordered
    counts = torch.minimum((resamples.top - before).clamp_min(0), ordered)
    return torch.empty_like(counts).scatter_(1, order.expand(len(counts), -1), counts)


def _gather_columns(values: Float64[Tensor, "b n"], index: Int64[Tensor, " p"]) -> Float64[Tensor, "b p"]:
    """Return values[:, index] by `gather`, which is four times faster than indexing."""
    return values.gather(1, index.expand(len(values), -1))
