"""Which plots does a report show? Lines and histograms as SVG that takes its colours from the page.

Every mark carries a class and no colour: the page's style gives it one that reads on light and on
dark, and a pattern or shape besides, so that nothing depends on telling colours apart.
The same numbers give the same bytes.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from markupsafe import Markup, escape

from leftout.core.wording import number, percent, value_text, whole_number
from leftout.curation.prune import Pruned
from leftout.curation.prune_check import PruneCheck
from leftout.report.findings import Moment

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 72, 16, 20, 58

BINS = 40
"""Most bars of a histogram; even, so that zero is an edge and no bar mixes the two signs."""


Stack = tuple[np.ndarray, Callable[[float], str]]
"""Heights of the bars of a histogram, and the class of a bar from its left edge."""


@dataclass(frozen=True)
class Axis:
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

    across: Axis
    up: Axis

    def x(self, at: float) -> float:
        """Return pixels from the left."""
        return round(LEFT + self.across.share(at) * (WIDTH - LEFT - RIGHT), 2)

    def y(self, at: float) -> float:
        """Return pixels from the top."""
        return round(HEIGHT - BOTTOM - self.up.share(at) * (HEIGHT - TOP - BOTTOM), 2)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round values between `low` and `high`, one, two or five times a power of ten apart."""
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * s for s in (1, 2, 5, 10) if power * s >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def linear(values: Sequence[float], label: str, *, share: bool = False) -> Axis:
    """Return an axis that holds all values with a little air, from zero where zero is near."""
    low, high = min(values), max(values)
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
    return Axis(low, high + air, label, named)


def removal_plots(redundant: Pruned, n: int, again: PruneCheck | None = None) -> list[Markup]:
    """Return loss, and accuracy where there is one, against the share of examples removed.

    Args:
        again: the same of a network that was trained again, at some of the shares.
    """
    shares = redundant.shares
    marks = tuple((mark, percent(mark, 0)) for mark in ticks(0.0, max(shares)))
    label = "share of training examples removed together"
    across = Axis(-0.02 * max(shares), 1.04 * max(shares), label, marks)
    curves = [("loss", "mean loss on the queries (loss units)", redundant.loss)]
    if redundant.accuracy is not None:
        curves.append(("accuracy", "accuracy on the queries", redundant.accuracy))
    plots = []
    for name, label, heights in curves:
        second = () if again is None else getattr(again, f"retrained_{name}")
        frame = Frame(across, linear([*heights, *second], label, share=name == "accuracy"))
        marks_drawn = [*_stop(frame, redundant.stop, n), *curve(frame, shares, heights, "a", "●")]
        if again is not None:
            marks_drawn += curve(frame, again.shares, second, "b", "■")
        text = f"{label} after removing the most dispensable training examples, all refitted exactly."
        plots.append(figure(f"removal-{name}", f"Removal and {name}", text, frame, marks_drawn))
    return plots


def training_plots(moments: Sequence[Moment], unit: str, judged: int) -> list[Markup]:
    """Return loss, and accuracy where there is one, over training time: queries and left out."""
    places = time_places([moment.at for moment in moments])
    every = max(1, math.ceil(len(places) / 8))
    chosen = sorted({*range(0, len(places), every), len(places) - 1})
    named = tuple(
        (places[i], "end" if math.isinf(moments[i].at) else value_text(moments[i].at)) for i in chosen
    )
    spread = max(places) - min(places)
    low, high = min(places) - 0.04 * spread, max(places) + 0.04 * spread
    across = Axis(low, high, f"training {unit}, on a logarithmic scale", named)
    pairs = [("loss", "mean loss (loss units)", "query_loss", "left_out_loss")]
    if moments[0].query_accuracy is not None:
        pairs.append(("accuracy", "accuracy", "query_accuracy", "left_out_accuracy"))
    plots = []
    for name, label, on_queries, left_out in pairs:
        first = [getattr(moment, on_queries) for moment in moments]
        second = [getattr(moment, left_out) for moment in moments]
        frame = Frame(across, linear([*first, *second], label, share=name == "accuracy"))
        drawn = [
            f'<line class="guide" x1="{frame.x(places[judged])}" x2="{frame.x(places[judged])}" '
            f'y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>',
            *curve(frame, places, first, "a", "●"),
            *curve(frame, places, second, "b", "■"),
        ]
        text = f"{label} over training {unit}: on the queries, and on training examples left out."
        plots.append(figure(f"training-{name}", f"Training and {name}", text, frame, drawn))
    return plots


