"""What would a fitted estimator of scikit-learn say without an example? Exactly, without fitting it again.

KernelRidge, GaussianProcessRegressor, Ridge and RidgeClassifier are linear in their targets: leaving an
example out divides one number by another (`solvers.smoother`). Hyperparameters stay as they are; means and
intercepts are those of a fit without the example.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from scipy.sparse import issparse
from sklearn.exceptions import NotFittedError
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge, RidgeClassifier, RidgeClassifierCV, RidgeCV
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from leftout.core.blocks import memory_budget
from leftout.core.errors import DataError, NotPositiveError, OptionError, ShapeError
from leftout.data.conversion import as_array
from leftout.data.objects import is_frame
from leftout.data.pairs import inputs_of
from leftout.dynamics.fitted_estimator import FittedEstimator
from leftout.sklearn_estimators.estimator_parts import EstimatorParts, TrainingData
from leftout.sklearn_estimators.read_gaussian_process import gaussian_process_parts
from leftout.sklearn_estimators.read_kernel_ridge import kernel_ridge_parts
from leftout.sklearn_estimators.read_ridge import ridge_parts
from leftout.solvers.smoother import EPS

KINDS = (KernelRidge, GaussianProcessRegressor, Ridge, RidgeClassifier, RidgeCV, RidgeClassifierCV)
"""Estimators that are linear in their targets, and minima of a loss."""

AGREEMENT = 1e-8
"""Largest difference from the estimator's own predictions, relative to the largest target or prediction."""

DOUBTFUL = 1e-4
"""The same, however badly conditioned the estimator is: data of another fit differ by more."""


def from_sklearn(
    estimator: Any, X: Any, y: Any, sample_weight: Any = None, *, memory: int | float | str | None = None
) -> FittedEstimator:
    """Return a fitted estimator of scikit-learn, ready to be asked what it would say without an example.

    The hyperparameters that it was fitted with stay: alpha, the `alpha_` chosen by RidgeCV and
    RidgeClassifierCV, the `kernel_` of a Gaussian process. Intercept and means are those of a fit without
    the example.

    Args:
        estimator: a fitted KernelRidge, GaussianProcessRegressor, Ridge, RidgeClassifier, RidgeCV or
            RidgeClassifierCV.
        X, y: what it was fitted to; of a precomputed kernel the square matrix. Queries are given in the same
            form: rows K(query, train) of a precomputed kernel.
        sample_weight: as it was fitted with. `reweight` multiplies an example's weight.
        memory: budget, in bytes or as "4GB"; 60 % of what is free if not said.

    Returns:
        A model that `leave_one_out`, `leave_out`, `relabel`, `reweight` and `out_of_sample` take. Loss is
        ½ Σ (f − y)² over the estimator's outputs, classes coded as −1 and +1. A query of `leave_one_out` is a
        pair (X, y).

    Raises:
        OptionError: another estimator, one that is not fitted, or an option under which leaving one out is
            not exact: positive=True, a solver that stops at a tolerance, balanced class weights.
        DataError: X, y or weights that the estimator was not fitted to: its predictions are compared.
        NotPositiveError: a singular system, where scikit-learn may fall back to least squares.

    Cost:
        n³ for each different alpha of kernels; 6np·min(n, p) of p features. Then 2mn² or 2mnp for m queries.

    Accuracy:
        exact up to rounding: 10·condition·eps relative to the largest change (`condition` of the result).

    Example:
        >>> import leftout as lo
        >>> from sklearn.datasets import load_diabetes
        >>> from sklearn.kernel_ridge import KernelRidge
        >>> X, y = load_diabetes(return_X_y=True)
        >>> estimator = KernelRidge(alpha=0.1, kernel="rbf", gamma=10).fit(X[:100], y[:100])
        >>> fitted = lo.from_sklearn(estimator, X[:100], y[:100])
        >>> lo.leave_one_out(fitted, (X[100:], y[100:])).dims  # positive: the example helped
        ('query', 'train')

    Source:
        rethinking influence functions, eq. 9; Allen 1974 for linear models.
    """
    check_estimator_kind(estimator)
    if issparse(X):
        raise DataError("`X` must be an array; fit the estimator to X.toarray(), and pass that.")
    inputs = inputs_of(X, name="X")
    if inputs.ndim != 2:
        raise ShapeError(f"`X` must have shape (n, d); got {tuple(inputs.shape)}.")
    if inputs.shape[1] != estimator.n_features_in_:
        raise ShapeError(
            f"`X` must have the {estimator.n_features_in_} columns that the estimator was fitted to; got "
            f"shape {tuple(inputs.shape)}."
        )
    targets = as_array("y", y)
    if targets.ndim not in (1, 2) or len(targets) != len(inputs):
        raise ShapeError(
            f"`y` must hold a target for each of {len(inputs)} rows of X; got shape {tuple(targets.shape)}."
        )
    weights = sample_weights(sample_weight, len(inputs))
    data = TrainingData(inputs, targets, weights, memory_budget(memory))
    try:
        parts = parts_of(estimator, data)
    except NotPositiveError as error:
        raise NotPositiveError(
            f"{type(estimator).__name__} is a singular system to rounding; fit with a larger `alpha`. {error}"
        ) from error
    fitted = FittedEstimator(
        type(estimator).__name__,
        parts.smoothers,
        parts.smoother_of,
        inputs=inputs,
        targets=parts.targets,
        columns=parts.columns,
        compare=parts.compare,
        shifts=parts.shifts,
        centred=parts.centred,
        has_weights=parts.has_weights,
        settings=parts.settings,
        memory=data.memory,
    )
    # Frames name their columns, which the estimator may look at.
    check_agreement(fitted, X if is_frame(X) else inputs.numpy(), parts)
    return fitted


