"""Plots of error and accuracy against the number of examples: measured up to those at hand, predicted beyond.

The number of examples is on a logarithmic scale across; an upright line stands at the size at hand.
"""

import math
from collections.abc import Sequence

from markupsafe import Markup

from leftout.core.wording import count, whole_number
from leftout.diagnostics.learning_curve.record import LearningCurve
from leftout.report.drawing import TOP, Frame, PlotAxis, area, curve, figure, guide, linear_axis


def learning_curve_plots(learning_curve: LearningCurve) -> list[Markup]:
    """Return mean squared error, and accuracy where there is one, against the number of examples."""
    plots = [
        _plot(
            learning_curve,
            "error",
            "mean squared error, left out",
            [point.error for point in learning_curve.measured],
            (learning_curve.error, learning_curve.error_low, learning_curve.error_high),
        )
    ]
    middle, low, high = learning_curve.accuracy, learning_curve.accuracy_low, learning_curve.accuracy_high
    if middle and low and high:
        measured = [point.accuracy for point in learning_curve.measured if point.accuracy is not None]
        plots.append(_plot(learning_curve, "accuracy", "accuracy, left out", measured, (middle, low, high)))
    return plots


def _plot(
    learning_curve: LearningCurve,
    name: str,
    label: str,
    measured: Sequence[float],
    predicted: tuple[Sequence[float], Sequence[float], Sequence[float]],
) -> Markup:
    """Return a plot of what was measured, and of predictions with their interval (middle, low, high)."""
    middle, low, high = predicted
    sizes = [point.n for point in learning_curve.measured]
    heights = linear_axis([*measured, *middle, *low, *high], label, share=name == "accuracy")
    frame = Frame(_size_axis([*sizes, *learning_curve.n]), heights)
    beyond = [math.log10(size) for size in (sizes[-1], *learning_curve.n)]
    here = frame.x(beyond[0])
    drawn = [
        area(frame, beyond, [measured[-1], *low], [measured[-1], *high], "band"),
        guide(here),
        f'<text class="note" x="{here + 6:.2f}" y="{TOP - 6}" text-anchor="start">'
        f"at hand: {count(sizes[-1], 'example')}</text>",
        *curve(frame, beyond, [measured[-1], *middle], "b", "■"),
        *curve(frame, [math.log10(size) for size in sizes], measured, "a", "●"),
    ]
    text = f"{label} against the number of examples. {learning_curve.verdict}"
    return figure(f"learning-curve-{name}", f"More data and {name}", text, frame, drawn)


def _size_axis(sizes: Sequence[int]) -> PlotAxis:
    places = [math.log10(size) for size in sizes]
    air = 0.04 * (max(places) - min(places))
    marks: list[tuple[float, str]] = []
    for size in sorted(set(sizes)):
        place = math.log10(size)
        # Names of neighbours must not run into each other: a ninth of the axis apart.
        if not marks or place - marks[-1][0] > (max(places) - min(places)) / 9:
            marks.append((place, whole_number(size)))
    return PlotAxis(min(places) - air, max(places) + air, "examples, on a logarithmic scale", tuple(marks))