def influence_histogram(mean: Float64[np.ndarray, " n"]) -> Markup:
    """Return how the mean influence is spread; the scale is logarithmic on both sides of zero."""
    threshold = _threshold(mean)
    bent = np.sign(mean) * np.log10(1 + np.abs(mean) / threshold)
    reach = float(np.abs(bent).max()) * 1.02 or 1.0
    tops, edges = np.histogram(bent, bins=BINS, range=(-reach, reach))
    decades = math.log10(max(10**reach - 1, 1.0))  # of the largest value, above the threshold
    sizes = [threshold * 10.0**d for d in range(math.floor(decades) + 1)]
    # From the largest down, and none so near to zero that its name would run into the zero's.
    sizes = [s for s in sizes if math.log10(1 + s / threshold) > 0.15 * reach]
    sizes = sizes[:: -max(1, math.ceil(len(sizes) / 3))]
    marks = [(0.0, "0")]
    for size in sizes:
        where, text = math.log10(1 + size / threshold), power(size)
        marks += [(where, "+" + text), (-where, "−" + text)]
    label = "mean influence on the queries (loss units, log scale)"
    frame = Frame(Axis(-reach, reach, label, tuple(sorted(marks))), _counts(tops))
    drawn = _bars(frame, edges, [(tops, lambda left: "help" if left >= -1e-12 else "harm")])
    text = "Histogram of the mean influence of each training example over all queries."
    return figure("influence", "Influence values", text, frame, drawn)


def margin_histogram(
    margins: Float64[np.ndarray, " n"], doubted: Bool[np.ndarray, " n"], label: str
) -> Markup:
    """Return how the left-out margins (or residuals) are spread, the doubted examples apart."""
    low, high = min(0.0, float(margins.min())), max(0.0, float(margins.max()))
    width = (high - low) / (BINS - 2) or 1.0
    # Whole bars on either side of zero: none holds both an agreement and a doubt.
    edges = width * np.arange(math.floor(low / width), math.ceil(high / width) + 1)
    edges = edges if len(edges) > 1 else np.array([-width, 0.0, width])
    edges[0], edges[-1] = min(low, edges[0]), max(high, edges[-1])  # rounding loses no example
    sure, _ = np.histogram(margins[~doubted], bins=edges)
    unsure, _ = np.histogram(margins[doubted], bins=edges)
    assert sure.sum() + unsure.sum() == len(margins)
    low, high = float(edges[0]), float(edges[-1])
    marks = tuple((mark, value_text(mark)) for mark in ticks(low, high))
    frame = Frame(Axis(low, high, label, marks), _counts(sure + unsure))
    drawn = _bars(frame, edges, [(unsure, lambda _: "doubt"), (sure, lambda _: "plain")])
    text = "Histogram over the training examples; those whose label is doubted are hatched."
    return figure("margins", label, text, frame, drawn)


def _threshold(values: np.ndarray) -> float:
    """Return where the scale turns linear: at most four decades below the largest value."""
    sizes = np.abs(values[values != 0])
    if len(sizes) == 0:
        return 1.0
    wished = max(float(np.quantile(sizes, 0.1)), float(sizes.max()) * 1e-4)
    return 10.0 ** math.floor(math.log10(wished))


def power(size: float) -> str:
    """Return a power of ten, as a plain number where that is short."""
    return f"{size:g}" if 1e-3 <= size <= 1e3 else number(size, 1).replace("1 × ", "")


