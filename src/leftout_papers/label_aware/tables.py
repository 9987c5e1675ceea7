"""Tables 1 and 2: does knowing labels make the kernel of a convolutional network classify better?

Two classes at a time (table 1) and all ten (table 2), of CIFAR-10: the label-blind kernel (CNTK), the four
label-aware ones, and a network. The paper draws once, at sizes that take days here; here are smaller draws,
several and disjoint, and each comparison of the paper's is tested over them, pairwise.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from leftout_papers.drawing import BLUE, GREEN, INK, ORANGE, RED, panels
from leftout_papers.exhibit import Holds, Outcome, Row
from leftout_papers.label_aware.baseline import trained_accuracy
from leftout_papers.label_aware.comparison import is_higher, format_mean
from leftout_papers.label_aware.draws import Draw, draw_images
from leftout_papers.label_aware.variants import (
    BEST,
    FIXED,
    SINGLES,
    VARIANTS,
    Scored,
    label_aware,
    label_blind,
)
from leftout_papers.material import Material, Size
from leftout_papers.verdicts import both

TASKS: dict[str, tuple[tuple[str, str], ...]] = {
    "cifar10": (("deer", "dog"), ("cat", "deer"), ("cat", "frog"), ("deer", "frog"), ("bird", "frog")),
    "mnist": (("4", "9"), ("3", "5"), ("5", "8"), ("3", "8"), ("7", "9")),
    "digits": (("4", "9"), ("3", "5"), ("5", "8"), ("3", "8"), ("7", "9")),
}

METHODS = ("CNTK", *VARIANTS, BEST, "CNN")

PRINTED_PAIRS = {
    "CNTK": 85.91,
    "LANTK-KR-V1": 86.41,
    "LANTK-KR-V2": 86.40,
    "LANTK-FJLT-V1": 86.70,
    "LANTK-FJLT-V2": 86.64,
    BEST: 86.95,
    "CNN": 89.83,
}
"""Table 1, averages over five tasks of 10,000 training images."""

PRINTED_CLASSES = {
    "CNTK": 52.44,
    "LANTK-KR-V1": 53.12,
    "LANTK-KR-V2": 53.20,
    "LANTK-FJLT-V1": 54.38,
    "LANTK-FJLT-V2": None,
    BEST: 54.38,
    "CNN": 56.60,
}
"""Table 2, averages over 2000, 5000, 10,000 and 20,000 training images."""

GAINED_CLASSES = {"LANTK-FJLT-V2": 1.62}
"""Printed as an improvement only: at 20,000 it failed."""


@dataclass(frozen=True)
class Plan:
    """Sizes of one run.

    Attributes:
        draws: how many, sharing no image.
        train: images of a class; of several sizes the largest is drawn, and smaller ones are parts of it.
        query: test images of a class.
        widths, epochs, steps: of the network, and the least steps.
        folds: in which images are left out to choose a strength; None as `variants` has it.
    """

    draws: int
    train: tuple[int, ...]
    query: int
    widths: tuple[int, int, int]
    epochs: int
    folds: int | None = None
    steps: int = 0


PAIRS = {
    Size.QUICK: Plan(2, (12,), 15, (8, 8, 8), 40, folds=3),
    Size.USUAL: Plan(5, (100,), 200, (16, 32, 64), 40, folds=10, steps=400),
    Size.PAPER: Plan(1, (5000,), 1000, (64, 128, 256), 300),
}
CLASSES = {
    Size.QUICK: Plan(2, (4, 8), 6, (8, 8, 8), 20, folds=3),
    Size.USUAL: Plan(5, (12, 25, 50), 50, (16, 32, 64), 40, folds=10, steps=400),
    Size.PAPER: Plan(1, (200, 500, 1000, 2000), 1000, (128, 256, 512), 50),
}

DIGITS = (20, 9)
"""Images of a class, for training and test, that the digits have for each of five draws."""

Printed = dict[str, tuple[float | None, float]]
"""Accuracy and improvement by method."""

Table = dict[str, dict[str, list[Scored]]]
"""By column and method, one a draw."""


def pairs(material: Material) -> Outcome:
    """Run table 1."""
    plan, tasks = _plan(PAIRS, material), TASKS[material.name]
    tasks = tasks[:2] if material.quick else tasks
    names = tuple(dict.fromkeys(name for task in tasks for name in task))
    titles = [" vs ".join(task) for task in tasks]
    found: Table = {title: {} for title in titles}
    each = plan.train[-1]
    for number, draw in enumerate(
        draw_images(material, names, count=plan.draws, train=each, query=plan.query, tasks=tasks)
    ):
        for title, task in zip(titles, tasks, strict=True):
            part = draw.task([names.index(name) for name in task])
            _put(found[title], _scores(part, plan, seed=1000 * material.seed + number))
    where = f"average of {len(tasks)} tasks of {2 * each} images"
    printed: Printed = {name: (value, value - PRINTED_PAIRS["CNTK"]) for name, value in PRINTED_PAIRS.items()}
    notes = (f"Published at 10,000 training images; here at {2 * each}.", *_notes(plan, 2 * each))
    return _outcome(found, printed, where, notes)


def classes(material: Material) -> Outcome:
    """Run table 2."""
    plan = _plan(CLASSES, material)
    found: Table = {str(10 * each): {} for each in plan.train}
    for number, draw in enumerate(
        draw_images(material, None, count=plan.draws, train=plan.train[-1], query=plan.query)
    ):
        for each in plan.train:
            part = draw.task(range(10), each=each)
            scores = _scores(part, plan, seed=1000 * material.seed + number)
            _put(found[str(10 * each)], scores)
    sizes = ", ".join(found)
    blind = PRINTED_CLASSES["CNTK"]
    assert blind is not None
    printed: Printed = {
        name: (value, GAINED_CLASSES.get(name, 0.0) if value is None else value - blind)
        for name, value in PRINTED_CLASSES.items()
    }
    notes = (
        f"Published at 2000, 5000, 10,000 and 20,000 training images; here at {sizes}.",
        *_notes(plan, 10 * plan.train[-1]),
    )
    return _outcome(found, printed, f"average of {sizes} images", notes)


def _plan(plans: dict[Size, Plan], material: Material) -> Plan:
    """Return what is run, of digits no more than there are."""
    plan = plans[material.size]
    if material.name != "digits" or material.quick:
        return plan
    usual, (train, query) = plans[Size.USUAL], DIGITS
    return replace(
        usual, query=min(query, usual.query), train=tuple(sorted({min(train, one) for one in usual.train}))
    )


def _scores(draw: Draw, plan: Plan, *, seed: int) -> dict[str, Scored]:
    """Return every method's score on one task of a draw."""
    found = {"CNTK": label_blind(draw)}
    for name, kernel in VARIANTS.items():
        found[name] = label_aware(draw, kernel, folds=plan.folds)
    # The paper takes the best on test images; here it is the one that does best on those left out.
    tried = [found[name] for name in VARIANTS if np.isfinite(found[name].loss)]
    found[BEST] = min(tried, key=lambda one: one.loss, default=found["LANTK-FJLT-V1"])
    share = trained_accuracy(draw, widths=plan.widths, epochs=plan.epochs, steps=plan.steps, seed=seed)
    nan = float("nan")
    found["CNN"] = Scored(share, share, nan, nan, (), nan)
    return found


