"""Are test errors, training errors and the covariance of learned coefficients those of the theory?

Kernel regression on the three domains, with and without ridge. With a ridge theory has two readings: of
examples drawn independently, as printed, and of different points of a finite domain, as the paper draws them
on circle and hypercube.
"""

from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

import leftout as lo
from leftout.data import Hypercube
from leftout.solvers import factor_cholesky
from leftout_papers.drawing import BLUE, FAINT, ORANGE, panels
from leftout_papers.exhibit import Holds, Outcome, Row
from leftout_papers.material import Material, Size
from leftout_papers.wide_networks.setting import KERNEL, SETTINGS, Setting, learned

EXAMPLES = {Size.QUICK: (16, 64), Size.USUAL: (4, 16, 32, 64, 128), Size.PAPER: (4, 16, 32, 64, 128)}
SETS = {Size.QUICK: 30, Size.USUAL: 300, Size.PAPER: 300}
RIDGES = (0.0, 1.0)
AGREE = 0.1
"""Relative difference of errors that still reads as agreement in the paper's logarithmic figures."""

COVARIANCE = (32, 1.0, {Size.QUICK: 100, Size.USUAL: 1000, Size.PAPER: 1000})
"""Examples, ridge and data sets of the covariance, on the hypercube."""


def simulated(material: Material) -> Outcome:
    """Run errors and covariance."""
    examples = EXAMPLES[material.size]
    found: list[dict[str, Any]] = []
    for setting in SETTINGS:
        for ridge in RIDGES:
            found += _measured(material, setting, ridge, examples)
    covariance = _covariance(material)
    rows = [_row(setting, ridge, found) for setting in SETTINGS for ridge in RIDGES]
    rows += [_train_row(setting, found) for setting in SETTINGS]
    rows += _covariance_rows(covariance)
    result = {"errors": found, "sets": SETS[material.size], "covariance": covariance}
    notes = (
        f"Means over {SETS[material.size]} random data sets and the whole domain, examples included. "
        f"Agreement is a median relative difference over n and degrees of at most {AGREE:.0%}.",
        "The paper's formula for a ridge is of independent draws; of different points of a finite domain "
        "the ridge takes less, and both are shown.",
    )
    return Outcome(tuple(rows), result, _figure(found, covariance), notes)


def _measured(
    material: Material, setting: Setting, ridge: float, examples: tuple[int, ...]
) -> list[dict[str, Any]]:
    generator = material.independent("errors", setting.name, str(ridge))
    kept = []
    for n in examples:
        runs = [
            learned(setting, setting.drawn(n, generator), ridge=ridge) for _ in range(SETS[material.size])
        ]
        printed, finite = (
            setting.predicted(n, ridge=ridge, without_replacement=different)
            for different in (False, setting.spectrum.points is not None)
        )
        test = torch.stack([one.test_error for one in runs])
        train = torch.stack([one.train_error for one in runs])
        for place, degree in enumerate(setting.degrees):
            one = {"domain": setting.name, "ridge": ridge, "n": n, "degree": degree}
            for name, values in (("test", test), ("train", train)):
                one[name] = float(values[:, place].mean())
                one[f"{name}_error"] = float(values[:, place].std() / len(values) ** 0.5)
            for name, theory in (("printed", printed), ("finite", finite)):
                alone = theory.alone(place)
                one[f"{name}_test"], one[f"{name}_train"] = alone.test_error, alone.train_error
            kept.append(one)
    return kept


def _row(setting: Setting, ridge: float, found: list[dict[str, Any]]) -> Row:
    some = [one for one in found if one["domain"] == setting.name and one["ridge"] == ridge]
    printed, finite = (_off(some, name, "test") for name in ("printed", "finite"))
    differs = ridge > 0 and setting.spectrum.points is not None
    return Row(
        f"{setting.name}, ridge {ridge:g}: relative difference of measured and predicted test error, "
        "median (largest)",
        "they agree, drawn",
        _said(printed) + (f"; of different points {_said(finite)}" if differs else ""),
        _holds(finite),
    )


def _train_row(setting: Setting, found: list[dict[str, Any]]) -> Row:
    some = [one for one in found if one["domain"] == setting.name and one["ridge"] > 0]
    printed, finite = (_off(some, name, "train") for name in ("printed", "finite"))
    return Row(
        f"{setting.name}, ridge {RIDGES[1]:g}: the same of the training error",
        "(ridge / nκ)² test error",
        _said(printed) + (f"; of different points {_said(finite)}" if setting.spectrum.points else ""),
        _holds(finite),
    )


def _off(some: list[dict[str, Any]], theory: str, name: str) -> np.ndarray:
    return np.array([abs(one[f"{theory}_{name}"] / one[name] - 1) for one in some])