def time_places(times: Sequence[float]) -> list[float]:
    """Return places on a logarithmic scale; 0 and the end of training stand one gap outside."""
    finite = [math.log10(time) for time in times if 0 < time < math.inf]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    gap = 0.2 * (high - low) or 1.0
    outside = {0.0: low - gap, math.inf: high + gap}
    return [outside[time] if time in outside else math.log10(time) for time in times]


def _counts(tops: np.ndarray) -> Axis:
    high = max(int(tops.max()), 1) * 1.06
    marks = sorted({round(mark) for mark in ticks(0.0, high, 5)})
    return Axis(0.0, high, "training examples", tuple((m, whole_number(m)) for m in marks))


def _stop(frame: Frame, stop: int, n: int) -> list[str]:
    if stop == 0:
        return []
    place, anchor = frame.x(stop / n), "start"
    shift = 6
    if place > WIDTH - 160:
        anchor, shift = "end", -6
    return [
        f'<line class="guide" x1="{place}" x2="{place}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>',
        f'<text class="note" x="{place + shift}" y="{TOP + 10}" text-anchor="{anchor}">'
        f"suggested stop: {percent(stop / n)}</text>",
    ]


def curve(frame: Frame, across: Iterable[float], heights: Iterable[float], name: str, mark: str) -> list[str]:
    """Return a line through points, and a mark on each."""
    points = [(frame.x(a), frame.y(h)) for a, h in zip(across, heights, strict=True)]
    path = " ".join(f"{x},{y}" for x, y in points)
    drawn = [f'<polyline class="line {name}" points="{path}"/>']
    for x, y in points:
        if mark == "●":
            drawn.append(f'<circle class="dot {name}" cx="{x}" cy="{y}" r="3.5"/>')
        else:
            corner = f'x="{x - 3.2:.2f}" y="{y - 3.2:.2f}"'
            drawn.append(f'<rect class="dot {name}" {corner} width="6.4" height="6.4"/>')
    return drawn


def _bars(frame: Frame, edges: np.ndarray, stacks: Sequence[Stack]) -> list[str]:
    drawn = []
    for i in range(len(edges) - 1):
        left, right = frame.x(float(edges[i])), frame.x(float(edges[i + 1]))
        below = 0
        for heights, name in stacks:
            if heights[i]:
                bottom, top = frame.y(below), frame.y(below + int(heights[i]))
                drawn.append(
                    f'<rect class="bar {name(float(edges[i]))}" x="{left + 0.5:.2f}" y="{top:.2f}" '
                    f'width="{max(right - left - 1, 0.5):.2f}" height="{bottom - top:.2f}"/>'
                )
                below += int(heights[i])
    return drawn


def figure(name: str, title: str, text: str, frame: Frame, drawn: Iterable[str]) -> Markup:
    """Return a plot: its axes around what is drawn, with title and words for those who cannot see it."""
    floor, end = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = [
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-labelledby="plot-{name}-title plot-{name}-text">',
        f'<title id="plot-{name}-title">{escape(title)}</title>',
        f'<desc id="plot-{name}-text">{escape(text)}</desc>',
    ]
    for at, mark in frame.up.ticks:
        y = frame.y(at)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{end}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{escape(mark)}</text>')
    parts += drawn
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{end}" y1="{floor}" y2="{floor}"/>')
    for at, mark in frame.across.ticks:
        x = frame.x(at)
        parts.append(f'<line class="axis" x1="{x}" x2="{x}" y1="{floor}" y2="{floor + 5}"/>')
        parts.append(f'<text x="{x}" y="{floor + 20}" text-anchor="middle">{escape(mark)}</text>')
    middle = (LEFT + end) / 2
    parts.append(
        f'<text class="name" x="{middle}" y="{HEIGHT - 12}" text-anchor="middle">'
        f"{escape(frame.across.label)}</text>"
    )
    height = (TOP + floor) / 2
    parts.append(
        f'<text class="name" transform="translate(14 {height}) rotate(-90)" '
        f'text-anchor="middle">{escape(frame.up.label)}</text></svg>'
    )
    return Markup("\n".join(parts))
