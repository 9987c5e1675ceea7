"""No free lunch: the learnabilities of a complete basis sum to n, for every kernel and network.

On 10 points of a circle, with n = 3 and 6 of them as examples: of kernel regression exactly, for
eigenfunctions and for any other orthogonal basis, less what a ridge takes; and of trained networks, one
for each function.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib import colormaps
from matplotlib.figure import Figure

import leftout as lo
from leftout.data import Circle
from leftout_papers.drawing import INK, panels
from leftout_papers.exhibit import Holds, Outcome, Row
from leftout_papers.material import Material, Size
from leftout_papers.wide_networks.setting import KERNEL, Activation, PaperNetwork
from leftout_papers.wide_networks.training import train_stacked

CIRCLE = Circle(10)
EXAMPLES = (3, 6)
RIDGE = 0.1
BASES = 30

WIDTHS = {Size.QUICK: 20, Size.USUAL: 200, Size.PAPER: 500}
SETS = {Size.QUICK: 2, Size.USUAL: 10, Size.PAPER: 30}
STEPS = {Size.QUICK: 100, Size.USUAL: 4000, Size.PAPER: 40_000}
TOLERANCE = 1e-4
AGREE = 0.05
"""Largest relative difference of a mean sum from n that counts as equal."""


@dataclass(frozen=True)
class Kind:
    """A network of the figure."""

    name: str
    depth: int
    activation: Activation
    weight_variance: float


KINDS = (
    Kind("1 hidden ReLU layer", 1, "relu", 2.0),
    Kind("4 hidden ReLU layers", 4, "relu", 2.0),
    Kind("1 hidden tanh layer", 1, "tanh", 2.25),
    Kind("4 hidden tanh layers", 4, "tanh", 2.25),
)


def simulate_conservation(material: Material) -> Outcome:
    """Sum learnabilities."""
    kernel = [_measure_kernel(material, n) for n in EXAMPLES]
    networks = [_measure_networks(material, kind, n) for n in EXAMPLES for kind in KINDS]
    rows = [*map(_kernel_row, kernel), *map(_ridge_row, kernel), *map(_network_row, networks)]
    record = {"kernel": kernel, "networks": networks}
    unfinished, total = (sum(network[key] for network in networks) for key in ("left", "trained"))
    notes = (
        f"Networks of width {WIDTHS[material.size]}, {SETS[material.size]} random data sets, one network "
        f"for each eigenfunction and set; trained to a mean squared error of {TOLERANCE:g} or for "
        f"{STEPS[material.size]} steps: {unfinished} of {total} stopped at the latter.",
        f"Sums of networks agree where their mean is within {AGREE:.0%} of n.",
    )
    return Outcome(tuple(rows), record, _figure(kernel, networks), notes)


def _basis() -> torch.Tensor:
    return torch.cat([CIRCLE.eigenfunctions(degree) for degree in range(6)], dim=1)  # (10, 10)


def _measure_kernel(material: Material, n: int) -> dict[str, Any]:
    """Return learnabilities of the eigenfunctions by kernel regression, and sums over random bases."""
    gram = KERNEL.block(CIRCLE.points, CIRCLE.points)
    generator = material.independent("bases", n)
    rows = torch.randperm(CIRCLE.count, generator=generator)[:n]
    sums, ridged = [], []
    for _ in range(BASES):
        normal = torch.randn(10, 10, generator=generator, dtype=torch.float64)
        turned = torch.linalg.qr(normal).Q
        sums.append(float(lo.transfer(gram, rows, basis=turned).trace()))
        ridged.append(float(lo.transfer(gram, rows, ridge=RIDGE, basis=turned).trace()))
    inside = torch.linalg.eigvalsh(gram[rows][:, rows])
    return {
        "n": n,
        "learnability": lo.transfer(gram, rows, basis=_basis()).diagonal().tolist(),
        "sums": sums,
        "ridged": ridged,
        "n_less_ridge": float((inside / (inside + RIDGE)).sum()),
    }


def _measure_networks(material: Material, kind: Kind, n: int) -> dict[str, Any]:
    size, basis = material.size, _basis()
    generator = material.independent("networks", kind.name, n)
    sets = [torch.randperm(10, generator=generator)[:n] for _ in range(SETS[size])]
    inputs = torch.stack([CIRCLE.points[rows] for rows in sets for _ in range(10)]).float()
    targets = torch.cat([basis[rows].T for rows in sets]).float()
    shares, unfinished = [], 0
    for start in range(0, len(inputs), 50):
        chunk = slice(start, start + 50)
        networks = [
            PaperNetwork(
                WIDTHS[size],
                2,
                depth=kind.depth,
                activation=kind.activation,
                weight_variance=kind.weight_variance,
                generator=generator,
            )
            for _ in inputs[chunk]
        ]
        trained = train_stacked(
            networks,
            inputs[chunk],
            targets[chunk],
            CIRCLE.points.float(),
            steps=STEPS[size],
            tolerance=TOLERANCE,
        )
        unfinished += trained.unfinished
        shares.append((trained.queries.double() * basis.T.repeat(SETS[size], 1)[chunk]).mean(1))
    learned = torch.cat(shares).view(SETS[size], 10)
    sums = learned.sum(1)
    return {
        "n": n,
        "network": kind.name,
        "learnability": learned.mean(0).tolist(),
        "sum": float(sums.mean()),
        "error": float(sums.std() / math.sqrt(len(sums))),
        "left": unfinished,
        "trained": len(inputs),
    }


def _kernel_row(kernel: dict[str, Any]) -> Row:
    worst = max(abs(total - kernel["n"]) for total in (*kernel["sums"], sum(kernel["learnability"])))
    return Row(
        f"kernel regression, n = {kernel['n']}: sum over eigenfunctions and {BASES} random bases",
        f"{kernel['n']} (theorem 2.2)",
        f"{kernel['n']} to {worst:.0e}",
        worst < 1e-10,
    )


def _ridge_row(kernel: dict[str, Any]) -> Row:
    worst = max(abs(total - kernel["n_less_ridge"]) for total in kernel["ridged"])
    return Row(
        f"the same, n = {kernel['n']}, ridge {RIDGE:g}",
        "less than n",
        f"{kernel['n_less_ridge']:.3f} in every basis, to {worst:.0e}",
        worst < 1e-10 and kernel["n_less_ridge"] < kernel["n"],
    )


def _network_row(network: dict[str, Any]) -> Row:
    off, doubt = abs(network["sum"] / network["n"] - 1), 2 * network["error"] / network["n"]
    # The theorem is of networks that fit their examples: others cannot contradict it.
    agrees: Holds = True if off + doubt <= AGREE else False if off - doubt > AGREE else "open"
    return Row(
        f"{network['network']}, n = {network['n']}: sum over the 10 eigenfunctions",
        str(network["n"]),
        f"{network['sum']:.2f} ± {network['error']:.2f}",
        "open" if agrees is False and network["left"] else agrees,
    )


def _figure(kernel: list[dict[str, Any]], networks: list[dict[str, Any]]) -> Figure:
    figure, grid = panels(len(EXAMPLES), width=4.8, height=3.8)
    for axes, regression in zip(grid[0], kernel, strict=True):
        columns = [
            ("kernel", regression["learnability"]),
            *(
                (network["network"], network["learnability"])
                for network in networks
                if network["n"] == regression["n"]
            ),
        ]
        for place, (_, shares) in enumerate(columns):
            below = 0.0
            for mode, share in enumerate(shares):
                colour = colormaps["viridis"](((mode + 1) // 2) / 5)
                axes.bar(place, share, bottom=below, color=colour, edgecolor="white", lw=0.4)
                below += share
        axes.axhline(regression["n"], color=INK, lw=1)
        axes.set_xticks(range(len(columns)), [name.replace(" ", "\n") for name, _ in columns])
        axes.tick_params(axis="x", labelsize=7)
        axes.set_title(f"n = {regression['n']} of 10 points")
    grid[0, 0].set_ylabel("learnability, stacked by degree")
    return figure
