"""Appendix A.1: a wide random network of one hidden layer is nearly a Gaussian process (Neal).

    f(x) = √b c + sqrt(w / H) Σ_j v_j h_j(x),    h_j(x) = σ(sqrt(w / d) u_j·x + √b a_j),

with everything drawn from N(0, 1). Given its hidden layer f is Gaussian, with the kernel of that very layer,
k̂ = b + (w / H) Σ_j h_j h_jᵀ; its mean is the NNGP kernel k at any width. Only that k̂ varies keeps f from
being Gaussian, and exactly so:

    relative RMS of k̂ − k     ∝ H^(−1/2),
    excess kurtosis of f(x)    3 Var k̂(x, x) / k(x, x)² = 3 w² Var h² / (H k²).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from matplotlib.figure import Figure
from scipy.stats import norm
from torch import Generator, Tensor

import leftout as lo
from leftout.core import with_progress
from leftout_papers.drawing import BLUE, FAINT, ORANGE, RED, panels
from leftout_papers.exhibit import Holds, Outcome, Row
from leftout_papers.material import Material, Size
from leftout_papers.rethinking_influence.width import exponent

FEATURES, POINTS = 5, 4
WEIGHT_VARIANCE, BIAS_VARIANCE = 2.0, 0.1
SIGMA = {"tanh": torch.tanh, "erf": torch.erf}

WIDTHS = {
    Size.QUICK: (1, 4, 16, 64),
    Size.USUAL: (1, 4, 16, 64, 256, 1024),
    Size.PAPER: (1, 4, 16, 64, 256, 1024, 4096),
}
NETWORKS = {Size.QUICK: 8_000, Size.USUAL: 40_000, Size.PAPER: 100_000}
GROUPS = 8
"""Number of independent groups of networks, whose spread gives the errors of estimates."""

ROOM = 0.05
"""How far the end of an exponent's interval may lie from the exponent to agree with it."""

SURE = 4.0
"""Standard errors at which a number differs: about twenty are compared."""

HIDDEN = 2**22
"""Hidden units held at once."""


@dataclass(frozen=True, eq=False)
class RandomNetworks:
    """Random networks of one width.

    Attributes:
        outputs: f at the points.
        kernels: k̂ of each network between the points.
    """

    outputs: Float64[Tensor, "s p"]
    kernels: Float64[Tensor, "s p p"]


def simulate_networks(material: Material) -> Outcome:
    """Compare random networks with Neal's limit."""
    points = draw_points(material.generator(11))
    widths, count = WIDTHS[material.size], NETWORKS[material.size]
    rows: list[Row] = []
    record: dict[str, Any] = {"widths": list(widths), "networks": count}
    shown: dict[str, dict[int, RandomNetworks]] = {}
    for sigma in SIGMA:
        drawn = {
            width: draw_networks(sigma, width, points, count, material.independent(sigma, width))
            for width in with_progress(widths, what=f"random {sigma} networks", total=len(widths))
        }
        shown[sigma] = drawn
        measured = measure_networks(sigma, points, drawn)
        rows += _rows(sigma, widths, measured)
        record[sigma] = measured
    notes = (
        f"{count:,} networks of each width, inputs of norm √d in d = {FEATURES} dimensions, weight variance "
        f"{WEIGHT_VARIANCE:g} over fan-in and bias variance {BIAS_VARIANCE:g}.",
        "At any width the covariance over networks is the kernel of the limit; what widens brings about is "
        "that each network has it by itself, and that the distribution becomes normal.",
    )
    return Outcome(tuple(rows), record, _figure(widths, record, shown, points), notes)


def draw_points(generator: Generator) -> Float64[Tensor, "p d"]:
    """Return the points at which networks are evaluated, of norm √d."""
    drawn = torch.randn(POINTS, FEATURES, generator=generator, dtype=torch.float64)
    points: Tensor = drawn / drawn.norm(dim=1, keepdim=True) * math.sqrt(FEATURES)
    return points


def kernel(sigma: str) -> lo.kernels.Kernel:
    """Return the NNGP kernel of the limit."""
    family = {"tanh": lo.kernels.Tanh, "erf": lo.kernels.Erf}[sigma]
    return family(1, WEIGHT_VARIANCE, BIAS_VARIANCE, kind="nngp")


