"""Table 1: does the linearised network say what training again says, and better than influence functions?

An example is left out of full-batch gradient descent from the same initial weights: |w − w_without|², and
Σ over queries of (f − f_without)², of the linearised network and of the classical influence function,
are correlated with those of networks trained again. Intervals are of the removed examples.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from torch import nn

import leftout as lo
from leftout_papers.drawing import BLUE, FAINT, ORANGE, panels
from leftout_papers.exhibit import Holds, Outcome, Row
from leftout_papers.material import Material, Size
from leftout_papers.smooth_information.classical import LISSA, Recursion, recursion, series
from leftout_papers.smooth_information.networks import convolutional, perceptron, pretrained
from leftout_papers.smooth_information.retrained import Effects, of_training_again
from leftout_papers.smooth_information.scores import Schedule, linearised
from leftout_papers.smooth_information.task import pair

What = Literal["weights", "predictions"]
WHATS: tuple[What, ...] = ("weights", "predictions")
RIDGES = (0.0, 1.0)
"""Under the mean loss; the second is the paper's λ = 10³ with n = 1000."""

CLOSE = 0.05
"""Difference of correlations at the paper's size that still counts as the same."""

CHECKED = 2
"""Removed examples on which the closed form is compared with the recursion itself."""


@dataclass(frozen=True)
class Scale:
    """How much is run: examples, queries, examples removed, steps of training."""

    examples: int
    queries: int
    removed: int
    steps: int


@dataclass(frozen=True, eq=False)
class Case:
    """A column of the table.

    Attributes:
        rate: of training.
        scales: by size.
        recursion: of the influence function.
        published: by what and ridge, of linearisation and influence functions.
        checked: whether the recursion itself is run on a few examples.
    """

    label: str
    rate: float
    scales: dict[Size, Scale]
    recursion: Recursion
    published: dict[tuple[What, float], tuple[float, float]]
    checked: bool = False


QUICK = Scale(12, 10, 3, 6)
MLP = Case(
    "MLP, scratch",
    1e-3,
    {Size.QUICK: QUICK, Size.USUAL: Scale(120, 200, 20, 1000), Size.PAPER: Scale(1000, 1000, 1000, 2000)},
    LISSA,
    {
        ("weights", 0.0): (0.987, 0.935),
        ("weights", 1.0): (0.977, 0.978),
        ("predictions", 0.0): (0.993, 0.920),
        ("predictions", 1.0): (0.993, 0.990),
    },
    checked=True,
)
SCRATCH = Case(
    "CNN, scratch",
    1e-2,
    {Size.QUICK: QUICK, Size.USUAL: Scale(80, 200, 16, 250), Size.PAPER: Scale(1000, 1000, 1000, 1000)},
    LISSA,
    {
        ("weights", 0.0): (0.193, 0.319),
        ("weights", 1.0): (-0.012, 0.069),
        ("predictions", 0.0): (0.033, 0.647),
        ("predictions", 1.0): (0.070, 0.407),
    },
)
PRETRAINED = Case(
    "CNN, pretrained",
    5e-4,
    {Size.QUICK: QUICK, Size.USUAL: Scale(80, 200, 16, 250), Size.PAPER: Scale(1000, 1000, 1000, 1000)},
    LISSA,
    {
        ("weights", 0.0): (0.870, 0.736),
        ("weights", 1.0): (0.964, 0.979),
        ("predictions", 0.0): (0.875, 0.770),
        ("predictions", 1.0): (0.974, 0.954),
    },
)
RESNET = Case(
    "ResNet-20, pretrained (published: ResNet-18)",
    1e-3,
    {Size.QUICK: QUICK, Size.USUAL: Scale(50, 100, 16, 100), Size.PAPER: Scale(1000, 1000, 1000, 500)},
    Recursion(depth=50),
    {
        ("weights", 0.0): (0.895, 0.675),
        ("weights", 1.0): (0.940, 0.858),
        ("predictions", 0.0): (0.877, 0.530),
        ("predictions", 1.0): (0.931, 0.753),
    },
)


