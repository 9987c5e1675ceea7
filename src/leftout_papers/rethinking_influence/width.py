"""Theorem 1 and proposition 1: how fast do networks approach their NTK limit with the width?

The deviation of the trained network from the NTK predictor at the queries, and of its classical
influence function from the limit, against width, with the fitted exponent. The theorems' rate is
m^(−1/2), as an upper bound.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.stats import linregress, t

import leftout as lo
from leftout_papers.drawing import BLUE, FAINT, panels
from leftout_papers.exhibit import Outcome, Row
from leftout_papers.material import Material, Size
from leftout_papers.verdicts import at_most

EXAMPLES = (100, 50)
RATE, SLOWER = -0.5, -0.25
"""The theorems' exponent, and one half as fast, which the interval must exclude to agree."""
RIDGE = 1.0
WIDTHS = {
    Size.QUICK: (128, 512, 2048),
    Size.USUAL: (500, 1_000, 2_000, 4_000, 8_000, 16_000),
    Size.PAPER: (500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000),
}
WIDTHS_OF_INFLUENCE = {
    Size.QUICK: (64, 256, 1024),
    Size.USUAL: (250, 500, 1_000, 2_000, 4_000),
    Size.PAPER: (250, 500, 1_000, 2_000, 4_000, 8_000, 16_000),
}
"""Fewer, since each query takes a solve with curvature products of millions of weights."""

QUERIES_OF_INFLUENCE = 5
SEEDS = {Size.QUICK: 2, Size.USUAL: 4, Size.PAPER: 8}

Deviation = Callable[[lo.Trained, lo.Fitted, lo.Examples], float]


def binary(material: Material) -> Outcome:
    """Run theorem 1: predictions."""
    return _outcome(material, WIDTHS, _prediction_gap, "network and NTK predictor", "RMS |f_nn − f_ntk|")


def classical(material: Material) -> Outcome:
    """Run proposition 1: the classical influence function."""
    return _outcome(
        material,
        WIDTHS_OF_INFLUENCE,
        _influence_gap,
        "classical influence function and its limit",
        "relative error of Î",
    )


def _prediction_gap(trained: lo.Trained, fitted: lo.Fitted, query: lo.Examples) -> float:
    gap = trained.predict(query).cpu() - fitted.predict(query).cpu()
    return float(gap.square().mean().sqrt())


def _influence_gap(trained: lo.Trained, fitted: lo.Fitted, query: lo.Examples) -> float:
    queries = query.select(range(QUERIES_OF_INFLUENCE))
    return float(lo.bounds.limit(trained, fitted, queries).attrs["relative_error"])


def _outcome(
    material: Material, by_size: dict[Size, tuple[int, ...]], deviation: Deviation, quantity: str, label: str
) -> Outcome:
    examples, query = material.pair(*EXAMPLES)
    fitted = material.fit_kernel(examples, lo.Ridge(RIDGE))
    widths = by_size[material.size]
    gaps = np.array(
        [
            [
                deviation(_train_network(material, fitted, width, seed), fitted, query)
                for seed in range(SEEDS[material.size])
            ]
            for width in widths
        ]
    )  # (width, seed)
    slope, low, high = exponent(widths, gaps)
    rows = (
        Row(
            f"{quantity}, exponent of the width",
            "at most −1/2 (upper bound m^(−1/2))",
            f"{slope:.3f} (95 %: {low:.3f} to {high:.3f})",
            at_most(RATE, low, high, beyond=SLOWER),
        ),
        Row(
            f"{label}, width {widths[0]:,} → {widths[-1]:,}",
            "tends to 0",
            f"{gaps[0].mean():.3g} → {gaps[-1].mean():.3g}",
            at_most(0.0, low, high, beyond=0.0),
        ),
    )
    record: dict[str, Any] = {
        "examples": len(fitted),
        "queries": len(query),
        "ridge": RIDGE,
        "widths": list(widths),
        "deviation": gaps.tolist(),
        "exponent": slope,
        "exponent_low": low,
        "exponent_high": high,
    }
    notes = (
        "Networks of antisymmetric pairs, κ = 0.1, trained to where the gradient of eq. 2 with gates "
        "opened over O(m^(−1/2)) is 1e-6 of that at the start.",
    )
    return Outcome(rows, record, _figure(widths, gaps, slope, label), notes)


def exponent(widths: tuple[int, ...], measured: np.ndarray) -> tuple[float, float, float]:
    """Return the slope of log deviation on log width, and its 95 % interval; (width, seed) values."""
    x = np.repeat(np.log(widths), measured.shape[1])
    line = linregress(x, np.log(measured.ravel()))
    reach = t.ppf(0.975, len(x) - 2) * line.stderr
    return float(line.slope), float(line.slope - reach), float(line.slope + reach)


def _train_network(material: Material, fitted: lo.Fitted, width: int, seed: int) -> lo.Trained:
    network = lo.TwoLayerNetwork(
        width,
        fitted.train.inputs[0].numel(),
        scale=0.1,
        antisymmetric=True,
        generator=material.independent(width, seed),
        dtype=torch.float64,
    )
    return lo.train(
        network, fitted.train, rule=lo.Ridge(RIDGE), device=material.device, memory=material.memory
    )


def _figure(widths: tuple[int, ...], measured: np.ndarray, slope: float, label: str) -> Figure:
    figure, grid = panels(1, width=5.2, height=3.6)
    axes = grid[0, 0]
    for values in measured.T:
        axes.loglog(widths, values, "o", color=BLUE, ms=4, alpha=0.6)
    middle = np.exp(np.log(measured).mean(1))
    axes.loglog(widths, middle, color=BLUE, label=f"measured: width^{slope:.2f}")
    reference = middle[0] * (np.array(widths) / widths[0]) ** -0.5
    axes.loglog(widths, reference, "--", color=FAINT, label="width^−0.5")
    axes.set_xlabel("width")
    axes.set_ylabel(label)
    axes.set_title("Distance from the limit")
    axes.legend()
    return figure