def draw_networks(
    sigma: str, width: int, points: Float64[Tensor, "p d"], count: int, generator: Generator
) -> RandomNetworks:
    """Return outputs and kernels of `count` random networks."""
    scaled = points.T * math.sqrt(WEIGHT_VARIANCE / points.shape[1])  # (d, p)
    outputs, kernels = [], []
    most = max(1, HIDDEN // (width * len(points)))
    for start in range(0, count, most):
        chunk = min(most, count - start)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        bias = math.sqrt(BIAS_VARIANCE) * normal(chunk, width, 1)
        hidden = SIGMA[sigma](normal(chunk, width, points.shape[1]) @ scaled + bias)  # (s, h, p)
        readout = normal(chunk, 1, width) @ hidden * math.sqrt(WEIGHT_VARIANCE / width)
        outputs.append(readout[:, 0] + math.sqrt(BIAS_VARIANCE) * normal(chunk, 1))
        kernels.append(hidden.mT @ hidden * (WEIGHT_VARIANCE / width) + BIAS_VARIANCE)
    return RandomNetworks(torch.cat(outputs), torch.cat(kernels))


def measure_networks(
    sigma: str, points: Float64[Tensor, "p d"], drawn: dict[int, RandomNetworks]
) -> dict[str, list[float] | list[list[float]]]:
    """Return the differences of covariances and kernels from the limit and the kurtosis, for each width.

    Covariances in standard errors, the largest of all entries; kernels and kurtosis by group.
    """
    limit = kernel(sigma).block(points, points)
    apart, covariance, deviation, excess, direct, doubt = [], [], [], [], [], []
    for sample in drawn.values():
        products = sample.outputs[:, :, None] * sample.outputs[:, None]
        error = products.std(0) / math.sqrt(len(products))
        apart.append(float(((products.mean(0) - limit).abs() / error).max()))
        covariance.append(float((products.mean(0) - limit).norm() / limit.norm()))
        groups = sample.kernels.chunk(GROUPS)
        deviation.append(
            [float((group - limit).square().sum((1, 2)).mean().sqrt() / limit.norm()) for group in groups]
        )
        diagonals = [group.diagonal(dim1=1, dim2=2) for group in groups]
        excess.append([float((3 * values.var(0) / limit.diagonal().square()).mean()) for values in diagonals])
        estimates = np.array([_kurtosis(values) for values in sample.outputs.chunk(GROUPS)])
        direct.append(float(estimates.mean()))
        doubt.append(float(estimates.std(ddof=1) / math.sqrt(GROUPS)))
    exact = [float(kurtosis(sigma, points, width).mean()) for width in drawn]
    return {
        "covariance_in_standard_errors": apart,
        "covariance": covariance,
        "kernel": deviation,
        "kurtosis_given_hidden": excess,
        "kurtosis": direct,
        "kurtosis_error": doubt,
        "kurtosis_exact": exact,
    }


def kurtosis(sigma: str, points: Float64[Tensor, "p d"], width: int) -> Float64[Tensor, " p"]:
    """Return the excess kurtosis of f at each point, exactly: 3 w² Var h² / (H k²)."""
    nodes, heights = np.polynomial.hermite_e.hermegauss(200)
    weights = torch.from_numpy(heights / heights.sum())
    variance = WEIGHT_VARIANCE * points.square().mean(1) + BIAS_VARIANCE
    hidden = SIGMA[sigma](variance.sqrt()[:, None] * torch.from_numpy(nodes))
    second, fourth = hidden.square() @ weights, hidden.pow(4) @ weights
    limit = WEIGHT_VARIANCE * second + BIAS_VARIANCE
    excess: Tensor = 3 * WEIGHT_VARIANCE**2 * (fourth - second.square()) / (width * limit.square())
    return excess


def _kurtosis(outputs: Float64[Tensor, "s p"]) -> float:
    """Return the excess kurtosis of outputs, on the mean over points."""
    return float((outputs.pow(4).mean(0) / outputs.square().mean(0).square()).mean() - 3)


def _rows(sigma: str, widths: tuple[int, ...], measured: dict[str, Any]) -> list[Row]:
    slopes = [exponent(widths, np.array(measured[name])) for name in ("kernel", "kurtosis_given_hidden")]
    rows = [
        Row(
            f"{sigma}: covariance over networks and the NNGP kernel, at most",
            "equal (eqs. 50, 52)",
            f"{max(measured['covariance_in_standard_errors']):.1f} standard errors apart",
            max(measured["covariance_in_standard_errors"]) < SURE,
        )
    ]
    for (slope, low, high), rate, quantity in zip(
        slopes, (-0.5, -1.0), ("one network's kernel from k", "excess kurtosis"), strict=True
    ):
        rows.append(
            Row(
                f"{sigma}: {quantity}, exponent of the width",
                f"tends to 0 (central limit theorem: {rate:g})",
                f"{slope:.3f} (95 %: {low:.3f} to {high:.3f})",
                exponent_is(rate, low, high),
            )
        )
    errors = [
        abs(estimate - exact) / error
        for estimate, exact, error in zip(
            measured["kurtosis"], measured["kurtosis_exact"], measured["kurtosis_error"], strict=True
        )
    ]
    narrow, wide = measured["kurtosis"][0], measured["kurtosis"][-1]
    rows.append(
        Row(
            f"{sigma}: excess kurtosis of outputs, width {widths[0]} → {widths[-1]}",
            "→ 0 (Gaussian)",
            f"{narrow:.3f} → {wide:.3f}; by formula {measured['kurtosis_exact'][0]:.3f} → "
            f"{measured['kurtosis_exact'][-1]:.4f}",
            # Eight groups give the error to a quarter: six such errors are as rare as four exact ones.
            max(errors) < 1.5 * SURE,
        )
    )
    return rows


def exponent_is(rate: float, low: float, high: float) -> Holds:
    """Return whether an exponent with the interval (low, high) is `rate`, to within `ROOM`."""
    if high < rate - ROOM or low > rate + ROOM:
        return False
    return True if rate - ROOM < low and high < rate + ROOM else "open"


def _figure(
    widths: tuple[int, ...],
    record: dict[str, Any],
    shown: dict[str, dict[int, RandomNetworks]],
    points: Float64[Tensor, "p d"],
) -> Figure:
    figure, grid = panels(3, width=4.2, height=3.5)
    quantiles, kernels, tails = grid[0]
    limit = float(kernel("tanh").diagonal(points[:1])[0].sqrt())
    share = (np.arange(400) + 0.5) / 400
    three = (widths[0], widths[len(widths) // 2], widths[-1])
    for width, colour in zip(three, (RED, ORANGE, BLUE), strict=True):
        values = np.quantile(shown["tanh"][width].outputs[:, 0].numpy(), share) / limit
        quantiles.plot(norm.ppf(share), values, color=colour, label=f"width {width}")
    quantiles.plot([-3, 3], [-3, 3], "--", color=FAINT)
    quantiles.set_xlabel("quantile of the normal distribution")
    quantiles.set_ylabel("quantile of f / √k, tanh")
    quantiles.set_title("Outputs of random networks")
    quantiles.legend(fontsize=8)
    for sigma, colour in zip(SIGMA, (BLUE, ORANGE), strict=True):
        measured = record[sigma]
        kernels.loglog(widths, np.mean(measured["kernel"], axis=1), "o", color=colour, label=sigma)
        tails.errorbar(
            widths,
            measured["kurtosis"],
            2 * np.array(measured["kurtosis_error"]),
            fmt="o",
            ms=4,
            color=colour,
            label=f"{sigma}: outputs",
        )
        tails.plot(widths, measured["kurtosis_exact"], color=colour, label=f"{sigma}: 3w²Var h² / Hk²")
    first = float(np.mean(record["tanh"]["kernel"][0]))
    kernels.loglog(widths, first * (np.array(widths) / widths[0]) ** -0.5, "--", color=FAINT)
    kernels.set_xlabel("width")
    kernels.set_title("One network's kernel: RMS |k̂ − k| / |k|")
    kernels.legend(fontsize=8)
    tails.set_xscale("log")
    tails.set_yscale("symlog", linthresh=0.01)
    tails.set_xlabel("width")
    tails.set_title("Excess kurtosis")
    tails.legend(fontsize=7)
    return figure
