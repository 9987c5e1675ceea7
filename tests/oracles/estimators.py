"""Estimators of scikit-learn fitted again to edited data: what leaving out must say, from its definition."""

import warnings

import numpy as np
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.kernel_ridge import KernelRidge


def predictions(estimator, X):
    """Return what an estimator says at inputs, a column for each output."""
    say = getattr(estimator, "decision_function", estimator.predict)
    return np.asarray(say(X)).reshape(len(X), -1)


def with_fixed_hyperparameters(estimator):
    """Return the same estimator, not fitted, with the hyperparameters that it chose when it was."""
    fresh = clone(estimator)
    if isinstance(estimator, GaussianProcessRegressor):
        return fresh.set_params(kernel=estimator.kernel_, optimizer=None)
    return fresh


def refit(estimator, X, y, weights=None, *, rows=None):
    """Return the estimator fitted again to some of the rows, or to all as they are now."""
    rows = np.arange(len(X)) if rows is None else np.asarray(rows)
    fresh = with_fixed_hyperparameters(estimator)
    if isinstance(fresh, GaussianProcessRegressor) and np.ndim(fresh.alpha) == 1:
        fresh.set_params(alpha=fresh.alpha[rows])
    precomputed = isinstance(fresh, KernelRidge) and fresh.kernel == "precomputed"
    inputs = X[np.ix_(rows, rows)] if precomputed else X[rows]
    options = {} if weights is None else {"sample_weight": np.asarray(weights)[rows]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fresh.fit(inputs, y[rows], **options)


def prediction_without(estimator, X, y, weights, group, queries):
    """Return what the estimator fitted without a group of rows says at queries, (m, k)."""
    rows = np.setdiff1d(np.arange(len(X)), group)
    if isinstance(estimator, KernelRidge) and estimator.kernel == "precomputed":
        queries = queries[:, rows]
    return predictions(refit(estimator, X, y, weights, rows=rows), queries)


def half_squares(predicted, targets):
    """Return ½ Σ (f − y)² over outputs."""
    return ((predicted - targets) ** 2).sum(-1) / 2
