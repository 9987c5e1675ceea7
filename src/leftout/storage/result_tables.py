"""The tables that a run keeps as CSV files: their columns, their rows, and how they are read back.

suspects.csv    every training example whose label is doubted, most doubtful first
redundant.csv   the order of removal, and the exact joint effect where it was computed
learned.csv     when every training example was learned, and how
curve.csv       error and accuracy measured up to the examples at hand, and predicted beyond
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from leftout.core.errors import StoreError
from leftout.curation.learned import Learned
from leftout.curation.mislabelled import Suspect
from leftout.curation.prune import Pruned
from leftout.data.examples import Examples
from leftout.diagnostics.learning_curve.record import LearningCurve
from leftout.storage.csv_table import EXACT, SHOWN, original_cell

SUSPECT_COLUMNS = ("id", "given", "suggested", "margin", "reason")
REMOVAL_COLUMNS = ("rank", "id", "label", "share", "query_loss", "query_accuracy")
LEARNED_COLUMNS = ("id", "label", "learned_at", "understood_at", "kind")
CURVE_COLUMNS = ("n", "kind", "error", "error_low", "error_high", "accuracy", "accuracy_low", "accuracy_high")
NUMBERS = {
    "margin": float,
    "rank": int,
    "share": float,
    "query_loss": float,
    "query_accuracy": float,
    "learned_at": float,
    "understood_at": float,
}
"""Columns that hold numbers; all others hold text."""


def suspect_rows(train: Examples, suspects: Iterable[Suspect]) -> list[tuple[Any, ...]]:
    """Return the doubted labels in the order given."""
    return [
        (train.ids[suspect.row], suspect.given, suspect.suggested, repr(suspect.margin), suspect.reason)
        for suspect in suspects
    ]


def removal_rows(train: Examples, removal: Pruned) -> list[tuple[Any, ...]]:
    """Return the order of removal; loss and accuracy stand where everything up to that row was removed."""
    position = {count: j for j, count in enumerate(removal.counts)}
    rows = []
    for rank, row in enumerate(removal.order, start=1):
        j = position.get(rank)
        loss = "" if j is None else repr(removal.loss[j])
        accuracy = "" if j is None or removal.accuracy is None else repr(removal.accuracy[j])
        rows.append((rank, train.ids[row], _class_name(train, row), repr(rank / len(train)), loss, accuracy))
    return rows


def learned_rows(train: Examples, learned: Learned) -> list[tuple[Any, ...]]:
    """Return all examples, learned last first; no time where an example is not right at the last time."""
    return [
        (
            train.ids[row],
            _class_name(train, row),
            _number_cell(learned.learned_at[row]),
            _number_cell(learned.understood_at[row]),
            learned.kinds[row],
        )
        for row in learned.order
    ]


def curve_rows(curve: LearningCurve) -> list[tuple[str, ...]]:
    """Return the learning curve: the sizes at which it was measured, then those asked for."""
    rows: list[tuple[str, ...]] = [
        (str(point.n), "measured", repr(point.error), "", "", _number_cell(point.accuracy), "", "")
        for point in curve.measured
    ]
    accuracies = (curve.accuracy, curve.accuracy_low, curve.accuracy_high)
    for j, size in enumerate(curve.n):
        kind = "extrapolated" if curve.extrapolated[j] else "predicted"
        errors = (repr(curve.error[j]), repr(curve.error_low[j]), repr(curve.error_high[j]))
        right = (_number_cell(None if shares is None else shares[j]) for shares in accuracies)
        rows.append((str(size), kind, *errors, *right))
    return rows


def read_table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """Return a table with just these columns.

    Raises:
        StoreError: no such file, other columns, or a number that is none.
    """
    # Ids and labels are text even where they look like numbers ("007", "NA"), and objects, as the
    # text type of pandas refuses names that are not UTF-8.
    try:
        frame = pd.read_csv(path, dtype=object, keep_default_na=False, encoding_errors="surrogatepass")
        if tuple(frame.columns) == (*columns, SHOWN):
            frame = frame.drop(columns=SHOWN)
        if tuple(frame.columns) != columns:
            raise ValueError(f"its columns must be {', '.join(columns)}")
        for name in set(columns) - {EXACT, *NUMBERS}:
            frame[name] = pd.Series(map(original_cell, frame[name]), dtype=object)
        for name, kind in NUMBERS.items():
            if name in columns:
                numbers = [float(text or "nan") for text in frame[name]]
                frame[name] = pd.Series(numbers, dtype=float).astype(kind)
    except (OSError, ValueError) as error:
        raise StoreError(f"{str(path)!r} is not readable: {error}.") from None
    return frame


def _number_cell(number: float | None) -> str:
    return "" if number is None else repr(number)


def _class_name(train: Examples, row: int) -> str:
    """Return the class of an example; nothing where there are no classes."""
    if train.labels is None or train.classes is None:
        return ""
    return train.classes[int(train.labels[row])]
