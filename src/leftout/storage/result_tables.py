"""The tables of an audit: as frames, as CSV files of its run, and read back the same.

suspects.csv    every training example with what is said of its label, most doubtful first
redundant.csv   the order of removal, and the exact joint effect where it was computed
rare.csv        under-sampled training examples, and those unlike any other
duplicates.csv  training examples with identical inputs
learned.csv     when every training example was learned, and how
curve.csv       error and accuracy measured up to the examples at hand, and predicted beyond

`row` is the row of an example in the file, table or array that it came from, from 0.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leftout.core.errors import StoreError
from leftout.curation.duplicates import Duplicates
from leftout.curation.label_scores import LabelScores
from leftout.curation.learned import Learned
from leftout.curation.mislabelled import Suspect
from leftout.curation.prune import Pruned
from leftout.curation.rare import Outlier, Rare
from leftout.data.examples import Examples
from leftout.diagnostics.learning_curve.record import LearningCurve
from leftout.storage.csv_table import EXACT, SHOWN, original_cell, write_csv

SUSPECT_COLUMNS = (
    *("id", "row", "given", "suggested", "label_score", "is_label_issue", "margin", "reason"),
    *("given_label", "predicted_label", "predicted_score"),
)
"""The last three, `label_score` and `is_label_issue` are named as cleanlab names them."""

LABEL_COLUMNS = ("given", "suggested", "given_label", "predicted_label")
"""Classes, or numbers where numbers are predicted."""

REMOVAL_COLUMNS = ("rank", "id", "row", "label", "can_go", "share", "query_loss", "query_accuracy")
RARE_COLUMNS = ("id", "row", "label", "kind", "loss", "agreement", "similarity", "reason")
DUPLICATE_COLUMNS = ("group", "id", "row", "label", "conflicting")
LEARNED_COLUMNS = ("id", "label", "learned_at", "understood_at", "kind")
CURVE_COLUMNS = ("n", "kind", "error", "error_low", "error_high", "accuracy", "accuracy_low", "accuracy_high")

TRUTHS = {"True": True, "False": False}
TYPES: dict[str, type] = {
    **dict.fromkeys(("is_label_issue", "can_go", "conflicting"), bool),
    **dict.fromkeys(("row", "rank", "group", "n"), int),
    **dict.fromkeys(("label_score", "margin", "predicted_score", "share", "query_loss"), float),
    **dict.fromkeys(("query_accuracy", "loss", "agreement", "similarity"), float),
    **dict.fromkeys(("learned_at", "understood_at", *CURVE_COLUMNS[2:]), float),
}
"""Of columns that hold no text."""


def suspect_table(
    train: Examples,
    suspects: Sequence[Suspect],
    *,
    margins: Sequence[float],
    scores: LabelScores | None,
    refusal: str = "",
) -> pd.DataFrame:
    """Return every training example: the doubted ones first, in their order, and the others by margin.

    Args:
        scores: None where no model can be asked: nothing is suggested then, and scores are NaN.
        refusal: why no label is doubted, where none could be; it stands in `attrs`.
    """
    n = len(train)
    doubted = [suspect.row for suspect in suspects]
    others = np.setdiff1d(np.arange(n), doubted)
    order = [*doubted, *others[np.argsort(np.asarray(margins)[others], kind="stable")].tolist()]
    reasons = {suspect.row: suspect.reason for suspect in suspects}
    if scores is None:
        unknown = np.full(n, np.nan)
        given = _given_labels(train)
        nothing = [""] * n if train.labels is not None else unknown.tolist()
        scores = LabelScores(given, nothing, unknown, unknown)
    columns: dict[str, Any] = {
        "given": scores.given,
        "suggested": scores.suggested,
        "label_score": scores.scores,
        "is_label_issue": np.isin(np.arange(n), doubted),
        "margin": margins,
        "reason": [reasons.get(row, "") for row in range(n)],
        "given_label": scores.given,
        "predicted_label": scores.suggested,
        "predicted_score": scores.suggested_scores,
    }
    ordered = {name: [column[row] for row in order] for name, column in columns.items()}
    cells = _names(train, order) | ordered
    table = _frame(SUSPECT_COLUMNS, cells, _label_types(train.labels is None))
    table.attrs["refusal"] = refusal
    return table


def removal_table(train: Examples, removal: Pruned) -> pd.DataFrame:
    """Return the order of removal; loss and accuracy stand where everything up to that row was removed."""
    n, order = len(train), list(removal.order)
    loss, accuracy = np.full(n, np.nan), np.full(n, np.nan)
    counts = np.array([count for count in removal.counts if count > 0], dtype=int) - 1
    loss[counts] = removal.loss[len(removal.loss) - len(counts) :]
    if removal.accuracy is not None:
        accuracy[counts] = removal.accuracy[len(removal.accuracy) - len(counts) :]
    ranks = np.arange(1, n + 1)
    return _frame(
        REMOVAL_COLUMNS,
        {
            "rank": ranks,
            **_names(train, order),
            "label": [_class_name(train, row) for row in order],
            "can_go": ranks <= removal.stop,
            "share": ranks / n,
            "query_loss": loss,
            "query_accuracy": accuracy,
        },
    )


def rare_table(train: Examples, rare: Sequence[Rare], outliers: Sequence[Outlier]) -> pd.DataFrame:
    """Return under-sampled examples, the worst predicted first, then outliers, the least alike first."""
    every: list[Rare | Outlier] = [*rare, *outliers]
    rows = [example.row for example in every]
    return _frame(
        RARE_COLUMNS,
        {
            **_names(train, rows),
            "label": [_class_name(train, row) for row in rows],
            "kind": ["under-sampled"] * len(rare) + ["outlier"] * len(outliers),
            "loss": [getattr(example, "loss", np.nan) for example in every],
            "agreement": [getattr(example, "agreement", np.nan) for example in every],
            "similarity": [getattr(example, "similarity", np.nan) for example in every],
            "reason": [example.reason for example in every],
        },
    )


def duplicate_table(train: Examples, groups: Sequence[Duplicates]) -> pd.DataFrame:
    """Return a row for each example that has the inputs of another, groups with different labels first."""
    pairs = [(number, row) for number, group in enumerate(groups) for row in group.rows]
    rows = [row for _, row in pairs]
    return _frame(
        DUPLICATE_COLUMNS,
        {
            "group": [number for number, _ in pairs],
            **_names(train, rows),
            "label": [_class_name(train, row) for row in rows],
            "conflicting": [groups[number].conflicting for number, _ in pairs],
        },
    )


def learned_table(train: Examples, learned: Learned) -> pd.DataFrame:
    """Return all examples, learned last first; no time where an example is not right at the last time."""
    order = list(learned.order)
    return _frame(
        LEARNED_COLUMNS,
        {
            "id": [train.ids[row] for row in order],
            "label": [_class_name(train, row) for row in order],
            "learned_at": [learned.learned_at[row] for row in order],
            "understood_at": [learned.understood_at[row] for row in order],
            "kind": [str(learned.kinds[row]) for row in order],
        },
    )


def curve_table(curve: LearningCurve) -> pd.DataFrame:
    """Return the learning curve: the sizes at which it was measured, then those asked for."""
    rows: list[tuple[Any, ...]] = [
        (point.n, "measured", point.error, np.nan, np.nan, point.accuracy, np.nan, np.nan)
        for point in curve.measured
    ]
    accuracies = (curve.accuracy, curve.accuracy_low, curve.accuracy_high)
    for j, size in enumerate(curve.n):
        kind = "extrapolated" if curve.extrapolated[j] else "predicted"
        errors = (curve.error[j], curve.error_low[j], curve.error_high[j])
        right = (None if shares is None else shares[j] for shares in accuracies)
        rows.append((size, kind, *errors, *right))
    return _frame(CURVE_COLUMNS, dict(zip(CURVE_COLUMNS, zip(*rows, strict=True), strict=True)))


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as a CSV file: numbers to the last bit, nothing where there is none."""
    columns = [map(_cell, table[name].tolist()) for name in table.columns]
    write_csv(path, tuple(table.columns), zip(*columns, strict=True))


