"""A .csv file: comma-separated, UTF-8, column names in the first line, equally many cells in each.

Rows are numbered as in a spreadsheet: the line of names is row 1, the first example row 2.
"""

import csv
from io import StringIO
from pathlib import Path

from leftout.core.errors import DataError
from leftout.data.columns import ID, NUMBER, Column, name_column, text_column
from leftout.data.files import file_bytes


def csv_columns(path: Path) -> tuple[list[Column], list[str]]:
    """Return the columns, and the name of every row.

    Raises:
        DataError: no text, no line of names, a name twice or missing, a line of another length.
    """
    records = _records(path)
    if not records:
        raise DataError(f"`{path}` must have a first line that names its columns; it is empty.")
    names = [name.strip() for name in records[0][1]]
    _check_names(path, names)
    if len(records) == 1:
        raise DataError(f"`{path}` must have rows below the names of its columns; there are none.")
    for row, cells in records[1:]:
        if len(cells) != len(names):
            raise DataError(
                f"`{path}` must have {len(names)} cells in every row, as its first line; row {row} "
                f"has {len(cells)}."
            )
    columns = [
        (name_column if name == ID else text_column)(name, [cells[at] for _, cells in records[1:]])
        for at, name in enumerate(names)
    ]
    return columns, [f"row {row}" for row, _ in records[1:]]


def _records(path: Path) -> list[tuple[int, list[str]]]:
    """Return all rows that are not blank, with their numbers, from 1."""
    try:
        text = file_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"`{path}` must be UTF-8 text; byte {error.start} is none. Save it as UTF-8."
        ) from error
    if "\0" in text:
        raise DataError(f"`{path}` must be text; it holds a zero byte. It is damaged, or no .csv.")
    try:
        rows = list(csv.reader(StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise DataError(f"`{path}` must be comma-separated text; got {error}.") from error
    return [(number, cells) for number, cells in enumerate(rows, start=1) if cells]


def _check_names(path: Path, names: list[str]) -> None:
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        raise DataError(
            f"`{path}` must be separated by commas; its first line is {names[0][:60]!r}. Save it "
            "with commas and decimal points."
        )
    if all(NUMBER.fullmatch(name) for name in names):
        raise DataError(
            f"`{path}` must name its columns in the first line; it holds only numbers. Add a line of names."
        )
    if "" in names:
        raise DataError(
            f"`{path}` must name every column; column {names.index('') + 1} has no name. A column "
            "of row names is called 'id'."
        )
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        raise DataError(f"`{path}` must name each column once; {twice!r} is there twice.")
