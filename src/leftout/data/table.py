"""A table with a row per example, a column to predict, and columns to predict from.

A column called `id` names the rows, a column called `split` says `train` or one of the names of
queries; neither is a feature. Integers, truth values and texts to predict are classes.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from leftout.core.errors import DataError, OptionError
from leftout.core.wording import name_list
from leftout.data.columns import ID, Column
from leftout.data.csv_file import csv_columns
from leftout.data.data_source import DataSource, InputRows
from leftout.data.parquet_file import parquet_columns
from leftout.data.split import named_splits
from leftout.data.targets import raw_targets

READERS = {".csv": csv_columns, ".parquet": parquet_columns}
SPLIT = "split"


def table(
    path: Path, source: str, *, target: str | None = None, columns: Sequence[str] | None = None
) -> DataSource:
    """Return the rows of a .csv or .parquet file.

    Args:
        target: the column to predict; None takes the last.
        columns: the columns to predict from; None takes all others.

    Raises:
        OptionError: a column that is not there, or named twice.
        DataError: a feature that is text, a missing cell, an infinite number, ids that repeat.
    """
    every, names = READERS[path.suffix.lower()](path)
    by_name = {column.name: column for column in every}
    goal = _target(by_name, target, source)
    features = _features(by_name, goal.name, columns, source)
    for column in (goal, *features):
        _check_column(column, names, source)
    unused: list[str] = []
    rows, is_query = np.arange(len(names)), None
    if SPLIT in by_name and goal.name != SPLIT:
        _check_column(by_name[SPLIT], names, source)
        rows, is_query, unused = named_splits(source, by_name[SPLIT].values.astype(str).tolist())
    if ID in by_name and goal.name != ID:
        names = _names(by_name[ID], names, source)
    cells = np.stack([column.values.astype(np.float64) for column in features], axis=1)[rows]
    headings = tuple(column.name for column in features)
    return DataSource(
        name=source,
        ids=[names[row] for row in rows],
        targets=raw_targets(goal.name, goal.values[rows]),
        read=lambda chosen: InputRows(inputs=cells[chosen], table=cells[chosen], columns=headings),
        is_query=is_query,
        record={
            "format": path.suffix.lower().lstrip("."),
            "target": goal.name,
            "columns": list(headings),
            "unused_splits": unused,
        },
    )


def _target(by_name: dict[str, Column], target: str | None, source: str) -> Column:
    if target is not None:
        if target not in by_name:
            raise OptionError(
                f"`target` must be a column of `{source}`, one of {name_list(by_name)}; got {target!r}."
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
    if not chosen:
        raise DataError(f"`{source}` must have columns beside the target {target!r}; it has none.")
    texts = [name for name in chosen if by_name[name].kind == "text"]
    if texts:
        numeric = [name for name in chosen if name not in texts]
        raise DataError(
            f"`{source}` must have numbers to predict from; {name_list(texts)} hold text. Encode "
            f"them as numbers (one column per value), or leave them out with `columns`: "
            f"{name_list(numeric)} are numbers. The target is {target!r}."
        )
    return [by_name[name] for name in chosen]


def _check_column(column: Column, names: Sequence[str], source: str) -> None:
    """Raise at the first cell that is missing or infinite."""
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
