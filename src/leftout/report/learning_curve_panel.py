"""What more data would bring, in plain words: error and accuracy at larger sizes, and what is not learned."""

from typing import Any

from leftout.core.wording import count, number, percent, plain
from leftout.diagnostics.learning_curve.record import LearningCurve
from leftout.report.example_lists import example
from leftout.report.findings import Findings
from leftout.report.learning_curve_plots import learning_curve_plots

SHOWN = 6
"""Examples shown of those that carry most of the unlearned part."""

CLASSES = 10
"""Classes shown, those that carry most of it first."""


def panel(findings: Findings) -> dict[str, Any] | None:
    """Return verdict, curve, modes, classes and the examples of largest error; None without a curve."""
    curve = findings.learning_curve
    if curve is None:
        return None
    rows = _most_unlearned(curve)
    classes = sorted(curve.classes, key=lambda of_class: -of_class.share)[:CLASSES]
    return {
        "verdict": plain(curve.verdict, 600),
        "plots": learning_curve_plots(curve),
        "rows": _size_rows(curve),
        "right": curve.accuracy is not None,
        "modes": _mode_rows(curve),
        "left": percent(curve.left, 0),
        "left_later": percent(curve.left_later[-1], 0),
        "last": count(curve.n[-1], "example"),
        "now": count(curve.examples, "example"),
        "extrapolated": any(curve.extrapolated),
        "classes": [
            (
                plain(of_class.name),
                str(of_class.count),
                number(of_class.error),
                number(of_class.later[-1]),
                percent(of_class.share),
            )
            for of_class in classes
        ],
        "classes_total": len(curve.classes),
        "carriers": [
            example(findings, row) | {"error": number(float(curve.unlearned[row]))} for row in rows[:SHOWN]
        ],
        "tenth": count(len(rows), "example"),
        "carried": percent(float(curve.unlearned[rows].sum() / curve.unlearned.sum()), 0),
        "total": curve.examples,
    }


def _most_unlearned(curve: LearningCurve) -> list[int]:
    """Return the tenth of the training rows that carry most of the unlearned part."""
    order = curve.unlearned.argsort(descending=True, stable=True).tolist()
    return [int(row) for row in order[: max(1, len(order) // 10)]]


def _size_rows(curve: LearningCurve) -> list[tuple[str, ...]]:
    """Return the curve as a table."""
    rows: list[tuple[str, ...]] = []
    for point in curve.measured:
        answers = "" if point.accuracy is None else percent(point.accuracy)
        rows.append((str(point.n), "measured", number(point.error), "", answers, ""))
    for j, size in enumerate(curve.n):
        right = span = ""
        if curve.accuracy and curve.accuracy_low and curve.accuracy_high:
            right = percent(curve.accuracy[j])
            span = f"{percent(curve.accuracy_low[j])} to {percent(curve.accuracy_high[j])}"
        kind = "predicted, by a power law" if curve.extrapolated[j] else "predicted"
        between = f"{number(curve.error_low[j])} to {number(curve.error_high[j])}"
        rows.append((str(size), kind, number(curve.error[j]), between, right, span))
    return rows


def _mode_rows(curve: LearningCurve) -> list[tuple[str, ...]]:
    """Return groups of modes: name, share of the target, learned now and at the last size."""
    rows = [
        (
            f"{mode.first}" if mode.first == mode.last else f"{mode.first} to {mode.last}",
            percent(mode.share),
            percent(mode.now, 0),
            percent(mode.later[-1], 0),
        )
        for mode in curve.modes
    ]
    rest = max(0.0, 1 - sum(mode.share for mode in curve.modes))
    return [*rows, ("beyond, and noise", percent(rest), "", "")]
