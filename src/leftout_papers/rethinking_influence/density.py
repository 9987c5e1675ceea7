"""Figures 3 and 10: is the classical influence function better where training examples lie densely?

The density of an example is a Gaussian kernel estimate in the first principal components: in 784
dimensions there is nothing to estimate. Its error rate is the ratio of sums over the queries.
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
    """Return the log density of each row without itself, in the first principal components.

    The bandwidth is Scott's, n^(−1 / (d + 4)) of each component's spread. A row's own bump is taken
    out: left in, it hides how empty the neighbourhood of an outlier is.
    """
    components = min(COMPONENTS, *inputs.shape)
    points = PCA(components, svd_solver="full", whiten=True).fit_transform(inputs)
    n = len(points)
    width = n ** (-1 / (components + 4))
    whole = KernelDensity(bandwidth=width).fit(points).score_samples(points) + np.log(n)
    own = -components * np.log(width * np.sqrt(2 * np.pi))
    # log(e^whole − e^own); a row all alone keeps what double precision sees, not −∞.
    others = np.log(np.maximum(-np.expm1(own - whole), np.finfo(float).eps))
    return np.asarray(whole + others - np.log(n - 1))


def _outcome(material: Material, train: lo.Examples, query: lo.Examples) -> Outcome:
    fitted = material.fit_kernel(train, lo.Ridge(1.0))
    found = lo.error_rates(fitted, query, ridges=RIDGES)
    density = log_density(train.inputs.flatten(1).numpy())
    rates = found["ratio_of_sums"].values  # (ridge, train)
    related = [spearmanr(density, rate) for rate in rates]
    rows = tuple(
        Row(
            f"density and error rate of an example, ridge {ridge:g} (Spearman)",
            "significant: denser, smaller error",
            f"{one.statistic:+.3f} (p {_below(one.pvalue)})",
            bool(one.statistic < 0 and one.pvalue < 0.01),
        )
        for ridge, one in zip(RIDGES, related, strict=True)
    )
    result = {
        "examples": len(train),
        "queries": len(query),
        "components": COMPONENTS,
        "ridges": RIDGES,
        "spearman": [float(one.statistic) for one in related],
        "pvalue": [float(one.pvalue) for one in related],
        "median_rate_by_density_decile": [
            [float(np.median(part)) for part in np.array_split(rate[np.argsort(density)], 10)]
            for rate in rates
        ],
    }
    notes = (
        f"Density: Gaussian kernel estimate on {COMPONENTS} whitened principal components, each "
        "example's own bump taken out; the paper names neither dimension nor bandwidth.",
    )
    return Outcome(rows, result, _figure(density, rates, related), notes)


def _below(pvalue: float) -> str:
    """Return how small a p-value is, as far as double precision says."""
    return f"= {pvalue:.1g}" if pvalue > 0 else "< 1e-300"


def _figure(density: np.ndarray, rates: np.ndarray, related: Sequence[Any]) -> Figure:
    figure, grid = panels(len(RIDGES), width=4.4, height=3.5)
    for axes, ridge, rate, one in zip(grid[0], RIDGES, rates, related, strict=True):
        shown = rate > 0
        axes.scatter(density[shown], rate[shown], s=5, alpha=0.35, color=BLUE, linewidths=0)
        axes.set_yscale("log")
        axes.set_xlabel("log density of the training example")
        axes.set_title(f"ridge {ridge:g}: Spearman {one.statistic:+.2f}")
    grid[0, 0].set_ylabel("error rate Σ|I − Î| / Σ|I|")
    return figure
