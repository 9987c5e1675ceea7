"""Figure 2a: which source of data is more informative for the same task?

Ten digits, half of the training examples and of the queries from either source. Street-view numbers are
not here. Two comparisons stand in for them: MNIST beside the 8 × 8 digits of scikit-learn, another
source but a plain one; and digits as they are beside digits made as varied as street-view numbers are, on
clutter, in any contrast, dark on bright or bright on dark.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Generator, Tensor

import leftout as lo
from leftout_papers.drawing import panels
from leftout_papers.exhibit import Outcome, Row
from leftout_papers.material import Material, Size
from leftout_papers.smooth_information.networks import perceptron, resnet20, weights_beside
from leftout_papers.smooth_information.scores import (
    Schedule,
    auc,
    draw_groups,
    more_often,
    more_on_average,
    ratio,
    score_network,
)
from leftout_papers.smooth_information.task import (
    COLOURED,
    Counts,
    pictures,
    pixels_of,
    resize_pictures,
    standard,
)
from leftout_papers.verdicts import both

COUNTS: Counts = {Size.QUICK: (40, 40), Size.USUAL: (100, 100), Size.PAPER: (1000, 1000)}
"""Examples of both sources together; with ten outputs, the kernel has ten rows for each example."""

SCHEDULE = Schedule(1e-4, 20_000)
"""The paper's."""

CLUTTER = 4
"""Patches of clutter on a side of a picture."""


@dataclass(frozen=True)
class SourceMixture:
    """Two sources in one training set and one set of queries.

    Attributes:
        names: of the first and second source.
        second: which training examples are of the second.
    """

    names: tuple[str, str]
    train: lo.Examples
    query: lo.Examples
    second: Bool[np.ndarray, " n"]


def classes(material: Material) -> Outcome:
    """Run figure 2a."""
    plain = Material("digits", material.size, material.seed)
    half = tuple(count // 2 for count in COUNTS[material.size])
    original = pictures(material, (half[0], half[1]), None)
    generator = material.generator(5)
    varied = [replace(examples, inputs=_vary_digits(examples.inputs, generator)) for examples in original]
    name = "MNIST" if material.name == "mnist" else "digits"
    mixtures = [_mix_sources((name, f"{name}, varied"), original, (varied[0], varied[1]))]
    if material.name == "mnist":
        added = pictures(plain, (half[0], half[1]), None)
        mixtures.append(_mix_sources((name, "8 × 8 digits"), original, added))
    rows, record = [], {}
    figure, grid = panels(len(mixtures), width=4.8, height=3.4)
    for axes, mixed in zip(grid[0], mixtures, strict=True):
        scores, right, network = _scores(material, mixed)
        times, area = ratio(scores, mixed.second), auc(scores, mixed.second)
        planted = mixed is mixtures[0]
        rows.append(
            Row(
                f"information of {mixed.names[1]} against {mixed.names[0]}",
                "SVHN much more informative than MNIST",
                f"ratio of means {times:.2f}, AUC {area:.3f}"
                + ("" if planted else ": another pair of sources, nothing is claimed of it"),
                both(more_on_average(scores, mixed.second), more_often(scores, mixed.second))
                if planted
                else None,
            )
        )
        record[mixed.names[1]] = {
            "examples": len(mixed.train),
            "queries": len(mixed.query),
            "network": network,
            "ratio_of_means": times,
            "auc": area,
            "query_accuracy": right,
            "information": scores.tolist(),
            "second": np.flatnonzero(mixed.second).tolist(),
        }
        groups = {mixed.names[0]: scores[~mixed.second], mixed.names[1]: scores[mixed.second]}
        draw_groups(axes, groups)
        axes.set_title(f"{mixed.names[0]} beside {mixed.names[1]}")
    notes = (
        "SVHN is not here: digits on clutter, of any contrast and polarity, stand in for its variety, "
        "and the 8 × 8 digits of scikit-learn for another source.",
        f"Network: {network}; the paper's is a ResNet-18 of ImageNet. {len(mixtures[0].train)} examples "
        f"and {len(mixtures[0].query)} queries, the paper has 1000 of each.",
    )
    return Outcome(tuple(rows), record, figure, notes)


def _vary_digits(inputs: Float64[Tensor, "n 1 h w"], generator: Generator) -> Tensor:
    """Return digits on clutter, each of a random contrast and polarity."""
    n = len(inputs)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    ink = pixels_of(inputs)
    clutter = resize_pictures(draw(n, 1, CLUTTER, CLUTTER), inputs.shape[-1])
    contrast = 0.4 + 0.6 * draw(n, 1, 1, 1)
    picture = 0.5 * clutter + contrast * ink * (1 - 0.5 * clutter)
    dark = draw(n, 1, 1, 1) < 0.5
    return standard(torch.where(dark, 1 - picture, picture))


def _mix_sources(
    names: tuple[str, str], first: tuple[lo.Examples, lo.Examples], added: tuple[lo.Examples, lo.Examples]
) -> SourceMixture:
    joined = [_concatenate(base, extra) for base, extra in zip(first, added, strict=True)]
    second = np.arange(len(joined[0])) >= len(first[0])
    return SourceMixture(names, joined[0], joined[1], second)


def _concatenate(first: lo.Examples, added: lo.Examples) -> lo.Examples:
    assert first.labels is not None
    assert added.labels is not None
    return replace(
        first,
        inputs=torch.cat([first.inputs, added.inputs]),
        targets=torch.cat([first.targets, added.targets]),
        labels=torch.cat([first.labels, added.labels]),
        ids=(*first.ids, *(f"{name} (other source)" for name in added.ids)),
        source_rows=None,
        images=None,
    )


def _scores(material: Material, mixed: SourceMixture) -> tuple[Float64[np.ndarray, " n"], float, str]:
    """Return information, accuracy, and the network's name: a pretrained one where there is one."""
    weights = None if material.quick else weights_beside(material)
    if weights is None:
        network = perceptron(material, mixed.train.inputs.shape[1:], outputs=10)
        name, train, query = "one wide layer, as there is no ResNet-20", mixed.train, mixed.query
    else:
        network = resnet20(weights, outputs=10, seed=material.seed)
        name = "ResNet-20 pretrained on CIFAR-10"
        train, query = (
            replace(
                examples,
                inputs=standard(resize_pictures(pixels_of(examples.inputs), COLOURED).repeat(1, 3, 1, 1)),
            )
            for examples in (mixed.train, mixed.query)
        )
    scores, right = score_network(material, network, train, query, SCHEDULE)
    return scores, right, name
