"""A table with a row per example, a column to predict, and columns to predict from.

A column called `id` names the rows, a column called `split` says `train` or one of the names of
queries; neither is a feature, nor is a column that tells rows apart (`id_columns`). Integers, truth values,
dates and texts to predict are classes.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from leftout.core.checks import shown
from leftout.core.errors import DataError, OptionError
from leftout.core.wording import did_you_mean, name_list
from leftout.data.column_meaning import check_meaning
from leftout.data.columns import ID, Column, RawTable, is_missing, shown_cells
from leftout.data.conversion import LARGEST_WHOLE, check_whole_numbers
from leftout.data.csv_file import csv_table
from leftout.data.data_source import DataSource, InputRows
from leftout.data.files import BYTES_PER_NUMBER, check_allocation
from leftout.data.id_columns import id_columns, names_rows
from leftout.data.options import Task
from leftout.data.parquet_file import parquet_raw_table
from leftout.data.prose import is_prose
from leftout.data.split import named_splits
from leftout.data.table_encoding import encode_columns, raw_cells
from leftout.data.targets import float_class_note, integer_class_note, raw_targets

SPLIT = "split"


def read_table(path: Path, header: bool | None = None) -> RawTable:
    """Return the columns of a .csv or .parquet file, and the name of every row.

    Raises:
        OptionError: `header` for a file that has names of columns by itself.
        DataError: as `csv_table` and `parquet_raw_table`.
    """
    if path.suffix.lower() == ".csv":
        return csv_table(path, header)
    if header is not None:
        raise OptionError(f"`header` must be left out for `{path}`: a .parquet names its columns itself.")
    return parquet_raw_table(path)


def table(
    raw: RawTable,
    source: str,
    *,
    form: str,
    target: str | None = None,
    columns: Sequence[str] | None = None,
    drop: Sequence[str] | None = None,
    task: Task | None = None,
    shown_only: bool = False,
) -> DataSource:
    """Return the rows of a table.

    Args:
        raw: all its columns, and what rows are called where no column names them: one called `id`, or the
            only one that `id_columns` finds.
        form: of the file, for the record.
        target: the column to predict; None takes the last that holds no names or prose, and a note says so.
        columns: the columns to predict from; None takes all others but those that name rows.
        drop: columns that are left out of everything.
        task: whether the target is classes or numbers; None goes by its type.
        shown_only: whether the columns beside the target are only looked at, as inputs come from elsewhere.

    Raises:
        OptionError: a column that is not there, or named twice.
        DataError: a target that is missing, numbers among which some cells are texts, codes with leading
            zeros, dates that can be read in two ways, an infinite number, an integer that double precision
            does not hold, ids that repeat.
        MemoryBudgetError: more cells than memory has room for.
    """
    by_name = {column.name: column for column in raw.columns}
    _drop(by_name, drop, source)
    goal = _target(by_name, target, source)
    free = [name for name in by_name if name not in (ID, SPLIT, goal.name)]
    naming = id_columns([by_name[name] for name in free if columns is None or name not in columns])
    named_by = _named_by(by_name, goal.name, naming)
    names = raw.rows
    hidden = {named_by} if shown_only else {column.name for column in naming}
    features = _features(by_name, goal.name, columns, [name for name in free if name not in hidden], source)
    if not shown_only:
        _check_features(features, goal.name, names, source)
    _check_column(goal, names, source)
    unused: list[str] = []
    rows, is_query = np.arange(len(names)), None
    if SPLIT in by_name and goal.name != SPLIT:
        _check_column(by_name[SPLIT], names, source)
        rows, is_query, unused = named_splits(source, list(map(str, by_name[SPLIT].values.tolist())))
    if named_by is not None:
        _check_names(by_name[named_by], names, source)
        names = raw.names_by(named_by)
    size = BYTES_PER_NUMBER * len(names) * len(features)
    check_allocation(f"`{source}`, a table of {len(names)} × {len(features)},", size)
    ids = [names[row] for row in rows.tolist()]
    headings = tuple(column.name for column in features)
    plain = not shown_only and all(is_plain(column) for column in features)
    if plain:
        cells = np.stack([column.values.astype(np.float64) for column in features], axis=1)[rows]

    def read(chosen: np.ndarray) -> InputRows:
        if plain:
            return InputRows(inputs=cells[chosen], table=cells[chosen], columns=headings)
        return InputRows(np.empty((len(chosen), 0)), None, raw_cells(features, rows[chosen]), headings)

    def encode(chosen: np.ndarray, train: int) -> InputRows:
        coded = encode_columns(features, rows[chosen], train, source)
        shown = raw_cells(features, rows[chosen])
        return InputRows(coded.inputs, None, shown, headings, coded.names, coded.notes, coded.words)

    targets = raw_targets(goal.name, shown_cells(goal)[rows], task=task, rows=ids)
    notes = [
        _default_note(goal, by_name) if target is None else None,
        *raw.notes,
        _reading_note([*features, *([goal] if goal.kind in ("integer", "number") else [])]),
        _id_note(naming, named_by) if not shown_only else None,
        float_class_note(f"the target {goal.name!r}", targets) if task is None else None,
        integer_class_note(f"the target {goal.name!r}", targets)
        if task is None and goal.kind == "integer"
        else None,
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
        rows=rows,
        record={
            "format": form,
            "target": goal.name,
            "columns": list(headings),
            "named_by": named_by,
            "unused_splits": unused,
            "notes": [note for note in notes if note],
        },
    )


def is_plain(column: Column) -> bool:
    """Return whether the cells of a column are numbers as they are."""
    return column.kind not in ("text", "date") and not column.gaps.any()


def _drop(by_name: dict[str, Column], drop: Sequence[str] | None, source: str) -> None:
    """Remove columns by name.

    Raises:
        OptionError: a name that is none of them.
    """
    for name in drop or ():
        if name not in by_name:
            raise OptionError(
                f"`drop` must name columns of `{source}`, among {name_list(by_name)}; got "
                f"{shown(name)}.{did_you_mean(str(name), by_name)}"
            )
        del by_name[name]


def _named_by(by_name: dict[str, Column], target: str, naming: Sequence[Column]) -> str | None:
    """Return the column that names the rows: the one called `id`, or the only one that tells rows apart."""
    if ID in by_name and target != ID:
        return ID
    return naming[0].name if len(naming) == 1 else None


def _id_note(naming: Sequence[Column], named_by: str | None) -> str | None:
    """Return the sentence that columns name rows and are nothing to predict from, or None."""
    if not naming:
        return None
    names = [column.name for column in naming]
    if named_by in names:
        return (
            f"rows are named by {named_by!r}, which has a different text or running number in each: it is "
            "nothing to predict from, unless it is named with `columns` (--columns)"
        )
    hold, they = ("holds", "it is") if len(names) == 1 else ("hold", "they are")
    return (
        f"{name_list(names)} {hold} a different text or running number in every row, as names do: {they} "
        "nothing to predict from, unless named with `columns` (--columns)"
    )


def _reading_note(columns: Sequence[Column]) -> str | None:
    """Return the sentence that says how cells were read that might have been read otherwise, or None."""
    names: dict[str, list[str]] = {}
    for column in columns:
        if column.reading:
            names.setdefault(column.reading, []).append(column.name)
    return "; ".join(f"read as {reading}: {name_list(of)}" for reading, of in names.items()) or None


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
                f"`target` must be a column of `{source}`, one of {name_list(by_name)}; got "
                f"{shown(target)}.{did_you_mean(str(target), by_name)}"
            )
        return by_name[target]
    rest = [name for name in by_name if name not in (ID, SPLIT)]
    if not rest:
        raise DataError(f"`{source}` must have a column to predict; it has {name_list(by_name)}.")
    # Nobody predicts names or prose: a table that ends in them has its target before.
    likely = (by_name[name] for name in reversed(rest))
    return next((c for c in likely if not names_rows(c) and not is_prose(c)), by_name[rest[-1]])


def _default_note(goal: Column, by_name: dict[str, Column]) -> str:
    """Return the sentence that says which column is predicted, where none was named."""
    last = [name for name in by_name if name not in (ID, SPLIT)][-1]
    which = "the last column" if goal.name == last else "the last one that holds no names or prose"
    return f"the target is {goal.name!r}, {which}, as no other was named with `target` (--target)"


def _features(
    by_name: dict[str, Column], target: str, columns: Sequence[str] | None, free: Sequence[str], source: str
) -> list[Column]:
    """Return the columns that are asked for, or those that are free to be predicted from."""
    if columns is None:
        return [by_name[name] for name in free]
    chosen = list(columns)
    wrong = [name for name in chosen if name not in by_name or name == target]
    if wrong or len(set(chosen)) < len(chosen) or not chosen:
        others = [name for name in by_name if name not in (ID, SPLIT, target)]
        hint = did_you_mean(str(wrong[0]), others) if wrong else ""
        raise OptionError(
            f"`columns` must name columns of `{source}` other than the target {target!r}, each "
            f"once, among {name_list(others)}; got {chosen}.{hint}"
        )
    return [by_name[name] for name in chosen]


def _check_features(features: Sequence[Column], target: str, names: Sequence[str], source: str) -> None:
    """Raise unless there are columns, whose cells mean one thing and are exact in double precision."""
    if not features:
        raise DataError(f"`{source}` must have columns beside the target {target!r}; it has none.")
    check_meaning(features, target, names, source)
    for column in features:
        _check_feature(column, names, source)
    for column in (column for column in features if column.kind != "text"):
        check_whole_numbers(f"column {column.name} of {source}", column.values, names)


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


def _check_names(column: Column, rows: Sequence[str], source: str) -> None:
    """Raise at a row without a name, or with that of another."""
    _check_column(replace(column, rounded=None), rows, source)
    row_of: dict[str, int] = {}
    for row, name in enumerate(map(str, column.values.tolist())):
        if name in row_of:
            raise DataError(
                f"`{source}` must have a different {column.name!r} in every row; {name!r} is in "
                f"{rows[row_of[name]]} and {rows[row]}."
            )
        row_of[name] = row
