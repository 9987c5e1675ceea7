"""Section 3.2: local elasticity of all 45 binary tasks of ten classes, before and after training.

Each pair of classes is a task of its own: a two-layer network with new weights is trained on it, and the
relative ratio RR of its kernel (`elasticity`) is measured before and after. Beside it stand RR of the NTK
(one call for ten classes gives all 45) and of the LANTK, which is fitted to the two classes' labels.

The paper's network has 40,960 units; here fewer units represent them (`shallow`): they start from the
paper's kernel, on average, and learn at the same speed. At the usual size images and steps are the paper's;
RR is taken over pairs of a subset of the images.
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
from leftout_papers.label_aware.elasticity import PAIRS, STRENGTH, holds_in_all, network_ratios
from leftout_papers.label_aware.shallow import STEPS, WIDTH, Shallow, Task, images, select_pair, train_network
from leftout_papers.material import Material, Size

KINDS = {"train-train": "ratio", "test-train": "query_ratio"}
SERIES = ("initial", "trained", "ntk", "lantk")


@dataclass(frozen=True)
class Plan:
    """Sizes of one run; images of all ten classes together, of which pairs of the first `classes` are tasks.

    Attributes:
        width: units trained, which represent a network of the paper's width.
        paired: training images whose pairs are measured.
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
    """Measure the elasticity of all pairs of classes."""
    plan = PLANS[material.size]
    train, query = images(material, plan.n_train, plan.n_query)
    paired = _draw_paired(train, plan, material)
    assert train.classes is not None
    names = list(itertools.combinations(train.classes[: plan.classes], 2))
    limit = lo.elasticity(lo.kernels.ReLU(1), paired, query, memory=material.memory, device=material.device)
    ratios: dict[str, list[list[float]]] = {name: [] for name in SERIES}
    for pair in with_progress(names, what="pairs of classes", total=len(names)):
        task = Task(pair, select_pair(paired, pair), select_pair(query, pair))
        for name, pair_ratios in _measure_pair(material, task, select_pair(train, pair), plan).items():
            ratios[name].append(pair_ratios)
        ratios["ntk"].append(
            [100 * float(limit[kind].sel({"class": pair[0], "other": pair[1]})) for kind in KINDS.values()]
        )
    series = {name: np.array(rows) for name, rows in ratios.items()}  # (task, kind)
    record: dict[str, Any] = {
        **asdict(plan),
        "n_train": len(train),
        "n_query": len(query),
        "paired": len(paired),
        "tasks": names,
        **{name: ratio.tolist() for name, ratio in series.items()},
    }
    k = len(train.classes)
    notes = (
        f"Networks of {plan.width:,} units, drawn and scaled to stand for the paper's {WIDTH:,}, at the "
        f"paper's rate: {plan.steps} steps of Adam on about {len(train) // k:,} images of each class, one "
        "seed.",
        f"RR of networks and kernels alike: of the same pairs, about {len(paired) // k:,} training images "
        f"of each class and {len(query) // k:,} test images.",
    )
    rows = (*_rows(series), *_largest(material, names, series))
    return Outcome(rows, record, _figure(series), notes)


def _draw_paired(train: lo.Examples, plan: Plan, material: Material) -> lo.Examples:
    """Return a random subset of the training images, whose pairs are measured."""
    order = torch.randperm(len(train), generator=material.independent("paired", "all pairs"))
    return train.select(order[: plan.paired])


def _measure_pair(material: Material, task: Task, train: lo.Examples, plan: Plan) -> dict[str, list[float]]:
    """Return RR of the network before and after training, and of the label-aware kernel."""
    key = ("all pairs", *task.names)
    network = Shallow(
        plan.width, train.inputs.shape[1], generator=material.independent("weights", *key), stands_for=WIDTH
    ).to(material.device or "cpu")
    before = network_ratios(network, task, material)
    train_network(network, train, steps=plan.steps, generator=material.independent("order", *key))
    assert task.train.labels is not None
    aware = lo.kernels.LabelAware(lo.kernels.ReLU(1), "kr-v1", strength=STRENGTH).fit_labels(
        task.train.inputs, task.train.labels, device=material.device, memory=material.memory
    )
    local = lo.elasticity(aware, task.train, task.query, memory=material.memory, device=material.device)
    return {
        "initial": list(before),
        "trained": list(network_ratios(network, task, material)),
        "lantk": [100 * float(local[kind][0, 1]) for kind in KINDS.values()],
    }


def _rows(values: dict[str, np.ndarray]) -> tuple[Row, ...]:
    rows = []
    for claim, low, high in (
        ("RR of networks rises with training", "initial", "trained"),
        ("RR of the kernel rises with labels (LANTK above NTK)", "ntk", "lantk"),
    ):
        for place, kind in enumerate(KINDS):
            rise = values[high][:, place] - values[low][:, place]
            published = "all 45" if low == "initial" else "not printed"
            rows.append(
                Row(
                    f"{claim}, {kind}",
                    published,
                    f"{(rise > 0).sum()} of {len(rise)}: by {rise.min():+.2f} to {rise.max():+.2f} %",
                    holds_in_all((rise > 0).tolist()) if low == "initial" else None,
                )
            )
    return tuple(rows)


def _largest(
    material: Material, names: list[tuple[str, str]], values: dict[str, np.ndarray]
) -> tuple[Row, ...]:
    """Return whether the six largest rises are the tasks of table 3."""
    rise = values["trained"][:, 0] - values["initial"][:, 0]
    top = [names[place] for place in np.argsort(-rise)[:6]]
    listed = ", ".join(" vs ".join(pair) for pair in top)
    if material.name != "cifar10":
        return (Row("six largest rises, train-train", "those of CIFAR-10 in table 3", listed),)
    same = len({frozenset(pair) for pair in top} & {frozenset(pair) for pair in PAIRS["cifar10"]})
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
