"""Test errors, training errors and the covariance of learned coefficients, beside those of the theory.

Kernel regression on the three domains, with and without ridge. With one the theory has two readings: of
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
from leftout_papers.wide_networks.setting import KERNEL, SETTINGS, Setting, kernel_learning

EXAMPLES = {Size.QUICK: (16, 64), Size.USUAL: (4, 16, 32, 64, 128), Size.PAPER: (4, 16, 32, 64, 128)}
SETS = {Size.QUICK: 30, Size.USUAL: 300, Size.PAPER: 300}
RIDGES = (0.0, 1.0)
AGREE = 0.1
"""Relative difference of errors that still looks like agreement in the paper's logarithmic figures."""

COVARIANCE = (32, 1.0, {Size.QUICK: 100, Size.USUAL: 1000, Size.PAPER: 1000})
"""Examples, ridge and data sets of the covariance, on the hypercube."""


def simulate_errors(material: Material) -> Outcome:
    """Compare errors and covariance with the theory."""
    examples = EXAMPLES[material.size]
    measured: list[dict[str, Any]] = []
    for setting in SETTINGS:
        for ridge in RIDGES:
            measured += _measure_setting(material, setting, ridge, examples)
    covariance = _covariance(material)
    rows = [_row(setting, ridge, measured) for setting in SETTINGS for ridge in RIDGES]
    rows += [_train_row(setting, measured) for setting in SETTINGS]
    rows += _covariance_rows(covariance)
    record = {"errors": measured, "sets": SETS[material.size], "covariance": covariance}
    notes = (
        f"Means over {SETS[material.size]} random data sets and the whole domain, examples included. "
        f"Agreement is a median relative difference over n and degrees of at most {AGREE:.0%}.",
        "The paper's formula for a ridge is of independent draws; of different points of a finite domain "
        "the ridge takes less, and both are shown.",
    )
    return Outcome(tuple(rows), record, _figure(measured, covariance), notes)


def _measure_setting(
    material: Material, setting: Setting, ridge: float, examples: tuple[int, ...]
) -> list[dict[str, Any]]:
    generator = material.independent("errors", setting.name, str(ridge))
    records = []
    for n in examples:
        runs = [
            kernel_learning(setting, setting.draw(n, generator), ridge=ridge)
            for _ in range(SETS[material.size])
        ]
        printed, finite = (
            setting.predict(n, ridge=ridge, without_replacement=different)
            for different in (False, setting.spectrum.points is not None)
        )
        test = torch.stack([run.test_error for run in runs])
        train = torch.stack([run.train_error for run in runs])
        for place, degree in enumerate(setting.degrees):
            record = {"domain": setting.name, "ridge": ridge, "n": n, "degree": degree}
            for name, values in (("test", test), ("train", train)):
                record[name] = float(values[:, place].mean())
                record[f"{name}_error"] = float(values[:, place].std() / len(values) ** 0.5)
            for name, theory in (("printed", printed), ("finite", finite)):
                alone = theory.alone(place)
                record[f"{name}_test"], record[f"{name}_train"] = alone.test_error, alone.train_error
            records.append(record)
    return records


def _row(setting: Setting, ridge: float, measured: list[dict[str, Any]]) -> Row:
    records = [record for record in measured if record["domain"] == setting.name and record["ridge"] == ridge]
    printed, finite = (_relative_differences(records, name, "test") for name in ("printed", "finite"))
    differs = ridge > 0 and setting.spectrum.points is not None
    return Row(
        f"{setting.name}, ridge {ridge:g}: relative difference of measured and predicted test error, "
        "median (largest)",
        "they agree, drawn",
        _difference_text(printed) + (f"; of different points {_difference_text(finite)}" if differs else ""),
        _holds(finite),
    )


def _train_row(setting: Setting, measured: list[dict[str, Any]]) -> Row:
    records = [record for record in measured if record["domain"] == setting.name and record["ridge"] > 0]
    printed, finite = (_relative_differences(records, name, "train") for name in ("printed", "finite"))
    return Row(
        f"{setting.name}, ridge {RIDGES[1]:g}: the same of the training error",
        "(ridge / nκ)² test error",
        _difference_text(printed)
        + (f"; of different points {_difference_text(finite)}" if setting.spectrum.points else ""),
        _holds(finite),
    )


def _relative_differences(records: list[dict[str, Any]], theory: str, name: str) -> np.ndarray:
    return np.array([abs(record[f"{theory}_{name}"] / record[name] - 1) for record in records])


def _difference_text(off: np.ndarray) -> str:
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
    degrees = torch.tensor([0] + [1] * 8 + [2] * 28)
    return {
        "n": n,
        "ridge": ridge,
        "sets": len(draws),
        "degrees": degrees.tolist(),
        "mean": learned_coefficients.mean(0).tolist(),
        "predicted_mean": float(theory.mean[2, 0]),
        "covariance": torch.cov(learned_coefficients.T).tolist(),
        "predicted_variance": theory.covariance[degrees, 0].tolist(),
    }


def _covariance_rows(measured: dict[str, Any]) -> tuple[Row, ...]:
    covariance = np.array(measured["covariance"])
    variances, predicted = np.diag(covariance), np.array(measured["predicted_variance"])
    correlation = np.abs(covariance / np.sqrt(np.outer(variances, variances)))[
        np.triu_indices(len(variances), 1)
    ]
    chance = np.sqrt(2 / (np.pi * measured["sets"]))
    ratios = [
        variances[np.array(measured["degrees"]) == degree].mean()
        / predicted[np.array(measured["degrees"]) == degree].mean()
        for degree in (0, 1, 2)
    ]
    setting = f"hypercube, n = {measured['n']}, ridge {measured['ridge']:g}"
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
            f"{correlation.mean():.3f}, by chance of {measured['sets']} sets {chance:.3f}",
            bool(correlation.mean() < 2 * chance),
        ),
    )


def _figure(measured: list[dict[str, Any]], covariance: dict[str, Any]) -> Figure:
    figure, grid = panels(len(SETTINGS) + 1, width=4.0, height=3.6)
    for axes, setting in zip(grid[0], SETTINGS, strict=False):
        for ridge, colour in zip(RIDGES, (BLUE, ORANGE), strict=True):
            records = [
                record for record in measured if record["domain"] == setting.name and record["ridge"] == ridge
            ]
            axes.errorbar(
                [record["finite_test"] for record in records],
                [record["test"] for record in records],
                yerr=[record["test_error"] for record in records],
                fmt="o",
                ms=4,
                color=colour,
                label=f"ridge {ridge:g}",
            )
        every = [record["finite_test"] for record in measured if record["domain"] == setting.name]
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
