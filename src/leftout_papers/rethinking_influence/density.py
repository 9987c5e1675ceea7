"""Figures 3 and 10: is the classical influence function better where training examples lie densely?

The density of an example is a Gaussian kernel estimate in the first principal components: in 784
dimensions a density cannot be estimated. Its error rate is the ratio of sums over the queries.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64
from matplotlib.figure import Figure
from scipy.stats import spearmanr
from sklearn.decomposition import PCA
from sklearn.neighbors import KernelDensity

import leftout as lo
from leftout_papers.drawing import BLUE, panels
from leftout_papers.exhibit import Outcome, Row
from leftout_papers.material import Material

RIDGES = [0.25, 4.0]
COMPONENTS = 10


def binary(material: Material) -> Outcome:
    """Run figure 3: two classes."""
    return _outcome(material, *material.pair(5000, 1000))


def classes(material: Material) -> Outcome:
    """Run figure 10: ten classes."""
    return _outcome(material, *material.classes(5000, 1000))


def log_density(inputs: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
    """Return the leave-one-out log density of each row, in the first principal components.

    The bandwidth is Scott's, n^(−1 / (d + 4)) of each component's spread. A row's own bump is
    subtracted, since it hides how empty the neighbourhood of an outlier is.
    """
    components = min(COMPONENTS, *inputs.shape)
    points = PCA(components, svd_solver="full", whiten=True).fit_transform(inputs)
    n = len(points)
    width = n ** (-1 / (components + 4))
    estimate = KernelDensity(bandwidth=width).fit(points).score_samples(points) + np.log(n)
    bump = -components * np.log(width * np.sqrt(2 * np.pi))
    # log(e^estimate − e^bump); an isolated row gets the smallest share that doubles resolve, not −∞.
    rest = np.log(np.maximum(-np.expm1(bump - estimate), np.finfo(float).eps))
    return np.asarray(estimate + rest - np.log(n - 1))


def _outcome(material: Material, train: lo.Examples, query: lo.Examples) -> Outcome:
    fitted = material.fit_kernel(train, lo.Ridge(1.0))
    error_rates = lo.error_rates(fitted, query, ridges=RIDGES)
    density = log_density(train.inputs.flatten(1).numpy())
    rates = error_rates["ratio_of_sums"].values  # (ridge, train)
    related = [spearmanr(density, rate) for rate in rates]
    rows = tuple(
        Row(
            f"density and error rate of an example, ridge {ridge:g} (Spearman)",
            "significant: denser, smaller error",
            f"{correlation.statistic:+.3f} (p {_below(correlation.pvalue)})",
            bool(correlation.statistic < 0 and correlation.pvalue < 0.01),
        )
        for ridge, correlation in zip(RIDGES, related, strict=True)
    )
    record = {
        "examples": len(train),
        "queries": len(query),
        "components": COMPONENTS,
        "ridges": RIDGES,
        "spearman": [float(correlation.statistic) for correlation in related],
        "pvalue": [float(correlation.pvalue) for correlation in related],
        "median_rate_by_density_decile": [
            [float(np.median(tenth)) for tenth in np.array_split(rate[np.argsort(density)], 10)]
            for rate in rates
        ],
    }
    notes = (
        f"Density: Gaussian kernel estimate on {COMPONENTS} whitened principal components, each "
        "example's own bump taken out; the paper names neither dimension nor bandwidth.",
    )
    return Outcome(rows, record, _figure(density, rates, related), notes)


def _below(pvalue: float) -> str:
    """Return a p-value with its sign of comparison, "< 1e-300" where double precision underflows."""
    return f"= {pvalue:.1g}" if pvalue > 0 else "< 1e-300"


def _figure(density: np.ndarray, rates: np.ndarray, related: Sequence[Any]) -> Figure:
    figure, grid = panels(len(RIDGES), width=4.4, height=3.5)
    for axes, ridge, rate, correlation in zip(grid[0], RIDGES, rates, related, strict=True):
        shown = rate > 0
        axes.scatter(density[shown], rate[shown], s=5, alpha=0.35, color=BLUE, linewidths=0)
        axes.set_yscale("log")
        axes.set_xlabel("log density of the training example")
        axes.set_title(f"ridge {ridge:g}: Spearman {correlation.statistic:+.2f}")
    grid[0, 0].set_ylabel("error rate Σ|I − Î| / Σ|I|")
    return figure
