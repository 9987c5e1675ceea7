"""Every public quantity once more, from its definition: fit again without, and look.

Dense, float64 (or mpmath where the matrix is badly conditioned), no code shared with the package. A
model is its dual u, f(x) = K(x, X) u; training is what it says: a linear solve, an ordinary
differential equation solved by a matrix exponential, or a loop of gradient steps.
"""

from dataclasses import dataclass

import mpmath
import numpy as np
import scipy.linalg


@dataclass(frozen=True)
class Training:
    """rule: "ridge", "flow" or "descent"; time None is the end of training."""

    rule: str
    rate: float = 1.0
    ridge: float = 0.0
    loss: str = "sum"
    time: float | None = None


def dual(gram, residual, training, weights=None):
    """u of the model trained on these examples, each weighing `weights` in the loss."""
    n = len(gram)
    weights = np.ones(n) if weights is None else np.asarray(weights, dtype=float)
    total = weights.sum() if training.loss == "mean" else 1.0
    rate = training.rate / total
    ridge = training.ridge * total
    weighted = weights[:, None] * gram + ridge * np.eye(n)  # u' = rate (D r − (D K + ridge) u)
    drive = weights[:, None] * residual
    if training.rule == "ridge" or training.time is None:
        return np.linalg.solve(weighted, drive)
    if training.rule == "flow":
        k = residual.shape[1]
        block = np.zeros((n + k, n + k))
        block[:n, :n], block[:n, n:] = -weighted, drive
        return scipy.linalg.expm(rate * training.time * block)[:n, n:]
    u = np.zeros_like(residual)
    for _ in range(int(training.time)):
        u = u + rate * (drive - weighted @ u)
    return u


def predictions(gram, cross, residual, training, weights=None):
    return cross @ dual(gram, residual, training, weights)


def prediction_without(gram, cross, residual, training, rows):
    """f at the queries of the model fitted without some rows."""
    keep = np.setdiff1d(np.arange(len(gram)), rows)
    if not len(keep):
        return np.zeros((len(cross), residual.shape[1]))
    return predictions(gram[np.ix_(keep, keep)], cross[:, keep], residual[keep], training)


def loss(predicted, targets):
    return 0.5 * ((predicted - targets) ** 2).sum(-1)


def leave_one_out(gram, cross, residual, targets, training, of="loss"):
    """(m, n): loss without − loss with; (m, n, k): prediction with − without."""
    full = predictions(gram, cross, residual, training)
    columns = []
    for i in range(len(gram)):
        without = prediction_without(gram, cross, residual, training, [i])
        columns.append(
            loss(without, targets) - loss(full, targets) if of == "loss" else full - without
        )
    return np.stack(columns, axis=1)


def out_of_sample(gram, residual, training):
    return np.stack(
        [
            prediction_without(gram, gram[i : i + 1], residual, training, [i])[0]
            for i in range(len(gram))
        ]
    )


def added(gram, cross, residual, targets, training, column, itself, to_queries, new):
    """Loss without the new example − loss with it, (m,)."""
    bigger = np.block([[gram, column[:, None]], [column[None, :], np.array([[itself]])]])
    wider = np.concatenate([cross, to_queries[:, None]], axis=1)
    with_it = predictions(bigger, wider, np.vstack([residual, new]), training)
    return loss(predictions(gram, cross, residual, training), targets) - loss(with_it, targets)


def exact_dual(gram, residual, training, digits=60):
    """The same u in `digits` digits, for matrices that double precision cannot resolve."""
    with mpmath.workdps(digits):
        values, vectors = mpmath.eigsy(mpmath.matrix(gram.tolist()))
        inside = vectors.T * mpmath.matrix(residual.tolist())
        total = len(gram) if training.loss == "mean" else 1
        rate = mpmath.mpf(training.rate) / total
        ridge = mpmath.mpf(training.ridge) * total
        learned = mpmath.matrix(inside.rows, inside.cols)
        for k in range(inside.rows):
            sigma = values[k] + ridge
            if training.rule == "ridge" or training.time is None:
                g = 1 / sigma
            elif training.rule == "flow":
                g = (1 - mpmath.exp(-rate * training.time * sigma)) / sigma
            else:
                g = (1 - (1 - rate * sigma) ** int(training.time)) / sigma
            for c in range(inside.cols):
                learned[k, c] = g * inside[k, c]
        return vectors * learned


def exact_changes(gram, cross, residual, training, digits=60):
    """(m, n, k): prediction with − without, correct to all digits of a double."""
    n = len(gram)

    def predicted(keep):
        u = exact_dual(gram[np.ix_(keep, keep)], residual[keep], training, digits)
        with mpmath.workdps(digits):
            return mpmath.matrix(cross[:, keep].tolist()) * u

    full = predicted(list(range(n)))
    found = np.empty((len(cross), n, residual.shape[1]))
    for i in range(n):
        without = predicted([j for j in range(n) if j != i])
        with mpmath.workdps(digits):
            found[:, i] = np.array((full - without).tolist(), dtype=float)
    return found
