"""Figure 1(b, c): one set of images, two ways to label it: elasticity follows the labels of training.

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
    """Sizes of one run; RR is measured ten times during training."""

    width: int
    images: int
    epochs: int
    seeds: int

    @property
    def rate(self) -> float:
        """Return the paper's rate, larger for narrower networks: a step's effect grows with the width."""
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
    """Train networks on either label system and measure both relative ratios."""
    plan = PLANS[material.size]
    sides = SIDES[material.name]
    factors = draw_pictures(material, plan.images)
    jobs = [(target, seed) for target in sides for seed in range(plan.seeds)]
    paths: dict[str, list[dict[str, list[float]]]] = {target: [] for target in sides}
    for target, seed in with_progress(jobs, what="networks", total=len(jobs)):
        paths[target].append(_ratio_path(material, factors, target, seed, plan))
    ratios = {  # [trained side][measured side] is (seed, probe)
        target: {side: np.array([run[side] for run in runs]) for side in sides}
        for target, runs in paths.items()
    }
    record: dict[str, Any] = {
        **asdict(plan),
        "images": len(factors.inputs),
        "rate": plan.rate,
        "batch": BATCH,
        "sides": sides,
        "epochs_probed": _epochs(plan).tolist(),
        "ratio": {
            target: {side: ratio.tolist() for side, ratio in by_side.items()}
            for target, by_side in ratios.items()
        },
    }
    notes = (
        "Stand-in: two pictures side by side for MSCOCO's images of two objects; "
        + "; ".join(f"{side}: {' or '.join(names)}" for side, names in sides.items())
        + ".",
        f"{plan.width:,} hidden units with biases, PyTorch's initial weights, SGD at {plan.rate:g}, batches "
        f"of {BATCH}, {plan.epochs} epochs of {len(factors.inputs):,} images, {plan.seeds} seeds; pairs of "
        "two training images.",
    )
    return Outcome(_rows(ratios), record, _figure(ratios, _epochs(plan)), notes)


def draw_pictures(material: Material, count: int) -> Factors:
    """Return images of a left and a right picture, drawn independently of each other."""
    pixels, labels = [], {}
    for place, (side, names) in enumerate(SIDES[material.name].items()):
        examples, _ = images(material, count, 40, names)
        order = torch.randperm(len(examples), generator=material.generator(place + 1))
        pixels.append(examples.inputs[order, :-1])  # the network has biases: no constant input
        assert examples.labels is not None
        labels[side] = examples.labels[order]
    n = min(map(len, pixels))
    return Factors(
        torch.cat([side[:n] for side in pixels], dim=1), {side: codes[:n] for side, codes in labels.items()}
    )


def _epochs(plan: Plan) -> np.ndarray:
    return np.arange(PROBES + 1) * (plan.epochs // PROBES)


def _ratio_path(
    material: Material, factors: Factors, target: str, seed: int, plan: Plan
) -> dict[str, list[float]]:
    """Return RR of both label systems while a network is trained on the labels of one side."""
    network = _network(material, factors.inputs.shape[1], seed, plan)
    like = next(network.parameters())
    inputs, targets = factors.inputs.to(like), factors.labels[target].to(like)
    order = material.independent("two factors, order", seed)
    optimiser = torch.optim.SGD(network.parameters(), lr=plan.rate)
    ratios: dict[str, list[float]] = {side: [] for side in factors.labels}
    for epoch in range(plan.epochs + 1):
        if epoch % (plan.epochs // PROBES) == 0:
            kernel = lo.kernels.Empirical(network, outputs="trace", weights="initial")
            for side, labels in factors.labels.items():
                ratio = lo.elasticity(kernel, (factors.inputs, labels), memory=material.memory)["ratio"]
                ratios[side].append(100 * float(ratio[0, 1]))
        for rows in batches(len(inputs), order):
            loss = (network(inputs[rows])[:, 0] - targets[rows]).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return ratios


def _network(material: Material, features: int, seed: int, plan: Plan) -> nn.Module:
    network = nn.Sequential(nn.Linear(features, plan.width), nn.ReLU(), nn.Linear(plan.width, 1))
    generator = material.independent("two factors, weights", seed)
    with torch.no_grad():
        for layer in (network[0], network[2]):
            assert isinstance(layer, nn.Linear)
            reach = layer.in_features**-0.5
            for parameter in (layer.weight, layer.bias):
                parameter.uniform_(-reach, reach, generator=generator)
    return network.to(material.device or "cpu")


def _rows(ratios: dict[str, dict[str, np.ndarray]]) -> tuple[Row, ...]:
    rows = []
    for target, by_side in ratios.items():
        path = by_side[target].mean(0)
        rows.append(
            Row(
                f"RR of the {target} classes, network taught the {target} ones",
                "rises with training (drawn)",
                f"{path[0]:.2f} → {path[-1]:.2f} %",
                rises(path.tolist()),
            )
        )
    for target, by_side in ratios.items():
        side = next(name for name in by_side if name != target)
        path = by_side[side].mean(0)
        rows.append(
            Row(
                f"RR of the {side} classes, network taught the {target} ones",
                "not printed",
                f"{path[0]:.2f} → {path[-1]:.2f} %",
            )
        )
        gap = (by_side[target] - by_side[target][:, :1]) - (by_side[side] - by_side[side][:, :1])
        rows.append(
            Row(
                f"it rises less than that of the {target} ones",
                "adaptive to label systems (section 1)",
                f"by {gap[:, -1].mean():.2f} %",
                _always(gap[:, -1]),
            )
        )
    return tuple(rows)


def _always(gaps: np.ndarray) -> Holds:
    return True if (gaps > 0).all() else False if (gaps < 0).all() else "open"


def _figure(ratios: dict[str, dict[str, np.ndarray]], epochs: np.ndarray) -> Figure:
    figure, grid = panels(2, width=4.4, height=3.4)
    for axes, (target, by_side) in zip(grid[0], ratios.items(), strict=True):
        for (side, values), colour in zip(by_side.items(), (BLUE, ORANGE), strict=True):
            axes.plot(epochs, values.T, color=colour, alpha=0.3, lw=1)
            axes.plot(epochs, values.mean(0), "o-", color=colour, ms=4, label=f"{side} classes")
        axes.set_xlabel("epoch")
        axes.set_ylabel("relative ratio RR, %")
        axes.set_title(f"Taught the {target} classes")
        axes.legend(fontsize=8)
    return figure
