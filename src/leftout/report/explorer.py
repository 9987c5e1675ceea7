"""Which training examples helped or harmed one query most? What the page needs to tell, packed.

The page cannot hold every score, so it holds, for each query and time, the strongest few on either
side: among all training examples, and among those of each class, so that filtering by class is
exact and not a search within a short list. Scores are read once, a block of queries at a time.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int32, Int64

from leftout.core.blocks import blocks
from leftout.core.checks import check_finite
from leftout.core.errors import ShapeError
from leftout.core.plain_text import plain
from leftout.data.examples import Examples
from leftout.report.findings import Findings
from leftout.report.wording import label, moment, values

LENGTH, PER_CLASS = 12, 4
"""Most examples kept on either side: of all classes together, and of each class."""

ENTRIES = 1_200_000
"""Most (row, value) pairs kept by class: more could not travel in the page."""

BLOCK_BYTES = 64 * 2**20

SCORES_SHOWN = 10
"""Classes whose score is shown for a query."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """The strongest influences on some queries; row −1 where fewer examples helped or harmed.

    Attributes:
        queries: which queries, in their order.
        rows, strengths: training rows and influence, strongest first; (time, query, side, place),
            side 0 helped, side 1 harmed.
        class_rows, class_strengths: the same within each class, (time, query, class, side, place).
        mean: influence of each training example, mean over all queries, (time, train).
        ruled: of how many queries, of all, each training example has the largest absolute influence,
            (time, train); none where nothing has any.
    """

    queries: Int64[np.ndarray, " q"]
    rows: Int32[np.ndarray, "t q 2 length"]
    strengths: Float32[np.ndarray, "t q 2 length"]
    class_rows: Int32[np.ndarray, "t q c 2 within"]
    class_strengths: Float32[np.ndarray, "t q c 2 within"]
    mean: Float64[np.ndarray, "t n"]
    ruled: Int64[np.ndarray, "t n"]

    def shortened(self, count: int, length: int, per_class: int, order: np.ndarray) -> "Ranking":
        """Return shorter lists for the first `count` of `order`, positions in `queries`."""
        kept = np.sort(order[:count])
        return Ranking(
            self.queries[kept],
            self.rows[:, kept, :, :length],
            self.strengths[:, kept, :, :length],
            self.class_rows[:, kept, :, :, :per_class],
            self.class_strengths[:, kept, :, :, :per_class],
            self.mean,
            self.ruled,
        )

    @property
    def named(self) -> set[int]:
        """Return every training row that occurs in a list."""
        both = np.concatenate([self.rows.ravel(), self.class_rows.ravel()])
        return set(np.unique(both).tolist()) - {-1}


def query_losses(findings: Findings) -> Float64[np.ndarray, "t m"]:
    """Return ½ Σ (f − y)² of every query at every time."""
    targets = findings.query.targets
    gaps = [moment_.predictions.cpu() - targets for moment_ in findings.moments]
    return np.stack([0.5 * gap.square().sum(1).numpy() for gap in gaps])


def ranking(findings: Findings, queries: Int64[np.ndarray, " q"]) -> Ranking:
    """Return the strongest influences on `queries` (ascending), and the mean over all queries.

    Raises:
        ShapeError: the scores have not the dimensions (at, query, train) of the findings.
        DataError: a score is NaN or infinite.

    Cost: every score is read once; memory is one block of 64 MiB and the lists.
    """
    t, m, n = len(findings.moments), len(findings.query), len(findings.train)
    _check_scores(findings, (t, m, n))
    members = _members(findings)
    within = min(PER_CLASS, ENTRIES // max(1, t * len(queries) * len(members) * 2))
    length = min(LENGTH, n)
    rows = np.full((t, len(queries), 2, length), -1, np.int32)
    strengths = np.zeros(rows.shape, np.float32)
    class_rows = np.full((t, len(queries), len(members), 2, within), -1, np.int32)
    class_strengths = np.zeros(class_rows.shape, np.float32)
    mean, ruled = np.zeros((t, n)), np.zeros((t, n), np.int64)
    for at in range(t):
        for part in blocks(m, max(1, BLOCK_BYTES // (8 * n))):
            block = findings.scores.isel(at=at, query=part).to_numpy().astype(np.float64)
            total = block.sum(0)
            if not np.isfinite(total).all():  # cheaper than looking at every score
                check_finite("scores", torch.from_numpy(block))
            mean[at] += total / m
            ruled[at] += _rulers(block)
            first, last = np.searchsorted(queries, [part.start, part.stop])
            asked = block[queries[first:last] - part.start]  # (asked queries of this block, n)
            here = (at, slice(first, last))
            rows[here], strengths[here] = _strongest(asked, None, length)
            for c, own in enumerate(members if within else ()):
                found = _strongest(asked[:, own], own, within)
                class_rows[at, first:last, c], class_strengths[at, first:last, c] = found
    return Ranking(queries, rows, strengths, class_rows, class_strengths, mean, ruled)


def _rulers(block: Float64[np.ndarray, "b n"]) -> Int64[np.ndarray, " n"]:
    """Return of how many queries of a block each training example has the largest influence, ±."""
    sizes = np.abs(block)
    first = sizes.argmax(1)  # of copies of an example, the first
    return np.bincount(first[sizes.max(1) > 0], minlength=block.shape[1])


def payload(findings: Findings, ranking: Ranking, shown: list[int], unit: str, slots: bool) -> dict[str, Any]:
    """Return what the page's script needs, ready for JSON; arrays are base64, little-endian.

    Args:
        shown: training rows that the page knows, ascending; lists refer to places in it.
        unit: "time" or "step".
        slots: whether there are pictures, in the order of `shown` and then of the queries.
    """
    train, query, queries = findings.train, findings.query, ranking.queries
    place = np.full(len(train) + 1, -1)
    place[shown] = np.arange(len(shown))  # row −1 reads the last entry, −1
    narrow = np.int16 if len(shown) < 2**15 else np.int32
    doubted = {suspect.row for suspect in findings.suspects}
    return {
        "times": [moment(one.at, unit) for one in findings.moments],
        "judged": findings.judged,
        "classes": None if train.classes is None else [plain(c) for c in train.classes],
        "outputs": train.encoding.outputs,
        "pictures": slots,
        "train": {
            "ids": [plain(train.ids[row]) for row in shown],
            "labels": [label(train, row) for row in shown] if train.classes is None else None,
            "classes": _packed(_classes(train, shown), np.int16),
            "doubted": [i for i, row in enumerate(shown) if row in doubted],
            "values": _rows(train, shown),
        },
        "query": {
            "ids": [plain(query.ids[q]) for q in queries],
            "numbers": _packed(queries, np.int32),
            "labels": [label(query, int(q)) for q in queries] if query.classes is None else None,
            "classes": _packed(_classes(query, queries), np.int16),
            "values": _rows(query, [int(q) for q in queries]),
            "losses": _packed(query_losses(findings)[:, queries], np.float32),
            **_predictions(findings, queries),
        },
        "lists": {
            "length": ranking.rows.shape[3],
            "within": ranking.class_rows.shape[4],
            "rows": _packed(place[ranking.rows], narrow),
            "values": _packed(ranking.strengths, np.float32),
            "class_rows": _packed(place[ranking.class_rows], narrow),
            "class_values": _packed(ranking.class_strengths, np.float32),
            "bytes": np.dtype(narrow).itemsize,
        },
    }


def _check_scores(findings: Findings, shape: tuple[int, int, int]) -> None:
    scores = findings.scores
    if scores.dims != ("at", "query", "train") or scores.shape != shape:
        raise ShapeError(
            f"`scores` must have dims ('at', 'query', 'train') and shape {shape}, as the findings "
            f"have moments, queries and training examples; got {scores.dims} and {scores.shape}."
        )


def _members(findings: Findings) -> list[np.ndarray]:
    """Return the training rows of each class; none for regression."""
    if findings.train.classes is None or findings.train.labels is None:
        return []
    labels = findings.train.labels.cpu().numpy()
    return [np.flatnonzero(labels == c) for c in range(len(findings.train.classes))]


def _strongest(
    scores: Float64[np.ndarray, "b w"], own: np.ndarray | None, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and values of the `length` most helpful and most harmful: (b, 2, length) each.

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
        found = np.nonzero(chosen)[1].reshape(b, take)
        picked = np.take_along_axis(keys, found, 1)
        order = np.argsort(picked, axis=1, kind="stable")
        found, picked = np.take_along_axis(found, order, 1), np.take_along_axis(picked, order, 1)
        counts = picked < 0
        rows[:, side, :take] = np.where(counts, found if own is None else own[found], -1)
        strengths[:, side, :take] = np.where(counts, sign * picked, 0.0)
    return rows, strengths


def _predictions(findings: Findings, queries: np.ndarray) -> dict[str, Any]:
    """Return what the model says about each query: the best classes, or every output."""
    encoding = findings.train.encoding
    rows = torch.from_numpy(queries)
    if encoding.classes is None:
        said = [encoding.uncentred(one.predictions.cpu()[rows]) for one in findings.moments]
        truth = encoding.uncentred(findings.query.targets[rows])
        width = min(SCORES_SHOWN, encoding.outputs)
        return {
            "shown": width,
            "scores": _packed(torch.stack(said)[:, :, :width].numpy(), np.float32),
            "targets": _packed(truth[:, :width].numpy(), np.float32),
        }
    said = [encoding.class_scores(one.predictions.cpu()[rows]) for one in findings.moments]
    scores = torch.stack(said).numpy()  # (t, q, c)
    width = min(SCORES_SHOWN, scores.shape[2])
    best = np.argsort(-scores, axis=2, kind="stable")[:, :, :width]
    right = np.broadcast_to(_classes(findings.query, queries)[None, :, None], best.shape)
    # The target is always among those shown: if it is not one of the best, it takes the last place.
    missing = ~(best == right).any(2)
    best[missing, width - 1] = right[missing, width - 1]
    if width == scores.shape[2]:
        best = np.sort(best, axis=2)
    decoded = np.stack([encoding.decode(one.predictions.cpu()[rows]).numpy() for one in findings.moments])
    return {
        "shown": width,
        "scores": _packed(np.take_along_axis(scores, best, 2), np.float32),
        "scored": _packed(best, np.int16),
        "decided": _packed(decoded, np.int16),
    }


def _classes(examples: Examples, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    if examples.labels is None:
        return np.zeros(0, np.int64)
    return np.asarray(examples.labels.cpu())[np.asarray(rows, dtype=np.int64)]


def _rows(examples: Examples, rows: list[int]) -> list[str] | None:
    """Return rows of a table as one line of text each; None where there is no table."""
    if examples.table is None:
        return None
    lines = [values(examples, row, most=5) for row in rows]
    return [" · ".join(f"{name} {entry}" for name, entry in line) for line in lines]


def _packed(array: np.ndarray, dtype: Any) -> str:
    little = np.ascontiguousarray(array, dtype=np.dtype(dtype).newbyteorder("<"))
    return base64.b64encode(little.tobytes()).decode("ascii")
