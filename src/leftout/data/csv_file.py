"""A .csv file: UTF-8 or, with its mark, UTF-16; column names in the first line, equally many cells in each.

Cells are separated by a comma, a semicolon, a tab or a bar: what a line `sep=;` before all others says, or
what stands in the line of names and gives all lines equally many cells. Where it is no comma, numbers may
have decimal commas: all numbers of their column then have.

Rows are numbered as in a spreadsheet: the line of names is row 1, the first example row 2. A first line that
may be an example is refused until `header` says what it is.

Memory: at most 64 times the size of the file, and that only where cells are single digits: a cell is held
as text, then as number, and its row has a name. Where texts are long it is a few times its size.
"""

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path

from leftout.core.errors import DataError
from leftout.core.wording import name_list
from leftout.data.columns import (
    ID,
    NUMBER,
    TRUTHS,
    Column,
    RawTable,
    first_repeat,
    is_missing,
    name_column,
    text_column,
)
from leftout.data.files import file_bytes

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
DECLARED = re.compile(r"sep=(.)\r?\n")
"""A first line by which spreadsheets say what separates cells; it is not counted."""

LONGEST_LINE = 2**20
"""Characters among which the first line is looked for: a longer one shows its separator there."""

MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def csv_table(path: Path, header: bool | None = None) -> RawTable:
    """Return the columns, and the name of every row.

    Args:
        header: whether the first line names the columns; None: it does, unless it may be an example.

    Raises:
        DataError: no text, no line of names or one that may be an example, a name twice or missing, a line of
            another length; cells that may be separated in two ways.
    """
    text = _text(path)
    separator, text = _separator(path, text)
    records = _records(path, text, separator)
    number, first = next(records, (0, []))
    if not first:
        raise DataError(f"`{path}` must have a first line that names its columns; it is empty.")
    names = [name.strip() for name in first]
    cells, numbers = _cells(path, records, len(names))
    if header is False:
        cells, numbers = [*first, *cells], [number, *numbers]
        names = [f"column {place}" for place in range(1, len(names) + 1)]
    if not numbers:
        _check_header(path, names, [], header)
        raise DataError(f"`{path}` must have rows below the names of its columns; there are none.")
    comma_is_point = separator != ","
    columns = [
        name_column(name, cells[at :: len(names)])
        if name == ID
        else text_column(
            name, cells[at :: len(names)], comma_is_point=comma_is_point, semicolons=separator == ";"
        )
        for at, name in enumerate(names)
    ]
    if header is not False:
        _check_header(path, names, columns, header)
        _check_names(path, names)
    notes = () if separator == "," else (f"cells are separated by {SEPARATORS[separator]}",)
    return RawTable(columns, [f"row {row}" for row in numbers], notes)


def _text(path: Path) -> str:
    """Return the text of a file."""
    content = file_bytes(path)
    encoding = MARKS.get(content[:2], "utf-8-sig")
    if encoding != "utf-16" and b"\0" in content:
        raise DataError(f"`{path}` must be text; it holds a zero byte. It is damaged, or no .csv.")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        byte = _first_bad_byte(content) if encoding != "utf-16" else error.start
        raise DataError(f"`{path}` must be UTF-8 text; byte {byte} is none. Save it as UTF-8.") from None
    if "\0" in text:
        raise DataError(f"`{path}` must be text; it holds a zero byte. It is damaged, or no .csv.")
    return text


def _separator(path: Path, text: str) -> tuple[str, str]:
    """Return what separates cells, and the text without a line that says so."""
    declared = DECLARED.match(text)
    if declared is not None:
        if declared[1] not in SEPARATORS:
            raise DataError(
                f"`{path}` must separate cells by one of {', '.join(map(repr, SEPARATORS))}; its first line "
                f"says {declared[1]!r}. Save it with one of these."
            )
        return declared[1], text[declared.end() :]
    found = [mark for mark in SEPARATORS if len(_first(text, mark)) > 1]
    if len(found) > 1:
        even = [mark for mark in found if _is_even(text, mark)]
        found = even or found[:1]  # where none is, the error says what the most usual one makes of the lines
    if len(found) > 1:
        raise DataError(
            f"`{path}` may be separated by {' or by '.join(SEPARATORS[mark] for mark in found)}: "
            f"both give all lines equally many cells. Write a line sep={found[0]} (or sep={found[1]}) before "
            "all others."
        )
    return (found or [","])[0], text


def _first(text: str, separator: str) -> list[str]:
    """Return the cells of the first line that is not blank."""
    try:
        return next((cells for cells in _reader(text[:LONGEST_LINE], separator) if cells), [])
    except csv.Error:
        return []


def _is_even(text: str, separator: str) -> bool:
    """Return whether all lines have equally many cells."""
    try:
        return len({len(cells) for cells in _reader(text, separator) if cells}) == 1
    except csv.Error:
        return False


def _reader(text: str, separator: str) -> Iterator[list[str]]:
    return csv.reader(StringIO(text, newline=""), delimiter=separator, strict=True)


def _records(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield all rows that are not blank, with their numbers, from 1."""
    try:
        for number, cells in enumerate(_reader(text, separator), start=1):
            if cells:
                yield number, cells
    except csv.Error as error:
        long = " A quote may not be closed; longer texts fit in a .parquet." if "limit" in str(error) else ""
        raise DataError(
            f"`{path}` must be text separated by {SEPARATORS[separator]}; got {error}.{long}"
        ) from error


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
