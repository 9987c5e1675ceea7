"""How do error and accuracy go with the number of examples? Measured to here, predicted beyond, with a band.

The number of examples is on a logarithmic scale across; an upright line stands at the size at hand.
"""

import math
from collections.abc import Sequence

from markupsafe import Markup

from leftout.core.wording import count, whole_number
from leftout.diagnostics.learning_curve.record import LearningCurve
from leftout.report.plots import BOTTOM, HEIGHT, TOP, Axis, Frame, curve, figure, linear

FLOOR = HEIGHT - BOTTOM


def outlook_plots(found: LearningCurve) -> list[Markup]:
    """Return mean squared error, and accuracy where there is one, against the number of examples."""
    plots = [
        _plot(
            found,
            "error",
            "mean squared error, left out",
            [one.error for one in found.measured],
            (found.error, found.error_low, found.error_high),
        )
    ]
    seen = [one.accuracy for one in found.measured if one.accuracy is not None]
    if found.accuracy and found.accuracy_low and found.accuracy_high:
        ahead = (found.accuracy, found.accuracy_low, found.accuracy_high)
        plots.append(_plot(found, "accuracy", "accuracy, left out", seen, ahead))
    return plots


def _plot(
    found: LearningCurve,
    name: str,
    label: str,
    seen: Sequence[float],
    ahead: tuple[Sequence[float], Sequence[float], Sequence[float]],
) -> Markup:
    middle, low, high = ahead
    sizes = [one.n for one in found.measured]
    frame = Frame(
        _sizes([*sizes, *found.n]), linear([*seen, *middle, *low, *high], label, share=name == "accuracy")
    )
    beyond = [math.log10(size) for size in (sizes[-1], *found.n)]
    above, below = ([seen[-1], *edge] for edge in (high, low))
    points = [f"{frame.x(x)},{frame.y(y)}" for x, y in zip(beyond, above, strict=True)]
    points += [f"{frame.x(x)},{frame.y(y)}" for x, y in zip(beyond, below, strict=True)][::-1]
    here = frame.x(beyond[0])
    drawn = [
        f'<polygon class="band" points="{" ".join(points)}"/>',
        f'<line class="guide" x1="{here}" x2="{here}" y1="{TOP}" y2="{FLOOR}"/>',
        f'<text class="note" x="{here + 6:.2f}" y="{TOP - 6}" text-anchor="start">'
        f"at hand: {count(sizes[-1], 'example')}</text>",
        *curve(frame, beyond, [seen[-1], *middle], "b", "■"),
        *curve(frame, [math.log10(size) for size in sizes], seen, "a", "●"),
    ]
    text = f"{label} against the number of examples. {found.verdict}"
    return figure(f"outlook-{name}", f"More data and {name}", text, frame, drawn)


def _sizes(sizes: Sequence[int]) -> Axis:
    places = [math.log10(size) for size in sizes]
    air = 0.04 * (max(places) - min(places))
    marks: list[tuple[float, str]] = []
    for size in sorted(set(sizes)):
        place = math.log10(size)
        # Names of neighbours must not run into each other: a ninth of the axis apart.
        if not marks or place - marks[-1][0] > (max(places) - min(places)) / 9:
            marks.append((place, whole_number(size)))
    return Axis(min(places) - air, max(places) + air, "examples, on a logarithmic scale", tuple(marks))
