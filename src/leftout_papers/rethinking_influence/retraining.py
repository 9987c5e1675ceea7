"""Table 1, figures 1 and 8: is the influence in the NTK regime that of retrained networks?

The 40 examples with the largest influence (mean |I| over the queries) are left out, one at a time, of a
two-layer network that is trained to the minimum of eq. 2 again, from the same initial weights.

Correlation alone cannot tell the exact influence from the classical one: slope and relative error can.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

import leftout as lo
from leftout_papers.drawing import BLUE, FAINT, ORANGE, panels
from leftout_papers.exhibit import Outcome, Row
from leftout_papers.material import Material, Size
from leftout_papers.verdicts import both, rises

POINTS = {Size.QUICK: 6, Size.USUAL: 40, Size.PAPER: 40}
TOP = 4
"""One in four points counts among the largest: the overlap of all points would always be 1."""
EXAMPLES, CLASSES, OF_THE_PAPER = (100, 50), (200, 50), (5000, 1000)
"""Training examples and queries: of two classes, of ten, and of either in the paper's size."""
WIDTHS = {
    Size.QUICK: (128, 512),
    Size.USUAL: (500, 2_000, 8_000, 32_000),
    Size.PAPER: (10_000, 20_000, 40_000, 80_000),
}
WIDTH_OF_CLASSES = {Size.QUICK: 512, Size.USUAL: 8_000, Size.PAPER: 80_000}
TOLERANCE = 1e-5
"""Relative gradient at which training stops: far below the effect of one example in a hundred."""
RIDGE = 1.0
RIDGE_OF_CLASSES = {"mnist": 4.0, "cifar10": 10.0, "digits": 4.0}

PUBLISHED = {
    "mnist": {"pearson": (0.9766, 0.9802, 0.9866, 0.9955), "spearman": (0.9341, 0.9531, 0.9565, 0.9728)},
    "cifar10": {"pearson": (0.9683, 0.9808, 0.9904, 0.9960), "spearman": (0.8583, 0.8672, 0.9146, 0.9606)},
}
"""As printed in table 1, n = 5000, widths 1, 2, 4 and 8 · 10⁴."""


@dataclass(frozen=True)
class Start:
    """Initial weights: their scale κ, and whether in antisymmetric pairs, so that f_0 = 0."""

    label: str
    scale: float
    antisymmetric: bool


PLAIN = Start("as in the paper (κ = 0.01)", 0.01, False)
PAIRS = Start("antisymmetric pairs (κ = 0.1)", 0.1, True)


@dataclass(frozen=True)
class Comparison:
    """Predicted and actual influence at one width.

    Attributes:
        scores, classical, truth: (query, train) of the examples left out.
        exact, first: agreement of scores and classical with truth.
    """

    width: int
    scores: xr.DataArray
    classical: xr.DataArray
    truth: xr.DataArray
    exact: xr.Dataset
    first: xr.Dataset

    @property
    def record(self) -> dict[str, Any]:
        """Return every measure, pooled with its interval, and of the median query."""
        return {"width": self.width, "retraining": dict(self.truth.attrs)} | {
            name: {
                str(measure): {
                    "pooled": float(agreement["pooled"].sel(measure=measure)),
                    "low": float(agreement["pooled_low"].sel(measure=measure)),
                    "high": float(agreement["pooled_high"].sel(measure=measure)),
                    "median_query": float(agreement["per_query"].sel(measure=measure).median()),
                }
                for measure in agreement["measure"].values
            }
            for name, agreement in (("exact", self.exact), ("classical", self.first))
        }

    def measure(self, name: str, *, of: str = "exact") -> float:
        """Return one measure over all pairs."""
        agreement = self.exact if of == "exact" else self.first
        return float(agreement["pooled"].sel(measure=name))


def table(material: Material) -> Outcome:
    """Run table 1: agreement by width, from both kinds of initial weights."""
    fitted, query = _problem(material, RIDGE, binary=True)
    by_start = {
        start: [_compare_width(material, fitted, query, start, width) for width in WIDTHS[material.size]]
        for start in (PAIRS, PLAIN)
    }
    rows = [row for start, series in by_start.items() for row in _rows(material, start, series)]
    record = _settings_record(fitted, query) | {
        start.label: [run.record for run in series] for start, series in by_start.items()
    }
    return Outcome(tuple(rows), record, _table_figure(material, by_start), _notes(material, fitted, query))


