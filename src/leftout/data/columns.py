"""The type of a column of a table: one type for every cell, or text.

A column of texts is numbers, or dates, when every cell that is not missing is one. What counts as missing is
listed here; `table_encoding` says what becomes of it. Codes with leading zeros are texts:
"0123" and "123" are two of them, and one number.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from leftout.data.dates import date_texts, dates_of

Kind = Literal["integer", "number", "truth", "date", "text"]

ID = "id"
"""Name of the column that names the rows."""

MISSING = {"", "na", "n/a", "nan", "null", "none", "?"}
UNITS = "%$€£¥"
"""Signs that may stand beside all numbers of a column."""

TRUTHS = {"true": True, "false": False}
INTEGER = re.compile(r"[+-]?[0-9]{1,400}")
CODE = re.compile(r"[+-]?0[0-9]+")
THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+")
DECIMAL_COMMA = re.compile(r"[+-]?([0-9]+(,[0-9]*)?|,[0-9]+)([eE][+-]?[0-9]+)?")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?(inf|infinity)", re.I)


@dataclass(frozen=True, eq=False)
class Column:
    """A named column.

    Attributes:
        kind: the type of every cell; "text" where all are missing.
        values: int64, float64, bool, datetime64[us] or objects (texts, integers beyond 64 bits), as `kind`
            says; without meaning where a cell is missing.
        gaps: which cells are missing, (n,).
        empty: whether all are missing.
        code: the first cell with a leading zero, which made numbers texts, or None.
        rounded: the first whole number that is not what its float64 is, or None.
    """

    name: str
    kind: Kind
    values: np.ndarray
    gaps: np.ndarray
    empty: bool = False
    code: int | None = None
    rounded: int | None = None
    reading: str = ""
    """What its cells were read as, where they might have been read otherwise."""
    orders: tuple[str, ...] = ()
    """Of a text column of dates that can be read in several ways: these ways."""

    @property
    def missing(self) -> int | None:
        """Return the first missing cell, or None."""
        return int(self.gaps.argmax()) if self.gaps.any() else None


@dataclass(frozen=True, eq=False)
class RawTable:
    """The columns of a table as they were read, the name of every row, and notes for a person."""

    columns: list[Column]
    rows: list[str]
    notes: tuple[str, ...] = ()

    def names_by(self, column: str | None) -> list[str]:
        """Return what the cells of a column call the rows; None: as they are counted."""
        if column is None:
            return self.rows
        cells = next(each for each in self.columns if each.name == column)
        return list(map(str, shown_cells(cells).tolist()))


def shown_cells(column: Column) -> np.ndarray:
    """Return the cells of a column as a person looks at them: dates as texts."""
    return date_texts(column.values) if column.kind == "date" else column.values


def name_column(name: str, cells: Sequence[str]) -> Column:
    """Return the column of row names, unconverted: "007" is not 7, and "NA" may be a name."""
    cells = [cell.strip() for cell in cells]
    return Column(name, "text", text_array(cells), _gaps(not cell for cell in cells))


def text_column(
    name: str, cells: Sequence[str], *, comma_is_point: bool = False, semicolons: bool = False
) -> Column:
    """Return the column of numbers, truth values, dates or texts that the cells of a text file stand for.

    Args:
        comma_is_point: read 1,5 as 1.5 where all cells are such numbers; cells are not separated by commas.
        semicolons: cells are separated by semicolons, as programs do whose comma is a point. Else a column
            in which every comma could stand between thousands stays a column of texts.
    """
    cells = [cell.strip() for cell in cells]
    present = [cell for cell in cells if not is_missing(cell)]
    gap = _gaps(map(is_missing, cells))
    if not present:
        return Column(name, "text", text_array(cells), gap, empty=True)
    commas = [cell for cell in present if "," in cell] if comma_is_point else []
    if commas and not semicolons and all(THOUSANDS.fullmatch(cell) for cell in commas):
        commas = []  # 5,342 may be five thousand
    if commas and all(DECIMAL_COMMA.fullmatch(cell) for cell in present):
        points = text_column(name, [cell.replace(",", ".") for cell in cells])
        return replace(points, reading="numbers with decimal commas")
    unit = _common_unit(present)
    if unit:
        bare = text_column(
            name,
            [cell if is_missing(cell) else _without_unit(cell, unit) for cell in cells],
            comma_is_point=comma_is_point,
            semicolons=semicolons,
        )
        if bare.kind in ("integer", "number"):
            decimals = " with decimal commas" if bare.reading else ""
            negative = ", in parentheses negative" if any(cell[0] == "(" for cell in present) else ""
            return replace(bare, reading=f"numbers in {unit}{decimals}{negative}")
    if all(NUMBER.fullmatch(cell) for cell in present):
        code = next((row for row, cell in enumerate(cells) if CODE.fullmatch(cell)), None)
        if code is not None:
            return Column(name, "text", text_array(cells), gap, code=code)
        if all(INTEGER.fullmatch(cell) for cell in present):
            whole = [int(cell) if INTEGER.fullmatch(cell) else 0 for cell in cells]
            return Column(name, "integer", integer_array(whole), gap)
        numbers = [float(cell) if NUMBER.fullmatch(cell) else 0.0 for cell in cells]
        return Column(name, "number", np.array(numbers), gap, rounded=_first_rounded(cells))
    if all(cell.lower() in TRUTHS for cell in present):
        truths = [TRUTHS.get(cell.lower(), False) for cell in cells]
        return Column(name, "truth", np.array(truths), gap)
    dates = date_or_text(name, text_array(cells), gap)
    if dates.kind == "date" or dates.orders:
        return dates
    # In a column of words, "none" and "NA" are words; only an empty cell is missing.
    return Column(name, "text", text_array(cells), _gaps(not cell for cell in cells))


def _common_unit(cells: Sequence[str]) -> str:
    """Return the sign that stands before, or after, the digits of every cell; empty where none does.

    The minus of a number may stand before it, -$5.00, and parentheses around both, as in accounts: ($5.00).
    """
    bodies = [cell.strip("+-()") for cell in cells]
    for unit in UNITS:
        if all(body[:1] == unit for body in bodies) or all(body[-1:] == unit for body in bodies):
            return unit
    return ""


def _without_unit(cell: str, unit: str) -> str:
    """Return a cell without its unit and parentheses, a number where it is one."""
    if cell[0] == "(" and cell[-1] == ")":
        body = cell[1:-1].strip(unit + " ")
        return f"-{body}" if body[:1] not in ("+", "-", "(") else cell
    sign = cell[0] if cell[0] in "+-" else ""
    return sign + cell[len(sign) :].strip(unit + " ")


def date_or_text(name: str, texts: np.ndarray, gaps: np.ndarray) -> Column:
    """Return a column of texts, or of dates where every cell that is not missing is one."""
    present = texts[~gaps].tolist()
    dates = dates_of(present) if present and present[0][:1].isdigit() else None
    if dates is None:
        return Column(name, "text", texts, gaps)
    if len(dates.orders) > 1:
        return Column(name, "text", texts, gaps, orders=dates.orders)
    values = np.zeros(len(texts), dtype=dates.values.dtype)
    values[~gaps] = dates.values
    return Column(name, "date", values, gaps, reading=f"dates ({dates.orders[0]})")


def _gaps(missing: Iterable[bool]) -> np.ndarray:
    return np.fromiter(missing, dtype=bool)


def is_missing(cell: str) -> bool:
    """Return whether the cell of a text file stands for a missing value, unless its column holds words."""
    return len(cell) <= 4 and cell.lower() in MISSING


def first_repeat(names: Sequence[str]) -> str | None:
    """Return the first name that is there a second time, or None; linear in their number."""
    seen: set[str] = set()
    return next((name for name in names if name in seen or seen.add(name)), None)  # type: ignore[func-returns-value]


def text_array(cells: Sequence[str]) -> np.ndarray:
    """Return texts as objects: as fixed-width text each would take the width of the longest."""
    texts = np.empty(len(cells), dtype=object)
    texts[:] = cells
    return texts


def integer_array(numbers: Sequence[int]) -> np.ndarray:
    """Return integers as int64 or, where one is beyond 64 bits, as objects."""
    small = min(numbers) >= -(2**63) and max(numbers) < 2**63
    return np.array(numbers, dtype=np.int64 if small else object)


def _first_rounded(cells: Sequence[str]) -> int | None:
    """Return the first cell with a whole number that double precision does not hold."""
    long = ((row, cell) for row, cell in enumerate(cells) if len(cell) > 15 and INTEGER.fullmatch(cell))
    return next((row for row, cell in long if int(cell) != int(float(cell))), None)
