"""What is there too little of, and what is like nothing else?

Under-sampled: examples whose label their nearest neighbours share, but whose left-out loss is far above
the rest: more like them would help. Without classes nobody shares a label; there, a number that is not
doubted. Outliers: examples that the kernel finds like no other. "Far" is beyond Tukey's fence, one and a
half interquartile ranges from the quartile. A kernel that sees labels is asked as it was before it saw any.
Whole groups of a class of which there are too few are found in `subclasses`.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from leftout.attribution.leave_one_out import out_of_sample
from leftout.core.blocks import blocks
from leftout.core.work import WorkCount, passes
from leftout.curation.mislabelled import judged
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.rules import At

NEAREST = 3
"""Neighbours that are asked whether they share the label: few, as a rare kind has not many members."""

AGREEMENT = 0.5
"""Share of them that must, for the label to count as consistent."""

FENCE = 1.5
"""Interquartile ranges beyond the quartile: Tukey's fence."""

SHARE = 0.02
"""Of the training examples, at most so many are named: the worst. A list of all would not be read."""

ROWS = 512


@dataclass(frozen=True)
class Rare:
    """An under-sampled training example.

    Attributes:
        loss: ½ Σ (f − y)² of the prediction without it.
        agreement: share of its nearest neighbours with the same label; NaN for regression.
    """

    row: int
    loss: float
    agreement: float
    reason: str


@dataclass(frozen=True)
class Outlier:
    """A training example like no other; `similarity`: largest kernel correlation with another."""

    row: int
    similarity: float
    reason: str


def rare(fitted: Fitted, *, at: At = None) -> tuple[Rare, ...]:
    """Return consistent examples that are predicted badly without themselves, worst first.

    Cost:
        that of `out_of_sample`, and n² for the neighbours.
    """
    train = fitted.train
    predicted = out_of_sample(fitted, at).cpu()
    loss = (predicted - train.targets).square().sum(1) / 2
    if len(train) <= NEAREST:
        return ()
    agreement, consistent = _consistency(fitted, predicted)
    fence = fence_of(loss)
    found: list[Rare] = []
    for i in loss.argsort(descending=True, stable=True).tolist():
        if float(loss[i]) <= fence or len(found) >= SHARE * len(train):
            break
        if bool(consistent[i]):
            shared = float(agreement[i])
            found.append(Rare(i, float(loss[i]), shared, _why_rare(float(loss[i]), fence, shared)))
    return tuple(found)


def _consistency(
    fitted: Fitted, predicted: Float64[Tensor, "n k"]
) -> tuple[Float64[Tensor, " n"], Bool[Tensor, " n"]]:
    """Return the share of nearest neighbours with the same label, and whether the label fits in.

    The sign of the margin is not asked: the members of a rare class agree with each other, and yet the
    others outvote them.
    """
    labels = fitted.train.labels
    if labels is None:
        margins = judged(fitted.train, predicted)[1]
        return torch.full_like(margins, math.nan), margins >= 0
    _, nearest = neighbours(fitted, NEAREST)
    agreement = (labels[nearest] == labels[:, None]).double().mean(1)
    return agreement, agreement >= AGREEMENT


def outliers(fitted: Fitted) -> tuple[Outlier, ...]:
    """Return training examples whose closest other is unusually far, loneliest first.

    Cost:
        n² for the kernel correlations.
    """
    if len(fitted) < 4:
        return ()
    similarity = neighbours(fitted, 1)[0][:, 0]
    angle = similarity.clamp(-1, 1).arccos()
    fence = fence_of(angle)
    found = []
    for i in angle.argsort(descending=True, stable=True).tolist():
        if float(angle[i]) <= fence:
            break
        value = float(similarity[i])
        typical = float(similarity.median())
        reason = (
            f"The training example most like it has a kernel correlation of {value:.3f}; "
            f"the typical example has one of {typical:.3f}."
        )
        found.append(Outlier(i, value, reason))
    return tuple(found)


def neighbours(fitted: Fitted, count: int) -> tuple[Float64[Tensor, "n c"], Int64[Tensor, "n c"]]:
    """Return kernel correlations k(x, z) / √(k(x, x) k(z, z)) and rows of the nearest others."""
    # Before labels: that neighbours share one says nothing where labels made them neighbours, and a kernel
    # that labels made indefinite has no correlations.
    kernel_rows = fitted.rows.before_labels()
    own = torch.unflatten(kernel_rows.gram.diagonal(), 0, (-1, kernel_rows.outputs_per_example)).sum(1)
    size = own.clamp(min=torch.finfo(torch.float64).tiny).sqrt()  # the kernel of a zero is zero
    values, rows = [], []
    for some in blocks(len(fitted), ROWS):
        alike = kernel_rows.summed_over_outputs(some)
        alike.div_(size[some, None] * size)
        within = torch.arange(len(alike), device=alike.device)
        alike[within, within + some.start] = -torch.inf
        best = alike.topk(min(count, len(fitted) - 1), dim=1)
        values.append(best.values.cpu())
        rows.append(best.indices.cpu())
    return torch.cat(values), torch.cat(rows)


def fence_of(values: Float64[Tensor, " n"]) -> float:
    """Return Tukey's upper fence: what lies beyond is far from the others."""
    low, high = torch.quantile(values, torch.tensor([0.25, 0.75], dtype=torch.float64))
    return float(high + FENCE * (high - low))


def _why_rare(loss: float, fence: float, agreement: float) -> str:
    shared = "" if math.isnan(agreement) else f", although {agreement:.0%} of its neighbours share its label"
    return (
        f"Predicted without it, its loss is {loss:.3g}, beyond {fence:.3g} which few reach{shared}: "
        "there are too few like it."
    )


def neighbours_work(n: int) -> WorkCount:
    """Return the work of the nearest few, the nearest ten and the nearest of each example."""
    return passes(n * n, 30)
