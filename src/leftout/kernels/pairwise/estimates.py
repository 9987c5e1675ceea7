"""Do two inputs share a label? Which estimator is asked, and how much its answer counts beside a kernel."""

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.core.checks import check_rows
from leftout.core.errors import DataError, ShapeError
from leftout.kernels.pairwise.features import FeatureRegression, learn_features
from leftout.kernels.pairwise.options import Estimator
from leftout.kernels.pairwise.pairs import Pairs, count_classes
from leftout.kernels.pairwise.regression import KernelRegression, learn_regression
from leftout.kernels.pairwise.sketch import Sketch

ESTIMATORS: tuple[Estimator, ...] = ("kr-v1", "kr-v2", "fjlt-v1", "fjlt-v2")

Estimate = KernelRegression | FeatureRegression


def looks_at_pixels(estimator: Estimator) -> bool:
    """Return whether an estimator compares inputs, and not only their kernel."""
    return estimator.startswith("fjlt")


def check_labels(labels: Tensor, n: int) -> None:
    """Raise unless there is one class number an input, of two classes or more."""
    if labels.ndim != 1 or labels.dtype != torch.int64:
        raise ShapeError(
            f"`labels` must be class numbers of shape ({n},) in torch.int64; got {tuple(labels.shape)} in "
            f"{labels.dtype}."
        )
    check_rows("labels", labels, n, of="`inputs`")
    if count_classes(labels) < 2:
        raise DataError(
            f"`labels` must hold two classes or more for a label-aware kernel; all {n} examples are of "
            f"class {int(labels[0])}."
            if n
            else "`labels` must not be empty for a label-aware kernel."
        )


def fit_estimate(
    estimator: Estimator, pairs: Pairs, labels: Int64[Tensor, " n"], *, sketch: Sketch | None
) -> tuple[Estimate, Float64[Tensor, "n n"]]:
    """Return what all pairs of training inputs teach, and Z there, symmetric to the last bit."""
    if not looks_at_pixels(estimator):
        found = learn_regression(pairs, labels, solved=estimator == "kr-v2")
        return found, found.among(pairs)
    return learn_features(pairs, labels, components=estimator == "fjlt-v2", sketch=sketch)


def strengthened_kernel(
    strength: float | None, kernel: Float64[Tensor, "n n"], estimate_values: Float64[Tensor, "n n"]
) -> tuple[float, Float64[Tensor, "n n"]]:
    """Return λ and H + λ Z."""
    assert strength is not None
    size = float(estimate_values.abs().mean())
    if not size > 0:
        raise DataError(
            "The estimate of shared labels must not be 0 for every training pair; it is. Are the inputs "
            "independent of their labels? Take the base kernel."
        )
    used = strength * float(kernel.abs().mean()) / size
    return used, kernel + used * estimate_values
