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
from leftout.curation.mislabelled import label_margins
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.rules import At
from leftout.kernels import assemble
from leftout.kernels.label_dependent import FittedLabelKernel

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
    candidates: list[Rare] = []
    for i in loss.argsort(descending=True, stable=True).tolist():
        if float(loss[i]) <= fence or len(candidates) >= SHARE * len(train):
            break
        if bool(consistent[i]):
            shared = float(agreement[i])
            candidates.append(Rare(i, float(loss[i]), shared, _why_rare(float(loss[i]), fence, shared)))
    return tuple(candidates)


def _consistency(
    fitted: Fitted, predicted: Float64[Tensor, "n k"]
) -> tuple[Float64[Tensor, " n"], Bool[Tensor, " n"]]:
    """Return the share of nearest neighbours with the same label, and whether the label fits in.

    The sign of the margin is not asked: the members of a rare class agree with each other, and yet the
    others outvote them.
    """
    labels = fitted.train.labels
    if labels is None:
        margins = label_margins(fitted.train, predicted)[1]
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
    candidates = []
    for i in angle.argsort(descending=True, stable=True).tolist():
        if float(angle[i]) <= fence:
            break
        likeness = float(similarity[i])
        typical = float(similarity.median())
        reason = (
            f"The training example most like it has a kernel correlation of {likeness:.3f}; "
            f"the typical example has one of {typical:.3f}."
        )
        candidates.append(Outlier(i, likeness, reason))
    return tuple(candidates)


def neighbours(fitted: Fitted, count: int) -> tuple[Float64[Tensor, "n c"], Int64[Tensor, "n c"]]:
    """Return kernel correlations k(x, z) / √(k(x, x) k(z, z)) and rows of the nearest others."""
    blind = _blind(fitted)
    kernel = fitted.gram if blind is None else blind
    squared_length = torch.unflatten(kernel.diagonal(), 0, (-1, fitted.outputs_per_example)).sum(1)
    size = squared_length.clamp(min=torch.finfo(torch.float64).tiny).sqrt()  # the kernel of a zero is zero
    values, rows = [], []
    for block in blocks(len(fitted), ROWS):
        alike = fitted.likeness(block) if blind is None else blind[block].clone()
        alike.div_(size[block, None] * size)
        within = torch.arange(len(alike), device=alike.device)
        alike[within, within + block.start] = -torch.inf
        best = alike.topk(min(count, len(fitted) - 1), dim=1)
        values.append(best.values.cpu())
        rows.append(best.indices.cpu())
    return torch.cat(values), torch.cat(rows)


def _blind(fitted: Fitted) -> Float64[Tensor, "n n"] | None:
    """Return a kernel that sees labels as it was before; None where the kernel sees none.

    Whether neighbours share a label says nothing where labels made them neighbours; and a kernel that labels
    made indefinite has no correlations.
    """
    kernel, inputs = fitted.kernel, fitted.train.inputs
    if not isinstance(kernel, FittedLabelKernel):
        return None
    if kernel.fitted_on(inputs):
        return kernel.blind
    return assemble.gram(
        kernel.asked.base, inputs, dtype=fitted.kernel_dtype, device=fitted.device, memory=fitted.memory
    )


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
