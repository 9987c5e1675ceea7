"""Section 3.2: is it so for every two classes? Local elasticity of all 45 binary tasks of ten classes.

Each two classes are a task of their own: a two-layer network from new weights is trained on them, and the
relative ratio RR of its kernel (`elasticity`) taken before and after; beside it that of the NTK, of which
one call for ten classes tells all 45, and of the LANTK, which knows the two classes' labels.

The paper's network has 40,960 units. Of that, ours are fewer units that stand for all (`shallow`): they
start from the paper's kernel, on average, and learn at its pace. At the usual size images and steps are the
paper's too; RR is that of pairs of a part of the images.
"""

import itertools
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

import leftout as lo
from leftout.core import with_progress
from leftout_papers.drawing import BLUE, FAINT, RED, panels
from leftout_papers.exhibit import Holds, Outcome, Row
from leftout_papers.label_aware.elasticity import PAIRS, STRENGTH, in_all, of_network
from leftout_papers.label_aware.shallow import STEPS, WIDTH, Shallow, Task, images, of_classes, trained
from leftout_papers.material import Material, Size

KINDS = {"train-train": "ratio", "test-train": "query_ratio"}
SERIES = ("initial", "trained", "ntk", "lantk")


@dataclass(frozen=True)
class Plan:
    """Sizes of one run; images of all ten classes together, of which pairs of the first few are tasks.

    Attributes:
        width: units trained, which stand for a network of the paper's width.
        paired: of the training images, how many of which pairs are taken.
    """

    classes: int
    width: int
    n_train: int
    n_query: int
    steps: int
    paired: int


PLANS = {
    Size.QUICK: Plan(4, 256, 400, 100, 300, 400),
    Size.USUAL: Plan(10, 512, 50_000, 2_000, STEPS, 5_000),
    Size.PAPER: Plan(10, WIDTH, 50_000, 10_000, STEPS, 50_000),
}


def classes(material: Material) -> Outcome:
    """Run all tasks."""
    plan = PLANS[material.size]
    train, query = images(material, plan.n_train, plan.n_query)
    some = _some(train, plan, material)
    assert train.classes is not None
    names = list(itertools.combinations(train.classes[: plan.classes], 2))
    whole = lo.elasticity(lo.kernels.ReLU(1), some, query, memory=material.memory, device=material.device)
    found: dict[str, list[list[float]]] = {name: [] for name in SERIES}
    for pair in with_progress(names, what="pairs of classes", total=len(names)):
        one = Task(pair, of_classes(some, pair), of_classes(query, pair))
        for name, got in _measured(material, one, of_classes(train, pair), plan).items():
            found[name].append(got)
        found["ntk"].append(
            [100 * float(whole[kind].sel({"class": pair[0], "other": pair[1]})) for kind in KINDS.values()]
        )
    values = {name: np.array(one) for name, one in found.items()}  # (task, kind)
    result: dict[str, Any] = {
        **asdict(plan),
        "n_train": len(train),
        "n_query": len(query),
        "paired": len(some),
        "tasks": names,
        **{name: one.tolist() for name, one in values.items()},
    }
    each = len(train.classes)
    notes = (
        f"Networks of {plan.width:,} units, drawn and scaled to stand for the paper's {WIDTH:,}, at the "
        f"paper's rate: {plan.steps} steps of Adam on about {len(train) // each:,} images of each class, one "
        "seed.",
        f"RR of networks and kernels alike: of the same pairs, about {len(some) // each:,} training images "
        f"of each class and {len(query) // each:,} test images.",
    )
    rows = (*_rows(values), *_largest(material, names, values))
    return Outcome(rows, result, _figure(values), notes)


def _some(train: lo.Examples, plan: Plan, material: Material) -> lo.Examples:
    """Return the training images of which pairs are taken, drawn."""
    order = torch.randperm(len(train), generator=material.independent("paired", "all pairs"))
    return train.select(order[: plan.paired])


def _measured(material: Material, one: Task, train: lo.Examples, plan: Plan) -> dict[str, list[float]]:
    """Return RR of the network before and after, and of the kernel that knows the labels."""
    key = ("all pairs", *one.names)
    network = Shallow(
        plan.width, train.inputs.shape[1], generator=material.independent("weights", *key), stands_for=WIDTH
    ).to(material.device or "cpu")
    before = of_network(network, one, material)
    trained(network, train, steps=plan.steps, generator=material.independent("order", *key))
    assert one.train.labels is not None
    aware = lo.kernels.LabelAware(lo.kernels.ReLU(1), "kr-v1", strength=STRENGTH).fit_labels(
        one.train.inputs, one.train.labels, device=material.device, memory=material.memory
    )
    local = lo.elasticity(aware, one.train, one.query, memory=material.memory, device=material.device)
    return {
        "initial": list(before),
        "trained": list(of_network(network, one, material)),
        "lantk": [100 * float(local[kind][0, 1]) for kind in KINDS.values()],
    }


def _rows(values: dict[str, np.ndarray]) -> tuple[Row, ...]:
    rows = []
    for what, low, high in (
        ("RR of networks rises with training", "initial", "trained"),
        ("RR of the kernel rises with labels (LANTK above NTK)", "ntk", "lantk"),
    ):
        for place, kind in enumerate(KINDS):
            rise = values[high][:, place] - values[low][:, place]
            published = "all 45" if low == "initial" else "not printed"
            rows.append(
                Row(
                    f"{what}, {kind}",
                    published,
                    f"{(rise > 0).sum()} of {len(rise)}: by {rise.min():+.2f} to {rise.max():+.2f} %",
                    in_all((rise > 0).tolist()) if low == "initial" else None,
                )
            )
    return tuple(rows)


def _largest(
    material: Material, names: list[tuple[str, str]], values: dict[str, np.ndarray]
) -> tuple[Row, ...]:
    """Return whether the six largest rises are the tasks of table 3."""
    rise = values["trained"][:, 0] - values["initial"][:, 0]
    top = [names[place] for place in np.argsort(-rise)[:6]]
    listed = ", ".join(" vs ".join(one) for one in top)
    if material.name != "cifar10":
        return (Row("six largest rises, train-train", "those of CIFAR-10 in table 3", listed),)
    same = len({frozenset(one) for one in top} & {frozenset(one) for one in PAIRS["cifar10"]})
    holds: Holds = True if same == 6 else "open"
    return (Row("six largest rises, train-train", "those of table 3", f"{same} of 6: {listed}", holds),)


def _figure(values: dict[str, np.ndarray]) -> Figure:
    figure, grid = panels(2, width=4.4, height=4.0)
    for axes, (low, high, label, colour) in zip(
        grid[0], (("initial", "trained", "network", BLUE), ("ntk", "lantk", "kernel", RED)), strict=True
    ):
        for place, (kind, mark) in enumerate(zip(KINDS, "ox", strict=True)):
            axes.plot(
                values[low][:, place], values[high][:, place], mark, color=colour, ms=4, alpha=0.7, label=kind
            )
        ends = [50, max(values[low].max(), values[high].max()) + 1]
        axes.plot(ends, ends, color=FAINT, lw=1)
        axes.set_xlabel(f"RR of the {label}, {'initial' if low == 'initial' else 'NTK'}, %")
        axes.set_ylabel(f"RR of the {label}, {'trained' if low == 'initial' else 'LANTK'}, %")
        axes.legend(fontsize=8)
    grid[0, 0].set_title("Training makes networks more local")
    grid[0, 1].set_title("Labels make the kernel more local")
    return figure
