"""Smooth unique information once more, from its definition: linearised networks trained in weight space.

No code shared with the package. A linearised network is its Jacobian (n, k, p): f = f_0 + J (w − w_0);
`residual` (n, k) is y − f_0, and weights (p,) are w − w_0. `training` is one of `oracles.Training`.
"""

import numpy as np
import scipy.linalg


def copies(features, k):
    """(n, k, k p): k outputs, each with its own copy of the weights of one network (n, p)."""
    n, p = features.shape
    found = np.zeros((n, k, k * p))
    for o in range(k):
        found[:, o, o * p : (o + 1) * p] = features
    return found


def hessian(jacobian, training):
    """Of the loss as it is read: a sum over examples or a mean, and the penalty."""
    n, _, p = jacobian.shape
    data = sum(j.T @ j for j in jacobian) if n else np.zeros((p, p))
    count = n if training.loss == "mean" and n else 1
    return data / count + training.ridge * np.eye(p)


def trained(jacobian, residual, training):
    """The weights that training from zero arrives at."""
    n, _, p = jacobian.shape
    if n == 0:
        return np.zeros(p)
    drive = sum(j.T @ r for j, r in zip(jacobian, residual, strict=True))
    drive = drive / (n if training.loss == "mean" else 1)
    matrix = hessian(jacobian, training)
    if training.rule == "ridge" or training.time is None:
        if training.ridge:
            return np.linalg.solve(matrix, drive)
        # The end of training from zero is the solution of least length.
        rows = jacobian.reshape(-1, p)
        return np.linalg.lstsq(rows, residual.reshape(-1), rcond=1e-12)[0]
    if training.rule == "flow":
        block = np.zeros((p + 1, p + 1))
        block[:p, :p], block[:p, p] = -matrix, drive
        return scipy.linalg.expm(training.rate * training.time * block)[:p, p]
    weights = np.zeros(p)
    for _ in range(int(training.time)):
        weights = weights - training.rate * (matrix @ weights - drive)
    return weights


def weight_changes(jacobian, residual, training, groups=None):
    """(groups, p): weights with all examples minus weights trained without each group."""
    n = len(jacobian)
    groups = [[i] for i in range(n)] if groups is None else groups
    keeps = [np.setdiff1d(np.arange(n), rows) for rows in groups]
    full = trained(jacobian, residual, training)
    return np.stack([full - trained(jacobian[keep], residual[keep], training) for keep in keeps])


def weight_information(changes, covariance=None):
    """½ dwᵀ Σ⁻¹ dw, in coordinates of the directions in which weights move; Σ = I if not said."""
    if covariance is None:
        return (changes**2).sum(1) / 2
    return np.array([dw @ np.linalg.solve(covariance, dw) for dw in changes]) / 2


def function_information(changes, queries, sigma=1.0):
    """½ mean over queries (m, k, p) of Σ over outputs (f − f_without)² / σ²."""
    found = []
    for dw in changes:
        moved = queries @ dw  # (m, k)
        found.append(np.mean([(row**2).sum() for row in moved]) / (2 * sigma**2))
    return np.array(found)


def gradients(jacobian, residual, training):
    """(n, p): gradient of each example's loss, with its share of the penalty, at the end of training."""
    n = len(jacobian)
    end = type(training)("ridge", training.rate, training.ridge, training.loss, None)
    weights = trained(jacobian, residual, end)
    penalty = training.ridge * weights / (n if training.loss == "sum" else 1)
    return np.stack([j.T @ (j @ weights - r) + penalty for j, r in zip(jacobian, residual, strict=True)])


def steady_covariance(jacobian, residual, training, rate, batch):
    """Σ of SGD in weight space (p, p), by the Lyapunov equation of SciPy.

    A step is −rate times the gradient of the loss as it is read, estimated from a batch drawn with
    replacement; the covariance of that estimate is the examples' covariance over the batch.
    """
    found = gradients(jacobian, residual, training)
    n = len(found)
    estimate = np.cov(found.T, bias=True) / batch * (n**2 if training.loss == "sum" else 1)
    return scipy.linalg.solve_continuous_lyapunov(hessian(jacobian, training), rate * estimate)


def simulated_covariance(jacobian, residual, training, rate, batch, *, chains, steps, seed=0):
    """Σ of SGD in weight space, from chains that were run: no equation is solved."""
    draw = np.random.default_rng(seed)
    n = len(jacobian)
    end = type(training)("ridge", training.rate, training.ridge, training.loss, None)
    weights = np.tile(trained(jacobian, residual, end), (chains, 1))
    scale = n if training.loss == "sum" else 1
    for _ in range(steps):
        rows = draw.integers(n, size=(chains, batch))
        error = np.einsum("sbkp,sp->sbk", jacobian[rows], weights) - residual[rows]
        estimate = np.einsum("sbkp,sbk->sp", jacobian[rows], error) / batch
        weights = weights - rate * (scale * estimate + training.ridge * weights)
    return np.cov(weights.T)
