"""Figures 2b and 8: do wrong labels carry more information than right ones?

A tenth of the training labels is replaced by another one, uniformly; queries stay clean.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float64
from matplotlib.figure import Figure
from torch import nn

import leftout as lo
from leftout.data import flip_labels
from leftout_papers.drawing import BLUE, FAINT, panels
from leftout_papers.exhibit import Outcome, Row
from leftout_papers.material import Material, Size
from leftout_papers.smooth_information.networks import perceptron, pretrained_network
from leftout_papers.smooth_information.scores import (
    DIGITS,
    MLP,
    RESNET,
    Schedule,
    auc,
    draw_groups,
    flag_rows,
    more_often,
    more_on_average,
    ratio,
    score_network,
)
from leftout_papers.smooth_information.task import FIVE, OTHER_FIVE, PAIRS, THOUSAND, Counts, halves, pictures

FLIPPED = 0.1
FEW: Counts = {Size.QUICK: (50, 40), Size.USUAL: (400, 400), Size.PAPER: (1000, 1000)}
"""With five outputs, the kernel has five rows for each example."""


def binary(material: Material) -> Outcome:
    """Run figure 8: 4 and 9 with one wide layer, or cats and dogs with a pretrained network."""
    train, query = pictures(material, THOUSAND[material.size], PAIRS[material.name])
    planted = flip_labels(train, FLIPPED, generator=material.generator(2))
    if material.name == "cifar10":
        network, schedule = pretrained_network(material, seed=material.seed), RESNET
    else:
        network, schedule = perceptron(material, train.inputs.shape[1:]), MLP
    wrong = flag_rows(planted.rows.numpy(), len(train))
    return _outcome(
        material,
        network,
        schedule,
        halves(planted.examples),
        halves(query),
        wrong,
        "MNIST 4 v 9, MLP" if material.name != "cifar10" else "Kaggle cats v dogs, ResNet-18",
    )


def classes(material: Material) -> Outcome:
    """Run figure 2b: five classes, pretrained network."""
    train, query = pictures(material, FEW[material.size], FIVE[material.name])
    planted = flip_labels(train, FLIPPED, generator=material.generator(2))
    network = pretrained_network(material, outputs=5, seed=material.seed, without=OTHER_FIVE)
    schedule = replace(RESNET if material.name == "cifar10" else DIGITS, steps=2000)
    return _outcome(
        material,
        network,
        schedule,
        planted.examples,
        query,
        flag_rows(planted.rows.numpy(), len(train)),
        "iCassava, ResNet-18",
    )


def _outcome(
    material: Material,
    network: nn.Module,
    schedule: Schedule,
    train: lo.Examples,
    query: lo.Examples,
    wrong: Bool[np.ndarray, " n"],
    published: str,
) -> Outcome:
    scores, right = score_network(material, network, train, query, schedule)
    area, times = auc(scores, wrong), ratio(scores, wrong)
    order = np.argsort(-scores, kind="stable")
    precision = float(wrong[order[: wrong.sum()]].mean())
    rows = (
        Row(
            "information of wrong labels against right ones, ratio of means",
            f"much more informative on average ({published}; drawn only)",
            f"{times:.1f}",
            more_on_average(scores, wrong),
        ),
        Row(
            "chance that a wrong label carries more than a right one (AUC)",
            "can be used to detect (no number)",
            f"{area:.3f}",
            more_often(scores, wrong),
        ),
        Row(
            f"wrong labels among the {wrong.sum()} most informative",
            "not printed",
            f"{precision:.0%} ({wrong.mean():.0%} by chance)",
        ),
        Row("accuracy of the linearised network on queries", "not printed", f"{right:.1%}"),
    )
    record = {
        "examples": len(train),
        "queries": len(query),
        "flipped": int(wrong.sum()),
        "rate": schedule.rate,
        "steps": schedule.steps,
        "auc": area,
        "ratio_of_means": times,
        "precision": precision,
        "query_accuracy": right,
        "information": scores.tolist(),
        "wrong": np.flatnonzero(wrong).tolist(),
    }
    return Outcome(rows, record, _figure(scores, wrong, area), _notes(material, published, train))


def _figure(scores: Float64[np.ndarray, " n"], wrong: Bool[np.ndarray, " n"], area: float) -> Figure:
    figure, grid = panels(2, width=4.6, height=3.4)
    histogram, curve = grid[0]
    draw_groups(histogram, {"right label": scores[~wrong], "wrong label": scores[wrong]})
    histogram.set_title("Information by label")
    cumulative = np.cumsum(wrong[np.argsort(-scores, kind="stable")])
    looked = np.arange(1, len(scores) + 1) / len(scores)
    curve.plot(looked, cumulative / wrong.sum(), color=BLUE)
    curve.plot([0, 1], [0, 1], color=FAINT, lw=1)
    curve.set_xlabel("share looked at, most informative first")
    curve.set_ylabel("share of wrong labels found")
    curve.set_title(f"Wrong labels found (AUC {area:.3f})")
    return figure


def _notes(material: Material, published: str, train: lo.Examples) -> tuple[str, ...]:
    if published.startswith("iCassava"):
        stand_in = (
            "five classes of CIFAR-10 and a ResNet-20 that learned CIFAR-10"
            if material.name == "cifar10"
            else "digits 0 to 4 and four convolutional layers that learned 5 to 9"
        )
        return (f"For iCassava and a ResNet-18 of ImageNet: {stand_in}. n = {len(train)}.",)
    if material.name == "cifar10":
        return (
            "CIFAR-10's cats and dogs for Kaggle's; a ResNet-20 that learned CIFAR-10, right labels of "
            "these pictures among it, for one that learned ImageNet.",
        )
    return ()
