"""Which columns of a table tell most about an example: those in which it differs most from its neighbours.

Differences are measured in the spread of a column over all training examples. Of numbers it is the distance
from the mean of the neighbours, over the standard deviation; of texts the share of neighbours with another
one, over √(1 − Σ p²), where p are the shares of the texts of the column.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.core.wording import number, plain, value_text
from leftout.data.examples import Examples
from leftout.data.table_encoding import MISSING

NEIGHBOURS = 10
"""Training examples nearest to an example, by the inputs of the model."""

SHOWN = 4
"""Columns shown of an example."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table: name and place of its column, what stands there, and there for the neighbours."""

    name: str
    text: str
    neighbours: str
    place: int


class TellingColumns:
    """The columns of a table, measured once; its rows are training examples, and then the queries."""

    def __init__(self, train: Examples, query: Examples) -> None:
        self.train, self.query = train, query

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Return the name of every column; none where there is no table."""
        table = self.train.table
        if table is None or self.query.table is None:
            return ()
        names = self.train.columns or tuple(f"column {place}" for place in range(table.shape[1]))
        return tuple(plain(name, 40) for name in names)

    def cells(self, row: int, near: Sequence[int] | None = None, most: int = SHOWN) -> list[Cell]:
        """Return the cells in which an example differs most from others, largest difference first.

        Args:
            row: a training row, or n + a row of the queries.
            near: training rows to compare with; None takes those whose inputs are nearest.
            most: number of cells; all of them, in the order of the table, where there are no more.
        """
        others = [other for other in (self._nearest(row) if near is None else near) if other != row]
        order: Sequence[int] = range(len(self.names))
        if len(order) > most and others:
            distances = [self._distance(place, row, others) for place in order]
            order = sorted(order, key=lambda place: (-distances[place], place))
        return [
            Cell(self.names[place], value_text(self._table[row, place]), self._typical(place, others), place)
            for place in order[:most]
        ]

    def line(self, row: int, like: Sequence[Cell] | None = None) -> str:
        """Return those cells on one line, or the cells of the same columns as others."""
        cells = self.cells(row) if like is None else like
        return " · ".join(f"{cell.name} {value_text(self._table[row, cell.place])}" for cell in cells)

    @cached_property
    def _table(self) -> np.ndarray:
        assert self.train.table is not None
        assert self.query.table is not None
        return np.concatenate([self.train.table, self.query.table])

    @cached_property
    def _inputs(self) -> Tensor:
        return torch.cat([examples.inputs.flatten(1).cpu() for examples in (self.train, self.query)])

    @cached_property
    def _numbers(self) -> list[Float64[np.ndarray, " rows"] | None]:
        """Return every column as numbers, NaN where none stands; None for a column of texts."""
        return [_as_numbers(column) for column in self._table.T]

    @cached_property
    def _spreads(self) -> list[float]:
        n = len(self.train)
        return [
            _spread_of_texts(column[:n]) if numbers is None else _deviation(numbers[:n])
            for column, numbers in zip(self._table.T, self._numbers, strict=True)
        ]

    def _nearest(self, row: int) -> list[int]:
        if not self.names:
            return []
        n = len(self.train)
        distances = (self._inputs[:n] - self._inputs[row]).square().sum(1)
        found = torch.topk(distances, min(NEIGHBOURS + (row < n), n), largest=False)
        return [int(other) for other in found.indices.tolist() if other != row][:NEIGHBOURS]

    def _distance(self, place: int, row: int, others: list[int]) -> float:
        numbers, spread = self._numbers[place], self._spreads[place]
        if not spread > 0:
            return 0.0
        if numbers is None:
            here = str(self._table[row, place])
            return sum(str(self._table[other, place]) != here for other in others) / len(others) / spread
        known = numbers[others][~np.isnan(numbers[others])]
        if math.isnan(numbers[row]) or not len(known):
            return 1 - float((np.isnan(numbers[others]) == math.isnan(numbers[row])).mean())
        return abs(float(numbers[row] - known.mean())) / spread

    def _typical(self, place: int, others: list[int]) -> str:
        """Return the mean of the others, or their most frequent text."""
        if not others:
            return ""
        numbers = self._numbers[place]
        if numbers is None:
            texts = Counter(value_text(self._table[other, place]) for other in others)
            return texts.most_common(1)[0][0]
        known = numbers[others][~np.isnan(numbers[others])]
        return number(float(known.mean())) if len(known) else MISSING


def _as_numbers(column: Any) -> Float64[np.ndarray, " rows"] | None:
    """Return a column as float64, NaN in empty cells; None where a cell is a text, or there is no number."""
    values = np.full(len(column), math.nan)
    for row, cell in enumerate(column):
        if cell is None or (isinstance(cell, str) and cell == MISSING):
            continue
        if isinstance(cell, str):  # a code such as "2" is the name of a kind
            return None
        try:
            values[row] = float(cell)
        except (TypeError, ValueError):
            return None
    return values if np.isfinite(values).any() else None


def _deviation(numbers: Float64[np.ndarray, " n"]) -> float:
    known = numbers[np.isfinite(numbers)]
    return float(known.std()) if len(known) else 0.0


def _spread_of_texts(column: Any) -> float:
    shares = np.array(list(Counter(map(str, column)).values())) / len(column)
    return math.sqrt(max(0.0, 1.0 - float(np.square(shares).sum())))
