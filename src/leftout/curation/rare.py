"""Under-sampled training examples, and outliers.

Under-sampled: examples whose nearest neighbours have the same label, but whose left-out loss is far above the
rest, so that more examples like them would help; for numbers instead of classes, those that are not suspects
of `mislabelled`. Outliers: examples whose kernel correlation with every other example is unusually low. "Far"
is beyond Tukey's fence, one and a half interquartile ranges from the quartile. Of a kernel fitted to labels
the label-blind kernel is used. Under-sampled groups within a class are found by `subclasses`.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from leftout.attribution.leave_one_out import out_of_sample
from leftout.core.blocks import blocks
from leftout.core.work import WorkCount, passes
from leftout.curation.mislabelled import label_margins
from leftout.dynamics.fitted import Fitted, check_fitted
from leftout.dynamics.rules import At
from leftout.dynamics.weights_check import check_unseen

NEAREST = 3
"""Neighbours whose labels are compared with an example's: few, as a rare kind has not many members."""

AGREEMENT = 0.5
"""Share of them that must have the same label, for the label to count as consistent."""

FENCE = 1.5
"""Interquartile ranges beyond the quartile: Tukey's fence."""

SHARE = 0.02
"""Largest share of the training examples that is listed, the worst, so that the list stays readable."""

ROWS = 512


@dataclass(frozen=True)
class Rare:
    """An under-sampled training example.

    Attributes:
        loss: ½ Σ (f − y)² of the prediction without it.
        agreement: share of its nearest neighbours with the same label; NaN for regression.
        reason: the evidence in one sentence.
    """

    row: int
    loss: float
    agreement: float
    reason: str


@dataclass(frozen=True)
class Outlier:
    """A training example unlike any other; `similarity`: largest kernel correlation with another."""

    row: int
    similarity: float
    reason: str


def rare(fitted: Fitted, *, at: At = None) -> tuple[Rare, ...]:
    """Return consistent examples that are predicted badly without themselves, worst first.

    Raises:
        OptionError: a network at trained weights, which have seen every example.

    Cost:
        that of `out_of_sample`, and n² for the neighbours.

    Example:
        >>> import leftout as lo, torch
        >>> angles = torch.tensor([*range(20), *range(50, 70), 150, 151, 152, 153]) / 50
        >>> inputs, labels = torch.stack([angles.cos(), angles.sin()], dim=1), [0] * 20 + [1] * 24
        >>> fitted = lo.fit(lo.kernels.ReLU(1), (inputs, labels), rule=lo.Ridge(0.1))
        >>> [(example.row, example.agreement) for example in lo.rare(fitted)]  # at the border of a class
        [(20, 1.0)]
    """
    check_fitted(fitted)
    check_unseen("fitted", fitted.kernel, "under-sampled examples")
    train = fitted.train
    predicted = out_of_sample(fitted, fitted.rule.time(at)).cpu()
    loss = fitted.rule.example_loss.of(predicted, train.targets)
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

    The sign of the margin does not matter here: the members of a rare class agree with each other, and are
        still outvoted by the other classes.
    """
    labels = fitted.train.labels
    if labels is None:
        margins = label_margins(fitted.train, fitted.rule.example_loss.expected(predicted))[1]
        return torch.full_like(margins, math.nan), margins >= 0
    _, nearest = neighbours(fitted, NEAREST)
    agreement = (labels[nearest] == labels[:, None]).double().mean(1)
    return agreement, agreement >= AGREEMENT


def outliers(fitted: Fitted) -> tuple[Outlier, ...]:
    """Return training examples whose nearest neighbour is unusually far, the farthest first.

    Cost:
        n² for the kernel correlations.

    Example:
        >>> import leftout as lo, torch
        >>> angles = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 3.0], dtype=torch.float64)
        >>> inputs = torch.stack([angles.cos(), angles.sin()], dim=1)
        >>> fitted = lo.fit(lo.kernels.ReLU(1), (inputs, angles), rule=lo.Ridge(0.1))
        >>> [(outlier.row, round(outlier.similarity, 2)) for outlier in lo.outliers(fitted)]
        [(6, -0.02)]
    """
    check_fitted(fitted)
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
    """Return kernel correlations k(x, z) / √(k(x, x) k(z, z)) with the nearest neighbours, and their rows.

    Those of as many as anybody asks about are found once for a model.
    """
    if count <= NEAREST:
        values, rows = fitted.memo(("neighbours",), lambda: _neighbours(fitted, NEAREST))
        return values[:, :count], rows[:, :count]
    return _neighbours(fitted, count)


def _neighbours(fitted: Fitted, count: int) -> tuple[Float64[Tensor, "n c"], Int64[Tensor, "n c"]]:
    # Before labels: that neighbours share one says nothing where labels made them neighbours, and a kernel
    # that labels made indefinite has no correlations.
    kernel_rows = fitted.rows.before_labels()
    diagonal = kernel_rows.gram.diagonal()
    squared_length = torch.unflatten(diagonal, 0, (-1, kernel_rows.outputs_per_example)).sum(1)
    size = squared_length.clamp(min=torch.finfo(torch.float64).tiny).sqrt()  # the kernel of a zero is zero
    values, rows = [], []
    for block in blocks(len(fitted), ROWS):
        alike = kernel_rows.summed_over_outputs(block)
        alike.div_(size[block, None] * size)
        within = torch.arange(len(alike), device=alike.device)
        alike[within, within + block.start] = -torch.inf
        best = alike.topk(min(count, len(fitted) - 1), dim=1)
        values.append(best.values.cpu())
        rows.append(best.indices.cpu())
    return torch.cat(values), torch.cat(rows)


def fence_of(values: Float64[Tensor, " n"]) -> float:
    """Return Tukey's upper fence: values beyond it are far from the rest."""
    low, high = torch.quantile(values, torch.tensor([0.25, 0.75], dtype=torch.float64, device="cpu"))
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