def parts_of(estimator: Any, data: TrainingData) -> EstimatorParts:
    """Return an estimator as smoothers."""
    if isinstance(estimator, KernelRidge):
        return kernel_ridge_parts(estimator, data)
    if isinstance(estimator, GaussianProcessRegressor):
        return gaussian_process_parts(estimator, data)
    return ridge_parts(estimator, data)


def check_estimator_kind(estimator: object) -> None:
    """Raise unless an estimator is fitted, and one of those that can be asked."""
    if not isinstance(estimator, KINDS):
        came = f"the class {estimator.__name__}" if isinstance(estimator, type) else type(estimator).__name__
        names, advice = [kind.__name__ for kind in KINDS], ""
        if hasattr(estimator, "best_estimator_"):
            advice = " Pass its best_estimator_."
        elif hasattr(estimator, "named_steps"):
            advice = " Pass its last step, pipeline[-1], and what it sees, pipeline[:-1].transform(X)."
        raise OptionError(
            f"`estimator` must be a fitted {', '.join(names[:-1])} or {names[-1]}; got {came}.{advice}"
        )
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        raise OptionError(
            f"`estimator` must be fitted; call {type(estimator).__name__}.fit(X, y) first."
        ) from None
    # A Gaussian process predicts, and passes for fitted, before it was.
    if not hasattr(estimator, "n_features_in_"):
        raise OptionError(f"`estimator` must be fitted; call {type(estimator).__name__}.fit(X, y) first.")


def sample_weights(sample_weight: Any, n: int) -> Float64[Tensor, " n"] | None:
    """Return the weight of each example, or None where none are given.

    Raises:
        OptionError: not a number or n of them, finite and not negative, one at least above 0.
    """
    if sample_weight is None:
        return None
    try:
        weights = torch.from_numpy(np.array(sample_weight, dtype=np.float64))
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise OptionError("`sample_weight` must hold numbers, one for each example.") from None
    weights = weights.expand(n).clone() if weights.ndim == 0 else weights
    if tuple(weights.shape) != (n,):
        raise ShapeError(
            f"`sample_weight` must have shape ({n},), one for each example; got {tuple(weights.shape)}."
        )
    wrong = ~(torch.isfinite(weights) & (weights >= 0))
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise OptionError(f"`sample_weight` must be finite and ≥ 0; row {row} is {float(weights[row]):g}.")
    if not bool(weights.any()):
        raise OptionError("`sample_weight` must be above 0 for one example at least; all are 0.")
    return weights


def check_agreement(fitted: FittedEstimator, X: Any, parts: EstimatorParts) -> None:
    """Raise unless the estimator itself says the same at the training examples.

    Raises:
        DataError: it was fitted to something else.
    """
    ours = fitted.predict(X)
    theirs = torch.from_numpy(np.asarray(parts.reference(X), dtype=np.float64))
    if theirs.numel() != ours.numel():
        raise ShapeError(
            f"`y` must have as many columns as {fitted.name} was fitted to; got {ours.shape[1]}, and it "
            f"predicts {tuple(theirs.shape)}."
        )
    theirs = theirs.reshape(ours.shape)
    size = max(float(theirs.abs().max()), float(parts.targets.abs().max()))
    allowed = max(AGREEMENT, min(DOUBTFUL, 10 * fitted.condition * EPS)) * size
    apart = float((ours - theirs).abs().max())
    if not apart <= allowed:
        raise DataError(
            f"`X`, `y` and `sample_weight` must be those that {fitted.name} was fitted to, and its options "
            f"as they were then: its predictions differ by {apart:.3g} from those of such a fit, of which "
            f"rounding explains {allowed:.1g}. Fit it again in double precision, and pass just that."
        )
