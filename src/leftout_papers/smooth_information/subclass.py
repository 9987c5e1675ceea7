"""Figure 9: are the few examples of an under-sampled sub-class more informative?

Pets are many dogs and few cats, one class against deer; the network is not told the sub-class.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int64

import leftout as lo
from leftout.data import thin_class
from leftout_papers.drawing import panels
from leftout_papers.exhibit import Outcome, Row
from leftout_papers.material import Material, Size
from leftout_papers.smooth_information.networks import pretrained_network
from leftout_papers.smooth_information.scores import (
    DIGITS,
    Schedule,
    auc,
    draw_groups,
    more_often,
    more_on_average,
    ratio,
    score_network,
)
from leftout_papers.smooth_information.task import halves, pictures

NAMES = {"cifar10": ("cat", "dog", "deer"), "mnist": ("4", "9", "7"), "digits": ("4", "9", "7")}
"""The rare sub-class, the common one of the same class, and the other class."""

WITHOUT = ("0", "1", "2", "3", "5", "6", "8")

COUNTS = {Size.QUICK: (6, 24, 30), Size.USUAL: (50, 1000, 300), Size.PAPER: (200, 4000, 1000)}
"""Training examples of the rare sub-class, of each of the others, and queries of each."""

SCHEDULE = Schedule(1e-4, 10_000)
"""The paper's; for digits its rate is what their network allows."""


@dataclass(frozen=True)
class Pets:
    """Examples of two classes, and the sub-class of each training example."""

    train: lo.Examples
    query: lo.Examples
    kind: Int64[np.ndarray, " n"]


def binary(material: Material) -> Outcome:
    """Run figure 9."""
    rare, common, opposite = NAMES[material.name]
    pets = _pets(material)
    network = pretrained_network(material, seed=material.seed, without=WITHOUT)
    schedule = SCHEDULE if material.name == "cifar10" else DIGITS
    scores, right = score_network(material, network, pets.train, pets.query, schedule)
    inside = pets.kind < 2
    mine = scores[inside], pets.kind[inside] == 0
    times, area = ratio(*mine), auc(*mine)
    groups = {f"{name}": scores[pets.kind == place] for place, name in enumerate((rare, common, opposite))}
    rows = (
        Row(
            f"mean information of {rare} ({len(groups[rare])}) over that of {common} "
            f"({len(groups[common])}), both in one class",
            "more on average (drawn only)",
            f"{times:.2f}",
            more_on_average(*mine),
        ),
        Row(
            "chance that one of the few carries more than one of the many (AUC)",
            "tends to be higher",
            f"{area:.3f}",
            more_often(*mine),
        ),
        Row("accuracy of the linearised network on queries", "not printed", f"{right:.1%}"),
    )
    record = {
        "counts": {name: len(values) for name, values in groups.items()},
        "queries": len(pets.query),
        "rate": schedule.rate,
        "steps": schedule.steps,
        "ratio_of_means": times,
        "auc": area,
        "query_accuracy": right,
        "information": {name: values.tolist() for name, values in groups.items()},
    }
    figure, grid = panels(1, width=5.6, height=3.6)
    draw_groups(grid[0, 0], groups)
    grid[0, 0].set_title(f"Information by sub-class: {rare} and {common} against {opposite}")
    return Outcome(rows, record, figure, _notes(material, pets))


def _pets(material: Material) -> Pets:
    rare, common, queries = COUNTS[material.size]
    train, query = pictures(material, (3 * common, 3 * queries), NAMES[material.name])
    assert train.labels is not None
    available = int((train.labels == 0).sum())
    # A small data set, such as the embedded digits, keeps the same proportion.
    count = min(rare, max(2, round(rare * available / common)))
    train = thin_class(train, NAMES[material.name][0], count, generator=material.generator(6)).examples
    assert train.labels is not None
    return Pets(_one_class(train), _one_class(query), train.labels.numpy())


def _one_class(examples: lo.Examples) -> lo.Examples:
    """Return the examples with the rare and the common sub-class as one class."""
    assert examples.labels is not None
    labels = (examples.labels == 2).long()
    return halves(replace(examples, labels=labels))


def _notes(material: Material, pets: Pets) -> tuple[str, ...]:
    rare, common, opposite = NAMES[material.name]
    sizes = f"{(pets.kind == 0).sum()} + {(pets.kind == 1).sum()} against {(pets.kind == 2).sum()}"
    if material.name == "cifar10":
        return (
            f"The paper has 200 cats and 4000 dogs against 4000 deer; here {sizes}. A ResNet-20 that "
            "learned CIFAR-10, these pictures and their finer labels among it, for a ResNet-18 of "
            "ImageNet.",
        )
    return (
        f"For cats and dogs against deer: {rare} and {common} against {opposite}, {sizes}, and four "
        "convolutional layers that learned the other seven digits.",
    )
