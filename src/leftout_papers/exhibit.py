"""The records of a publication, of its exhibits (tables and figures), and of what computing one gives."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from matplotlib.figure import Figure

from leftout_papers.material import Material

Holds = bool | Literal["open"] | None
"""Whether a statement holds; "open" where the measurement cannot tell, None where nothing is claimed."""


@dataclass(frozen=True)
class Row:
    """One number or statement, as published and as measured.

    Attributes:
        quantity: what is compared, with its setting.
        published: as printed, "not printed" where the paper only draws it.
        measured: the same here.
        holds: whether the two agree.
    """

    quantity: str
    published: str
    measured: str
    holds: Holds = None


@dataclass(frozen=True)
class Outcome:
    """What running an exhibit gives.

    Attributes:
        rows: measured beside published, in reading order.
        result: every number that the figure shows, JSON-like.
        figure: the picture; None for none.
        notes: what a reader must know to compare: other data, sizes, interpretations of the text.
    """

    rows: tuple[Row, ...]
    result: dict[str, Any]
    figure: Figure | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exhibit:
    """A published table or figure, and the function that computes it again.

    Attributes:
        name: on the command line, such as "figure2".
        title: what it shows.
        data: "binary" or "classes" (of the data sets given), or "simulated".
        minutes: approximate duration of its usual size on two cores, for each data set.
    """

    name: str
    title: str
    data: Literal["binary", "classes", "simulated"]
    minutes: float
    run: Callable[[Material], Outcome] = field(repr=False)


@dataclass(frozen=True)
class Publication:
    """A paper and its exhibits.

    Attributes:
        name: on the command line.
        title, authors: as printed.
        readings: where the paper is ambiguous or contradicts itself, and what is done here.
    """

    name: str
    title: str
    authors: str
    exhibits: tuple[Exhibit, ...]
    readings: tuple[str, ...] = ()
