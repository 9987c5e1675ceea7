"""Table 1: effects by the linearised network and by influence functions, against training again.

An example is left out of full-batch gradient descent from the same initial weights: |w − w_without|², and
Σ over queries of (f − f_without)², of the linearised network and of the classical influence function,
are correlated with those of networks trained again. Intervals are bootstraps of the removed examples.
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
from leftout_papers.smooth_information.networks import convolutional, perceptron, pretrained_network
from leftout_papers.smooth_information.retrained import Effects, retrained_effects
from leftout_papers.smooth_information.scores import Schedule, linearised_fit
from leftout_papers.smooth_information.task import pair

Quantity = Literal["weights", "predictions"]
QUANTITIES: tuple[Quantity, ...] = ("weights", "predictions")
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
        published: by quantity and ridge, of linearisation and influence functions.
        checked: whether the recursion itself is run on a few examples.
    """

    label: str
    rate: float
    scales: dict[Size, Scale]
    recursion: Recursion
    published: dict[tuple[Quantity, float], tuple[float, float]]
    checked: bool = False


QUICK = Scale(10, 8, 3, 4)
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
class Correlation:
    """Pearson R with its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Comparison:
    """A case at one ridge: effects of the same removed examples, computed in three ways.

    Attributes:
        difference: of closed form and recursion in |dw|², relative; None where it was not computed.
    """

    case: Case
    ridge: float
    linear: Effects
    classical: Effects
    truth: Effects
    difference: float | None

    def correlation(self, quantity: Quantity, of: Literal["linear", "classical"]) -> Correlation:
        """Return how well predicted effects correlate with those of training again."""
        predicted: Effects = getattr(self, of)
        return correlation_with_interval(getattr(predicted, quantity), getattr(self.truth, quantity))


def binary(material: Material) -> Outcome:
    """Run table 1."""
    cases = (RESNET,) if material.name == "cifar10" else (MLP, SCRATCH, PRETRAINED)
    comparisons = [compare_effects(material, case, ridge) for case in cases for ridge in RIDGES]
    rows = [_row(material, comparison, quantity) for quantity in QUANTITIES for comparison in comparisons]
    rows += _claims(comparisons)
    record = {
        "cases": [_record(material, comparison) for comparison in comparisons],
        "sizes": {case.label: vars(case.scales[material.size]) for case in cases},
    }
    return Outcome(tuple(rows), record, _figure(comparisons), _notes(material, cases, comparisons))


def compare_effects(material: Material, case: Case, ridge: float) -> Comparison:
    """Return the effects of leaving examples out, predicted and actual."""
    scale = case.scales[material.size]
    counts = dict.fromkeys(Size, (scale.examples, scale.queries))
    examples, query = pair(material, counts)
    schedule = Schedule(case.rate, scale.steps, ridge)
    network = _network(material, case, examples)
    rows = np.sort(np.random.default_rng(material.seed).permutation(len(examples))[: scale.removed]).tolist()
    information = lo.information(
        linearised_fit(material, network, examples, schedule), query, at=scale.steps
    ).isel(train=rows)
    linear = Effects(2 * information["weights"].values, 2 * len(query) * information["function"].values)
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
    truth = retrained_effects(material, trained, query, rows)
    return Comparison(case, ridge, linear, classical, truth, difference)


def correlation_with_interval(
    predicted: Float64[np.ndarray, " r"], actual: Float64[np.ndarray, " r"]
) -> Correlation:
    """Return Pearson R over removed examples, with its bootstrap interval."""
    agreement = lo.agreement(predicted[None], actual[None], measures=("pearson",), per_query=False)
    pearson = agreement.sel(measure="pearson")
    return Correlation(*(float(pearson[name]) for name in ("pooled", "pooled_low", "pooled_high")))


def above(first: Correlation, second: Correlation) -> Holds:
    """Return whether the first is larger than the second; open where their intervals overlap."""
    if first.low > second.high:
        return True
    return False if first.high < second.low else "open"


def _network(material: Material, case: Case, examples: lo.Examples) -> nn.Module:
    shape = tuple(examples.inputs.shape[1:])
    if case is MLP:
        return perceptron(material, shape)
    if case is SCRATCH:
        return convolutional(shape, seed=material.seed)
    return pretrained_network(material, seed=material.seed)


def _classical(
    material: Material, case: Case, trained: lo.Trained, query: lo.Examples, rows: list[int]
) -> tuple[Effects, float | None]:
    """Return effects by influence functions, and by how much closed form and recursion differ."""
    settings = case.recursion
    if material.size is Size.PAPER:
        return recursion(material, trained, query, rows, settings), None
    closed = series(material, trained, query, settings).select(rows)
    if not case.checked or material.quick:
        return closed, None
    checked = recursion(material, trained, query, rows[:CHECKED], settings)
    apart = np.abs(closed.weights[:CHECKED] - checked.weights).sum() / checked.weights.sum()
    return closed, float(apart)


def _row(material: Material, comparison: Comparison, quantity: Quantity) -> Row:
    published = comparison.case.published[quantity, comparison.ridge]
    linear, classical = (comparison.correlation(quantity, of) for of in ("linear", "classical"))
    holds: Holds = "open"  # other sizes may have other correlations
    if material.size is Size.PAPER:
        near = (
            abs(correlation.value - printed) <= CLOSE
            for correlation, printed in zip((linear, classical), published, strict=True)
        )
        holds = all(near)
    return Row(
        f"R of {quantity}, {comparison.case.label}, λ = {'0' if comparison.ridge == 0 else 'n'}: "
        "linearised / influence",
        f"{published[0]:.3f} / {published[1]:.3f} (n = 1000)",
        f"{linear} / {classical}",
        holds,
    )


def _claims(comparisons: list[Comparison]) -> list[Row]:
    """Return the paper's statements on the table, and whether they hold here."""
    pairs = [
        (comparison.correlation(quantity, "linear"), comparison.correlation(quantity, "classical"))
        for comparison in comparisons
        for quantity in QUANTITIES
    ]
    better = sum(linear.value > classical.value for linear, classical in pairs)
    sure = [above(*correlations) for correlations in pairs]
    rows = [
        Row(
            "linearisation correlates better than influence functions",
            "in most cases",
            f"in {better} of {len(pairs)}; beyond doubt in {sure.count(True)}, "
            f"the other way round in {sure.count(False)}",
            "open" if sure.count(True) == sure.count(False) else sure.count(True) > sure.count(False),
        )
    ]
    by_case = {
        case: [comparison for comparison in comparisons if comparison.case is case]
        for case in (MLP, SCRATCH, PRETRAINED)
    }
    if by_case[MLP]:
        values = [
            comparison.correlation(quantity, "linear")
            for comparison in by_case[MLP]
            for quantity in QUANTITIES
        ]
        least = min(values, key=lambda correlation: correlation.value)
        holds: Holds = True if least.low >= 0.9 else "open" if least.high >= 0.9 else False
        rows.append(Row("R of the linearised wide network", "0.977 to 0.993", f"{least} at least", holds))
    for plain, better_start in zip(by_case[SCRATCH], by_case[PRETRAINED], strict=True):
        rows += [_pretraining_row(plain, better_start, quantity) for quantity in QUANTITIES]
    return rows


