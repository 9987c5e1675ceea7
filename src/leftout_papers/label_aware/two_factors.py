"""Figure 1(b, c): one set of images, two ways to label it. Does a network become local in what it is taught?

The paper's images show two objects each, a cat or a dog and a bench or a chair (MSCOCO, which is not here).
Ours show two pictures side by side, drawn independently: one of two classes on the left, one of two others
on the right. A network is trained to tell the left classes apart, another from the same weights the right
ones, and both relative ratios RR of each (`elasticity`) are taken along the way.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from matplotlib.figure import Figure
from torch import Tensor, nn

import leftout as lo
from leftout.core import with_progress
from leftout_papers.drawing import BLUE, ORANGE, panels
from leftout_papers.exhibit import Holds, Outcome, Row
from leftout_papers.label_aware.shallow import BATCH, batches, images
from leftout_papers.material import Material, Size
from leftout_papers.verdicts import rises

SIDES = {
    "cifar10": {"left": ("cat", "dog"), "right": ("automobile", "truck")},
    "mnist": {"left": ("3", "8"), "right": ("4", "9")},
    "digits": {"left": ("3", "8"), "right": ("4", "9")},
}
RATE, WIDTH = 3e-4, 4096
"""The paper's."""

PROBES = 10


@dataclass(frozen=True)
class Plan:
    """Sizes of one run; the network is probed ten times on the way."""

    width: int
    images: int
    epochs: int
    seeds: int

    @property
    def rate(self) -> float:
        """Return the paper's rate; of narrower networks more, as a step's effect grows with the width."""
        return RATE * WIDTH / self.width


PLANS = {
    Size.QUICK: Plan(128, 200, 300, 1),
    Size.USUAL: Plan(1024, 1_000, 200, 2),
    Size.PAPER: Plan(4096, 5_000, 200, 5),
}


@dataclass(frozen=True, eq=False)
class Factors:
    """Images of two pictures each, and a label for each side."""

    inputs: Tensor
    labels: dict[str, Int64[Tensor, " n"]]


def systems(material: Material) -> Outcome:
    """Run both label systems."""
    plan = PLANS[material.size]
    sides = SIDES[material.name]
    data = drawn(material, plan.images)
    jobs = [(taught, seed) for taught in sides for seed in range(plan.seeds)]
    paths: dict[str, list[dict[str, list[float]]]] = {taught: [] for taught in sides}
    for taught, seed in with_progress(jobs, what="networks", total=len(jobs)):
        paths[taught].append(_path(material, data, taught, seed, plan))
    found = {  # [taught][probed] is (seed, probe)
        taught: {side: np.array([one[side] for one in runs]) for side in sides}
        for taught, runs in paths.items()
    }
    result: dict[str, Any] = {
        **asdict(plan),
        "images": len(data.inputs),
        "rate": plan.rate,
        "batch": BATCH,
        "sides": sides,
        "epochs_probed": _epochs(plan).tolist(),
        "ratio": {a: {b: one.tolist() for b, one in by.items()} for a, by in found.items()},
    }
    notes = (
        "Stand-in: two pictures side by side for MSCOCO's images of two objects; "
        + "; ".join(f"{side}: {' or '.join(names)}" for side, names in sides.items())
        + ".",
        f"{plan.width:,} hidden units with biases, PyTorch's initial weights, SGD at {plan.rate:g}, batches "
        f"of {BATCH}, {plan.epochs} epochs of {len(data.inputs):,} images, {plan.seeds} seeds; pairs of two "
        "training images.",
    )
    return Outcome(_rows(found), result, _figure(found, _epochs(plan)), notes)


def drawn(material: Material, count: int) -> Factors:
    """Return images of a left and a right picture, drawn independently of each other."""
    parts, labels = [], {}
    for place, (side, names) in enumerate(SIDES[material.name].items()):
        one, _ = images(material, count, 40, names)
        order = torch.randperm(len(one), generator=material.generator(place + 1))
        parts.append(one.inputs[order, :-1])  # the network has biases: no constant input
        assert one.labels is not None
        labels[side] = one.labels[order]
    n = min(map(len, parts))
    return Factors(
        torch.cat([part[:n] for part in parts], dim=1), {side: one[:n] for side, one in labels.items()}
    )


