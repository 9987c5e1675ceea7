"""The information of every training example for a network that is linearised at its weights.

F-SI at a number of steps of full-batch gradient descent, mean loss, as the paper's programs have it.
"""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float64, Int64
from matplotlib.axes import Axes
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score
from torch import nn

import leftout as lo
from leftout_papers.drawing import BLUE, GREEN, ORANGE, RED
from leftout_papers.exhibit import Holds
from leftout_papers.material import Material
from leftout_papers.smooth_information.task import accuracy
from leftout_papers.verdicts import SURE

BINS = 40
"""The most bins of a histogram; one for eight examples where that is fewer, but at least eight."""

PERMUTATIONS = 2000


@dataclass(frozen=True)
class Schedule:
    """How long a linearised network is trained.

    Attributes:
        rate: of full-batch gradient descent on the mean loss.
        steps: of it.
        ridge: λ, under the mean loss: the paper's "10³" is 1 with n = 1000.
    """

    rate: float
    steps: int
    ridge: float = 0.0

    @property
    def rule(self) -> lo.GradientDescent:
        """Return it as a rule."""
        return lo.GradientDescent(self.rate, ridge=self.ridge, loss="mean")


MLP = Schedule(1e-3, 2000)
"""The paper's, for one wide layer."""

RESNET = Schedule(1e-3, 1000)
"""The paper's, for a pretrained network on two classes."""

DIGITS = Schedule(5e-4, 2000)
"""For the network that learned other digits: its largest eigenvalue forbids a larger rate."""


def linearised_fit(
    material: Material, network: nn.Module, train: lo.Examples, schedule: Schedule
) -> lo.Fitted:
    """Return the fit of the network linearised at its present weights."""
    kernel = lo.kernels.Empirical(network, memory=material.memory, weights="initial")
    return lo.fit(kernel, train, rule=schedule.rule, device=material.device, memory=material.memory)


def score_network(
    material: Material, network: nn.Module, train: lo.Examples, query: lo.Examples, schedule: Schedule
) -> tuple[Float64[np.ndarray, " n"], float]:
    """Return F-SI of every training example, and the linearised network's accuracy on queries."""
    fitted = linearised_fit(material, network, train, schedule)
    information: xr.Dataset = lo.information(fitted, query, at=schedule.steps)
    right = accuracy(query, fitted.predict(query, schedule.steps))
    return information["function"].values, right


def flag_rows(rows: Int64[np.ndarray, " s"], n: int) -> Bool[np.ndarray, " n"]:
    """Return n flags, set at the given rows."""
    flags = np.zeros(n, dtype=bool)
    flags[rows] = True
    return flags


def auc(scores: Float64[np.ndarray, " n"], flags: Bool[np.ndarray, " n"]) -> float:
    """Return the chance that an example with the flag scores above one without it."""
    return float(roc_auc_score(flags, scores))


def ratio(scores: Float64[np.ndarray, " n"], flags: Bool[np.ndarray, " n"]) -> float:
    """Return the mean score of those with the flag over that of those without."""
    return float(scores[flags].mean() / scores[~flags].mean())


def more_on_average(scores: Float64[np.ndarray, " n"], flags: Bool[np.ndarray, " n"]) -> Holds:
    """Return whether those with the flag have the larger mean, by permutations of the flag."""
    random = np.random.default_rng(0)
    apart = scores[flags].mean() - scores[~flags].mean()
    shuffled = np.array([random.permutation(flags) for _ in range(PERMUTATIONS)])  # (p, n)
    inside = shuffled @ scores / flags.sum()
    outside = (scores.sum() - shuffled @ scores) / (~flags).sum()
    return _verdict(float((inside - outside >= apart).mean()), float((inside - outside <= apart).mean()))


def more_often(scores: Float64[np.ndarray, " n"], flags: Bool[np.ndarray, " n"]) -> Holds:
    """Return whether one with the flag mostly scores above one without: the test of Mann and Whitney."""
    greater, less = (
        float(mannwhitneyu(scores[flags], scores[~flags], alternative=way).pvalue)
        for way in ("greater", "less")
    )
    return _verdict(greater, less)


def _verdict(greater: float, less: float) -> Holds:
    """Return a verdict from the p-values of a larger and of a smaller difference."""
    return True if greater < SURE else False if less < SURE else "open"


def edges(values: Float64[np.ndarray, " n"]) -> list[float]:
    """Return edges of bins of equal ratio over the positive values."""
    positive = values[values > 0]
    count = min(BINS, max(8, len(values) // 8))
    bins: list[float] = np.geomspace(positive.min(), positive.max() * (1 + 1e-9), count + 1).tolist()
    return bins


def draw_groups(axes: Axes, groups: dict[str, Float64[np.ndarray, " g"]]) -> None:
    """Draw the distribution of information in each group, as shares of the group, on one log axis."""
    bins = edges(np.concatenate(list(groups.values())))
    for (label, values), colour in zip(groups.items(), (BLUE, RED, GREEN, ORANGE), strict=False):
        weights = np.full(len(values), 1 / len(values))
        axes.hist(
            values, bins=bins, weights=weights, color=colour, alpha=0.5, label=f"{label} ({len(values)})"
        )
        axes.axvline(float(values.mean()), color=colour, lw=1.2, ls="--")
    axes.set_xscale("log")
    axes.set_xlabel("functional sample information (nats); dashed: mean")
    axes.set_ylabel("share of the group")
    axes.legend(fontsize=8)