def _pretraining_row(plain: Comparison, pretrained: Comparison, quantity: Quantity) -> Row:
    before, after = plain.correlation(quantity, "linear"), pretrained.correlation(quantity, "linear")
    holds = above(after, before)
    return Row(
        f"pretraining makes the linearised CNN right, {quantity}, λ = {'0' if plain.ridge == 0 else 'n'}",
        f"R {plain.case.published[quantity, plain.ridge][0]:.3f} → "
        f"{pretrained.case.published[quantity, plain.ridge][0]:.3f}",
        f"R {before} → {after}",
        holds,
    )


def _record(material: Material, comparison: Comparison) -> dict[str, Any]:
    return {
        "case": comparison.case.label,
        "ridge_of_mean_loss": comparison.ridge,
        "rate": comparison.case.rate,
        "recursion": vars(comparison.case.recursion),
        "closed_form_against_recursion": comparison.difference,
        "pearson": {
            quantity: {of: vars(comparison.correlation(quantity, of)) for of in ("linear", "classical")}
            for quantity in QUANTITIES
        },
        "effects": {
            name: {quantity: getattr(effects, quantity).tolist() for quantity in QUANTITIES}
            for name, effects in (
                ("linear", comparison.linear),
                ("classical", comparison.classical),
                ("retrained", comparison.truth),
            )
        },
    }


def _notes(material: Material, cases: tuple[Case, ...], comparisons: list[Comparison]) -> tuple[str, ...]:
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
        apart = [comparison.difference for comparison in comparisons if comparison.difference is not None]
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


def _figure(comparisons: list[Comparison]) -> Figure:
    figure, grid = panels(len(comparisons), len(QUANTITIES), width=3.0, height=2.9)
    for line, quantity in zip(grid, QUANTITIES, strict=True):
        for axes, comparison in zip(line, comparisons, strict=True):
            truth = getattr(comparison.truth, quantity)
            for of, colour, label in (
                ("classical", ORANGE, "influence function"),
                ("linear", BLUE, "linearised"),
            ):
                axes.scatter(
                    getattr(getattr(comparison, of), quantity),
                    truth,
                    s=9,
                    alpha=0.7,
                    lw=0,
                    color=colour,
                    label=label,
                )
            ends = [truth.min(), truth.max()]
            axes.plot(ends, ends, color=FAINT, lw=1, zorder=0)
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.yaxis.set_minor_formatter(NullFormatter())
            ridge = "λ = 0" if comparison.ridge == 0 else "λ = n"
            axes.set_title(f"{comparison.case.label.partition(' (')[0]}, {ridge}", fontsize=8.5)
            axes.set_xlabel(f"predicted change of {quantity}", fontsize=8)
            axes.tick_params(labelsize=7)
        line[0].set_ylabel("trained again", fontsize=8)
    grid[0, 0].legend(fontsize=7, markerscale=2)
    return figure