def _put(column: dict[str, list[Scored]], scores: dict[str, Scored]) -> None:
    for name, one in scores.items():
        column.setdefault(name, []).append(one)


def _kept(one: Scored) -> dict[str, Any]:
    """Return a score as a record holds it: there is no NaN in one, and None stands for what there is not."""
    return {
        name: None if isinstance(value, float) and not np.isfinite(value) else value
        for name, value in vars(one).items()
    }


def _means(found: Table, *, fixed: bool = False) -> dict[str, np.ndarray]:
    """Return each method's accuracy in each draw, averaged over columns."""
    return {
        name: np.mean(
            [[one.fixed if fixed else one.accuracy for one in column[name]] for column in found.values()],
            axis=0,
        )
        for name in METHODS
    }


def _outcome(found: Table, printed: Printed, where: str, notes: tuple[str, ...]) -> Outcome:
    means, fixed = _means(found), _means(found, fixed=True)
    rows = [
        Row(
            f"{name}: accuracy, {where}",
            "failed" if printed[name][0] is None else f"{printed[name][0]:.2f} %",
            f"{format_mean(means[name])} %",
        )
        for name in METHODS
    ]
    for name in (*VARIANTS, BEST):
        gain = means[name] - means["CNTK"]
        rows.append(_gain(f"{name} is better than CNTK", printed[name][1], gain))
    for name in VARIANTS:
        gain = fixed[name] - fixed["CNTK"]
        rows.append(_gain(f"{name} is better than CNTK, strength {FIXED:g}", printed[name][1], gain))
    rows.append(_first(means))
    for other in ("CNTK", BEST):
        apart = printed["CNN"][1] - printed[other][1]
        rows.append(_gain(f"CNN is better than {other}", apart, means["CNN"] - means[other]))
    rows.append(_indefinite(found))
    result: dict[str, Any] = {
        column: {name: [_kept(one) for one in scores] for name, scores in methods.items()}
        for column, methods in found.items()
    }
    return Outcome(tuple(rows), result, _figure(found), notes)