def read_table(path: Path, columns: tuple[str, ...], *, types: dict[str, type] | None = None) -> pd.DataFrame:
    """Return a table with just these columns, as it was written.

    Args:
        types: of columns that hold other than text in this table only.

    Raises:
        StoreError: no such file, other columns, or a number that is none.
    """
    # Ids and labels are text even where they look like numbers ("007", "NA").
    try:
        frame = pd.read_csv(path, dtype=object, keep_default_na=False, encoding_errors="surrogatepass")
        if tuple(frame.columns) == (*columns, SHOWN):
            frame = frame.drop(columns=SHOWN)
        if tuple(frame.columns) != columns:
            raise ValueError(f"its columns must be {', '.join(columns)}")
        known = TYPES | (types or {})
        cells = {
            name: _read_cells(frame[name].tolist(), known.get(name, str), exact=name == EXACT)
            for name in columns
        }
    except (KeyError, OSError, ValueError) as error:
        raise StoreError(f"{str(path)!r} is not readable: {error}.") from None
    return _frame(columns, cells, types)


def read_suspects(path: Path, *, of_numbers: bool, refusal: str) -> pd.DataFrame:
    """Return the table of `suspect_table`; arguments as `run.json` has them."""
    table = read_table(path, SUSPECT_COLUMNS, types=_label_types(of_numbers))
    table.attrs["refusal"] = refusal
    return table


def _read_cells(cells: list[str], kind: type, *, exact: bool) -> list[Any]:
    """Return cells as numbers, truth values, or the text that was written."""
    if kind is bool:
        return [TRUTHS[cell] for cell in cells]
    if kind is int:
        return [int(cell) for cell in cells]
    if kind is float:
        return [float(cell or "nan") for cell in cells]
    return cells if exact else [original_cell(cell) for cell in cells]


def _cell(value: Any) -> str:
    """Return a cell of a file; nothing for a number that there is not."""
    if isinstance(value, float):
        return "" if np.isnan(value) else repr(value)
    return str(value)


def _frame(
    columns: Sequence[str], cells: dict[str, Any], types: dict[str, type] | None = None
) -> pd.DataFrame:
    """Return a frame with these columns, each of its type."""
    known = TYPES | (types or {})
    # Text is kept as objects, as the text type of pandas refuses names that are not UTF-8.
    return pd.DataFrame(
        {name: pd.Series(list(cells[name]), dtype=known.get(name, object)) for name in columns}
    )


def _names(train: Examples, rows: Sequence[int]) -> dict[str, list[Any]]:
    """Return by what a person, and a program, finds examples again."""
    assert train.source_rows is not None
    return {"id": [train.ids[row] for row in rows], "row": train.source_rows[list(rows)].tolist()}


def _label_types(of_numbers: bool) -> dict[str, type]:
    return dict.fromkeys(LABEL_COLUMNS, float) if of_numbers else {}


def _given_labels(train: Examples) -> list[Any]:
    """Return the classes of all examples, or their numbers, of several the first."""
    if train.labels is None:
        return train.encoding.in_target_units(train.targets)[:, 0].tolist()
    return [_class_name(train, row) for row in range(len(train))]


def _class_name(train: Examples, row: int) -> str:
    """Return the class of an example; nothing where there are no classes."""
    if train.labels is None or train.classes is None:
        return ""
    return train.classes[int(train.labels[row])]
