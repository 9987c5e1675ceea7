"""What has a reader found, before anything is chosen, decoded or scaled?

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
class Rows:
    """Inputs of some rows, float64, and what a person looks at (fields as in `Examples`)."""

    inputs: np.ndarray
    images: np.ndarray | None = None
    table: np.ndarray | None = None
    columns: tuple[str, ...] | None = None

    def part(self, where: slice) -> "Rows":
        """Return a run of these rows."""
        return Rows(
            inputs=self.inputs[where],
            images=None if self.images is None else self.images[where],
            table=None if self.table is None else self.table[where],
            columns=self.columns,
        )


@dataclass(frozen=True, eq=False)
class Found:
    """All rows of a source, training and query together.

    Attributes:
        source: as the caller named it.
        ids: a name per row by which a person finds it again.
        targets: the class or the numbers of every row.
        read: inputs of the given row numbers, in the given order.
        queried: (n,) bool, true where the source says "query"; None: to be split by seed.
        share: of the rows, the part that becomes queries in a split by seed.
        record: what the reader has to say for `Examples.preparation`.
    """

    source: str
    ids: Sequence[str]
    targets: RawTargets
    read: Callable[[np.ndarray], Rows]
    queried: np.ndarray | None = None
    share: float = 0.25
    record: dict[str, Any] = field(default_factory=dict)
