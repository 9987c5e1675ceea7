"""Axes of matplotlib for plots in a notebook, and the bars and labels that they share.

matplotlib is loaded when something is drawn, and not before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from leftout.core.errors import OptionError
from leftout.core.wording import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HELPFUL, HARMFUL, PLAIN, DOUBTED, GUIDE = "#2563a8", "#d97706", "#9aa5b1", "#c0392b", "#52606d"
"""Blue and orange are told apart by most who see few colours; what they mean is written as well."""

NAME = 60
"""Characters of a name beside a bar."""

LINE = 64
"""Characters of a line below an axis."""

BAR, EDGE = 0.26, 1.7
"""Inches of a bar, and of what is above and below them all."""


@dataclass(frozen=True)
class Bar:
    """A bar: its name, its length with sign, and its colour."""

    name: str
    length: float
    colour: str


def axes_for(ax: Any, *, width: float = 6.4, height: float = 4.0) -> "Axes":
    """Return the axes to draw on: those given, or of a new figure.

    Raises:
        OptionError: something else than axes.
    """
    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.subplots(figsize=(width, height), layout="constrained")[1]
    from matplotlib.axes import Axes

    if not isinstance(ax, Axes):
        raise OptionError(f"`ax` must be axes of matplotlib, or None for new ones; got {type(ax).__name__}.")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def bars_height(bars: int) -> float:
    """Return the height in inches of a figure of so many bars."""
    return EDGE + BAR * max(bars, 3)


def draw_bars(ax: "Axes", first: Sequence[Bar], last: Sequence[Bar] = (), *, between: int = 0) -> None:
    """Draw horizontal bars from above, and a gap that says how many are left out before the last ones."""
    gap = [] if not between else [Bar(f"… {between:,} between", 0.0, PLAIN)]
    bars = [*first, *gap, *last]
    places = range(len(bars))
    ax.barh(places, [bar.length for bar in bars], color=[bar.colour for bar in bars], height=0.75)
    # A name may hold $, which would start a formula.
    ax.set_yticks(places, [plain(bar.name, NAME) for bar in bars], parse_math=False)
    ax.set_ylim(len(bars) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0, pad=6)
    ax.axvline(0, color=GUIDE, linewidth=0.8)
    ax.margins(x=0.05)


def label_axes(ax: "Axes", title: str, across: Sequence[str], up: str = "") -> None:
    """Write title and labels, long ones in several lines; no name in them is a formula.

    Args:
        across: sentences about the horizontal axis, each beginning a line.
    """
    ax.set_title(title, loc="left", parse_math=False)
    ax.set_xlabel("\n".join(line for text in across for line in wrap(text, LINE)), parse_math=False)
    ax.set_ylabel(up, parse_math=False)
