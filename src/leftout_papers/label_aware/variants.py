"""How well does ridgeless regression classify with a kernel that knows labels, its strength chosen fairly?

    K' = H + λ Z,    dual = K'⁻¹ Y,    predictions K'(test, train) dual

K' may have negative eigenvalues: it is factored as L D Lᵀ. The strength is the one of least squared loss on
training images that were left out, one by one where they are few and a tenth at a time where not; Z is
learned again without them. One at which K' is singular to half of the digits is skipped.
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
"""The strength of the paper's program where it is known, table 3."""

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
class Scored:
    """One kernel on one task of one draw.

    Attributes:
        accuracy: on test images, in percent; NaN where nothing could be solved.
        fixed: the same at strength 0.1.
        strength: what was chosen; 0 of the label-blind kernel.
        loss: mean squared loss on training images that were left out.
        skipped: strengths that were not solved for.
        lowest: the smallest eigenvalue over the largest.
    """

    accuracy: float
    fixed: float
    strength: float
    loss: float
    skipped: tuple[float, ...]
    lowest: float


def targets_of(labels: Int64[Tensor, " n"]) -> Float64[Tensor, "n k"]:
    """Return −1 and 1 of two classes, one column a class of more."""
    coded = torch.nn.functional.one_hot(labels).double()
    return coded if coded.shape[1] > 2 else 2 * coded[:, 1:] - 1


def accuracy(predicted: Float64[Tensor, "m k"], labels: Int64[Tensor, " m"]) -> float:
    """Return the share of labels that are predicted, in percent."""
    found = (predicted[:, 0] >= 0).long() if predicted.shape[1] == 1 else predicted.argmax(1)
    return 100 * float((found == labels).double().mean())


def ridgeless(
    gram: Float64[Tensor, "n n"], cross: Float64[Tensor, "m n"], targets: Float64[Tensor, "n k"]
) -> Float64[Tensor, "m k"]:
    """Return predictions of the interpolant.

    Raises:
        NotPositiveError: singular to half of the digits.
    """
    return cross @ factor_indefinite(gram, ridge=0.0).solve(targets)


def label_blind(draw: Draw) -> Scored:
    """Return the base kernel's score."""
    targets = targets_of(draw.labels)
    found = ridgeless(draw.among.kernel, draw.between.kernel, targets)
    share = accuracy(found, draw.query_labels)
    return Scored(share, share, 0.0, float("nan"), (), _lowest(draw.among.kernel))


def label_aware(draw: Draw, kernel: lo.kernels.LabelAware, *, folds: int | None = None) -> Scored:
    """Return a variant's score, its strength chosen on training images.

    Args:
        folds: in how many parts training images are left out; each alone if there are few, else ten,
            if not said.
    """
    losses = held_out_losses(draw, kernel, folds=folds)
    tried = {one: loss for one, loss in losses.items() if loss is not None}
    skipped = tuple(one for one, loss in losses.items() if loss is None)
    nothing = Scored(float("nan"), float("nan"), float("nan"), float("nan"), skipped, float("nan"))
    if not tried:
        return nothing
    strength = min(tried, key=lambda one: tried[one])
    try:
        fitted = kernel.fit_pairs(draw.among, draw.labels)
        chosen, fixed = (
            _scored(refit.gram, refit.cross_of(draw.between), draw)
            for refit in map(fitted.at_strength, (strength, FIXED))
        )
    except lo.LeftoutError:
        return nothing
    lowest = _lowest(fitted.at_strength(strength).gram)
    return Scored(chosen, fixed, strength, tried[strength], skipped, lowest)


def held_out_losses(
    draw: Draw, kernel: lo.kernels.LabelAware, *, folds: int | None = None
) -> dict[float, float | None]:
    """Return the mean squared loss on left-out training images by strength; None where one is skipped."""
    n = len(draw.labels)
    count = folds if folds is not None else n if n <= SINGLES else FOLDS
    targets = targets_of(draw.labels)
    sums: dict[float, float | None] = dict.fromkeys(STRENGTHS, 0.0)
    # A fixed order; classes lie one behind the other, so each fold takes every count-th image.
    for start in range(count):
        gone = torch.arange(start, n, count, device=draw.labels.device)
        kept = torch.ones(n, dtype=torch.bool, device=gone.device).index_fill_(0, gone, False)
        rows = kept.nonzero().flatten()
        fitted = kernel.fit_pairs(draw.among.of(rows, rows), draw.labels[rows])
        pairs = draw.among.of(gone, rows)
        for strength, total in sums.items():
            if total is None:
                continue
            refit = fitted.at_strength(strength)
            try:
                predictions = ridgeless(refit.gram, refit.cross_of(pairs), targets[rows])
            except (NotPositiveError, DataError):
                sums[strength] = None
            else:
                sums[strength] = total + float((predictions - targets[gone]).square().sum())
    return {one: None if total is None else total / n for one, total in sums.items()}


def _scored(gram: Float64[Tensor, "n n"], cross: Float64[Tensor, "m n"], draw: Draw) -> float:
    try:
        found = ridgeless(gram, cross, targets_of(draw.labels))
    except NotPositiveError:
        return float("nan")
    return accuracy(found, draw.query_labels)


def _lowest(gram: Float64[Tensor, "n n"]) -> float:
    values = torch.linalg.eigvalsh(gram)
    return float(values[0] / values[-1])
