"""A table with a row per example, a column to predict, and columns to predict from.

A column called `id` names the rows, a column called `split` says `train` or one of the names of
queries; neither is a feature. Integers, truth values and texts to predict are classes.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from leftout.core.checks import shown
from leftout.core.errors import DataError, OptionError
from leftout.core.wording import name_list
from leftout.data.columns import ID, NUMBER, Column, integer_array, is_missing
from leftout.data.conversion import LARGEST_WHOLE, as_array, check_whole_numbers, doubles, kind_of
from leftout.data.csv_file import csv_columns
from leftout.data.data_source import DataSource, InputRows
from leftout.data.files import BYTES_PER_NUMBER, check_allocation
from leftout.data.options import Task
from leftout.data.parquet_file import parquet_columns
from leftout.data.split import named_splits
from leftout.data.table_encoding import encode_columns, raw_cells
from leftout.data.targets import float_class_note, raw_targets

SPLIT = "split"

TEXT_SHOWN = 40
"""Characters of a cell that a message shows."""

MOSTLY = 0.8
"""Share of numbers among the cells of a text column from which the others are taken for slips."""

KINDS_OF_COLUMNS: dict[str | None, Any] = {
    "integers": "integer",
    "floats": "number",
    "truth values": "truth",
    "texts": "text",
}


def table_columns(path: Path, header: bool | None = None) -> tuple[list[Column], list[str]]:
    """Return the columns of a .csv or .parquet file, and the name of every row.

    Raises:
        OptionError: `header` for a file that has names of columns by itself.
        DataError: as `csv_columns` and `parquet_columns`.
    """
    if path.suffix.lower() == ".csv":
        return csv_columns(path, header)
    if header is not None:
        raise OptionError(f"`header` must be left out for `{path}`: a .parquet names its columns itself.")
    return parquet_columns(path)


def frame_columns(frame: Any) -> tuple[list[Column], list[str]]:
    """Return the columns of a DataFrame of pandas, and the name of every row: its index.

    Raises:
        DataError: names of columns or rows that repeat; a column of dates, lists or mixtures.
    """
    headings = list(map(str, frame.columns))
    for what, names in (("columns", headings), ("rows (its index)", list(map(str, frame.index)))):
        if len(set(names)) < len(names):
            raise DataError(
                f"`data` must name its {what} once each; some repeat. Rename them, or use "
                "`.reset_index(drop=True)` for rows."
            )
    if not headings or not len(frame):
        raise DataError(f"`data` must hold columns and rows; it has {frame.shape}.")
    columns = []
    for place, name in enumerate(headings):
        cells = frame.iloc[:, place]
        gaps = np.asarray(cells.isna(), dtype=bool)
        if gaps.all():
            columns.append(Column(name, "text", np.zeros(len(cells)), gaps, empty=True))
            continue
        present = as_array(f"data column {name}", cells.dropna())
        kind = KINDS_OF_COLUMNS.get(kind_of(present))
        if kind is None:
            raise DataError(
                f"`{name}` in `data` must hold numbers or texts; it holds {present.dtype}. Convert it."
            )
        if kind == "integer":
            present = integer_array(present.tolist())
        values = present
        if gaps.any():
            values = np.zeros(len(cells), dtype=present.dtype)
            values[~gaps] = present
        columns.append(Column(name, kind, doubles(values) if kind == "number" else values, gaps))
    return columns, [f"row {label}" for label in frame.index]


def table(
    every: Sequence[Column],
    names: Sequence[str],
    source: str,
    *,
    form: str,
    target: str | None = None,
    columns: Sequence[str] | None = None,
    task: Task | None = None,
    shown_only: bool = False,
) -> DataSource:
    """Return the rows of a table.

    Args:
        every: all its columns.
        names: of its rows, where no column called `id` names them.
        form: of the file, for the record.
        target: the column to predict; None takes the last, and a note says so.
        columns: the columns to predict from; None takes all others.
        task: whether the target is classes or numbers; None goes by its type.
        shown_only: whether the columns beside the target are only looked at, as inputs come from elsewhere.

    Raises:
        OptionError: a column that is not there, or named twice.
        DataError: a target that is missing, numbers among which some cells are texts, codes with leading
            zeros, an infinite number, an integer that double precision does not hold, ids that repeat.
        MemoryBudgetError: more cells than memory has room for.
    """
    by_name = {column.name: column for column in every}
    goal = _target(by_name, target, source)
    features = _features(by_name, goal.name, columns, source)
    if not shown_only:
        _check_features(features, goal.name, names, source)
    _check_column(goal, names, source)
    unused: list[str] = []
    rows, is_query = np.arange(len(names)), None
    if SPLIT in by_name and goal.name != SPLIT:
        _check_column(by_name[SPLIT], names, source)
        rows, is_query, unused = named_splits(source, list(map(str, by_name[SPLIT].values.tolist())))
    if ID in by_name and goal.name != ID:
        names = _names(by_name[ID], names, source)
    size = BYTES_PER_NUMBER * len(names) * len(features)
    check_allocation(f"`{source}`, a table of {len(names)} × {len(features)},", size)
    ids = [names[row] for row in rows.tolist()]
    headings = tuple(column.name for column in features)
    plain = all(column.kind != "text" and not column.gaps.any() for column in features) and not shown_only
    if plain:
        cells = np.stack([column.values.astype(np.float64) for column in features], axis=1)[rows]

    def read(chosen: np.ndarray) -> InputRows:
        if plain:
            return InputRows(inputs=cells[chosen], table=cells[chosen], columns=headings)
        return InputRows(np.empty((len(chosen), 0)), None, raw_cells(features, rows[chosen]), headings)

    def encode(chosen: np.ndarray, train: int) -> InputRows:
        coded = encode_columns(features, rows[chosen], train, source)
        shown = raw_cells(features, rows[chosen])
        return InputRows(coded.inputs, None, shown, headings, coded.names, coded.notes)

    targets = raw_targets(goal.name, goal.values[rows], task=task, rows=ids)
    default = f"the target is {goal.name!r}, the last column, as no other was named with `target` (--target)"
    notes = [
        default if target is None else None,
        float_class_note(f"the target {goal.name!r}", targets) if task is None else None,
        _missing_word_note(goal),
        *(_name_note(column.name) for column in features if columns is None and not shown_only),
    ]
    return DataSource(
        name=source,
        ids=ids,
        targets=targets,
        read=read,
        encode=None if plain or shown_only else encode,
        is_query=is_query,
        record={
            "format": form,
            "target": goal.name,
            "columns": list(headings),
            "unused_splits": unused,
            "notes": [note for note in notes if note is not None],
        },
    )


def _missing_word_note(goal: Column) -> str | None:
    """Return the sentence that a word which may stand for a missing cell is taken as a class, or None."""
    words = goal.values.tolist() if goal.kind == "text" else []
    doubted = sorted({word for word in words if is_missing(word)})
    if not doubted:
        return None
    rows = sum(word in doubted for word in words)
    return (
        f"the target {goal.name!r} holds {name_list(doubted)} in {rows} of {len(words)} rows: a class. "
        "If it stands for a missing value, drop these rows, or leave it out by `classes` (--classes)"
    )


def _name_note(name: str) -> str | None:
    """Return the sentence that a column which looks like names of rows or splits is a feature, or None."""
    plain = name.lower().replace(" ", "")
    if plain not in (ID, SPLIT, "index", "unnamed:0", "row", "rownames"):
        return None
    return (
        f"{name!r} is one of the columns to predict from; only those called {ID!r} and {SPLIT!r} are none. "
        "Leave it out with `columns` (--columns), or rename it"
    )


def _target(by_name: dict[str, Column], target: str | None, source: str) -> Column:
    if target is not None:
        if target not in by_name:
            raise OptionError(
                f"`target` must be a column of `{source}`, one of {name_list(by_name)}; got {shown(target)}."
            )
        return by_name[target]
    rest = [name for name in by_name if name not in (ID, SPLIT)]
    if not rest:
        raise DataError(f"`{source}` must have a column to predict; it has {name_list(by_name)}.")
    return by_name[rest[-1]]


def _features(
    by_name: dict[str, Column], target: str, columns: Sequence[str] | None, source: str
) -> list[Column]:
    free = [name for name in by_name if name not in (ID, SPLIT, target)]
    if columns is None:
        chosen = free
    else:
        chosen = list(columns)
        wrong = [name for name in chosen if name not in by_name or name == target]
        if wrong or len(set(chosen)) < len(chosen) or not chosen:
            raise OptionError(
                f"`columns` must name columns of `{source}` other than the target {target!r}, each "
                f"once, among {name_list(free)}; got {chosen}."
            )
    return [by_name[name] for name in chosen]


def _check_features(features: Sequence[Column], target: str, names: Sequence[str], source: str) -> None:
    """Raise unless there are columns, whose cells mean one thing and are exact in double precision."""
    if not features:
        raise DataError(f"`{source}` must have columns beside the target {target!r}; it has none.")
    _check_meaning(features, target, names, source)
    for column in features:
        _check_feature(column, names, source)
    for column in (column for column in features if column.kind != "text"):
        check_whole_numbers(f"column {column.name} of {source}", column.values, names)


def _check_meaning(features: Sequence[Column], target: str, rows: Sequence[str], source: str) -> None:
    """Raise where the cells of a feature may mean two things, with what can be done."""
    numeric = [column.name for column in features if column.kind != "text"]
    advice = (
        f"or predict from others with `columns`: {name_list(numeric)} {_are(numeric)} numbers."
        if numeric
        else "or drop them: no other column holds numbers."
    )
    codes = [column for column in features if column.code is not None]
    if codes:
        example = codes[0].values[codes[0].code]
        raise DataError(
            f"`{source}` must have numbers or texts to predict from; "
            f"{name_list([column.name for column in codes])} {'hold' if len(codes) > 1 else 'holds'} codes "
            f"with leading zeros, such as {example!r}. Write them with a letter if they are names of kinds "
            f"(c0123), without the zeros if they are numbers, {advice}"
        )
    for column in (column for column in features if column.kind == "text" and not column.empty):
        cells = [cell for cell, gap in zip(column.values.tolist(), column.gaps, strict=True) if not gap]
        odd = [cell for cell in cells if not NUMBER.fullmatch(cell)]
        if odd and len(odd) < (1 - MOSTLY) * len(cells):
            row = next(row for row, cell in enumerate(column.values.tolist()) if cell == odd[0])
            raise DataError(
                f"`{source}` must have numbers or texts in a column, not both; {column.name!r} holds "
                f"numbers, and text in {len(odd)} of {len(cells)} rows, such as {odd[0][:TEXT_SHOWN]!r} in "
                f"{rows[row]}. Write numbers as 1234.5, leave cells without one empty, {advice} The target "
                f"is {target!r}."
            )


def _are(names: Sequence[str]) -> str:
    return "are" if len(names) > 1 else "is"


def _check_feature(column: Column, names: Sequence[str], source: str) -> None:
    """Raise at the first cell that is infinite, or not what double precision makes of it."""
    if not column.empty:
        values = column.values
        if column.kind == "number":
            values = np.where(column.gaps, 0.0, values)
        _check_column(replace(column, values=values, gaps=np.zeros_like(column.gaps)), names, source)


def _check_column(column: Column, names: Sequence[str], source: str) -> None:
    """Raise at the first cell that is missing, infinite, or not what double precision makes of it."""
    if column.empty:
        raise DataError(
            f"`{source}` must have a value in every cell; column {column.name!r} is missing in every row. "
            "Name another with `target`, or drop it."
        )
    if column.rounded is not None:
        raise DataError(
            f"`{source}` must hold whole numbers within ±2^53 = {LARGEST_WHOLE}, as double precision rounds "
            f"larger ones to their neighbours; column {column.name!r} holds one in {names[column.rounded]}. "
            "Number them anew, or write them as decimals if they are measurements."
        )
    if column.missing is not None:
        raise DataError(
            f"`{source}` must have a value in every cell; column {column.name!r} has none in "
            f"{names[column.missing]}. Fill it in, or drop the row or the column."
        )
    if column.kind == "number" and not np.isfinite(column.values).all():
        row = int(np.argmin(np.isfinite(column.values)))
        raise DataError(
            f"`{source}` must hold finite numbers; column {column.name!r} has {column.values[row]} "
            f"in {names[row]}. Repair or drop it."
        )


def _names(column: Column, rows: Sequence[str], source: str) -> list[str]:
    _check_column(column, rows, source)
    names = list(map(str, column.values.tolist()))
    row_of: dict[str, int] = {}
    for row, name in enumerate(names):
        if name in row_of:
            raise DataError(
                f"`{source}` must have a different 'id' in every row; {name!r} is in "
                f"{rows[row_of[name]]} and {rows[row]}."
            )
        row_of[name] = row
    return names
