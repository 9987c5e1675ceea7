"""How do losses, and shares of what is learned, go with training time? Two plots in the style of `plots`.

Both have the time on a logarithmic scale across, with a place for time 0 and one for the end of training,
and the same upright line at the time at which the mean loss on left-out examples is lowest.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from markupsafe import Markup, escape

from leftout.core.wording import percent
from leftout.curation.learned import Kind, Learned
from leftout.report.findings import Moment
from leftout.report.plots import BOTTOM, HEIGHT, TOP, WIDTH, Axis, Frame, figure, linear, power, time_places
from leftout.report.training_time_panel import said

MARKS = 7
"""Most powers of ten that are written below the time axis."""

FLOOR = HEIGHT - BOTTOM


def learning_plots(found: Learned, moments: Sequence[Moment], unit: str) -> list[Markup]:
    """Return mean losses against training time, and the shares of what is learned and how."""
    places = dict(zip(found.times, time_places(found.times), strict=True))
    across = _time_axis(places, unit)
    return [_losses(found, moments, places, across, unit), _shares(found, places, across, unit)]


def _time_axis(places: dict[float, float], unit: str) -> Axis:
    finite = [place for time, place in places.items() if 0 < time < math.inf]
    powers = range(math.ceil(min(finite) - 1e-9), math.floor(max(finite) + 1e-9) + 1)
    every = max(1, math.ceil(len(powers) / MARKS))
    marks = [(float(d), power(10.0**d)) for d in powers[::every]]
    marks += [(places[time], name) for time, name in ((0.0, "0"), (math.inf, "end")) if time in places]
    low, high = min(places.values()), max(places.values())
    air = 0.03 * (high - low)
    label = f"training {unit}, on a logarithmic scale"
    return Axis(low - air, high + air, label, tuple(sorted(marks)))


def _losses(
    found: Learned, moments: Sequence[Moment], places: dict[float, float], across: Axis, unit: str
) -> Markup:
    asked = [(places[one.at], one.query_loss) for one in moments]
    heights = [*found.fitted_loss, *found.left_out_loss, *(loss for _, loss in asked)]
    frame = Frame(across, linear(heights, "mean loss (loss units)"))
    first, last = (frame.x(places[time]) for time in (found.stop.earliest, found.stop.latest))
    drawn = [
        # A bottom that is a single time is a hair wide, so that it can be seen.
        f'<rect class="band" x="{first - 1:.2f}" y="{TOP}" width="{last - first + 2:.2f}" '
        f'height="{FLOOR - TOP}"/>',
        *_guide(frame, found, places, unit),
        _line(frame, list(places.values()), found.fitted_loss, "c"),
        _line(frame, list(places.values()), found.left_out_loss, "b"),
        *(
            f'<circle class="dot a" cx="{frame.x(place)}" cy="{frame.y(loss)}" r="4"/>'
            for place, loss in asked
        ),
    ]
    text = (
        f"Mean loss over training {unit}: on training examples, on training examples that were left "
        f"out, and on the queries. {found.stop.reason}"
    )
    return figure("learned-loss", "Loss over training", text, frame, drawn)


def _shares(found: Learned, places: dict[float, float], across: Axis, unit: str) -> Markup:
    marks = tuple((share, percent(share, 0)) for share in (0.0, 0.25, 0.5, 0.75, 1.0))
    frame = Frame(across, Axis(0.0, 1.0, "share of the training examples", marks))
    right = [a + b for a, b in zip(found.from_others, found.by_heart, strict=True)]
    n = len(right)
    levels = [[0.0] * n, list(found.from_others), right, [1.0] * n]
    names = ("others", "heart", "rest")
    drawn = [
        _area(frame, list(places.values()), low, high, name)
        for name, (low, high) in zip(names, pairwise(levels), strict=True)
    ]
    drawn += _guide(frame, found, places, unit)
    time_index = found.time_index
    text = (
        f"Over training {unit}, the shares of the training examples that are learned from the others, "
        f"known by heart, and not learned. At {said(found.times[time_index], unit)}: "
        f"{percent(found.from_others[time_index], 0)}, {percent(found.by_heart[time_index], 0)} and "
        f"{percent(max(0.0, 1 - right[time_index]), 0)}."
    )
    return figure("learned-shares", f"Learned {Kind.FROM_OTHERS} or {Kind.BY_HEART}", text, frame, drawn)


def _guide(frame: Frame, found: Learned, places: dict[float, float], unit: str) -> list[str]:
    """Return the line at the lowest left-out loss, and what it is."""
    place = frame.x(places[found.stop.at])
    name = "stop" if found.stop.suggested else "lowest"
    anchor, shift = ("end", -6) if place > WIDTH - 150 else ("start", 6)
    return [
        f'<line class="guide" x1="{place}" x2="{place}" y1="{TOP}" y2="{FLOOR}"/>',
        f'<text class="note" x="{place + shift:.2f}" y="{TOP - 6}" text-anchor="{anchor}">'
        f"{escape(name)}: {escape(said(found.stop.at, unit))}</text>",
    ]


def _line(frame: Frame, across: Sequence[float], heights: Sequence[float], name: str) -> str:
    points = " ".join(f"{frame.x(a)},{frame.y(h)}" for a, h in zip(across, heights, strict=True))
    return f'<polyline class="line {name}" points="{points}"/>'


def _area(
    frame: Frame, across: Sequence[float], low: Sequence[float], high: Sequence[float], name: str
) -> str:
    above = [f"{frame.x(a)},{frame.y(h)}" for a, h in zip(across, high, strict=True)]
    below = [f"{frame.x(a)},{frame.y(h)}" for a, h in zip(across, low, strict=True)]
    return f'<polygon class="area {name}" points="{" ".join([*above, *below[::-1]])}"/>'
