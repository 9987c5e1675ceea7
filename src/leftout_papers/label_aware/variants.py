"""Accuracy of ridgeless regression with label-aware kernels, their strength chosen on training images.

    K' = H + λ Z,    dual = K'⁻¹ Y,    predictions K'(test, train) dual

K' may have negative eigenvalues: it is factored as L D Lᵀ. The strength is the one of least squared loss on
left-out training images, one by one where they are few, else a tenth at a time; Z is fitted again
without them. Strengths at which K' is singular to half of the digits are skipped.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

import leftout as lo
from leftout.core import DataError, NotPositiveError
from leftout.solvers import factor_indefinite
from leftout_papers.label_aware.draws import CNTK, Draw

STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
FIXED = 0.1
"""The strength in the paper's program for table 3; those of the other tables are unknown."""

VARIANTS = {
    "LANTK-KR-V1": lo.kernels.LabelAware(CNTK, "kr-v1", strength=FIXED),
    "LANTK-KR-V2": lo.kernels.LabelAware(CNTK, "kr-v2", strength=FIXED),
    "LANTK-FJLT-V1": lo.kernels.LabelAware(CNTK, "fjlt-v1", strength=FIXED),
    "LANTK-FJLT-V2": lo.kernels.LabelAware(CNTK, "fjlt-v2", strength=FIXED),
}
BEST = "LANTK-best"

SINGLES = 250
"""Training images up to which each is left out alone."""

FOLDS = 10


@dataclass(frozen=True)
class Score:
    """Accuracy of one kernel on one task of one draw, and the choice of its strength.

    Attributes:
        accuracy: on test images, in percent; NaN if no strength could be solved.
        fixed: the same at strength 0.1.
        strength: chosen strength; 0 for the label-blind kernel.
        loss: mean squared loss on training images that were left out.
        skipped: strengths at which K' was singular.
        lowest: the smallest eigenvalue over the largest.
    """

    accuracy: float
    fixed: float
    strength: float
    loss: float
    skipped: tuple[float, ...]
    lowest: float


def targets_of(labels: Int64[Tensor, " n"]) -> Float64[Tensor, "n k"]:
    """Return −1 and 1 for two classes, one column for each class otherwise."""
    coded = torch.nn.functional.one_hot(labels).double()
    return coded if coded.shape[1] > 2 else 2 * coded[:, 1:] - 1


def accuracy(predicted: Float64[Tensor, "m k"], labels: Int64[Tensor, " m"]) -> float:
    """Return the share of labels that are predicted, in percent."""
    classes = (predicted[:, 0] >= 0).long() if predicted.shape[1] == 1 else predicted.argmax(1)
    return 100 * float((classes == labels).double().mean())


def ridgeless(
    gram: Float64[Tensor, "n n"], cross: Float64[Tensor, "m n"], targets: Float64[Tensor, "n k"]
) -> Float64[Tensor, "m k"]:
    """Return predictions of the interpolant.

    Raises:
        NotPositiveError: `gram` is singular to half of the digits.
    """
    return cross @ factor_indefinite(gram, ridge=0.0).solve(targets)


def label_blind(draw: Draw) -> Score:
    """Return the base kernel's score."""
    targets = targets_of(draw.labels)
    predicted = ridgeless(draw.among.kernel, draw.between.kernel, targets)
    share = accuracy(predicted, draw.query_labels)
    return Score(share, share, 0.0, float("nan"), (), _lowest(draw.among.kernel))


def label_aware(draw: Draw, kernel: lo.kernels.LabelAware, *, folds: int | None = None) -> Score:
    """Return a variant's score, its strength chosen on training images.

    Args:
        folds: parts in which training images are left out; None leaves each out alone if there are few, else
            a tenth at a time.
    """
    losses = held_out_losses(draw, kernel, folds=folds)
    solved = {strength: loss for strength, loss in losses.items() if loss is not None}
    skipped = tuple(strength for strength, loss in losses.items() if loss is None)
    failure = Score(float("nan"), float("nan"), float("nan"), float("nan"), skipped, float("nan"))
    if not solved:
        return failure
    strength = min(solved, key=solved.__getitem__)
    try:
        fitted = kernel.fit_pairs(draw.among, draw.labels)
        chosen, fixed = (
            _refit_accuracy(refit.gram, refit.cross_of(draw.between), draw)
            for refit in map(fitted.at_strength, (strength, FIXED))
        )
    except lo.LeftoutError:
        return failure
    lowest = _lowest(fitted.at_strength(strength).gram)
    return Score(chosen, fixed, strength, solved[strength], skipped, lowest)


def held_out_losses(
    draw: Draw, kernel: lo.kernels.LabelAware, *, folds: int | None = None
) -> dict[float, float | None]:
    """Return the mean squared loss on left-out training images by strength; None where one is skipped."""
    n = len(draw.labels)
    count = folds if folds is not None else n if n <= SINGLES else FOLDS
    targets = targets_of(draw.labels)
    sums: dict[float, float | None] = dict.fromkeys(STRENGTHS, 0.0)
    # Images are sorted by class, so each fold takes every count-th image.
    for start in range(count):
        fold = torch.arange(start, n, count, device=draw.labels.device)
        remaining = torch.ones(n, dtype=torch.bool, device=fold.device).index_fill_(0, fold, False)
        rows = remaining.nonzero().flatten()
        fitted = kernel.fit_pairs(draw.among.of(rows, rows), draw.labels[rows])
        pairs = draw.among.of(fold, rows)
        for strength, total in sums.items():
            if total is None:
                continue
            refit = fitted.at_strength(strength)
            try:
                predictions = ridgeless(refit.gram, refit.cross_of(pairs), targets[rows])
            except (NotPositiveError, DataError):
                sums[strength] = None
            else:
                sums[strength] = total + float((predictions - targets[fold]).square().sum())
    return {strength: None if total is None else total / n for strength, total in sums.items()}


def _refit_accuracy(gram: Float64[Tensor, "n n"], cross: Float64[Tensor, "m n"], draw: Draw) -> float:
    try:
        predicted = ridgeless(gram, cross, targets_of(draw.labels))
    except NotPositiveError:
        return float("nan")
    return accuracy(predicted, draw.query_labels)


def _lowest(gram: Float64[Tensor, "n n"]) -> float:
    eigenvalues = torch.linalg.eigvalsh(gram)
    return float(eigenvalues[0] / eigenvalues[-1])
