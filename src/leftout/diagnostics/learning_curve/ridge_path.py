"""Out-of-sample errors of n examples along the ridge, from one spectrum.

With G = (K + ridge·I)⁻¹, theory (eigenlearning; random matrices) gives two numbers of the population, from
traces of G alone, without the targets:

    κ  = 1 / tr G                        how far down the spectrum is learned: n − ridge/κ = Σ λ/(λ + κ)
    E0 = n tr G² / (tr G)²               the over-fitting coefficient of n examples

The error itself is measured: on each example by the model fitted without it, y_i − f_without_i(x_i) =
(G_ii)⁻¹ (G y)_i, exactly; or on held-out examples. Then B = error / E0 is the part of the target that is not
learned at κ, Σ (κ/(λ + κ))² v² + noise: no coefficient v needs to be estimated.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from leftout.data.examples import Examples
from leftout.solvers.left_out_path import left_out_residuals, ridge_filters
from leftout.solvers.spectrum import Spectrum

POINTS = 32
"""Ridges of a path."""

MOST = 0.65
"""Share of the rows that is learned at the smallest ridge. Measured: beyond it, with next to no ridge, κ and
E0 are up to 5 % off in opposite directions (the resulting error stays right); up to it within 1.5 %."""

FEWEST = 0.25
"""Modes learned at the largest ridge."""


@dataclass(frozen=True, eq=False)
class RidgePath:
    """Measurements at q ridges, ascending, on e examples each.

    Attributes:
        rows: of the Gram matrix.
        log_kappa: log κ, ascending.
        log_modes: log (rows − ridge/κ), the modes learned.
        log_excess: log E0.
        errors: squared error of each example, summed over outputs, (q, e).
        wrong: whether each was classified wrongly; None for regression.
    """

    rows: int
    log_kappa: Float64[Tensor, " q"]
    log_modes: Float64[Tensor, " q"]
    log_excess: Float64[Tensor, " q"]
    errors: Float64[Tensor, "q e"]
    wrong: Bool[Tensor, "q e"] | None


def path_ridges(spectrum: Spectrum) -> list[float]:
    """Return ridges evenly spaced in their logarithm, from most to fewest modes learned."""
    values = spectrum.values.clamp_min(0)
    rows = len(spectrum.vectors)
    noise = rows * torch.finfo(values.dtype).eps * float(values[0])
    rank = int((values > noise).sum())
    most = min(MOST * rows, 0.95 * rank)
    low, high = (_ridge_for(values, modes) for modes in (most, min(FEWEST, most / 8)))
    return torch.logspace(
        math.log10(low), math.log10(high), POINTS, dtype=torch.float64, device="cpu"
    ).tolist()


def _ridge_for(values: Float64[Tensor, " r"], modes: float) -> float:
    """Return the ridge at which Σ s/(s + ridge) equals `modes`, by bisection in its logarithm."""
    scale = float(values.sum())
    low, high = -100.0, 100.0
    for _ in range(80):
        middle = (low + high) / 2
        if float((values / (values + scale * math.exp(middle))).sum()) > modes:
            low = middle
        else:
            high = middle
    return scale * math.exp(low)


def left_out_path(
    spectrum: Spectrum, residual: Float64[Tensor, "r c"], train: Examples, ridges: list[float]
) -> RidgePath:
    """Return the path of a sample, measured on each of its examples by the model without it.

    Args:
        residual: Y − f_0 by rows of the kernel.

    Cost:
        4nr flops for each ridge and row for the diagonal, 2r²c for each ridge for the errors.
    """
    outputs = len(spectrum.vectors) // len(train)
    residuals = list(left_out_residuals(spectrum, residual, ridges, outputs))
    return _path(spectrum, ridges, residuals, train)


def held_out_path(
    spectrum: Spectrum,
    residual: Float64[Tensor, "r c"],
    cross: Float64[Tensor, "m r"],
    target: Float64[Tensor, "m c"],
    outside: Examples,
    ridges: list[float],
) -> RidgePath:
    """Return the path of a sample, measured on examples outside it.

    Args:
        cross: K(outside, sample).
        target: Y − f_0 of the examples outside, by rows of the kernel.
        outside: these examples.

    Cost:
        2mr² once, 2mrc for each ridge.
    """
    coordinates = spectrum.coordinates(residual)
    features = spectrum.of_rows(cross)
    residuals = [
        (target - features @ (filter[:, None] * coordinates)).reshape(len(outside), -1)
        for filter in ridge_filters(spectrum, ridges)
    ]
    return _path(spectrum, ridges, residuals, outside)


def _path(
    spectrum: Spectrum, ridges: list[float], residuals: list[Float64[Tensor, "e k"]], examples: Examples
) -> RidgePath:
    filters = ridge_filters(spectrum, ridges)
    zero = 1 / torch.tensor(ridges, dtype=torch.float64, device=filters.device)  # of an eigenvalue of 0
    rows, trace = len(spectrum.vectors), filters.sum(1) + (spectrum.null * zero if spectrum.null else 0.0)
    squares = filters.square().sum(1) + (spectrum.null * zero.square() if spectrum.null else 0.0)
    wrong = None
    if examples.labels is not None:
        targets, labels = examples.targets.cpu(), examples.labels.cpu()
        wrong = torch.stack(
            [examples.encoding.decode(targets - residual.cpu()) != labels for residual in residuals]
        )
    return RidgePath(
        rows=rows,
        log_kappa=-trace.log().cpu(),
        # Σ s/(s + ridge) rather than rows − ridge·tr G: nothing cancels where few modes are learned.
        log_modes=(spectrum.values * filters).sum(1).log().cpu(),
        log_excess=(rows * squares / trace.square()).log().cpu(),
        errors=torch.stack([residual.square().sum(1).cpu() for residual in residuals]),
        wrong=wrong,
    )
