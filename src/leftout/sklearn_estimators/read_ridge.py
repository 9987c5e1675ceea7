"""Ridge and RidgeClassifier as smoothers of features, with the intercept that no penalty shrinks.

RidgeCV and RidgeClassifierCV are read at the `alpha_` that they chose, which stays when an example goes.
"""

from typing import Any

import numpy as np
import torch
from sklearn.linear_model import Ridge, RidgeClassifier, RidgeClassifierCV, RidgeCV
from sklearn.utils.class_weight import compute_sample_weight

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

LinearRidge = Ridge | RidgeClassifier | RidgeCV | RidgeClassifierCV

STOPPED_EARLY = ("lsqr", "sparse_cg", "sag", "saga")
"""Solvers that stop at a tolerance: what they give is not the minimum, but near it."""


def ridge_parts(estimator: LinearRidge, data: TrainingData) -> EstimatorParts:
    """Return a fitted Ridge or RidgeClassifier, or one with a chosen alpha, as smoothers.

    Raises:
        OptionError: a solver that stops before the minimum, positive coefficients, balanced class weights.
        NotPositiveError: alpha = 0 where features depend on each other.

    Cost:
        6np·min(n, p), p features.
    """
    name = type(estimator).__name__
    _check_solver(estimator, name)
    check_double(name, estimator.coef_)
    weights = data.weights
    if hasattr(estimator, "classes_"):
        columns, targets = class_columns(estimator.classes_, data.targets)
        reference = estimator.decision_function
        weights = _with_class_weights(estimator.class_weight, data)
    else:
        columns, targets = number_columns(data.targets)
        reference = estimator.predict
    chosen = hasattr(estimator, "alpha_")
    alpha = estimator.alpha_ if chosen else estimator.alpha
    ridges, smoother_of = distinct_ridges(alpha, targets.shape[1])
    intercept = bool(estimator.fit_intercept)
    scale = data.scale if weights is None else weights.sqrt()
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


def class_columns(classes: np.ndarray, targets: Any) -> tuple[TargetColumns, torch.Tensor]:
    """Return classes as columns of ∓1, one for two classes and one each for more, and the targets in them."""
    count = len(classes)
    if count < 2:
        raise DataError(f"`y` must hold at least two classes; the estimator was fitted to {count}.")
    if count == 2:
        names, codes = (str(classes[1]),), torch.tensor([[-1.0], [1.0]], dtype=torch.float64, device="cpu")
    else:
        names = tuple(map(str, classes))
        codes = 2 * torch.eye(count, dtype=torch.float64, device="cpu") - 1
    columns = TargetColumns(names, classes, codes)
    return columns, columns.encode("y", targets)


def _check_solver(estimator: LinearRidge, name: str) -> None:
    """Raise unless the estimator is the minimum of its loss, and linear in its targets."""
    if getattr(estimator, "positive", False):
        raise OptionError(
            f"{name}(positive=True) is not linear in its targets, and without an example other coefficients may "
            "be zero: fit it again without each example, or fit with positive=False."
        )
    solver = getattr(estimator, "solver_", getattr(estimator, "solver", "auto"))
    if solver in STOPPED_EARLY:
        raise OptionError(
            f"{name} was fitted by solver={solver!r}, which stops at a tolerance before the minimum: fit it with "
            "solver='svd' or 'cholesky', and X as an array."
        )


def _with_class_weights(class_weight: Any, data: TrainingData) -> torch.Tensor | None:
    """Return sample weights times the weights of their classes."""
    if class_weight is None:
        return data.weights
    if class_weight == "balanced":
        raise OptionError(
            "class_weight='balanced' weighs all examples of a class anew when one is left out. Fix the weights: "
            "fit with sample_weight=compute_sample_weight('balanced', y) instead, and pass them here as well."
        )
    by_class = torch.from_numpy(compute_sample_weight(class_weight, data.targets).astype(np.float64))
    return by_class if data.weights is None else by_class * data.weights
