"""The strongest influences on each query, on either side, as many as a page can hold.

They are ranked among all training examples, and among those of each class, so that filtering by class is
exact and not a search within a short list. Scores are read once, a block of queries at a time.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int32, Int64

from leftout.core.blocks import blocks
from leftout.core.checks import check_finite
from leftout.core.errors import ShapeError
from leftout.report.findings import Findings

LENGTH, PER_CLASS = 12, 4
"""Most examples on either side: of all classes together, and of each class."""

ENTRIES = 1_200_000
"""Most (row, value) pairs by class: more could not travel in the page."""

BLOCK_BYTES = 64 * 2**20


@dataclass(frozen=True, eq=False)
class Ranking:
    """The strongest influences on some queries; row −1 where fewer examples helped or harmed.

    Attributes:
        queries: which queries, in their order.
        rows, strengths: training rows and influence, strongest first; (time, query, side, place),
            side 0 helped, side 1 harmed.
        class_rows, class_strengths: the same within each class, (time, query, class, side, place).
        mean: influence of each training example, mean over all queries, (time, train).
        led: of how many queries, of all, each training example has the largest absolute influence,
            (time, train); none where nothing has any.
    """

    queries: Int64[np.ndarray, " q"]
    rows: Int32[np.ndarray, "t q 2 length"]
    strengths: Float32[np.ndarray, "t q 2 length"]
    class_rows: Int32[np.ndarray, "t q c 2 within"]
    class_strengths: Float32[np.ndarray, "t q c 2 within"]
    mean: Float64[np.ndarray, "t n"]
    led: Int64[np.ndarray, "t n"]

    def shorten(self, count: int, length: int, per_class: int, order: np.ndarray) -> "Ranking":
        """Return shorter lists for the first `count` of `order`, positions in `queries`."""
        first = np.sort(order[:count])
        return Ranking(
            self.queries[first],
            self.rows[:, first, :, :length],
            self.strengths[:, first, :, :length],
            self.class_rows[:, first, :, :, :per_class],
            self.class_strengths[:, first, :, :, :per_class],
            self.mean,
            self.led,
        )

    @property
    def listed_rows(self) -> set[int]:
        """Return every training row that occurs in a list."""
        both = np.concatenate([self.rows.ravel(), self.class_rows.ravel()])
        return set(np.unique(both).tolist()) - {-1}


def rank_influences(findings: Findings, queries: Int64[np.ndarray, " q"]) -> Ranking:
    """Return the strongest influences on `queries` (ascending), and the mean over all queries.

    Raises:
        ShapeError: the scores have not the dimensions (at, query, train) of the findings.
        DataError: a score is NaN or infinite.

    Cost: every score is read once; memory is one block of 64 MiB and the lists.
    """
    t, m, n = len(findings.at_times), len(findings.query), len(findings.train)
    _check_scores(findings, (t, m, n))
    members = _class_members(findings)
    within = min(PER_CLASS, ENTRIES // max(1, t * len(queries) * len(members) * 2))
    length = min(LENGTH, n)
    rows = np.full((t, len(queries), 2, length), -1, np.int32)
    strengths = np.zeros(rows.shape, np.float32)
    class_rows = np.full((t, len(queries), len(members), 2, within), -1, np.int32)
    class_strengths = np.zeros(class_rows.shape, np.float32)
    mean, led = np.zeros((t, n)), np.zeros((t, n), np.int64)
    for at in range(t):
        for block in blocks(m, max(1, BLOCK_BYTES // (8 * n))):
            scores = findings.scores.isel(at=at, query=block).to_numpy().astype(np.float64)
            total = scores.sum(0)
            if not np.isfinite(total).all():  # cheaper than looking at every score
                check_finite("scores", torch.from_numpy(scores))
            mean[at] += total / m
            led[at] += _queries_led(scores)
            first, last = np.searchsorted(queries, [block.start, block.stop])
            listed = scores[queries[first:last] - block.start]  # (queries of this block in the lists, n)
            here = (at, slice(first, last))
            rows[here], strengths[here] = _strongest(listed, None, length)
            for c, columns in enumerate(members if within else ()):
                strongest = _strongest(listed[:, columns], columns, within)
                class_rows[at, first:last, c], class_strengths[at, first:last, c] = strongest
    return Ranking(queries, rows, strengths, class_rows, class_strengths, mean, led)


def _queries_led(scores: Float64[np.ndarray, "b n"]) -> Int64[np.ndarray, " n"]:
    """Return of how many queries of a block each training example has the largest influence, ±."""
    sizes = np.abs(scores)
    first = sizes.argmax(1)  # of copies of an example, the first
    return np.bincount(first[sizes.max(1) > 0], minlength=scores.shape[1])


def _check_scores(findings: Findings, shape: tuple[int, int, int]) -> None:
    scores = findings.scores
    if scores.dims != ("at", "query", "train") or scores.shape != shape:
        raise ShapeError(
            f"`scores` must have dims ('at', 'query', 'train') and shape {shape}, as the findings "
            f"have times, queries and training examples; got {scores.dims} and {scores.shape}."
        )


def _class_members(findings: Findings) -> list[np.ndarray]:
    """Return the training rows of each class; none for regression."""
    if findings.train.classes is None or findings.train.labels is None:
        return []
    labels = findings.train.labels.cpu().numpy()
    return [np.flatnonzero(labels == c) for c in range(len(findings.train.classes))]


def _strongest(
    scores: Float64[np.ndarray, "b w"], columns: np.ndarray | None, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and values of the `length` most helpful and most harmful: (b, 2, length) each.

    `columns` are the rows of the training examples in `scores`; None for all.

    Equal values stand in the order of their rows. Only what helped counts as helpful: the lists
    end, with row −1, where the sign changes.
    """
    b, width = scores.shape
    rows = np.full((b, 2, length), -1, np.int32)
    strengths = np.zeros((b, 2, length), np.float32)
    take = min(length, width)
    if b == 0 or take == 0:
        return rows, strengths
    for side, sign in enumerate((-1.0, 1.0)):
        keys = sign * scores  # smallest first: the most helpful (side 0), the most harmful (side 1)
        last = torch.from_numpy(keys).topk(take, dim=1, largest=False).values[:, -1:].numpy()
        chosen = keys <= last
        if chosen.sum() > b * take:
            # Copies of an example have equal scores: of those at a list's end, the first rows.
            before, equal = keys < last, keys == last
            room = take - before.sum(1, keepdims=True)
            chosen = before | (equal & (equal.cumsum(1) <= room))
        places = np.nonzero(chosen)[1].reshape(b, take)
        picked = np.take_along_axis(keys, places, 1)
        order = np.argsort(picked, axis=1, kind="stable")
        places, picked = np.take_along_axis(places, order, 1), np.take_along_axis(picked, order, 1)
        counts = picked < 0
        rows[:, side, :take] = np.where(counts, places if columns is None else columns[places], -1)
        strengths[:, side, :take] = np.where(counts, sign * picked, 0.0)
    return rows, strengths
