"""Columns that tell rows apart and not classes: different texts, or running numbers, in all rows.

What a column is, is read from all rows, as its type is; what it is worth, from training rows alone.
"""

from collections.abc import Sequence

from leftout.data.column_meaning import may_be_misread
from leftout.data.columns import Column
from leftout.data.conversion import LARGEST_WHOLE
from leftout.data.prose import is_prose

LEAST_ROWS = 10
"""Rows from which different cells are taken for names: a few measurements differ by chance."""


def id_columns(columns: Sequence[Column]) -> list[Column]:
    """Return the columns that name rows, unless these are all there are."""
    naming = [column for column in columns if names_rows(column)]
    return naming if len(naming) < len(columns) else []


def names_rows(column: Column) -> bool:
    """Return whether a column holds a different text, running number or very large integer in every row.

    Running numbers are a range of integers without a gap, in any order.
    """
    values = column.values.tolist() if column.kind in ("integer", "text") else []
    if len(values) < LEAST_ROWS or column.gaps.any() or len(set(values)) < len(values):
        return False
    if column.kind == "text":
        return not may_be_misread(column) and not is_prose(column)
    low, high = min(values), max(values)
    return bool(high - low == len(values) - 1 or high > LARGEST_WHOLE or low < -LARGEST_WHOLE)
