"""The data of the explorer: which training examples helped or harmed one query most, packed for the page."""

import base64
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float64

from leftout.core.wording import number, plain, time_label
from leftout.data.examples import Examples
from leftout.report.findings import Findings
from leftout.report.ranking import Ranking
from leftout.report.telling_columns import TellingColumns
from leftout.report.thumbnails import PAGE, TILES
from leftout.report.wording import label_text

SCORES_SHOWN = 10
"""Classes whose score is shown for a query."""


def query_losses(findings: Findings) -> Float64[np.ndarray, "t m"]:
    """Return the loss of every query at every time."""
    targets = findings.query.targets
    losses = [findings.loss.of(model.predictions.cpu(), targets) for model in findings.at_times]
    return torch.stack(losses).numpy()


def explorer_data(findings: Findings, ranking: Ranking, shown: list[int], slots: bool) -> dict[str, Any]:
    """Return the data for the page's script, ready for JSON; arrays are base64, little-endian.

    Args:
        shown: training rows that the page knows, ascending; lists refer to places in it.
        slots: whether there are pictures, in the order of `shown` and then of the queries.
    """
    train, query, queries = findings.train, findings.query, ranking.queries
    place = np.full(len(train) + 1, -1)
    place[shown] = np.arange(len(shown))  # row −1 reads the last entry, −1
    narrow = np.int16 if len(shown) < 2**15 else np.int32
    doubted = {suspect.row for suspect in findings.suspects}
    return {
        "times": [time_label(model.at, findings.time_unit) for model in findings.at_times],
        "classes": None if train.classes is None else [plain(c) for c in train.classes],
        "outputs": train.encoding.outputs,
        "pictures": slots,
        "train": {
            "ids": [plain(train.ids[row]) for row in shown],
            "labels": [label_text(train, row) for row in shown] if train.classes is None else None,
            "classes": _base64(_class_numbers(train, shown), np.int16),
            "doubted": [i for i, row in enumerate(shown) if row in doubted],
            "values": _row_texts(findings.columns, shown),
        },
        "query": {
            "ids": [plain(query.ids[q]) for q in queries],
            "numbers": _base64(queries, np.int32),
            "labels": [label_text(query, int(q)) for q in queries] if query.classes is None else None,
            "classes": _base64(_class_numbers(query, queries), np.int16),
            "values": _row_texts(findings.columns, (len(train) + int(q) for q in queries)),
            "losses": _base64(query_losses(findings)[:, queries], np.float32),
            "trust": None if findings.trust is None else trust_texts(findings.trust, queries),
            **_predictions(findings, queries),
        },
        "lists": {
            "length": ranking.rows.shape[3],
            "within": ranking.class_rows.shape[4],
            "rows": _base64(place[ranking.rows], narrow),
            "values": _base64(ranking.strengths, np.float32),
            "class_rows": _base64(place[ranking.class_rows], narrow),
            "class_values": _base64(ranking.class_strengths, np.float32),
            "bytes": np.dtype(narrow).itemsize,
        },
        "atlas": {"columns": TILES, "page": PAGE, "first_query": len(shown)},
    }


def trust_texts(trust: xr.Dataset, queries: np.ndarray) -> list[str]:
    """Return of each query in a word whether to trust the answers about it, and how far two models agree."""
    return [
        f"{'trust' if trusted else 'noise'}: agreement {number(float(agreement), 2)}"
        for agreement, trusted in zip(
            trust.agreement.values[queries], trust.trusted.values[queries], strict=True
        )
    ]


def _predictions(findings: Findings, queries: np.ndarray) -> dict[str, Any]:
    """Return the model's answers at each query: the best classes, or every output."""
    encoding = findings.train.encoding
    rows = torch.from_numpy(queries)
    predictions = [model.predictions.cpu()[rows] for model in findings.at_times]
    if encoding.classes is None:
        outputs = torch.stack([encoding.in_target_units(prediction) for prediction in predictions])
        truth = encoding.in_target_units(findings.query.targets[rows])
        width = min(SCORES_SHOWN, encoding.outputs)
        return {
            "shown": width,
            "scores": _base64(outputs[:, :, :width].numpy(), np.float32),
            "targets": _base64(truth[:, :width].numpy(), np.float32),
        }
    scores = np.stack([encoding.class_scores(prediction).numpy() for prediction in predictions])  # (t, q, c)
    width = min(SCORES_SHOWN, scores.shape[2])
    best = np.argsort(-scores, axis=2, kind="stable")[:, :, :width]
    right = np.broadcast_to(_class_numbers(findings.query, queries)[None, :, None], best.shape)
    # The target is always among those shown: if it is not one of the best, it takes the last place.
    missing = ~(best == right).any(2)
    best[missing, width - 1] = right[missing, width - 1]
    if width == scores.shape[2]:
        best = np.sort(best, axis=2)
    decoded = np.stack([encoding.decode(prediction).numpy() for prediction in predictions])
    return {
        "shown": width,
        "scores": _base64(np.take_along_axis(scores, best, 2), np.float32),
        "scored": _base64(best, np.int16),
        "decided": _base64(decoded, np.int16),
    }


def _class_numbers(examples: Examples, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    if examples.labels is None:
        return np.zeros(0, np.int64)
    return np.asarray(examples.labels.cpu())[np.asarray(rows, dtype=np.int64)]


def _row_texts(columns: TellingColumns, rows: Iterable[int]) -> list[str] | None:
    """Return rows of a table as one line of text each; None where there is no table."""
    return [columns.line(row) for row in rows] if columns.names else None


def _base64(array: np.ndarray, dtype: Any) -> str:
    little = np.ascontiguousarray(array, dtype=np.dtype(dtype).newbyteorder("<"))
    return base64.b64encode(little.tobytes()).decode("ascii")
