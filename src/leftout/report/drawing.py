"""Plots as SVG that takes its colours from the page: axes, curves, and the frame around them.

Every mark carries a class and no colour: the page's style gives it one that reads on light and on
dark, and a pattern or shape besides, so that nothing depends on telling colours apart.
The same numbers give the same bytes.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from leftout.core.wording import number, percent, value_text

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 72, 16, 20, 58
FLOOR = HEIGHT - BOTTOM


@dataclass(frozen=True)
class PlotAxis:
    """Where the values from `low` to `high` lie, and what is written beside them."""

    low: float
    high: float
    label: str
    ticks: tuple[tuple[float, str], ...]

    def share(self, at: float) -> float:
        """Return how far along the axis a value lies, from 0 to 1."""
        return (at - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Frame:
    """Two axes: turns values into places on the drawing."""

    across: PlotAxis
    up: PlotAxis

    def x(self, at: float) -> float:
        """Return pixels from the left."""
        return round(LEFT + self.across.share(at) * (WIDTH - LEFT - RIGHT), 2)

    def y(self, at: float) -> float:
        """Return pixels from the top."""
        return round(FLOOR - self.up.share(at) * (FLOOR - TOP), 2)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round values between `low` and `high`, one, two or five times a power of ten apart."""
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * s for s in (1, 2, 5, 10) if power * s >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def linear_axis(heights: Sequence[float], label: str, *, share: bool = False) -> PlotAxis:
    """Return an axis that holds all values with a little air, from zero where zero is near."""
    low, high = min(heights), max(heights)
    if share:
        low, high = max(0.0, low - 0.01), min(1.0, high + 0.01)
    elif 0 <= low < 0.6 * high:
        low = 0.0
    air = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    low = low if low == 0 and not share else low - air
    marks = ticks(low, high + air)
    if share:
        marks = [mark for mark in marks if 0 <= mark <= 1]
        digits = 0 if all(abs(100 * mark - round(100 * mark)) < 1e-6 for mark in marks) else 1
        named = tuple((mark, percent(mark, digits)) for mark in marks)
    else:
        named = tuple((mark, value_text(mark)) for mark in marks)
    return PlotAxis(low, high + air, label, named)


def time_places(times: Sequence[float]) -> list[float]:
    """Return places on a logarithmic scale; 0 and the end of training stand one gap outside."""
    finite = [math.log10(time) for time in times if 0 < time < math.inf]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    gap = 0.2 * (high - low) or 1.0
    outside = {0.0: low - gap, math.inf: high + gap}
    return [outside[time] if time in outside else math.log10(time) for time in times]


def power_text(size: float) -> str:
    """Return a power of ten, as a plain number where that is short."""
    return f"{size:g}" if 1e-3 <= size <= 1e3 else number(size, 1).replace("1 × ", "")


def _points(frame: Frame, across: Iterable[float], heights: Iterable[float]) -> list[str]:
    return [f"{frame.x(a)},{frame.y(h)}" for a, h in zip(across, heights, strict=True)]


def line(frame: Frame, across: Iterable[float], heights: Iterable[float], name: str) -> str:
    """Return a line through points."""
    return f'<polyline class="line {name}" points="{" ".join(_points(frame, across, heights))}"/>'


def curve(frame: Frame, across: Sequence[float], heights: Sequence[float], name: str, mark: str) -> list[str]:
    """Return a line through points, and a mark on each."""
    drawn = [line(frame, across, heights, name)]
    for a, h in zip(across, heights, strict=True):
        x, y = frame.x(a), frame.y(h)
        if mark == "●":
            drawn.append(f'<circle class="dot {name}" cx="{x}" cy="{y}" r="3.5"/>')
        else:
            corner = f'x="{x - 3.2:.2f}" y="{y - 3.2:.2f}"'
            drawn.append(f'<rect class="dot {name}" {corner} width="6.4" height="6.4"/>')
    return drawn


def area(
    frame: Frame, across: Sequence[float], low: Sequence[float], high: Sequence[float], name: str
) -> str:
    """Return what lies between two lines."""
    corners = [*_points(frame, across, high), *_points(frame, across, low)[::-1]]
    return f'<polygon class="{name}" points="{" ".join(corners)}"/>'


def guide(place: float) -> str:
    """Return a dotted upright line."""
    return f'<line class="guide" x1="{place}" x2="{place}" y1="{TOP}" y2="{FLOOR}"/>'


def figure(name: str, title: str, text: str, frame: Frame, drawn: Iterable[str]) -> Markup:
    """Return a plot: its axes around what is drawn, with title and words for those who cannot see it."""
    end = WIDTH - RIGHT
    lines = [
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-labelledby="plot-{name}-title plot-{name}-text">',
        f'<title id="plot-{name}-title">{escape(title)}</title>',
        f'<desc id="plot-{name}-text">{escape(text)}</desc>',
    ]
    for at, mark in frame.up.ticks:
        y = frame.y(at)
        lines.append(f'<line class="grid" x1="{LEFT}" x2="{end}" y1="{y}" y2="{y}"/>')
        lines.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{escape(mark)}</text>')
    lines += drawn
    lines.append(f'<line class="axis" x1="{LEFT}" x2="{end}" y1="{FLOOR}" y2="{FLOOR}"/>')
    for at, mark in frame.across.ticks:
        x = frame.x(at)
        lines.append(f'<line class="axis" x1="{x}" x2="{x}" y1="{FLOOR}" y2="{FLOOR + 5}"/>')
        lines.append(f'<text x="{x}" y="{FLOOR + 20}" text-anchor="middle">{escape(mark)}</text>')
    middle = (LEFT + end) / 2
    lines.append(
        f'<text class="name" x="{middle}" y="{HEIGHT - 12}" text-anchor="middle">'
        f"{escape(frame.across.label)}</text>"
    )
    height = (TOP + FLOOR) / 2
    lines.append(
        f'<text class="name" transform="translate(14 {height}) rotate(-90)" '
        f'text-anchor="middle">{escape(frame.up.label)}</text></svg>'
    )
    return Markup("\n".join(lines))
