"""The critical learning rate, beyond which descent no longer converges: predicted and observed.

    2 / s_max            beyond which the linearised network diverges, step by step by |1 − η s_max|
    2 / (s_min + s_max)  up to which its slowest mode sets the pace, ‖f_t − y‖ ≤ (1 − η s_min)^t ‖f_0 − y‖

s of the tangent kernel at w_0, or of its limit. Just above 2 / s_max the loss of a network rises, too, but it
may fall again: the kernel shrinks on the way, until the rate is no longer too large for it. So a descent is
said to leave if its loss ever exceeds the loss at w_0.
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
STEPS = {Size.QUICK: 80, Size.USUAL: 400, Size.PAPER: 400}

SHARES = (0.5, 0.9, 0.95, 1.05, 1.1, 1.5, 2.5)
"""Of 2 / s_max of the kernel at w_0."""

BELOW, ABOVE = 0.95, 1.05
CLOSE = 0.05
"""Deviation of the observed rate that counts as agreement, as wide as the gap from `BELOW` to `ABOVE`."""

LEFT = 1 + 1e-9
"""Multiple of the loss at w_0 beyond which a descent has left: more than rounding."""

LOST = 1e6
"""Multiple of the loss at w_0 beyond which a descent is lost for good."""

BISECTIONS = 10
"""Of the rates between half and twice the predicted one: to 0.15 % of it."""


@dataclass(frozen=True)
class Run:
    """A descent at one rate.

    Attributes:
        left: whether the loss rose above its start.
        lost: whether it rose beyond return.
        loss: the last loss relative to the first.
        peak: the largest loss on the way, relative to the first.
    """

    left: bool
    lost: bool
    loss: float
    peak: float


@dataclass(frozen=True, eq=False)
class Start:
    """A network at its initial weights w_0, and the spectrum of its kernel there."""

    network: nn.Module
    train: Pair
    eigenvalues: Float64[Tensor, " n"]

    @property
    def critical(self) -> float:
        """Return 2 / s_max."""
        return 2 / float(self.eigenvalues[-1])

    def residuals(self, rate: float, steps: int) -> Iterator[Tensor]:
        """Yield f_t − y from t = 0 on, (n, 1), until the descent is lost."""
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

    def descend(self, share: float, steps: int) -> Run:
        """Return the descent at a share of the critical rate."""
        residuals = torch.cat(list(self.residuals(share * self.critical, steps)), dim=1)  # (n, t)
        losses = residuals.square().sum(0)
        losses = losses / losses[0]
        lost = not bool(losses[-1] <= LOST)
        has_left = lost or bool((losses > LEFT).any())
        return Run(has_left, lost, float(losses[-1]), float(losses.max()))

    def observed_rate(self, steps: int) -> float:
        """Return the rate from which on descent leaves, relative to the critical one, by bisection."""
        low, high = -1.0, 1.0
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            low, high = (low, middle) if self.descend(2**middle, steps).left else (middle, high)
        return float(2 ** ((low + high) / 2))

    def pace(self, steps: int) -> float:
        """Return max_t ‖f_t − y‖ / ((1 − η s_min)^t ‖f_0 − y‖) at η = 2 / (s_min + s_max)."""
        low, high = max(0.0, float(self.eigenvalues[0])), float(self.eigenvalues[-1])
        rate = 2 / (low + high)
        norms = torch.cat(list(self.residuals(rate, steps)), dim=1).norm(dim=0)
        promised = (1 - rate * low) ** torch.arange(len(norms), dtype=torch.float64)
        return float((norms / norms[0] / promised.to(norms)).max())


def rates(material: Material) -> Outcome:
    """Compare the critical rate, predicted and observed."""
    train, _ = problem(material.generator())
    widths, seeds = WIDTHS[material.size], range(SEEDS[material.size])
    steps = STEPS[material.size]
    names = [activation for activation, _ in ACTIVATIONS]
    networks: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    todo = list(product(ACTIVATIONS, widths, seeds))
    for (activation, variance), width, seed in with_progress(todo, what="critical rates"):
        network = WideNetwork(
            width,
            FEATURES,
            activation=activation,
            weight_variance=variance,
            generator=material.independent("critical", activation, width, seed),
        )
        start = descent_start(network, train, material)
        runs = {share: start.descend(share, steps) for share in SHARES}
        networks[activation].append(
            {
                "width": width,
                "seed": seed,
                "critical": start.critical,
                "seen": start.observed_rate(steps),
                "pace": start.pace(steps),
                "runs": {str(share): vars(run) for share, run in runs.items()},
            }
        )
    return _outcome(networks, widths, _limit(train))


def descent_start(network: nn.Module, train: Pair, material: Material) -> Start:
    """Return the start of descents from the network's present weights."""
    gram = lo.kernels.gram(lo.kernels.Empirical(network, weights="initial"), train[0], memory=material.memory)
    return Start(network, train, torch.linalg.eigvalsh(gram))


