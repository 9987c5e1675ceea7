"""What would more data bring? The learning curve of an audit, and what the panel says, in plain words.

A rule with training time has the spectrum already, and the curve is that of all examples. Under ridge there
is none: half of the examples then tell the shape of the curve, an eighth of the work, and the exact left-out
error of all, which an audit has anyway, says where it starts.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch

from leftout.core.errors import NotPositiveError
from leftout.diagnostics.learning_curve.learning_curve import FEWEST, learning_curve
from leftout.diagnostics.learning_curve.record import LearningCurve
from leftout.diagnostics.learning_curve.subsamples import takes_half
from leftout.dynamics.fitted import Fitted
from leftout.report.findings import Findings, Moment
from leftout.report.sections import example
from leftout.report.wording import count, number, percent, plain

STEPS = 4
"""Sizes asked for, each a root of two more: up to four times the examples."""

SHOWN = 12
"""Examples shown of those that carry most of the unlearned part."""

CLASSES = 20
"""Classes shown, those that carry most of it first."""


COLUMNS = ("n", "kind", "error", "error_low", "error_high", "accuracy", "accuracy_low", "accuracy_high")
"""Columns of curve.csv."""


def outlook(fitted: Fitted, moments: Sequence[Moment], *, seed: int) -> tuple[LearningCurve | None, str]:
    """Return the learning curve up to four times the examples, at the end of training.

    Returns:
        None and the reason where there is none: too few examples, nothing to learn, or no end of training
        to be left out of, as of a matrix that is singular without ridge, or that labels made indefinite.

    Cost:
        under ridge the spectrum of half of the examples, 18 (r/2)³ in all; else 9r³ beside the spectrum.
    """
    n = len(fitted)
    halved = takes_half(fitted.rule)
    if n < FEWEST * (2 if halved else 1) or not bool(fitted.residual.any()):
        return (None, f"It takes {FEWEST * (2 if halved else 1)} examples or more that are not all alike.")
    sizes = [round(n * 2 ** (step / 2)) for step in range(1, STEPS + 1)]
    try:
        if not halved:
            return learning_curve(fitted, sizes, seed=seed), ""
        found = learning_curve(_half(fitted, seed), [n, *sizes], seed=seed)
    except NotPositiveError as error:
        return None, str(error)
    (end,) = (moment for moment in moments if moment.at == math.inf)
    return found.anchored(end.out_of_sample, fitted.train), ""


def _half(fitted: Fitted, seed: int) -> Fitted:
    """Return the model of half of the examples; no kernel is evaluated again."""
    n = len(fitted)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    held = order[: (n + 1) // 2].sort().values
    return fitted.subset(held)


def panel(findings: Findings) -> dict[str, Any] | None:
    """Return what the panel says; None where there is no curve."""
    found = findings.outlook
    if found is None:
        return None
    carried = float(found.unlearned[_carriers(found)].sum() / found.unlearned.sum())
    return {
        "verdict": plain(found.verdict, 600),
        "rows": _rows(found),
        "right": found.accuracy is not None,
        "modes": _modes(found),
        "left": percent(found.left, 0),
        "left_later": percent(found.left_later[-1], 0),
        "last": count(found.n[-1], "example"),
        "now": count(found.examples, "example"),
        "extrapolated": any(found.extrapolated),
        "classes": [
            (plain(one.name), str(one.count), number(one.error), number(one.later[-1]), percent(one.share))
            for one in sorted(found.classes, key=lambda one: -one.share)[:CLASSES]
        ],
        "classes_total": len(found.classes),
        "carriers": [
            example(findings, row) | {"error": number(float(found.unlearned[row]))} for row in carriers(found)
        ],
        "tenth": count(len(_carriers(found)), "example"),
        "carried": percent(carried, 0),
        "total": found.examples,
    }


def carriers(found: LearningCurve) -> tuple[int, ...]:
    """Return the training rows that the panel shows, most unlearned first."""
    return tuple(_carriers(found)[:SHOWN])


def _carriers(found: LearningCurve) -> list[int]:
    """Return the tenth of the training rows that carry most of the unlearned part."""
    order = found.unlearned.argsort(descending=True, stable=True).tolist()
    return [int(row) for row in order[: max(1, len(order) // 10)]]


def _rows(found: LearningCurve) -> list[tuple[str, ...]]:
    """Return the curve as a table."""
    rows: list[tuple[str, ...]] = []
    for one in found.measured:
        answers = "" if one.accuracy is None else percent(one.accuracy)
        rows.append((str(one.n), "measured", number(one.error), "", answers, ""))
    for j, size in enumerate(found.n):
        right = span = ""
        if found.accuracy and found.accuracy_low and found.accuracy_high:
            right = percent(found.accuracy[j])
            span = f"{percent(found.accuracy_low[j])} to {percent(found.accuracy_high[j])}"
        kind = "predicted, by a power law" if found.extrapolated[j] else "predicted"
        between = f"{number(found.error_low[j])} to {number(found.error_high[j])}"
        rows.append((str(size), kind, number(found.error[j]), between, right, span))
    return rows


def _modes(found: LearningCurve) -> list[tuple[str, ...]]:
    """Return groups of modes: name, share of the target, learned now and at the last size."""
    rows = [
        (
            f"{one.first}" if one.first == one.last else f"{one.first} to {one.last}",
            percent(one.share),
            percent(one.now, 0),
            percent(one.later[-1], 0),
        )
        for one in found.modes
    ]
    rest = max(0.0, 1 - sum(one.share for one in found.modes))
    return [*rows, ("beyond, and noise", percent(rest), "", "")]


def curve_rows(found: LearningCurve) -> list[tuple[str, ...]]:
    """Return the curve as a table of numbers holds it: measured sizes, then those asked for."""
    rows: list[tuple[str, ...]] = [
        (str(one.n), "measured", repr(one.error), "", "", _cell(one.accuracy), "", "")
        for one in found.measured
    ]
    for j, size in enumerate(found.n):
        kind = "extrapolated" if found.extrapolated[j] else "predicted"
        right = (found.accuracy, found.accuracy_low, found.accuracy_high)
        rows.append(
            (
                str(size),
                kind,
                repr(found.error[j]),
                repr(found.error_low[j]),
                repr(found.error_high[j]),
                *(_cell(None if one is None else one[j]) for one in right),
            )
        )
    return rows


def _cell(value: float | None) -> str:
    return "" if value is None else repr(value)
