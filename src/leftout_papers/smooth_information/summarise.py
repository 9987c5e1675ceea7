"""Figures 2c and 7b: how well does a network do without the least, or the most, informative examples?

Orders of removal by the linearised network: least informative first, most informative first, least
informative scored again among those that remain, and random. The linearised network is fitted without the
first of each order in closed form; the network itself is trained again at the same shares. Figure 7b trains
another network, of two layers, on what the one-layer network chose.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

import leftout as lo
from leftout_papers.drawing import BLUE, GREEN, ORANGE, RED, panels
from leftout_papers.exhibit import Outcome, Row
from leftout_papers.material import Material, Size
from leftout_papers.smooth_information.networks import perceptron
from leftout_papers.smooth_information.scores import Schedule, linearised_fit
from leftout_papers.smooth_information.task import Counts, accuracy, pair

COUNTS: Counts = {Size.QUICK: (40, 40), Size.USUAL: (300, 1000), Size.PAPER: (1000, 1000)}
STEPS = {Size.QUICK: 20, Size.USUAL: 2000, Size.PAPER: 2000}
RATE = 1e-3
SHARES = {
    Size.QUICK: (0.4, 0.9, 0.95),
    Size.USUAL: (0.2, 0.4, 0.6, 0.8, 0.9, 0.95),
    Size.PAPER: tuple(0.95 * j / 20 for j in range(1, 21)),
}
RANDOM = {Size.QUICK: 1, Size.USUAL: 3, Size.PAPER: 5}
"""Random orders, of which the mean is shown."""

LITTLE = 0.03
"""The largest loss of accuracy that counts as a little effect."""

NAMES: dict[str, str] = {
    "least": "bottom",
    "most": "top",
    "iterative": "bottom, iterative",
    "random": "random",
}
COLOURS = {"least": BLUE, "most": RED, "iterative": GREEN, "random": ORANGE}


@dataclass(frozen=True)
class Curve:
    """Accuracy on queries by share removed: of the linearised network, and trained again.

    Attributes:
        predicted, retrained: one entry for each share, the first of which is 0.
    """

    shares: tuple[float, ...]
    predicted: tuple[float, ...]
    retrained: tuple[float, ...]

    def at(self, share: float) -> float:
        """Return the retrained accuracy at the share nearest to this one."""
        return self.retrained[int(np.argmin(np.abs(np.array(self.shares) - share)))]


def binary(material: Material) -> Outcome:
    """Run figure 2c: the network that scores is trained."""
    return _outcome(material, hidden=1)


def binary_two_layers(material: Material) -> Outcome:
    """Run figure 7b: a two-layer network is trained on the examples that a one-layer network chose."""
    return _outcome(material, hidden=2)


def _outcome(material: Material, *, hidden: int) -> Outcome:
    examples, query = pair(material, COUNTS)
    schedule = Schedule(RATE, STEPS[material.size])
    shape = tuple(examples.inputs.shape[1:])
    fitted = linearised_fit(material, perceptron(material, shape), examples, schedule)
    orders = _orders(material, fitted, query, schedule)
    network = perceptron(material, shape, hidden=hidden)
    right = _retrained_accuracies(material, network, examples, query, schedule, orders)
    curves: dict[str, Curve] = {}
    for kind in NAMES:
        chosen = [i for i, order in enumerate(orders) if order.kind == kind]
        predicted = np.mean([orders[i].predicted for i in chosen], axis=0)
        retrained = np.mean([right[i] for i in chosen], axis=0)
        shares = tuple(count / len(examples) for count in orders[chosen[0]].counts)
        curves[kind] = Curve(shares, tuple(predicted.tolist()), tuple(retrained.tolist()))
    record: dict[str, Any] = {
        "examples": len(examples),
        "queries": len(query),
        "rate": schedule.rate,
        "steps": schedule.steps,
        "layers_trained": hidden,
        "curves": {NAMES[kind]: vars(curve) for kind, curve in curves.items()},
    }
    rows = _rows(curves, len(query), hidden)
    return Outcome(rows, record, _figure(curves, hidden), _notes(material, len(examples)))


@dataclass(frozen=True)
class Removal:
    """An order of removal.

    Attributes:
        rows: of training examples, first to go first.
        counts: how many go at each share, beginning with 0.
        predicted: accuracy of the linearised network at each count.
    """

    kind: str
    rows: tuple[int, ...]
    counts: tuple[int, ...]
    predicted: tuple[float, ...]


def _orders(material: Material, fitted: lo.Fitted, query: lo.Examples, schedule: Schedule) -> list[Removal]:
    """Return orders of removal with predicted accuracy: one of each kind, random ones last."""
    n = len(fitted)
    counts = (0, *sorted({max(1, round(share * n)) for share in SHARES[material.size]}))
    scores = lo.information(fitted, query, at=schedule.steps)["function"].values
    least = np.argsort(scores, kind="stable").tolist()
    last = SHARES[material.size][-1:]
    pruned = lo.prune(fitted, query, at=schedule.steps, order="iterative", shares=last)
    orders = [("least", least), ("most", least[::-1]), ("iterative", list(pruned.order))]
    for k in range(RANDOM[material.size]):
        orders.append(("random", torch.randperm(n, generator=material.generator(20 + k)).tolist()))
    return [
        Removal(
            kind, tuple(rows), counts, tuple(_predicted_accuracies(fitted, query, rows, counts, schedule))
        )
        for kind, rows in orders
    ]


def _predicted_accuracies(
    fitted: lo.Fitted, query: lo.Examples, rows: list[int], counts: Sequence[int], schedule: Schedule
) -> Iterator[float]:
    """Yield the accuracy of the linearised network without the first `count` rows, for each count."""
    for count in counts:
        # Fitted again: with so many rows removed, the exact effect of their removal is no cheaper.
        rest = fitted.train.select(sorted(rows[count:]))
        model = lo.fit(fitted.kernel, rest, rule=fitted.rule, device=fitted.device, memory=fitted.memory)
        yield accuracy(query, model.predict(query, schedule.steps))


def _retrained_accuracies(
    material: Material,
    network: nn.Module,
    examples: lo.Examples,
    query: lo.Examples,
    schedule: Schedule,
    orders: list[Removal],
) -> list[list[float]]:
    """Return the accuracy of the network trained without the first rows of each order, for each count."""
    trained = lo.train(
        network,
        examples,
        rule=schedule.rule,
        steps=schedule.steps,
        tolerance=None,
        device=material.device,
        memory=material.memory,
    )
    groups = [list(order.rows[:count]) for order in orders for count in order.counts[1:]]
    folder = None
    if material.folder is not None:
        folder = material.folder / f"pruned-{material.name}-{len(examples)}-{trained.record['initial']}"
    change = lo.retrain(
        trained, query, groups, of="prediction", out=folder, jobs=1 if material.quick else material.jobs
    )
    everyone = trained.predict(query).cpu()
    right = [
        accuracy(query, everyone - everyone.new_tensor(change.values[:, place]))
        for place in range(len(groups))
    ]
    per_order = len(orders[0].counts) - 1
    full = accuracy(query, everyone)
    return [[full, *right[i * per_order : (i + 1) * per_order]] for i in range(len(orders))]


def _rows(curves: dict[str, Curve], queries: int, hidden: int) -> tuple[Row, ...]:
    full = curves["least"].retrained[0]
    # Two standard errors of a difference of two shares, as if queries were independent.
    noise = 2 * float(np.sqrt(2 * full * (1 - full) / queries))

    def comparison_row(quantity: str, published: str, larger: float, smaller: float, detail: str) -> Row:
        sure = abs(larger - smaller) > noise
        return Row(quantity, published, f"{detail}, ±{noise:.1%}", bool(larger > smaller) if sure else "open")

    least, most = curves["least"], curves["most"]
    again, chance = curves["iterative"], curves["random"]
    loss = full - least.at(0.4)
    pairs = [
        abs(predicted - trained)
        for curve in curves.values()
        for predicted, trained in zip(curve.predicted, curve.retrained, strict=True)
    ]
    return (
        Row(
            "accuracy lost without the 40 % least informative",
            "little effect",
            f"{loss:+.1%} of {full:.1%}, ±{noise:.1%}",
            "open" if noise > LITTLE else bool(loss <= LITTLE),
        ),
        comparison_row(
            "without the most informative 40 %: worse than without the least",
            "the most impact",
            least.at(0.4),
            most.at(0.4),
            f"{most.at(0.4):.1%} against {least.at(0.4):.1%}; random {chance.at(0.4):.1%}",
        ),
        comparison_row(
            "asked again after each round, 90 % removed",
            "greatly better than once",
            again.at(0.9),
            least.at(0.9),
            f"{again.at(0.9):.1%} against {least.at(0.9):.1%}",
        ),
        comparison_row(
            "95 % removed: without the least informative worse than without the most",
            "worse",
            most.at(0.95),
            least.at(0.95),
            f"{least.at(0.95):.1%} against {most.at(0.95):.1%}",
        ),
        Row(
            "accuracy predicted by the linearised network against trained again",
            "not printed",
            f"apart by {np.mean(pairs):.1%} on average, {max(pairs):.1%} at most"
            + ("" if hidden == 1 else " (the trained network is another one)"),
        ),
    )


def _notes(material: Material, n: int) -> tuple[str, ...]:
    if material.size is Size.PAPER:
        return ()
    return (
        f"The paper has n = 1000, 21 shares and 5 random orders; here n = {n}, "
        f"{len(SHARES[material.size])} shares and {RANDOM[material.size]}. Rounds take 5 % of what "
        "remains, as the paper's program does. Accuracy is that on the queries, which also score."
        + (
            ""
            if material.name != "cifar10"
            else " The paper has 4 and 9 of MNIST; one wide layer tells cats from dogs badly."
        ),
    )


def _figure(curves: dict[str, Curve], hidden: int) -> Figure:
    figure, grid = panels(1, width=6.0, height=3.9)
    axes = grid[0, 0]
    for kind, curve in curves.items():
        colour = COLOURS[kind]
        axes.plot(curve.shares, curve.retrained, "o-", ms=3.5, color=colour, label=NAMES[kind])
        axes.plot(curve.shares, curve.predicted, ":", color=colour, lw=1)
    axes.set_xlabel("share of training examples removed")
    axes.set_ylabel("accuracy on queries")
    trained = "network" if hidden == 1 else "two-layer network"
    axes.set_title(f"{trained.capitalize()} trained without them (dotted: linearised, one layer)")
    axes.legend(fontsize=8)
    return figure
