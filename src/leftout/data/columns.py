"""The type of a column of a table: one type for every cell, or text.

A column of texts is numbers when every cell that is not missing is one. What counts as missing is
listed here, and a missing cell is refused by name: nothing is filled in.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["integer", "number", "truth", "text"]

ID = "id"
"""Name of the column that names the rows."""

MISSING = {"", "na", "n/a", "nan", "null", "none", "?"}
TRUTHS = {"true": True, "false": False}
INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?(inf|infinity)", re.I)


@dataclass(frozen=True, eq=False)
class Column:
    """A named column.

    Attributes:
        kind: the type of every cell.
        values: int64, float64, bool or texts, as `kind` says; without meaning where a cell is missing.
        missing: the first missing cell, or None.
    """

    name: str
    kind: Kind
    values: np.ndarray
    missing: int | None = None


def name_column(name: str, cells: Sequence[str]) -> Column:
    """Return the column of row names, unconverted: "007" is not 7, and "NA" may be a name."""
    cells = [cell.strip() for cell in cells]
    empty = next((row for row, cell in enumerate(cells) if not cell), None)
    return Column(name, "text", np.array(cells), empty)


def text_column(name: str, cells: Sequence[str]) -> Column:
    """Return the column of numbers, truth values or texts that the cells of a text file stand for."""
    cells = [cell.strip() for cell in cells]
    present = [cell for cell in cells if cell.lower() not in MISSING]
    gap = next((row for row, cell in enumerate(cells) if cell.lower() in MISSING), None)
    if not present:
        return Column(name, "text", np.array(cells), missing=gap)
    if all(INTEGER.fullmatch(cell) for cell in present):
        values = np.array([_or_zero(cell) for cell in cells], dtype=np.int64)
        return Column(name, "integer", values, gap)
    if all(NUMBER.fullmatch(cell) for cell in present):
        numbers = [float(cell) if NUMBER.fullmatch(cell) else 0.0 for cell in cells]
        return Column(name, "number", np.array(numbers), gap)
    if all(cell.lower() in TRUTHS for cell in present):
        truths = [TRUTHS.get(cell.lower(), False) for cell in cells]
        return Column(name, "truth", np.array(truths), gap)
    # In a column of words, "none" and "NA" are words; only an empty cell is missing.
    empty = next((row for row, cell in enumerate(cells) if not cell), None)
    return Column(name, "text", np.array(cells), empty)


def _or_zero(cell: str) -> int:
    return int(cell) if INTEGER.fullmatch(cell) else 0
