"""Learnability of trained networks from width 20 up, beside that predicted from the kernel's eigenvalues.

The paper's network of 4 hidden layers, one for each random data set and eigenfunction, by full-batch
descent, with f_0 subtracted; its learnability ⟨φ, f − f_0⟩ over the domain (2000 random points of the sphere)
beside that of kernel regression on the same data sets and beside λ / (λ + κ).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from leftout.data import Sphere
from leftout_papers.drawing import BLUE, FAINT, GREEN, ORANGE, panels
from leftout_papers.exhibit import Holds, Outcome, Row
from leftout_papers.material import Material, Size
from leftout_papers.wide_networks.setting import SETTINGS, PaperNetwork, Setting, kernel_learning
from leftout_papers.wide_networks.training import train_stacked


@dataclass(frozen=True)
class Plan:
    """How much is run."""

    widths: tuple[int, ...]
    examples: tuple[int, ...]
    sets: int
    steps: int


PLANS = {
    Size.QUICK: Plan((20,), (8,), 4, 150),
    Size.USUAL: Plan((20, 100), (4, 16, 64), 30, 2000),
    Size.PAPER: Plan((20, 100, 500), (2, 4, 8, 16, 32, 64, 128, 256), 30, 10_000),
}
DEGREES = {"circle": (0, 2, 5), "hypercube": (0, 1, 3), "sphere": (0, 1, 2)}
"""Degrees of which something is learned from n = 64 examples."""

TOLERANCE = 1e-3
"""Mean squared error on the examples, of a target of mean square 1, at which training ends."""

POINTS = 2000
CHUNK = 4_000_000
"""Weights that are trained at once."""

AGREE = 0.1
COLOURS = (BLUE, ORANGE, GREEN)


def simulate_networks(material: Material) -> Outcome:
    """Train networks on the three domains."""
    plan = PLANS[material.size]
    measured = [
        _measure_networks(material, setting, n, width)
        for setting in SETTINGS
        for n in plan.examples
        for width in plan.widths
    ]
    rows = [_row(setting, width, measured) for setting in SETTINGS for width in plan.widths]
    summary = {"sets": plan.sets, "steps": plan.steps, "tolerance": TOLERANCE, "networks": measured}
    unfinished, total = (sum(record[key] for record in measured) for key in ("left", "trained"))
    notes = (
        f"{plan.sets} random data sets for each n, a network of its own for each set and eigenfunction, of "
        f"degrees {'; '.join(f'{name} {list(degrees)}' for name, degrees in DEGREES.items())}. Full-batch "
        f"descent to a mean squared error of {TOLERANCE:g} or {plan.steps} steps: {unfinished} of {total} "
        "networks stopped at the latter.",
        "The paper descends at rate 0.5 for up to 10⁴ epochs, to 10⁻⁵; here each network at the inverse of "
        "the largest eigenvalue of its tangent kernel.",
        f"Agreement is a mean difference over degrees and n of at most {AGREE:g}.",
    )
    return Outcome(tuple(rows), summary, _figure(measured, plan), notes)


def _measure_networks(material: Material, setting: Setting, n: int, width: int) -> dict[str, Any]:
    plan = PLANS[material.size]
    places = [setting.degrees.index(degree) for degree in DEGREES[setting.name]]
    draws = material.independent("sets", setting.name, n)
    samples = [setting.draw(n, draws) for _ in range(plan.sets)]
    kernel = torch.stack([kernel_learning(setting, sample).learnability[places] for sample in samples])
    queries, values = _queries(material, setting)
    inputs = torch.stack([sample.inputs for sample in samples for _ in places]).float()
    targets = torch.cat([sample.functions[:, places].T for sample in samples]).float()
    weights = material.independent("weights", setting.name, n, width)
    shares, unfinished, size = [], 0, max(1, CHUNK // (4 * width * width))
    for start in range(0, len(inputs), size):
        chunk = slice(start, start + size)
        networks = [PaperNetwork(width, inputs.shape[2], generator=weights) for _ in inputs[chunk]]
        trained = train_stacked(
            networks, inputs[chunk], targets[chunk], queries.float(), steps=plan.steps, tolerance=TOLERANCE
        )
        unfinished += trained.unfinished
        chosen = values[:, places].T.repeat(plan.sets, 1)[chunk]
        shares.append((trained.queries.double() * chosen).sum(1) / chosen.square().sum(1))
    network = torch.cat(shares).view(plan.sets, len(places))
    return {
        "domain": setting.name,
        "n": n,
        "width": width,
        "degrees": list(DEGREES[setting.name]),
        "measured": network.mean(0).tolist(),
        "error": (network.std(0) / math.sqrt(plan.sets)).tolist(),
        "kernel": kernel.mean(0).tolist(),
        "predicted": setting.predicted_learnability(n)[places].tolist(),
        "left": unfinished,
        "trained": len(inputs),
    }


def _queries(material: Material, setting: Setting) -> tuple[Tensor, Tensor]:
    """Return points over which learnability is measured, and the functions there."""
    if isinstance(setting.domain, Sphere):
        points = setting.domain.sample(POINTS, generator=material.independent("queries"))
        values = [setting.domain.eigenfunction(degree, points) for degree in setting.degrees]
        return points, torch.stack(values, dim=1)
    return setting.domain.points, setting.functions


def _row(setting: Setting, width: int, measurements: list[dict[str, Any]]) -> Row:
    records = [
        record for record in measurements if record["domain"] == setting.name and record["width"] == width
    ]
    measured, error, kernel, predicted = (
        np.array([record[key] for record in records]) for key in ("measured", "error", "kernel", "predicted")
    )
    off = np.abs(measured - predicted)
    doubt = 2 * float(np.sqrt((error**2).sum())) / error.size
    holds: Holds = True if off.mean() + doubt <= AGREE else False if off.mean() - doubt > AGREE else "open"
    return Row(
        f"{setting.name}, width {width}: mean (largest) difference of the networks' and the "
        "predicted learnability",
        "“excellent agreement … even for widths as small as 20”",
        f"{off.mean():.3f} ({off.max():.3f}); from kernel regression on the same sets "
        f"{np.abs(measured - kernel).mean():.3f}",
        holds,
    )


def _figure(measured: list[dict[str, Any]], plan: Plan) -> Figure:
    figure, grid = panels(len(SETTINGS), width=4.4, height=3.5, sharey=True)
    marks = ("s", "o", "^")
    fine = np.unique(np.round(np.geomspace(2, plan.examples[-1], 40)))
    for axes, setting in zip(grid[0], SETTINGS, strict=True):
        places = [setting.degrees.index(degree) for degree in DEGREES[setting.name]]
        curves = np.array([setting.predicted_learnability(int(n)).numpy()[places] for n in fine])
        for row, colour in enumerate(COLOURS):
            axes.plot(fine, curves[:, row], color=colour, lw=1.2)
            for width, mark in zip(plan.widths, marks, strict=False):
                records = [
                    record
                    for record in measured
                    if record["domain"] == setting.name and record["width"] == width
                ]
                axes.errorbar(
                    [record["n"] for record in records],
                    [record["measured"][row] for record in records],
                    yerr=[record["error"][row] for record in records],
                    fmt=mark,
                    ms=4,
                    color=colour,
                    label=f"degree {DEGREES[setting.name][row]}, width {width}",
                )
        axes.axhline(0, color=FAINT, lw=0.5)
        axes.set_xscale("log", base=2)
        axes.set(xlabel="examples n", title=setting.name)
        axes.legend(fontsize=6)
    grid[0, 0].set_ylabel("learnability (line: predicted)")
    return figure
