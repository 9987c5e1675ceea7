"""Ridge and RidgeClassifier as smoothers of features, with the intercept that no penalty shrinks.

RidgeCV and RidgeClassifierCV are read at the `alpha_` that they chose, which stays when an example goes.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from sklearn.utils.class_weight import compute_sample_weight
from torch import Tensor

from leftout.core.errors import DataError, OptionError
from leftout.data.target_columns import TargetColumns
from leftout.sklearn_estimators.estimator_parts import (
    EstimatorParts,
    TrainingData,
    check_double,
    distinct_ridges,
    number_columns,
)
from leftout.solvers.feature_smoother import feature_smoothers

STOPPED_EARLY = ("lsqr", "sparse_cg", "sag", "saga")
"""Solvers that stop at a tolerance: what they give is not the minimum, but near it."""


def ridge_parts(estimator: Any, data: TrainingData) -> EstimatorParts:
    """Return a fitted Ridge or RidgeClassifier, or one with a chosen alpha, as smoothers.

    Raises:
        OptionError: a solver that stops before the minimum, positive coefficients, balanced class weights.
        NotPositiveError: alpha = 0 where features depend on each other.

    Cost:
        6np·min(n, p), p features.
    """
    name = type(estimator).__name__
    _check_solver(estimator, name)
    data.check_features_fit()
    check_double(name, estimator.coef_)
    scale = data.scale
    if hasattr(estimator, "classes_"):
        class_weights = weights_of_classes(estimator.class_weight, estimator.classes_)
        columns, targets = class_columns(estimator.classes_, data.targets, class_weights)
        reference = estimator.decision_function
        numbers = columns.class_numbers("y", np.asarray(data.targets))
        scale = scale * class_weights[numbers].sqrt()
        if not bool(scale.any()):
            raise OptionError(
                "`class_weight` times `sample_weight` must be above 0 for one example at least."
            )
    else:
        columns, targets = number_columns(data.targets)
        reference = estimator.predict
    chosen = hasattr(estimator, "alpha_")
    alpha = estimator.alpha_ if chosen else estimator.alpha
    ridges, smoother_of = distinct_ridges(alpha, targets.shape[1])
    intercept = bool(estimator.fit_intercept)
    return EstimatorParts(
        smoothers=feature_smoothers(data.inputs, scale=scale, ridges=ridges, intercept=intercept),
        smoother_of=smoother_of,
        targets=targets,
        columns=columns,
        compare=lambda inputs: inputs,
        reference=reference,
        shifts=intercept,
        settings={"alpha": np.asarray(alpha).tolist(), "alpha_chosen": chosen, "fit_intercept": intercept},
    )


def class_columns(
    classes: np.ndarray, targets: Any, class_weights: Float64[Tensor, " c"]
) -> tuple[TargetColumns, Float64[Tensor, "n k"]]:
    """Return classes as columns of ∓1, one for two classes and one each for more, and the targets in them."""
    count = len(classes)
    if count < 2:
        raise DataError(f"`y` must hold at least two classes; the estimator was fitted to {count}.")
    if count == 2:
        names = [str(classes[1])]
        codes = torch.tensor([[-1.0], [1.0]], dtype=torch.float64, device="cpu")
    else:
        names = [str(name) for name in classes]
        codes = 2 * torch.eye(count, dtype=torch.float64, device="cpu") - 1
    columns = TargetColumns(tuple(names), classes, codes, class_weights)
    return columns, columns.encode("y", targets)


def _check_solver(estimator: Any, name: str) -> None:
    """Raise unless the estimator is the minimum of its loss, and linear in its targets."""
    if getattr(estimator, "positive", False):
        raise OptionError(
            f"{name}(positive=True) is not linear in its targets, and without an example other coefficients "
            "may be zero: fit it again without each example, or fit with positive=False."
        )
    solver = getattr(estimator, "solver_", getattr(estimator, "solver", "auto"))
    if solver in STOPPED_EARLY:
        raise OptionError(
            f"{name} was fitted by solver={solver!r}, which stops at a tolerance before the minimum: fit it "
            "with solver='svd' or 'cholesky', and X as an array."
        )


def weights_of_classes(class_weight: Any, classes: np.ndarray) -> Float64[Tensor, " c"]:
    """Return what an example of each class weighs besides its own weight.

    Raises:
        OptionError: weights that depend on how many examples a class has.
    """
    if isinstance(class_weight, str):
        raise OptionError(
            f"class_weight={class_weight!r} weighs all examples anew when one is left out. Fix the weights: "
            f"fit with sample_weight=compute_sample_weight({class_weight!r}, y) instead, and pass them here."
        )
    if class_weight is None:
        return torch.ones(len(classes), dtype=torch.float64, device="cpu")
    return torch.from_numpy(compute_sample_weight(class_weight, classes).astype(np.float64))
