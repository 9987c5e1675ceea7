"""The critical learning rate: where does descent stop converging, as predicted and as seen?

    2 / s_max            beyond which the linearised network diverges, step by step by |1 − η s_max|
    2 / (s_min + s_max)  up to which its slowest mode sets the pace, ‖f_t − y‖ ≤ (1 − η s_min)^t ‖f_0 − y‖

s of the tangent kernel at w_0, or of its limit. A network just above leaves, too, but need not go for
good: on its way its kernel falls, until the rate is no longer too large for it. So what is looked for
is whether the loss ever rises above where it began.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.func import functional_call

import leftout as lo
from leftout.core import with_progress
from leftout.dynamics import WideNetwork
from leftout_papers.drawing import BLUE, FAINT, RED, panels
from leftout_papers.exhibit import Outcome, Row
from leftout_papers.material import Material, Size
from leftout_papers.wide_networks.width import ACTIVATIONS, FEATURES, Pair, problem

WIDTHS = {
    Size.QUICK: (64, 1024),
    Size.USUAL: (64, 128, 256, 512, 1024, 2048, 4096),
    Size.PAPER: (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384),
}
SEEDS = {Size.QUICK: 2, Size.USUAL: 4, Size.PAPER: 12}
STEPS = {Size.QUICK: 100, Size.USUAL: 400, Size.PAPER: 400}

SHARES = (0.5, 0.9, 0.95, 1.05, 1.1, 1.5, 2.5)
"""Of 2 / s_max of the kernel at w_0."""

BELOW, ABOVE = 0.95, 1.05
CLOSE = 0.05
"""Deviation of the rate that is seen, as wide as the gap between just below and just above."""

LEFT = 1 + 1e-9
"""Times the loss at w_0 beyond which it has left: more than rounding."""

LOST = 1e6
"""Times the loss at w_0 beyond which it is gone for good."""

BISECTIONS = 10
"""Of the rates between half and twice the predicted one: to 0.15 % of it."""


@dataclass(frozen=True)
class Run:
    """A descent at one rate.

    Attributes:
        left: whether the loss rose above its start.
        lost: whether the loss left for good.
        loss: the last loss relative to the first.
        peak: the largest loss on the way, relative to the first.
    """

    left: bool
    lost: bool
    loss: float
    peak: float


@dataclass(frozen=True, eq=False)
class Start:
    """A network at w_0, from where descents begin, and the spectrum of its kernel there."""

    network: nn.Module
    train: Pair
    eigenvalues: Float64[Tensor, " n"]

    @property
    def critical(self) -> float:
        """Return 2 / s_max."""
        return 2 / float(self.eigenvalues[-1])

    def residuals(self, rate: float, steps: int) -> Iterator[Tensor]:
        """Yield f_t − y from t = 0 on, (n, 1), until the loss is gone for good."""
        inputs, targets = self.train
        weights = {name: weight.detach() for name, weight in self.network.named_parameters()}
        limit = float("inf")
        for step in range(steps + 1):
            weights = {name: weight.requires_grad_() for name, weight in weights.items()}
            residual = functional_call(self.network, weights, (inputs,)) - targets
            yield residual.detach()
            loss = residual.square().sum() / 2
            if step == 0:
                limit = LOST * loss.item()
            if not loss.item() <= limit:
                return
            slopes = torch.autograd.grad(loss, list(weights.values()))
            weights = {
                name: (weight - rate * slope).detach()
                for (name, weight), slope in zip(weights.items(), slopes, strict=True)
            }

    def run(self, share: float, steps: int) -> Run:
        """Return what becomes of the network at a share of the critical rate."""
        residuals = torch.cat(list(self.residuals(share * self.critical, steps)), dim=1)  # (n, t)
        losses = residuals.square().sum(0)
        losses = losses / losses[0]
        lost = not bool(losses[-1] <= LOST)
        left = lost or bool((losses > LEFT).any())
        return Run(left, lost, float(losses[-1]), float(losses.max()))

    def seen(self, steps: int) -> float:
        """Return the rate from which on it leaves, relative to the critical one, by bisection."""
        low, high = -1.0, 1.0
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            low, high = (low, middle) if self.run(2**middle, steps).left else (middle, high)
        return float(2 ** ((low + high) / 2))

    def pace(self, steps: int) -> float:
        """Return max_t ‖f_t − y‖ / ((1 − η s_min)^t ‖f_0 − y‖) at η = 2 / (s_min + s_max)."""
        low, high = max(0.0, float(self.eigenvalues[0])), float(self.eigenvalues[-1])
        rate = 2 / (low + high)
        norms = torch.cat(list(self.residuals(rate, steps)), dim=1).norm(dim=0)
        promised = (1 - rate * low) ** torch.arange(len(norms), dtype=torch.float64)
        return float((norms / norms[0] / promised.to(norms)).max())


def rates(material: Material) -> Outcome:
    """Run the critical rate, predicted and seen."""
    train, _ = problem(material.generator())
    widths, seeds = WIDTHS[material.size], range(SEEDS[material.size])
    steps = STEPS[material.size]
    names = [activation for activation, _ in ACTIVATIONS]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    todo = list(product(ACTIVATIONS, widths, seeds))
    for (activation, variance), width, seed in with_progress(todo, what="critical rates"):
        network = WideNetwork(
            width,
            FEATURES,
            activation=activation,
            weight_variance=variance,
            generator=material.independent("critical", activation, width, seed),
        )
        start = started(network, train, material)
        runs = {share: start.run(share, steps) for share in SHARES}
        found[activation].append(
            {
                "width": width,
                "seed": seed,
                "critical": start.critical,
                "seen": start.seen(steps),
                "pace": start.pace(steps),
                "runs": {str(share): vars(one) for share, one in runs.items()},
            }
        )
    return _outcome(found, widths, _limit(train))


def started(network: nn.Module, train: Pair, material: Material) -> Start:
    """Return a network at the weights that it has."""
    gram = lo.kernels.gram(lo.kernels.Empirical(network), train[0], memory=material.memory)
    return Start(network, train, torch.linalg.eigvalsh(gram))


def _limit(train: Pair) -> float:
    """Return 2 / s_max of the limit of ReLU networks; that of tanh has no closed form."""
    return 2 / float(torch.linalg.eigvalsh(lo.kernels.gram(lo.kernels.ReLU(1), train[0]))[-1])


def _outcome(found: dict[str, list[dict[str, Any]]], widths: tuple[int, ...], limit: float) -> Outcome:
    rows = [row for name, runs in found.items() for row in _rows(name, runs, widths[-1])]
    near = np.array([one["critical"] for one in found["relu"] if one["width"] == widths[-1]])
    off = np.abs(near / limit - 1)
    rows.append(
        Row(
            f"relu, width {widths[-1]:,}: 2 / s_max of the network against that of the limit kernel",
            "the same",
            f"off by {off.mean():.1%} on average, {off.max():.1%} at most",
            bool(off.mean() <= CLOSE) or "open",
        )
    )
    return Outcome(
        tuple(rows),
        {"limit_of_relu": limit, "networks": found},
        _figure(found, widths),
        (
            "A network leaves where its loss rises above its start. Above the critical rate the linearised "
            "network then diverges; a finite one may come back once its kernel has fallen, and the "
            "narrower it is, the sooner: the rate that is seen is above the one that is predicted.",
        ),
    )


def _rows(name: str, runs: list[dict[str, Any]], width: int) -> list[Row]:
    """Return what is claimed of the widest networks."""
    wide = [one for one in runs if one["width"] == width]
    seen = np.array([one["seen"] for one in wide])
    below, above = ([one["runs"][str(share)] for one in wide] for share in (BELOW, ABOVE))
    stayed = sum(not one["left"] and one["peak"] <= 1 for one in below)
    left, lost = (sum(one[what] for one in above) for what in ("left", "lost"))
    pace = max(one["pace"] for one in wide)
    what = f"{name}, width {width:,}"
    return [
        Row(
            f"{what}: rate from which on descent leaves, relative to 2 / s_max",
            "1",
            f"{seen.mean():.3f} ({seen.min():.3f} to {seen.max():.3f})",
            bool(np.abs(seen - 1).max() <= CLOSE) or "open",
        ),
        Row(
            f"{what}: at {BELOW:g} of it",
            "converges",
            f"{stayed} of {len(wide)} fall, to {max(one['loss'] for one in below):.2g} of the loss",
            stayed == len(wide),
        ),
        Row(
            f"{what}: at {ABOVE:g} of it",
            "diverges, if linear",
            f"{left} of {len(wide)} leave, {lost} of them for good",
            left == len(wide) or "open",
        ),
        Row(
            f"{what}: ‖f_t − y‖ at 2 / (s_min + s_max), of (1 − η s_min)^t ‖f_0 − y‖",
            "at most 1, if linear",
            f"{pace:.3f} at most",
            bool(pace <= 1 + CLOSE) or "open",
        ),
    ]


def _figure(found: dict[str, list[dict[str, Any]]], widths: tuple[int, ...]) -> Figure:
    figure, grid = panels(2, width=4.4, height=3.4)
    for (name, runs), colour in zip(found.items(), (BLUE, RED), strict=True):
        axes = grid[0, 0]
        axes.plot([one["width"] for one in runs], [one["seen"] for one in runs], ".", color=colour)
        middle = [np.mean([one["seen"] for one in runs if one["width"] == width]) for width in widths]
        axes.semilogx(widths, middle, color=colour, label=name)
        wide = [one["runs"] for one in runs if one["width"] == widths[-1]]
        peaks = [np.mean([np.log10(one[str(share)]["peak"]) for one in wide]) for share in SHARES]
        grid[0, 1].plot(SHARES, 10 ** np.array(peaks), "o-", color=colour, label=name)
    grid[0, 0].axhline(1, color=FAINT, ls="--", lw=0.8)
    grid[0, 0].set_xlabel("width")
    grid[0, 0].set_ylabel("seen / predicted")
    grid[0, 0].set_title("Critical rate")
    grid[0, 0].legend()
    grid[0, 1].axvline(1, color=FAINT, ls="--", lw=0.8)
    grid[0, 1].set_yscale("log")
    grid[0, 1].set_xlabel("rate, in 2 / s_max")
    grid[0, 1].set_ylabel("largest loss, relative to the first")
    grid[0, 1].set_title(f"Width {widths[-1]:,}")
    return figure