def _epochs(plan: Plan) -> np.ndarray:
    return np.arange(PROBES + 1) * (plan.epochs // PROBES)


def _path(material: Material, data: Factors, taught: str, seed: int, plan: Plan) -> dict[str, list[float]]:
    """Return RR of both label systems while a network learns one of them."""
    network = _network(material, data.inputs.shape[1], seed, plan)
    like = next(network.parameters())
    inputs, targets = data.inputs.to(like), data.labels[taught].to(like)
    order = material.independent("two factors, order", seed)
    optimiser = torch.optim.SGD(network.parameters(), lr=plan.rate)
    found: dict[str, list[float]] = {side: [] for side in data.labels}
    for epoch in range(plan.epochs + 1):
        if epoch % (plan.epochs // PROBES) == 0:
            kernel = lo.kernels.Empirical(network, outputs="trace")
            for side, labels in data.labels.items():
                ratio = lo.elasticity(kernel, (data.inputs, labels), memory=material.memory)["ratio"]
                found[side].append(100 * float(ratio[0, 1]))
        for rows in batches(len(inputs), order):
            loss = (network(inputs[rows])[:, 0] - targets[rows]).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return found


def _network(material: Material, features: int, seed: int, plan: Plan) -> nn.Module:
    network = nn.Sequential(nn.Linear(features, plan.width), nn.ReLU(), nn.Linear(plan.width, 1))
    generator = material.independent("two factors, weights", seed)
    with torch.no_grad():
        for layer in (network[0], network[2]):
            assert isinstance(layer, nn.Linear)
            reach = layer.in_features**-0.5
            for one in (layer.weight, layer.bias):
                one.uniform_(-reach, reach, generator=generator)
    return network.to(material.device or "cpu")


def _rows(found: dict[str, dict[str, np.ndarray]]) -> tuple[Row, ...]:
    rows = []
    for taught, by in found.items():
        path = by[taught].mean(0)
        rows.append(
            Row(
                f"RR of the {taught} classes, network taught the {taught} ones",
                "rises with training (drawn)",
                f"{path[0]:.2f} → {path[-1]:.2f} %",
                rises(path.tolist()),
            )
        )
    for taught, by in found.items():
        other = next(side for side in by if side != taught)
        path = by[other].mean(0)
        rows.append(
            Row(
                f"RR of the {other} classes, network taught the {taught} ones",
                "not printed",
                f"{path[0]:.2f} → {path[-1]:.2f} %",
            )
        )
        gap = (by[taught] - by[taught][:, :1]) - (by[other] - by[other][:, :1])
        rows.append(
            Row(
                f"it rises less than that of the {taught} ones",
                "adaptive to label systems (section 1)",
                f"by {gap[:, -1].mean():.2f} %",
                _always(gap[:, -1]),
            )
        )
    return tuple(rows)


def _always(gaps: np.ndarray) -> Holds:
    return True if (gaps > 0).all() else False if (gaps < 0).all() else "open"


def _figure(found: dict[str, dict[str, np.ndarray]], epochs: np.ndarray) -> Figure:
    figure, grid = panels(2, width=4.4, height=3.4)
    for axes, (taught, by) in zip(grid[0], found.items(), strict=True):
        for (side, values), colour in zip(by.items(), (BLUE, ORANGE), strict=True):
            axes.plot(epochs, values.T, color=colour, alpha=0.3, lw=1)
            axes.plot(epochs, values.mean(0), "o-", color=colour, ms=4, label=f"{side} classes")
        axes.set_xlabel("epoch")
        axes.set_ylabel("relative ratio RR, %")
        axes.set_title(f"Taught the {taught} classes")
        axes.legend(fontsize=8)
    return figure
