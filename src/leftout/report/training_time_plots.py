"""Plots of losses, and of the shares of examples learned from others or by heart, against training time.

Both have the time on a logarithmic scale across, with a place for time 0 and one for the end of training,
and the same upright line at the time at which the mean loss on left-out examples is lowest.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from markupsafe import Markup, escape

from leftout.core.wording import percent
from leftout.curation.learned import Kind, Learned
from leftout.report.drawing import (
    FLOOR,
    TOP,
    WIDTH,
    Frame,
    PlotAxis,
    area,
    figure,
    guide,
    line,
    linear_axis,
    power_text,
    time_places,
)
from leftout.report.findings import ModelAtTime
from leftout.report.wording import short_time

MARKS = 7
"""Most powers of ten that are written below the time axis."""


def training_time_plots(learned: Learned, at_times: Sequence[ModelAtTime], unit: str) -> list[Markup]:
    """Return mean losses against training time, and the shares of what is learned and how."""
    places = dict(zip(learned.times, time_places(learned.times), strict=True))
    across = _time_axis(places, unit)
    return [_losses(learned, at_times, places, across, unit), _shares(learned, places, across, unit)]


def _time_axis(places: dict[float, float], unit: str) -> PlotAxis:
    finite = [place for time, place in places.items() if 0 < time < math.inf]
    powers = range(math.ceil(min(finite) - 1e-9), math.floor(max(finite) + 1e-9) + 1)
    every = max(1, math.ceil(len(powers) / MARKS))
    marks = [(float(d), power_text(10.0**d)) for d in powers[::every]]
    marks += [(places[time], name) for time, name in ((0.0, "0"), (math.inf, "end")) if time in places]
    low, high = min(places.values()), max(places.values())
    air = 0.03 * (high - low)
    label = f"training {unit}, on a logarithmic scale"
    return PlotAxis(low - air, high + air, label, tuple(sorted(marks)))


def _losses(
    learned: Learned, at_times: Sequence[ModelAtTime], places: dict[float, float], across: PlotAxis, unit: str
) -> Markup:
    on_queries = [(places[model.at], model.query_loss) for model in at_times]
    heights = [*learned.fitted_loss, *learned.left_out_loss, *(loss for _, loss in on_queries)]
    frame = Frame(across, linear_axis(heights, "mean loss (loss units)"))
    first, last = (frame.x(places[time]) for time in (learned.stop.earliest, learned.stop.latest))
    drawn = [
        # A bottom that is a single time is a hair wide, so that it can be seen.
        f'<rect class="band" x="{first - 1:.2f}" y="{TOP}" width="{last - first + 2:.2f}" '
        f'height="{FLOOR - TOP}"/>',
        *_stop_marks(frame, learned, places, unit),
        line(frame, places.values(), learned.fitted_loss, "c"),
        line(frame, places.values(), learned.left_out_loss, "b"),
        *(
            f'<circle class="dot a" cx="{frame.x(place)}" cy="{frame.y(loss)}" r="4"/>'
            for place, loss in on_queries
        ),
    ]
    text = (
        f"Mean loss over training {unit}: on training examples, on training examples that were left "
        f"out, and on the queries. {learned.stop.reason}"
    )
    return figure("learned-loss", "Loss over training", text, frame, drawn)


def _shares(learned: Learned, places: dict[float, float], across: PlotAxis, unit: str) -> Markup:
    marks = tuple((share, percent(share, 0)) for share in (0.0, 0.25, 0.5, 0.75, 1.0))
    frame = Frame(across, PlotAxis(0.0, 1.0, "share of the training examples", marks))
    right = [a + b for a, b in zip(learned.from_others, learned.by_heart, strict=True)]
    n = len(right)
    levels = [[0.0] * n, list(learned.from_others), right, [1.0] * n]
    names = ("area others", "area heart", "area rest")
    drawn = [
        area(frame, list(places.values()), low, high, name)
        for name, (low, high) in zip(names, pairwise(levels), strict=True)
    ]
    drawn += _stop_marks(frame, learned, places, unit)
    j = learned.time_index
    text = (
        f"Over training {unit}, the shares of the training examples that are learned from the others, "
        f"known by heart, and not learned. At {short_time(learned.times[j], unit)}: "
        f"{percent(learned.from_others[j], 0)}, {percent(learned.by_heart[j], 0)} and "
        f"{percent(max(0.0, 1 - right[j]), 0)}."
    )
    return figure("learned-shares", f"Learned {Kind.FROM_OTHERS} or {Kind.BY_HEART}", text, frame, drawn)


def _stop_marks(frame: Frame, learned: Learned, places: dict[float, float], unit: str) -> list[str]:
    """Return the line at the lowest left-out loss, and its time."""
    place = frame.x(places[learned.stop.at])
    name = "stop" if learned.stop.suggested else "lowest"
    anchor, shift = ("end", -6) if place > WIDTH - 150 else ("start", 6)
    return [
        guide(place),
        f'<text class="note" x="{place + shift:.2f}" y="{TOP - 6}" text-anchor="{anchor}">'
        f"{escape(name)}: {escape(short_time(learned.stop.at, unit))}</text>",
    ]
