"""Every public quantity once more, from its definition: fit again without, and look.

Dense, float64 (or mpmath where the matrix is badly conditioned), no code shared with the package. A
model is its dual u, f(x) = f_0(x) + K(x, X) u; training is what it says: a linear solve, an ordinary
differential equation solved by a matrix exponential, or gradient steps. `residual` is y − f_0.
"""

from dataclasses import dataclass

import mpmath
import numpy as np
import scipy.linalg

MANY = 200
"""From so many steps on, the oracle squares the map of a step instead of taking each."""


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
    n, k = residual.shape
    if n == 0:
        return np.zeros_like(residual)
    weights = np.ones(n) if weights is None else np.asarray(weights, dtype=float)
    if not weights.all():  # a weight of zero is an example less
        u = np.zeros_like(residual)
        there = weights > 0
        u[there] = dual(gram[np.ix_(there, there)], residual[there], training, weights[there])
        return u
    total = weights.sum() if training.loss == "mean" else 1.0
    rate = training.rate / total
    ridge = training.ridge * total
    weighted = weights[:, None] * gram + ridge * np.eye(n)  # u' = rate (D r − (D K + ridge) u)
    drive = weights[:, None] * residual
    if training.rule == "ridge" or training.time is None:
        return np.linalg.solve(weighted, drive)
    if training.rule == "flow":
        return _flowed(rate * weighted, rate * drive, training.time)
    steps = int(training.time)
    if steps >= MANY:
        step = np.eye(n + k)
        step[:n, :n] -= rate * weighted
        step[:n, n:] = rate * drive
        return np.linalg.matrix_power(step, steps)[:n, n:]
    u = np.zeros_like(residual)
    for _ in range(steps):
        u = u + rate * (drive - weighted @ u)
    return u


def _flowed(matrix, drive, time):
    """u(t) of u' = drive − matrix·u from u(0) = 0, by an exponential over a short time, doubled.

    u(2t) = u(t) + e^{−At} u(t): no number is ever a difference of larger ones.
    """
    n, k = drive.shape
    doublings = max(0, int(np.ceil(np.log2(max(time * np.linalg.norm(matrix, 2), 1)))))
    block = np.zeros((n + k, n + k))
    block[:n, :n], block[:n, n:] = -matrix, drive
    map_ = scipy.linalg.expm(time / 2**doublings * block)
    decay, u = map_[:n, :n], map_[:n, n:]
    for _ in range(doublings):
        decay, u = decay @ decay, u + decay @ u
    return u


def predictions(gram, cross, residual, training, weights=None):
    """f − f_0 at the queries."""
    return cross @ dual(gram, residual, training, weights)


def prediction_without(gram, cross, residual, training, rows):
    """f − f_0 at the queries, of the model fitted without some rows."""
    keep = np.setdiff1d(np.arange(len(gram)), rows)
    return predictions(gram[np.ix_(keep, keep)], cross[:, keep], residual[keep], training)


def loss(predicted, targets):
    return 0.5 * ((predicted - targets) ** 2).sum(-1)


def effect(full, edited, wanted, of):
    """How an edit shows: loss edited − loss as it is, or prediction as it is − edited."""
    return loss(edited, wanted) - loss(full, wanted) if of == "loss" else full - edited


def leave_out(gram, cross, residual, wanted, training, groups, of="loss"):
    """(m, g[, k]): of="loss" without − with; of="prediction" with − without."""
    full = predictions(gram, cross, residual, training)
    without = [prediction_without(gram, cross, residual, training, rows) for rows in groups]
    return np.stack([effect(full, one, wanted, of) for one in without], axis=1)


def leave_one_out(gram, cross, residual, wanted, training, of="loss"):
    """(m, n[, k]), of every single example."""
    singles = [[i] for i in range(len(gram))]
    return leave_out(gram, cross, residual, wanted, training, singles, of)


def out_of_sample(gram, residual, training):
    """f − f_0 at every training point, of the model fitted without it."""
    rows = range(len(gram))
    return np.concatenate([prediction_without(gram, gram[i : i + 1], residual, training, [i]) for i in rows])


def relabelled(gram, cross, residual, wanted, training, rows, new, of="loss"):
    """(m, b[, k]): training targets minus f_0 of `rows` replaced by `new`, each alone."""
    full = predictions(gram, cross, residual, training)
    parts = []
    for row, value in zip(rows, new, strict=True):
        changed = residual.copy()
        changed[row] = value
        parts.append(effect(full, predictions(gram, cross, changed, training), wanted, of))
    return np.stack(parts, axis=1)


def reweighted(gram, cross, residual, wanted, training, rows, weight, of="loss"):
    """(m, b[, k]): each of `rows` weighing `weight` in the loss, alone."""
    full = predictions(gram, cross, residual, training)
    parts = []
    for row in rows:
        weights = np.ones(len(gram))
        weights[row] = weight
        edited = predictions(gram, cross, residual, training, weights)
        parts.append(effect(full, edited, wanted, of))
    return np.stack(parts, axis=1)


