"""Figures 1 and 4: typical examples are the least informative, hard and rare ones the most."""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float64, Int64
from matplotlib.figure import Figure
from torch import nn

import leftout as lo
from leftout.data import thin_class
from leftout_papers.drawing import BLUE, INK, panels, show_image
from leftout_papers.exhibit import Outcome, Row
from leftout_papers.material import Material
from leftout_papers.smooth_information.mislabelled import FEW
from leftout_papers.smooth_information.networks import perceptron, pretrained_network
from leftout_papers.smooth_information.scores import (
    DIGITS,
    MLP,
    RESNET,
    Schedule,
    auc,
    edges,
    flag_rows,
    linearised_fit,
    more_often,
    more_on_average,
    ratio,
)
from leftout_papers.smooth_information.task import FIVE, OTHER_FIVE, PAIRS, THOUSAND, pair, pictures

SHOWN = 10
RARE = 0.25
"""Share of one class that is kept, to make it rare like some classes of the paper."""


def binary(material: Material) -> Outcome:
    """Run figure 4: two classes."""
    train, query = pair(material, THOUSAND)
    if material.name == "cifar10":
        network, schedule = pretrained_network(material, seed=material.seed), RESNET
    else:
        network, schedule = perceptron(material, train.inputs.shape[1:]), MLP
    fitted, scores = _fit_and_score(material, network, train, query, schedule)
    names = PAIRS[material.name]
    assert train.labels is not None
    second = train.labels.numpy() == 1
    share = ratio(scores, second)
    row = Row(
        f"mean information of {names[1]} over that of {names[0]}",
        "similar on average",
        f"{share:.2f}",
        bool(0.5 < share < 2),
    )
    note = (
        ("CIFAR-10's cats and dogs for Kaggle's, a ResNet-20 of CIFAR-10 for one of ImageNet.",)
        if material.name == "cifar10"
        else ()
    )
    return _outcome(fitted, query, schedule, scores, names, (row,), note)


def classes(material: Material) -> Outcome:
    """Run figure 1: five classes, one of them rare."""
    names = FIVE[material.name]
    train, query = pictures(material, FEW[material.size], names)
    assert train.labels is not None
    count = max(2, round(RARE * int((train.labels == 0).sum())))
    train = thin_class(train, names[0], count, generator=material.generator(1)).examples
    network = pretrained_network(material, outputs=len(names), seed=material.seed, without=OTHER_FIVE)
    schedule = replace(RESNET if material.name == "cifar10" else DIGITS, steps=2000)
    fitted, scores = _fit_and_score(material, network, train, query, schedule)
    assert train.labels is not None
    rare = train.labels.numpy() == 0
    times, area = ratio(scores, rare), auc(scores, rare)
    row = Row(
        f"information of the rare class ({names[0]}: {rare.sum()} of {len(train)}) against the others",
        "rare classes are more informative on average",
        f"ratio of means {times:.1f}, AUC {area:.3f}",
        more_on_average(scores, rare),
    )
    stand_in = (
        "five classes of CIFAR-10 and a ResNet-20 that learned CIFAR-10"
        if material.name == "cifar10"
        else "digits 0 to 4 and four convolutional layers that learned 5 to 9"
    )
    note = (
        f"For iCassava and a ResNet-18 of ImageNet: {stand_in}. Of class {names[0]} only {RARE:.0%} are "
        "kept, for the rare classes there.",
    )
    return _outcome(fitted, query, schedule, scores, names, (row,), note)


def _fit_and_score(
    material: Material, network: nn.Module, train: lo.Examples, query: lo.Examples, schedule: Schedule
) -> tuple[lo.Fitted, Float64[np.ndarray, " n"]]:
    fitted = linearised_fit(material, network, train, schedule)
    return fitted, lo.information(fitted, query, at=schedule.steps)["function"].values


def _outcome(
    fitted: lo.Fitted,
    query: lo.Examples,
    schedule: Schedule,
    scores: Float64[np.ndarray, " n"],
    names: tuple[str, ...],
    more: tuple[Row, ...],
    notes: tuple[str, ...],
) -> Outcome:
    train = fitted.train
    error, wrong = _left_out_errors(fitted, schedule)
    order = np.argsort(scores, kind="stable")
    least, most = order[:SHOWN], order[::-1][:SHOWN]
    small = float((scores < scores.mean()).mean())
    # Two standard errors of a share of a half.
    doubt = float(np.sqrt(1 / len(scores)))
    rows = (
        Row(
            f"left-out error |y − f|² of the {SHOWN} most informative",
            "challenging and atypical",
            _error_text(error, wrong, most),
            more_often(error, flag_rows(most, len(scores))),
        ),
        Row(
            f"left-out error of the {SHOWN} least informative",
            "typical and easy",
            _error_text(error, wrong, least),
            more_often(-error, flag_rows(least, len(scores))),
        ),
        Row(
            "examples with less information than the mean",
            "most have little",
            f"{small:.0%}",
            "open" if abs(small - 0.5) < doubt else small > 0.5,
        ),
        *more,
    )
    record = {
        "examples": len(train),
        "queries": len(query),
        "rate": schedule.rate,
        "steps": schedule.steps,
        "information": scores.tolist(),
        "least": [train.ids[i] for i in least],
        "most": [train.ids[i] for i in most],
        "left_out_error": error.tolist(),
        "misclassified_without_itself": float(wrong.mean()),
        "misclassified_without_itself_of_most": float(wrong[most].mean()),
    }
    return Outcome(rows, record, _figure(train, scores, least, most, names), notes)


def _left_out_errors(
    fitted: lo.Fitted, schedule: Schedule
) -> tuple[Float64[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Return the left-out error of every training example, and whether the prediction is another class."""
    train = fitted.train
    assert train.labels is not None
    predictions = lo.out_of_sample(fitted, at=schedule.steps).cpu()
    error = (train.targets - predictions).square().sum(1)
    return error.numpy(), (train.encoding.decode(predictions) != train.labels).numpy()


def _error_text(
    error: Float64[np.ndarray, " n"], wrong: Bool[np.ndarray, " n"], rows: Int64[np.ndarray, " s"]
) -> str:
    return (
        f"median {np.median(error[rows]):.2g}, {wrong[rows].mean():.0%} misclassified; of all "
        f"{np.median(error):.2g}, {wrong.mean():.1%}"
    )


def _figure(
    train: lo.Examples,
    scores: Float64[np.ndarray, " n"],
    least: Int64[np.ndarray, " s"],
    most: Int64[np.ndarray, " s"],
    names: tuple[str, ...],
) -> Figure:
    assert train.images is not None
    assert train.labels is not None
    figure, _ = panels(1, width=13.0, height=3.3)
    figure.clear()
    grid = figure.add_gridspec(2, SHOWN + 4)
    axes = figure.add_subplot(grid[:, :4])
    axes.hist(scores, bins=edges(scores), color=BLUE)
    axes.set_xscale("log")
    axes.set_xlabel("functional sample information (nats)")
    axes.set_ylabel("examples")
    for line, (label, rows) in enumerate((("least informative", least), ("most informative", most))):
        for place, row in enumerate(rows):
            tile = figure.add_subplot(grid[line, 4 + place])
            show_image(tile, train.images[row], names[int(train.labels[row])])
            if place == 0:
                tile.text(
                    -0.15,
                    0.5,
                    label,
                    rotation=90,
                    transform=tile.transAxes,
                    ha="right",
                    va="center",
                    fontsize=9,
                    color=INK,
                )
    return figure