@dataclass(frozen=True)
class Correlated:
    """Pearson R with its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Compared:
    """A case at one ridge: effects of the same removed examples by three ways, and what R they have.

    Attributes:
        difference: of closed form and recursion in |dw|², relative; None where it was not taken.
    """

    case: Case
    ridge: float
    linear: Effects
    classical: Effects
    truth: Effects
    difference: float | None

    def correlation(self, what: What, of: Literal["linear", "classical"]) -> Correlated:
        """Return how well predicted effects correlate with those of training again."""
        predicted: Effects = getattr(self, of)
        return correlated(getattr(predicted, what), getattr(self.truth, what))


def binary(material: Material) -> Outcome:
    """Run table 1."""
    cases = (RESNET,) if material.name == "cifar10" else (MLP, SCRATCH, PRETRAINED)
    found = [compared(material, case, ridge) for case in cases for ridge in RIDGES]
    rows = [_row(material, one, what) for what in WHATS for one in found]
    rows += _claims(found)
    result = {
        "cases": [_record(material, one) for one in found],
        "sizes": {case.label: vars(case.scales[material.size]) for case in cases},
    }
    return Outcome(tuple(rows), result, _figure(found), _notes(material, cases, found))


def compared(material: Material, case: Case, ridge: float) -> Compared:
    """Return the effects of leaving examples out, predicted and actual."""
    scale = case.scales[material.size]
    counts = dict.fromkeys(Size, (scale.examples, scale.queries))
    examples, query = pair(material, counts)
    schedule = Schedule(case.rate, scale.steps, ridge)
    network = _network(material, case, examples)
    rows = np.sort(np.random.default_rng(material.seed).permutation(len(examples))[: scale.removed]).tolist()
    found = lo.information(linearised(material, network, examples, schedule), query, at=scale.steps).isel(
        train=rows
    )
    linear = Effects(2 * found["weights"].values, 2 * len(query) * found["function"].values)
    trained = lo.train(
        network,
        examples,
        rule=schedule.rule,
        steps=scale.steps,
        tolerance=None,
        device=material.device,
        memory=material.memory,
    )
    classical, difference = _classical(material, case, trained, query, rows)
    truth = of_training_again(material, trained, query, rows)
    return Compared(case, ridge, linear, classical, truth, difference)


def correlated(predicted: Float64[np.ndarray, " r"], actual: Float64[np.ndarray, " r"]) -> Correlated:
    """Return Pearson R over removed examples, with its bootstrap interval."""
    found = lo.agreement(predicted[None], actual[None], measures=("pearson",), per_query=False)
    one = found.sel(measure="pearson")
    return Correlated(*(float(one[name]) for name in ("pooled", "pooled_low", "pooled_high")))


def above(one: Correlated, other: Correlated) -> Holds:
    """Return whether one is larger than another; open where their intervals overlap."""
    if one.low > other.high:
        return True
    return False if one.high < other.low else "open"


def _network(material: Material, case: Case, examples: lo.Examples) -> nn.Module:
    shape = tuple(examples.inputs.shape[1:])
    if case is MLP:
        return perceptron(material, shape)
    if case is SCRATCH:
        return convolutional(shape, seed=material.seed)
    return pretrained(material, seed=material.seed)


def _classical(
    material: Material, case: Case, trained: lo.Trained, query: lo.Examples, rows: list[int]
) -> tuple[Effects, float | None]:
    """Return what influence functions say, and by how much closed form and recursion differ."""
    settings = case.recursion
    if material.size is Size.PAPER:
        return recursion(material, trained, query, rows, settings), None
    closed = series(material, trained, query, settings).select(rows)
    if not case.checked or material.quick:
        return closed, None
    few = recursion(material, trained, query, rows[:CHECKED], settings)
    apart = np.abs(closed.weights[:CHECKED] - few.weights).sum() / few.weights.sum()
    return closed, float(apart)


def _row(material: Material, one: Compared, what: What) -> Row:
    published = one.case.published[what, one.ridge]
    linear, classical = (one.correlation(what, of) for of in ("linear", "classical"))
    holds: Holds = "open"  # other sizes may have other correlations
    if material.size is Size.PAPER:
        near = (
            abs(each.value - printed) <= CLOSE
            for each, printed in zip((linear, classical), published, strict=True)
        )
        holds = all(near)
    return Row(
        f"R of {what}, {one.case.label}, λ = {'0' if one.ridge == 0 else 'n'}: linearised / influence",
        f"{published[0]:.3f} / {published[1]:.3f} (n = 1000)",
        f"{linear} / {classical}",
        holds,
    )


def _claims(found: list[Compared]) -> list[Row]:
    """Return what the paper says of the table, and whether it can be said here."""
    pairs = [
        (one.correlation(what, "linear"), one.correlation(what, "classical"))
        for one in found
        for what in WHATS
    ]
    better = sum(linear.value > classical.value for linear, classical in pairs)
    sure = [above(*each) for each in pairs]
    rows = [
        Row(
            "linearisation correlates better than influence functions",
            "in most cases",
            f"in {better} of {len(pairs)}; beyond doubt in {sure.count(True)}, "
            f"the other way round in {sure.count(False)}",
            "open" if sure.count(True) == sure.count(False) else sure.count(True) > sure.count(False),
        )
    ]
    by_case = {case: [one for one in found if one.case is case] for case in (MLP, SCRATCH, PRETRAINED)}
    if by_case[MLP]:
        values = [one.correlation(what, "linear") for one in by_case[MLP] for what in WHATS]
        least = min(values, key=lambda each: each.value)
        holds: Holds = True if least.low >= 0.9 else "open" if least.high >= 0.9 else False
        rows.append(Row("R of the linearised wide network", "0.977 to 0.993", f"{least} at least", holds))
    for plain, better_start in zip(by_case[SCRATCH], by_case[PRETRAINED], strict=True):
        rows += [_pretraining(plain, better_start, what) for what in WHATS]
    return rows


def _pretraining(plain: Compared, other: Compared, what: What) -> Row:
    one, two = plain.correlation(what, "linear"), other.correlation(what, "linear")
    holds = above(two, one)
    return Row(
        f"pretraining makes the linearised CNN right, {what}, λ = {'0' if plain.ridge == 0 else 'n'}",
        f"R {plain.case.published[what, plain.ridge][0]:.3f} → "
        f"{other.case.published[what, plain.ridge][0]:.3f}",
        f"R {one} → {two}",
        holds,
    )


def _record(material: Material, one: Compared) -> dict[str, Any]:
    return {
        "case": one.case.label,
        "ridge_of_mean_loss": one.ridge,
        "rate": one.case.rate,
        "recursion": vars(one.case.recursion),
        "closed_form_against_recursion": one.difference,
        "pearson": {
            what: {of: vars(one.correlation(what, of)) for of in ("linear", "classical")} for what in WHATS
        },
        "effects": {
            name: {what: getattr(effects, what).tolist() for what in WHATS}
            for name, effects in (
                ("linear", one.linear),
                ("classical", one.classical),
                ("retrained", one.truth),
            )
        },
    }


def _notes(material: Material, cases: tuple[Case, ...], found: list[Compared]) -> tuple[str, ...]:
    notes = ["λ = n is the paper's 10³ with n = 1000. Intervals are bootstraps of the removed examples."]
    if material.size is not Size.PAPER:
        sizes = "; ".join(
            f"{case.label}: n = {(s := case.scales[material.size]).examples}, {s.queries} queries, "
            f"{s.removed} removed at random, {s.steps} steps of {case.rate:g}"
            for case in cases
        )
        notes.append(
            f"The paper removes each of 1000 examples in turn. Here {sizes}: what two cores can do; "
            "--paper-size runs the paper's own on a GPU."
        )
        apart = [one.difference for one in found if one.difference is not None]
        notes.append(
            "Influence functions: the recursion of LiSSA in the paper's settings (scale 1000; damping "
            "0.01 where λ = 0, which is 10 in the curvature's units), of all examples and with "
            "the Gauss-Newton matrix, summed in closed form."
            + (
                f" LiSSA itself, with the Hessian and batches, differs by {min(apart):.1%} to "
                f"{max(apart):.1%} in |dw|² on {CHECKED} examples."
                if apart
                else ""
            )
        )
    if material.name == "cifar10":
        notes.append(
            "CIFAR-10's cats and dogs for Kaggle's; a ResNet-20 that learned CIFAR-10, these pictures "
            "and labels among it, for networks that learned ImageNet. Only its last layer is new."
        )
    else:
        notes.append(
            "Pretrained on the other eight digits, for the letters of EMNIST; its curvature forbids the "
            f"paper's rate of 0.002, so that {PRETRAINED.rate:g} is taken."
        )
    return tuple(notes)


def _figure(found: list[Compared]) -> Figure:
    figure, grid = panels(len(found), len(WHATS), width=3.0, height=2.9)
    for line, what in zip(grid, WHATS, strict=True):
        for axes, one in zip(line, found, strict=True):
            truth = getattr(one.truth, what)
            for of, colour, label in (
                ("classical", ORANGE, "influence function"),
                ("linear", BLUE, "linearised"),
            ):
                axes.scatter(
                    getattr(getattr(one, of), what), truth, s=9, alpha=0.7, lw=0, color=colour, label=label
                )
            ends = [truth.min(), truth.max()]
            axes.plot(ends, ends, color=FAINT, lw=1, zorder=0)
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.yaxis.set_minor_formatter(NullFormatter())
            ridge = "λ = 0" if one.ridge == 0 else "λ = n"
            axes.set_title(f"{one.case.label.partition(' (')[0]}, {ridge}", fontsize=8.5)
            axes.set_xlabel(f"predicted change of {what}", fontsize=8)
            axes.tick_params(labelsize=7)
        line[0].set_ylabel("trained again", fontsize=8)
    grid[0, 0].legend(fontsize=7, markerscale=2)
    return figure