def _limit(train: Pair) -> float:
    """Return 2 / s_max of the limit of ReLU networks; that of tanh has no closed form."""
    return 2 / float(torch.linalg.eigvalsh(lo.kernels.gram(lo.kernels.ReLU(1), train[0]))[-1])


def _outcome(networks: dict[str, list[dict[str, Any]]], widths: tuple[int, ...], limit: float) -> Outcome:
    rows = [row for name, runs in networks.items() for row in _rows(name, runs, widths[-1])]
    near = np.array([run["critical"] for run in networks["relu"] if run["width"] == widths[-1]])
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
        {"limit_of_relu": limit, "networks": networks},
        _figure(networks, widths),
        (
            "A network leaves where its loss rises above its start. Above the critical rate the linearised "
            "network then diverges; a finite one may come back once its kernel has fallen, and the "
            "narrower it is, the sooner: the rate that is seen is above the one that is predicted.",
        ),
    )


def _rows(name: str, runs: list[dict[str, Any]], width: int) -> list[Row]:
    """Return the statements on the widest networks."""
    wide = [run for run in runs if run["width"] == width]
    observed = np.array([run["seen"] for run in wide])
    below, above = ([run["runs"][str(share)] for run in wide] for share in (BELOW, ABOVE))
    stayed = sum(not run["left"] and run["peak"] <= 1 for run in below)
    leaving, lost = (sum(run[key] for run in above) for key in ("left", "lost"))
    pace = max(run["pace"] for run in wide)
    setting = f"{name}, width {width:,}"
    return [
        Row(
            f"{setting}: rate from which on descent leaves, relative to 2 / s_max",
            "1",
            f"{observed.mean():.3f} ({observed.min():.3f} to {observed.max():.3f})",
            bool(np.abs(observed - 1).max() <= CLOSE) or "open",
        ),
        Row(
            f"{setting}: at {BELOW:g} of it",
            "converges",
            f"{stayed} of {len(wide)} fall, to {max(run['loss'] for run in below):.2g} of the loss",
            stayed == len(wide),
        ),
        Row(
            f"{setting}: at {ABOVE:g} of it",
            "diverges, if linear",
            f"{leaving} of {len(wide)} leave, {lost} of them for good",
            leaving == len(wide) or "open",
        ),
        Row(
            f"{setting}: ‖f_t − y‖ at 2 / (s_min + s_max), of (1 − η s_min)^t ‖f_0 − y‖",
            "at most 1, if linear",
            f"{pace:.3f} at most",
            bool(pace <= 1 + CLOSE) or "open",
        ),
    ]


def _figure(networks: dict[str, list[dict[str, Any]]], widths: tuple[int, ...]) -> Figure:
    figure, grid = panels(2, width=4.4, height=3.4)
    for (name, runs), colour in zip(networks.items(), (BLUE, RED), strict=True):
        axes = grid[0, 0]
        axes.plot([run["width"] for run in runs], [run["seen"] for run in runs], ".", color=colour)
        middle = [np.mean([run["seen"] for run in runs if run["width"] == width]) for width in widths]
        axes.semilogx(widths, middle, color=colour, label=name)
        wide = [run["runs"] for run in runs if run["width"] == widths[-1]]
        peaks = [np.mean([np.log10(run[str(share)]["peak"]) for run in wide]) for share in SHARES]
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
