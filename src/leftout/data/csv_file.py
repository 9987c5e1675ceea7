"""A .csv file: comma-separated, UTF-8, column names in the first line, equally many cells in each.

Rows are numbered as in a spreadsheet: the line of names is row 1, the first example row 2. A first line that
may be an example is refused until `header` says what it is.

Memory: at most 64 times the size of the file, and that only where cells are single digits: a cell is held
as text, then as number, and its row has a name. Where texts are long it is a few times its size.
"""

import csv
from collections.abc import Iterator, Sequence
from io import BytesIO, TextIOWrapper
from pathlib import Path

from leftout.core.errors import DataError
from leftout.core.wording import name_list
from leftout.data.columns import (
    ID,
    NUMBER,
    TRUTHS,
    Column,
    first_repeat,
    is_missing,
    name_column,
    text_column,
)
from leftout.data.files import file_bytes


def csv_columns(path: Path, header: bool | None = None) -> tuple[list[Column], list[str]]:
    """Return the columns, and the name of every row.

    Args:
        header: whether the first line names the columns; None: it does, unless it may be an example.

    Raises:
        DataError: no text, no line of names or one that may be an example, a name twice or missing, a line of
            another length.
    """
    records = _records(path)
    number, first = next(records, (0, []))
    if not first:
        raise DataError(f"`{path}` must have a first line that names its columns; it is empty.")
    names = [name.strip() for name in first]
    _check_separator(path, names)
    cells, numbers = _cells(path, records, len(names))
    if header is False:
        cells, numbers = [*first, *cells], [number, *numbers]
        names = [f"column {place}" for place in range(1, len(names) + 1)]
    if not numbers:
        _check_header(path, names, [], header)
        raise DataError(f"`{path}` must have rows below the names of its columns; there are none.")
    columns = [
        (name_column if name == ID else text_column)(name, cells[at :: len(names)])
        for at, name in enumerate(names)
    ]
    if header is not False:
        _check_header(path, names, columns, header)
        _check_names(path, names)
    return columns, [f"row {row}" for row in numbers]


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield all rows that are not blank, with their numbers, from 1."""
    content = file_bytes(path)
    if b"\0" in content:
        raise DataError(f"`{path}` must be text; it holds a zero byte. It is damaged, or no .csv.")
    try:
        with TextIOWrapper(BytesIO(content), encoding="utf-8-sig", newline="") as text:
            for number, cells in enumerate(csv.reader(text, strict=True), start=1):
                if cells:
                    yield number, cells
    except UnicodeDecodeError:
        raise DataError(
            f"`{path}` must be UTF-8 text; byte {_first_bad_byte(content)} is none. Save it as UTF-8."
        ) from None
    except csv.Error as error:
        raise DataError(f"`{path}` must be comma-separated text; got {error}.") from error


def _first_bad_byte(content: bytes) -> int:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start
    return len(content)


def _cells(path: Path, records: Iterator[tuple[int, list[str]]], width: int) -> tuple[list[str], list[int]]:
    """Return the cells of all rows, one after the other, and the numbers of the rows."""
    cells: list[str] = []
    numbers: list[int] = []
    for number, row in records:
        if len(row) != width:
            raise DataError(
                f"`{path}` must have {width} cells in every row, as its first line; row {number} "
                f"has {len(row)}."
            )
        cells += row
        numbers.append(number)
    return cells, numbers


def _check_separator(path: Path, names: Sequence[str]) -> None:
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        raise DataError(
            f"`{path}` must be separated by commas; its first line is {names[0][:60]!r}. Save it "
            "with commas and decimal points."
        )


def _check_header(path: Path, names: Sequence[str], columns: Sequence[Column], header: bool | None) -> None:
    """Raise where the first line may be an example: a cell of it is a number or a value of its column."""
    if header is not None:
        return
    if all(NUMBER.fullmatch(name) for name in names):
        raise DataError(
            f"`{path}` must name its columns in the first line; it holds only numbers. Add a line of names, "
            "or say that it is the first example with `header`: False (--header no)."
        )
    values = [name for name in names if NUMBER.fullmatch(name) or name.lower() in TRUTHS]
    values += [name for name in names if name and is_missing(name) and name.lower() != "none"]
    if not values:
        texts = [column for column in columns if column.kind == "text" and column.name != ID]
        values = [
            column.name for column in texts if column.name and column.name in set(column.values.tolist())
        ]
    if values:
        raise DataError(
            f"`{path}` must name its columns in the first line; {name_list(values, most=3)} in it may be "
            f"{'values' if len(values) > 1 else 'a value'} of an example. Say which with `header`: True "
            "(--header yes) if the line names the columns, False (--header no) if it is the first example."
        )


def _check_names(path: Path, names: Sequence[str]) -> None:
    if "" in names:
        raise DataError(
            f"`{path}` must name every column; column {names.index('') + 1} of {len(names)} has no name. A "
            "column of row names is called 'id'; an empty one at the end comes of commas that end every line."
        )
    twice = first_repeat(names)
    if twice is not None:
        raise DataError(f"`{path}` must name each column once; {twice!r} is there twice.")