def _gain(claim: str, printed: float, gain: np.ndarray) -> Row:
    return Row(
        f"{claim}, percentage points",
        f"{printed:+.2f}",
        f"{format_mean(gain, sign=True)} over {len(gain)} draws",
        is_higher(gain),
    )


def _first(means: dict[str, np.ndarray]) -> Row:
    """Return whether FJLT-V1 is the best of the four."""
    first = "LANTK-FJLT-V1"
    holds: Holds = True
    leads = []
    for name in VARIANTS:
        if name != first:
            lead = means[first] - means[name]
            leads.append(f"{format_mean(lead, sign=True)} over {name}")
            holds = both(holds, is_higher(lead))
    return Row(f"{first} is the best of the four", "works the best overall", "; ".join(leads), holds)


def _indefinite(found: Table) -> Row:
    """Return how indefinite the kernels are and what was skipped."""
    scores = [one for column in found.values() for name in VARIANTS for one in column[name]]
    lowest = min((one.lowest for one in scores if np.isfinite(one.lowest)), default=float("nan"))
    indefinite = sum(one.lowest < 0 for one in scores)
    skipped = sum(len(one.skipped) for one in scores)
    failed = sum(not np.isfinite(one.accuracy) for one in scores)
    chosen = [one.strength for one in scores if np.isfinite(one.strength)]
    shares = ", ".join(f"{chosen.count(one)} × {one:g}" for one in sorted(set(chosen)))
    return Row(
        "label-aware kernels: strengths chosen, definiteness, failures",
        "not printed",
        f"strengths {shares}; {indefinite} of {len(scores)} kernels have negative eigenvalues, the lowest "
        f"{lowest:.2g} of the largest; {skipped} strengths skipped as singular; {failed} not solved",
    )


def _notes(plan: Plan, n: int) -> tuple[str, ...]:
    parts = f"{plan.folds} parts" if plan.folds else "ten parts"
    way = "one by one" if n <= SINGLES and plan.folds is None else f"in {parts}"
    alone = "" if n <= SINGLES or plan.folds else f" (up to {SINGLES} of them, one by one)"
    return (
        f"{plan.draws} draws that share no image; comparisons are paired t-tests over draws, open where "
        "neither direction is significant at 5 %.",
        f"Strengths are chosen on training images that were left out {way}{alone}, and Z was learned again "
        f"without them; {BEST} is the variant that does best on them. The paper does not say how it chose.",
        f"The network has groups of {', '.join(map(str, plan.widths))} channels and trains {plan.epochs} "
        f"epochs, {plan.steps} steps at least.",
    )


COLOURS = (INK, BLUE, "#7fb2e5", GREEN, "#8fd0a5", ORANGE, RED)


def _figure(found: Table) -> Figure:
    figure, grid = panels(1, width=1.6 * len(found) + 3, height=3.6)
    axes = grid[0, 0]
    for place, (name, colour) in enumerate(zip(METHODS, COLOURS, strict=True)):
        for column, methods in enumerate(found.values()):
            values = [one.accuracy for one in methods[name]]
            at = column + (place - len(METHODS) / 2) * 0.11
            axes.plot([at] * len(values), values, "o", ms=3, color=colour, alpha=0.6)
            axes.plot(
                [at - 0.04, at + 0.04],
                [np.mean(values)] * 2,
                color=colour,
                lw=2,
                label=name if column == 0 else None,
            )
    axes.set_xticks(range(len(found)), list(found))
    axes.set_ylabel("accuracy on test images, %")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
