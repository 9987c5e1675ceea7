"""Dates in text: 2024-01-31 (and a time, and its offset, if there are any), 31.1.2024, 31/1/2024, 1/31/2024.

Where day and month stand is taken from the column as a whole: only what every cell can be is a reading, and a
column that has two is refused by whoever predicts from it. Offsets from UTC are subtracted; where only some
cells have one, nobody knows which the others mean.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import numpy as np

TIME = r"[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:?[0-9]{2})?"
OFFSET = re.compile(r":[0-9.]+(Z|[+-][0-9:]+)$")
MIXED = ("times of UTC where no offset stands", "times of another zone there")
ISO = re.compile(rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}({TIME})?")
SLASHED = re.compile(r"[0-9]{1,4}(?P<mark>[./-])[0-9]{1,2}(?P=mark)[0-9]{1,4}")
ORDERS = {
    "%Y{0}%m{0}%d": "year, month, day",
    "%d{0}%m{0}%Y": "day, month, year",
    "%m{0}%d{0}%Y": "month, day, year",
}
MICROSECONDS = "datetime64[us]"


@dataclass(frozen=True, eq=False)
class Dates:
    """The readings that every cell of a column has.

    Attributes:
        values: datetime64[us] of the cells that are not missing, by the first reading.
        orders: in which each reads year, month and day, or what each takes the missing offsets for.
    """

    values: np.ndarray
    orders: tuple[str, ...]


def dates_of(cells: Sequence[str]) -> Dates | None:
    """Return the dates that cells stand for, or None where one of them is no date."""
    if all(ISO.fullmatch(cell) for cell in cells):
        values = _moments(cells, _iso)
        zoned = {OFFSET.search(cell) is not None for cell in cells}
        meanings = ("year, month, day",) if len(zoned) == 1 else MIXED
        return None if values is None else Dates(values, meanings)
    marks = {match["mark"] if (match := SLASHED.fullmatch(cell)) else None for cell in cells}
    if len(marks) != 1 or None in marks:
        return None
    mark = marks.pop()
    readings = []
    for form, order in ORDERS.items():
        if mark == "." and order.startswith("month"):
            continue  # nobody writes so
        pattern = form.format(mark)
        values = _moments(cells, partial(_by_pattern, pattern=pattern))
        if values is not None:
            readings.append((order, values))
    if not readings:
        return None
    same = [order for order, values in readings if np.array_equal(values, readings[0][1])]
    orders = same[:1] if len(same) == len(readings) else [order for order, _ in readings]
    return Dates(readings[0][1], tuple(orders))


def date_texts(values: np.ndarray) -> np.ndarray:
    """Return dates as ISO texts, without a time where all are at midnight."""
    midnight = bool((values == values.astype("datetime64[D]")).all())
    texts = np.empty(len(values), dtype=object)
    texts[:] = np.datetime_as_string(values, unit="D" if midnight else "s").tolist()
    return texts


def _iso(cell: str) -> datetime:
    moment = datetime.fromisoformat(cell)
    return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


def _by_pattern(cell: str, pattern: str) -> datetime:
    return datetime.strptime(cell, pattern)


def _moments(cells: Sequence[str], parse: Callable[[str], datetime]) -> np.ndarray | None:
    try:
        return np.array([parse(cell) for cell in cells], dtype=MICROSECONDS)
    except (ValueError, OverflowError):
        return None