def added(whole, n, rows, residual, wanted, training, queries, of="loss"):
    """(m, a[, k]): without the new example against with it; all points are rows of `whole`."""
    old = np.arange(n)
    before = predictions(whole[np.ix_(old, old)], whole[np.ix_(queries, old)], residual[:n], training)
    parts = []
    for row, value in zip(rows, residual[n:], strict=True):
        more = np.append(old, row)
        after = predictions(
            whole[np.ix_(more, more)],
            whole[np.ix_(queries, more)],
            np.vstack([residual[:n], value]),
            training,
        )
        parts.append(effect(after, before, wanted, of))
    return np.stack(parts, axis=1)


class Exact:
    """Leaving out from one eigendecomposition a model, in `digits` digits; a call is one training.

    For matrices that double precision cannot resolve, and times at which its exponential fails.
    """

    def __init__(self, gram, cross, residual, *, groups=None, digits=50):
        n = len(gram)
        groups = [[i] for i in range(n)] if groups is None else groups
        self.digits = digits
        self.shape = (len(cross), len(groups), residual.shape[1])
        keeps = [[j for j in range(n) if j not in rows] for rows in ([], *groups)]
        with mpmath.workdps(digits):
            self.models = [self._model(gram, cross, residual, keep) for keep in keeps]

    @staticmethod
    def _model(gram, cross, residual, keep):
        values, vectors = mpmath.eigsy(mpmath.matrix(gram[np.ix_(keep, keep)].tolist()))
        inside = vectors.T * mpmath.matrix(residual[keep].tolist())
        return values, mpmath.matrix(cross[:, keep].tolist()) * vectors, inside

    def changes(self, training):
        """(m, n or g, k): prediction with − without, correct to all digits of a double."""
        found = np.empty(self.shape)
        with mpmath.workdps(self.digits):
            full = self._predicted(self.models[0], training)
            for i, model in enumerate(self.models[1:]):
                change = full - self._predicted(model, training)
                found[:, i] = np.array(change.tolist(), dtype=float)
        return found

    def quadrature_errors(self, training, nodes, weights):
        """(m, n): what nodes and weights miss of each change, exactly; of the first output.

        They stand for g of the data without the example, before and after it goes.
        """
        found = np.empty(self.shape[:2])
        with mpmath.workdps(self.digits):
            total = len(self.models[1][0])
            pairs = [(mpmath.mpc(z), mpmath.mpc(w)) for z, w in zip(nodes, weights, strict=True)]

            def missed(value):
                stands = mpmath.fsum((w / (z - value)).real for z, w in pairs)
                return stands - exact_filter(value, total, training)

            errors = [self._filtered(model, missed) for model in self.models]
            for i, error in enumerate(errors[1:]):
                change = errors[0] - error
                found[:, i] = [float(change[x, 0]) for x in range(self.shape[0])]
        return found

    def _predicted(self, model, training):
        return self._filtered(model, lambda value: exact_filter(value, len(model[0]), training))

    @staticmethod
    def _filtered(model, function):
        values, cross, inside = model
        learned = mpmath.matrix(inside.rows, inside.cols)
        for k in range(inside.rows):
            g = function(values[k])
            for c in range(inside.cols):
                learned[k, c] = g * inside[k, c]
        return cross * learned


def exact_filter(value, n, training):
    """g at one eigenvalue of the Gram matrix of n examples, in the working precision of mpmath."""
    total = n if training.loss == "mean" else 1
    rate = mpmath.mpf(training.rate) / total
    sigma = mpmath.mpf(value) + mpmath.mpf(training.ridge) * total
    if training.rule == "ridge" or training.time is None:
        return 1 / sigma
    if sigma == 0:
        return rate * training.time
    if training.rule == "flow":
        return -mpmath.expm1(-rate * mpmath.mpf(training.time) * sigma) / sigma
    return (1 - (1 - rate * sigma) ** int(training.time)) / sigma


def exact_dual_without_eigenvalues(gram, residual, training, *, digits=50):
    """u again, by a solve, a Taylor exponential or squared steps: what `Exact` is checked against."""
    n, k = residual.shape
    with mpmath.workdps(digits):
        total = n if training.loss == "mean" else 1
        rate = mpmath.mpf(training.rate) / total
        shifted = mpmath.matrix(gram.tolist()) + mpmath.mpf(training.ridge) * total * mpmath.eye(n)
        drive = mpmath.matrix(residual.tolist())
        if training.rule == "ridge" or training.time is None:
            columns = [mpmath.lu_solve(shifted, drive[:, c]) for c in range(k)]
            return np.array([[float(columns[c][i]) for c in range(k)] for i in range(n)])
        block = mpmath.zeros(n + k)
        block[:n, :n], block[:n, n:] = -rate * shifted, rate * drive
        if training.rule == "flow":
            map_ = mpmath.expm(mpmath.mpf(training.time) * block)
        else:
            map_ = (mpmath.eye(n + k) + block) ** int(training.time)
        return np.array(map_[:n, n:].tolist(), dtype=float)
