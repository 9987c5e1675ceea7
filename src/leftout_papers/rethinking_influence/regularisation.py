"""Figures 2 and 9: the relative error of the classical influence function against the ridge.

Theorem 3 bounds that share from below by s_min / (s_min + λ), up to a second-order term. Three readings
of the share: the paper's mean over pairs, which pairs with influence near 0 dominate; the median; and
the ratio of sums.
"""

import xarray as xr
from matplotlib.figure import Figure

import leftout as lo
from leftout_papers.drawing import BLUE, FAINT, GREEN, ORANGE, RED, panels
from leftout_papers.exhibit import Outcome, Row
from leftout_papers.material import Material

RIDGES = [2.0**power for power in range(-4, 5)]
READINGS = {
    "pooled_mean_rate": ("mean over pairs", ORANGE),
    "pooled_median_rate": ("median over pairs", BLUE),
    "pooled_ratio_of_sums": ("ratio of sums", GREEN),
}


def binary(material: Material) -> Outcome:
    """Run figure 2: two classes."""
    return _outcome(material, *material.pair(5000, 1000))


def classes(material: Material) -> Outcome:
    """Run figure 9: ten classes."""
    return _outcome(material, *material.classes(5000, 1000))


def _outcome(material: Material, train: lo.Examples, query: lo.Examples) -> Outcome:
    fitted = material.fit_kernel(train, lo.Ridge(1.0))
    rates = lo.error_rates(fitted, query, ridges=RIDGES)
    record = {
        "examples": len(train),
        "queries": len(query),
        "ridges": RIDGES,
        "s_min": rates.attrs["s_min"],
        **{name: rates[name].values.tolist() for name in (*READINGS, "bound", "mean_leverage")},
        "pairs_without_influence": rates["pooled_zeros"].values.tolist(),
    }
    return Outcome(rows=_rows(rates), result=record, figure=_figure(rates, len(train)))


def _rows(rates: xr.Dataset) -> tuple[Row, ...]:
    ratio, bound = rates["pooled_ratio_of_sums"].values, rates["bound"].values
    median, mean = rates["pooled_median_rate"].values, rates["pooled_mean_rate"].values
    falls = bool((ratio[1:] < ratio[:-1]).all() and (median[1:] < median[:-1]).all())
    above = bool((mean > bound).all() and (median > bound).all() and (ratio > bound).all())
    times = ratio / bound
    return (
        Row(
            "error rate as the ridge grows from 1/16 to 16",
            "falls",
            f"ratio of sums {ratio[0]:.3g} → {ratio[-1]:.3g}, median {median[0]:.3g} → {median[-1]:.3g}",
            falls,
        ),
        Row(
            "lower bound s_min / (s_min + ridge)",
            "below the error rate throughout",
            f"{bound[0]:.3g} → {bound[-1]:.3g}",
            above,
        ),
        Row(
            "how tight the bound is",
            "close to the error rate",
            f"error rate is {times.min():.2g} to {times.max():.2g} times the bound",
        ),
    )


def _figure(rates: xr.Dataset, n: int) -> Figure:
    figure, grid = panels(1, width=5.6, height=3.8)
    axes = grid[0, 0]
    for name, (label, colour) in READINGS.items():
        axes.plot(RIDGES, rates[name], "o-", color=colour, label=f"measured, {label}", ms=4)
    axes.plot(RIDGES, rates["mean_leverage"], ":", color=FAINT, label="mean leverage, tr K(K + λI)⁻¹ / n")
    axes.plot(RIDGES, rates["bound"], "s--", color=RED, label="lower bound (theorem 3)", ms=4)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("ridge λ")
    axes.set_ylabel("error rate |I − Î| / |I|")
    axes.set_title(f"Error of the classical influence function, n = {n:,}")
    axes.legend(fontsize=8)
    return figure