def _said(off: np.ndarray) -> str:
    return f"{np.median(off):.1%} ({off.max():.0%})"


def _holds(off: np.ndarray) -> Holds:
    return bool(np.median(off) <= AGREE)


def _covariance(material: Material) -> dict[str, Any]:
    """Return measured and predicted variances of the coefficients of degree 0, 1 and 2 of a target.

    The target is the first function of degree 2.
    """
    n, ridge, counts = COVARIANCE
    cube = Hypercube(8)
    basis = torch.cat([cube.eigenfunctions(degree) for degree in (0, 1, 2)], dim=1)  # (M, 37)
    target = basis[:, 9]
    gram = KERNEL.block(cube.points, cube.points)
    generator = material.independent("covariance")
    draws = []
    for _ in range(counts[material.size]):
        rows = torch.randperm(cube.count, generator=generator)[:n]
        dual = factor_cholesky(gram[rows][:, rows], ridge=ridge).solve(target[rows][:, None])
        draws.append(basis.T @ (gram[:, rows] @ dual)[:, 0] / cube.count)
    learned_coefficients = torch.stack(draws)
    spectrum = SETTINGS[1].spectrum
    theory = lo.from_modes(
        spectrum.eigenvalues,
        torch.eye(9, dtype=torch.float64)[2],
        n=n,
        ridge=ridge,
        multiplicities=spectrum.multiplicities,
        points=cube.count,
        without_replacement=True,
    )
    each = torch.tensor([0] + [1] * 8 + [2] * 28)
    return {
        "n": n,
        "ridge": ridge,
        "sets": len(draws),
        "degrees": each.tolist(),
        "mean": learned_coefficients.mean(0).tolist(),
        "predicted_mean": float(theory.mean[2, 0]),
        "covariance": torch.cov(learned_coefficients.T).tolist(),
        "predicted_variance": theory.covariance[each, 0].tolist(),
    }


def _covariance_rows(found: dict[str, Any]) -> tuple[Row, ...]:
    covariance = np.array(found["covariance"])
    own, predicted = np.diag(covariance), np.array(found["predicted_variance"])
    correlation = np.abs(covariance / np.sqrt(np.outer(own, own)))[np.triu_indices(len(own), 1)]
    chance = np.sqrt(2 / (np.pi * found["sets"]))
    ratios = [
        own[np.array(found["degrees"]) == degree].mean()
        / predicted[np.array(found["degrees"]) == degree].mean()
        for degree in (0, 1, 2)
    ]
    setting = f"hypercube, n = {found['n']}, ridge {found['ridge']:g}"
    return (
        Row(
            f"{setting}: variance of learned coefficients over E L² / n, degrees 0, 1, 2",
            "1",
            ", ".join(f"{ratio:.2f}" for ratio in ratios),
            bool(max(abs(ratio - 1) for ratio in ratios[1:]) < 0.2),
        ),
        Row(
            f"{setting}: mean |correlation| of two learned coefficients",
            "0 (the covariance is diagonal)",
            f"{correlation.mean():.3f}, by chance of {found['sets']} sets {chance:.3f}",
            bool(correlation.mean() < 2 * chance),
        ),
    )


def _figure(found: list[dict[str, Any]], covariance: dict[str, Any]) -> Figure:
    figure, grid = panels(len(SETTINGS) + 1, width=4.0, height=3.6)
    for axes, setting in zip(grid[0], SETTINGS, strict=False):
        for ridge, colour in zip(RIDGES, (BLUE, ORANGE), strict=True):
            some = [one for one in found if one["domain"] == setting.name and one["ridge"] == ridge]
            axes.errorbar(
                [one["finite_test"] for one in some],
                [one["test"] for one in some],
                yerr=[one["test_error"] for one in some],
                fmt="o",
                ms=4,
                color=colour,
                label=f"ridge {ridge:g}",
            )
        every = [one["finite_test"] for one in found if one["domain"] == setting.name]
        ends = [min(every), max(every)]
        axes.plot(ends, ends, color=FAINT, lw=1, zorder=0)
        axes.set(xscale="log", yscale="log", xlabel="predicted test error", title=setting.name)
        axes.legend(fontsize=7)
    grid[0, 0].set_ylabel("measured, mean over data sets")
    matrix = np.array(covariance["covariance"])
    reach = np.abs(matrix).max()
    axes = grid[0, -1]
    axes.imshow(matrix, cmap="RdBu_r", vmin=-reach, vmax=reach)
    axes.set(title="covariance of learned coefficients", xlabel="mode", ylabel="mode")
    return figure