def binary(material: Material) -> Outcome:
    """Run figure 1: predicted against actual influence at the largest width."""
    fitted, query = _problem(material, RIDGE, binary=True)
    return _scatter(material, fitted, query, WIDTHS[material.size][-1])


def classes(material: Material) -> Outcome:
    """Run figure 8: the same for ten classes."""
    fitted, query = _problem(material, RIDGE_OF_CLASSES[material.name], binary=False)
    return _scatter(material, fitted, query, WIDTH_OF_CLASSES[material.size])


def _problem(material: Material, ridge: float, *, binary: bool) -> tuple[lo.Fitted, lo.Examples]:
    usual = EXAMPLES if binary else CLASSES
    counts = OF_THE_PAPER if material.size is Size.PAPER else usual
    examples, query = (material.pair if binary else material.classes)(*counts)
    fitted = material.fit_kernel(examples, lo.Ridge(ridge))
    return fitted, query


def _compare_width(
    material: Material, fitted: lo.Fitted, query: lo.Examples, start: Start, width: int
) -> Comparison:
    scores, classical = lo.leave_one_out(fitted, query), lo.first_order(fitted, query)
    order = np.argsort(-np.abs(scores.values).mean(0), kind="stable")
    points = POINTS[material.size]
    rows = order[:points].tolist()
    network = lo.TwoLayerNetwork(
        width,
        fitted.train.inputs[0].numel(),
        fitted.train.encoding.outputs,
        scale=start.scale,
        antisymmetric=start.antisymmetric,
        generator=material.generator(width),
        dtype=torch.float32,
    )
    trained = lo.train(
        network,
        fitted.train,
        rule=lo.Ridge(fitted.rule.ridge),
        tolerance=TOLERANCE,
        device=material.device,
        memory=material.memory,
    )
    folder = _retraining_folder(material, fitted, query, start, width)
    jobs = 1 if material.quick else material.jobs
    truth = lo.retrain(trained, query, rows, jobs=jobs, out=folder)
    scores, classical = scores.isel(train=rows), classical.isel(train=rows)
    exact, first = (lo.agreement(influence, truth, top=points // TOP) for influence in (scores, classical))
    return Comparison(width, scores, classical, truth, exact, first)


def _retraining_folder(
    material: Material, fitted: lo.Fitted, query: lo.Examples, start: Start, width: int
) -> Path | None:
    """Return the folder of retrained predictions, from which an interrupted run continues."""
    if material.folder is None:
        return None
    pairs = "pairs" if start.antisymmetric else "plain"
    # At the paper's size, two classes and ten have the same number of examples but other networks.
    size = f"{fitted.train.encoding.outputs}-{len(fitted)}-{len(query)}"
    return material.folder / f"{material.name}-{size}-{pairs}-{width}-{material.seed}"


def _scatter(material: Material, fitted: lo.Fitted, query: lo.Examples, width: int) -> Outcome:
    run = _compare_width(material, fitted, query, PAIRS, width)
    pearson, slope = run.measure("pearson"), run.measure("slope")
    error, classical = run.measure("relative_error"), run.measure("relative_error", of="classical")
    rows = (
        Row(
            f"Pearson R, exact influence, width {width:,}, ridge {fitted.rule.ridge:g}",
            "above 0.9 in general",
            f"{pearson:.4f}",
            bool(pearson > 0.9),
        ),
        Row("slope of actual against predicted", "on the diagonal", f"{slope:.3f}"),
        Row(
            "relative error of the exact influence",
            "not printed",
            f"{error:.3f} (classical influence function: {classical:.3f})",
            bool(error < classical),
        ),
        Row(
            "Pearson R, classical influence function",
            "not printed",
            f"{run.measure('pearson', of='classical'):.4f} "
            f"(slope {run.measure('slope', of='classical'):.3f})",
        ),
    )
    record = _settings_record(fitted, query) | {PAIRS.label: run.record}
    figure, grid = panels(1, width=5.0, height=4.2)
    _draw_pairs(grid[0, 0], run)
    return Outcome(rows, record, figure, _notes(material, fitted, query))


def _settings_record(fitted: lo.Fitted, query: lo.Examples) -> dict[str, Any]:
    return {"examples": len(fitted), "queries": len(query), "ridge": fitted.rule.ridge}


def _rows(material: Material, start: Start, series: list[Comparison]) -> list[Row]:
    printed = PUBLISHED.get(material.name, {}) if material.size is Size.PAPER else {}
    rows = []
    for place, run in enumerate(series):
        published = " / ".join(
            f"{printed[measure][place]:.4f}" for measure in ("pearson", "spearman") if printed
        )
        rows.append(
            Row(
                f"Pearson R / Spearman ρ, width {run.width:,}, {start.label}",
                published or "not printed at this size",
                f"{run.measure('pearson'):.4f} / {run.measure('spearman'):.4f} "
                f"(slope {run.measure('slope'):.3f}, relative error {run.measure('relative_error'):.3f})",
            )
        )
    correlations = [run.measure("pearson") for run in series]
    errors = [run.measure("relative_error") for run in series]
    best = correlations[-1]
    rows.append(
        Row(
            f"agreement with width, {start.label}",
            "rises",
            f"R {' → '.join(f'{r:.4f}' for r in correlations)}, "
            f"relative error {' → '.join(f'{error:.3f}' for error in errors)}",
            both(rises(correlations), rises([-error for error in errors])),
        )
    )
    largest = PUBLISHED.get(material.name, PUBLISHED["mnist"])["pearson"][-1]
    rows.append(
        Row(
            f"R at the largest width, {start.label}",
            f"above 0.97: {largest:.4f} at n = 5000, width 80,000",
            f"{best:.4f}",
            bool(best >= 0.97),
        )
    )
    return rows


def _notes(material: Material, fitted: lo.Fitted, query: lo.Examples) -> tuple[str, ...]:
    if material.size is Size.PAPER:
        return ()
    return (
        f"The paper trains {1 + POINTS[Size.PAPER]} networks on n = 5000; here "
        f"{1 + POINTS[material.size]} on n = {len(fitted)}, with {len(query)} queries, which two "
        "cores can do. --paper-size runs the paper's own on a GPU.",
    )


def _table_figure(material: Material, by_start: dict[Start, list[Comparison]]) -> Figure:
    figure, grid = panels(3, width=4.2, height=3.6)
    by_width, errors, pairs = grid[0]
    for (start, series), colour in zip(by_start.items(), (BLUE, ORANGE), strict=True):
        widths = [run.width for run in series]
        by_width.plot(
            widths, [1 - run.measure("pearson") for run in series], "o-", color=colour, label=start.label
        )
        errors.plot(
            widths,
            [run.measure("relative_error") for run in series],
            "o-",
            color=colour,
            label="exact, " + start.label,
        )
        errors.plot(
            widths,
            [run.measure("relative_error", of="classical") for run in series],
            "o:",
            color=colour,
            label="classical",
            alpha=0.7,
        )
    if material.name in PUBLISHED:
        printed = PUBLISHED[material.name]["pearson"]
        by_width.plot(
            WIDTHS[Size.PAPER], [1 - r for r in printed], "s--", color=FAINT, label="published (n = 5000)"
        )
    for axes, label in ((by_width, "1 − Pearson R"), (errors, "relative error")):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("width")
        axes.set_ylabel(label)
        axes.legend(fontsize=7)
    by_width.set_title("Correlation")
    errors.set_title("Size of the error")
    _draw_pairs(pairs, by_start[PAIRS][-1])
    return figure


def _draw_pairs(axes: Axes, run: Comparison) -> None:
    """Draw predicted against actual influence, exact and classical."""
    truth = run.truth.values.ravel()
    for values, colour, label in (
        (run.classical, ORANGE, "classical influence function"),
        (run.scores, BLUE, "exact, NTK regime"),
    ):
        axes.scatter(values.values.ravel(), truth, s=6, alpha=0.5, color=colour, label=label, lw=0)
    ends = [truth.min(), truth.max()]
    axes.plot(ends, ends, color=FAINT, lw=1, zorder=0)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("predicted influence")
    axes.set_ylabel("actual influence (trained again)")
    axes.set_title(f"width {run.width:,}: R = {run.measure('pearson'):.4f}")
    axes.legend(fontsize=7, markerscale=2)
