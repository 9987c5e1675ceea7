"""Rows of a data set as a reader lists them, before any are chosen, decoded or scaled.

A reader lists what is cheap to know of every row (its name, its class or number, its split) and
hands back `read`, which yields the inputs of chosen rows only: to take 1,000 of 60,000 pictures,
1,000 are decoded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from leftout.data.targets import RawTargets


@dataclass(frozen=True, eq=False)
class InputRows:
    """Inputs of chosen rows, float64, and what a person looks at (fields as in `Examples`)."""

    inputs: np.ndarray
    images: np.ndarray | None = None
    table: np.ndarray | None = None
    columns: tuple[str, ...] | None = None
    input_columns: tuple[str, ...] | None = None
    """Names of the columns of `inputs`, where they are not those of the table."""
    notes: tuple[str, ...] = ()
    """What was done to these inputs that a person should know."""
    words: tuple[tuple[str, int], ...] = ()
    """Columns of prose, each with how many of the last columns of `inputs` are its words."""
    white: float | None = None
    """Value of the brightest pixel, where the pictures are of another depth than the source says."""

    def span(self, rows: slice) -> "InputRows":
        """Return consecutive rows of these."""
        return InputRows(
            inputs=self.inputs[rows],
            images=None if self.images is None else self.images[rows],
            table=None if self.table is None else self.table[rows],
            columns=self.columns,
            input_columns=self.input_columns,
            notes=self.notes,
            words=self.words,
            white=self.white,
        )


@dataclass(frozen=True, eq=False)
class DataSource:
    """All rows of a data set, training and query together.

    Attributes:
        name: as the caller named it.
        ids: a name per row by which a person finds it again.
        targets: the class or the numbers of every row.
        read: inputs of the given row numbers, in the given order.
        encode: the same, where training rows decide how; it also takes how many of the rows, at the
            beginning, are training rows. None: `read` does.
        is_query: (n,) bool, true where the data set says "query"; None: to be split by seed.
        rows: where each stands in its file or array, from 0; None: as listed, each split by itself.
        share: of the rows, the fraction that becomes queries in a split by seed.
        record: what the reader adds to `Examples.preparation`; its "notes" are shown first.
    """

    name: str
    ids: Sequence[str]
    targets: RawTargets
    read: Callable[[np.ndarray], InputRows]
    encode: Callable[[np.ndarray, int], InputRows] | None = None
    is_query: np.ndarray | None = None
    rows: np.ndarray | None = None
    share: float = 0.25
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def source_rows(self) -> np.ndarray:
        """Return where each row stands in its file or array, from 0."""
        if self.rows is not None:
            return self.rows
        numbers = np.arange(len(self.ids))
        if self.is_query is not None:
            for side in (self.is_query, ~self.is_query):
                numbers[side] = np.arange(int(side.sum()))
        return numbers

    def read_split(self, train: np.ndarray, query: np.ndarray) -> InputRows:
        """Return the inputs of training rows, then those of queries."""
        chosen = np.concatenate([train, query])
        return self.read(chosen) if self.encode is None else self.encode(chosen, len(train))
