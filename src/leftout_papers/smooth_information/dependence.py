"""Figure 5: are the same examples informative to other networks, initial weights and training lengths?

Pearson correlations of the information of all training examples, between architectures, between initial
last layers of one pretrained network, and between training lengths.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

import leftout as lo
from leftout_papers.drawing import panels
from leftout_papers.exhibit import Holds, Outcome, Row
from leftout_papers.material import Material, Size
from leftout_papers.smooth_information.networks import convolutional, perceptron, pretrained_network
from leftout_papers.smooth_information.scores import (
    DIGITS,
    MLP,
    RESNET,
    Schedule,
    linearised_fit,
    score_network,
)
from leftout_papers.smooth_information.task import Counts, pair

COUNTS: Counts = {Size.QUICK: (40, 30), Size.USUAL: (600, 600), Size.PAPER: (1000, 1000)}
STARTS = {Size.QUICK: 2, Size.USUAL: 5, Size.PAPER: 10}
LENGTHS = (100, 300, 1000, 3000, 10_000)
"""Numbers of training steps."""

BEGINNING = 0.364, 0.066
"""Published correlation between initial last layers, and its spread."""

SCRATCH = Schedule(1e-2, 1000)


@dataclass(frozen=True)
class InformationScores:
    """Information by architecture, by initial last layer and by training length."""

    architectures: dict[str, Float64[np.ndarray, " n"]]
    starts: Float64[np.ndarray, "s n"]
    lengths: Float64[np.ndarray, "t n"]


def binary(material: Material) -> Outcome:
    """Run figure 5."""
    scores = _information_scores(material)
    names = list(scores.architectures)
    matrix = np.corrcoef(np.stack(list(scores.architectures.values())))
    starts = np.array([np.corrcoef(*two)[0, 1] for two in combinations(scores.starts, 2)])
    lengths = np.corrcoef(scores.lengths)
    apart = matrix[np.triu_indices(len(names), 1)]
    next_to = np.diag(lengths, 1)
    count = scores.starts.shape[1]
    mean, spread = float(starts.mean()), float(starts.std())
    rows = (
        Row(
            "correlation between architectures",
            "significant: 0.45 of ResNet-50 and DenseNet-121",
            f"{apart.min():.2f} to {apart.max():.2f}, mean {apart.mean():.2f}",
            _positive(apart, count),
        ),
        Row(
            "correlation between initial last layers",
            f"{BEGINNING[0]} ± {BEGINNING[1]}: significant",
            f"{mean:.3f} ± {spread:.3f} over {len(starts)} pairs",
            _positive(starts, count),
        ),
        Row(
            "correlation between training lengths that follow each other",
            "strong",
            f"{next_to.min():.2f} to {next_to.max():.2f}; shortest against longest {lengths[0, -1]:.2f}",
            bool(next_to.min() > 0.5),
        ),
    )
    record: dict[str, Any] = {
        "examples": scores.starts.shape[1],
        "architectures": {"names": names, "correlation": matrix.tolist()},
        "starts": starts.tolist(),
        "lengths": {"steps": list(LENGTHS), "correlation": lengths.tolist()},
    }
    return Outcome(rows, record, _figure(names, matrix, lengths), _notes(material))


def _information_scores(material: Material) -> InformationScores:
    train, query = pair(material, COUNTS)
    seed = material.seed
    schedule = RESNET if material.name == "cifar10" else DIGITS
    last = "ResNet-20, pretrained" if material.name == "cifar10" else "CNN, pretrained"
    shape = tuple(train.inputs.shape[1:])
    networks: dict[str, tuple[nn.Module, Schedule]] = {
        "MLP": (perceptron(material, shape), MLP),
        "MLP, two layers": (perceptron(material, shape, hidden=2), MLP),
        "CNN": (convolutional(shape, seed=seed), SCRATCH),
        last: (pretrained_network(material, seed=seed), schedule),
    }
    architectures = {
        name: score_network(material, network, train, query, plan)[0]
        for name, (network, plan) in networks.items()
    }
    other_starts = [
        score_network(material, pretrained_network(material, seed=seed + 1 + k), train, query, schedule)[0]
        for k in range(STARTS[material.size] - 1)
    ]
    fitted = linearised_fit(material, networks[last][0], train, schedule)
    lengths = lo.information(fitted, query, at=LENGTHS)["function"].values
    return InformationScores(architectures, np.stack([architectures[last], *other_starts]), lengths)


def _positive(correlations: Float64[np.ndarray, " c"], n: int) -> Holds:
    """Return whether all correlations over n examples differ from 0, by Fisher's transformation."""
    doubt = float(np.tanh(2 / np.sqrt(n - 3)))
    if correlations.min() > doubt:
        return True
    return False if correlations.max() < -doubt else "open"


def _notes(material: Material) -> tuple[str, ...]:
    if material.name == "cifar10":
        return (
            "CIFAR-10's cats and dogs for Kaggle's. The paper compares four networks of ImageNet; here a "
            "ResNet-20 that learned CIFAR-10 beside three that learned nothing. One run, not ten.",
        )
    return (
        "4 and 9 for cats and dogs. The paper compares four networks of ImageNet; here four convolutional "
        "layers that learned other digits beside three that learned nothing. One run, not ten.",
    )


def _figure(names: list[str], matrix: np.ndarray, lengths: np.ndarray) -> Figure:
    figure, grid = panels(2, width=4.6, height=4.0)
    _draw(grid[0, 0], matrix, names, "Between architectures")
    _draw(grid[0, 1], lengths, [f"{steps:,}" for steps in LENGTHS], "Between training lengths (steps)")
    return figure


def _draw(axes: Axes, matrix: np.ndarray, names: list[str], title: str) -> None:
    axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1.3)
    places = range(len(names))
    axes.set_xticks(places, names, rotation=30, ha="right", fontsize=8)
    axes.set_yticks(places, names, fontsize=8)
    for i in places:
        for j in places:
            axes.text(j, i, f"{matrix[i, j]:.2f}", ha="center", va="center", fontsize=8)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_title(title)
