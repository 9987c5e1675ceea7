"""Networks that start at random, once more from the definition: refits, dense maps, and draws of f_0.

Trained predictions and their changes on removal are linear in the residual r = Y − f_0(X): refits of the
columns of the identity say how. `start` is the prior covariance of f_0 over training points and queries.
"""

from dataclasses import dataclass

import numpy as np

from oracles import definitions as oracles


@dataclass(frozen=True)
class Maps:
    """learned (m, n): f_t(x) − f_0(x) = learned r. taken (m, n, n): f − f_without_i = taken r."""

    learned: np.ndarray
    taken: np.ndarray


def maps(gram, cross, training):
    """Return both maps, by refitting."""
    unit = np.eye(len(gram))
    return Maps(
        oracles.predictions(gram, cross, unit, training),
        oracles.leave_one_out(gram, cross, unit, None, training, of="prediction"),
    )


def ensemble(found, start, targets):
    """Return mean (m, k) and covariance (m, m) of f_t: of (−learned, 1) applied to f_0."""
    whole = np.hstack([-found.learned, np.eye(len(found.learned))])
    return found.learned @ targets, whole @ start @ whole.T


def influence(found, start, targets, wanted, of):
    """Return mean and standard deviation over f_0 of every influence.

    On the loss: error and change are two normal numbers for each output, and a Gauss-Hermite rule of
    three nodes is exact for polynomials of degree five: the influence has two, its square four.
    """
    n = len(targets)
    if of == "prediction":
        mean = found.taken @ targets
        deviation = np.sqrt(np.einsum("xij,jl,xil->xi", found.taken, start[:n, :n], found.taken))
        return mean, np.broadcast_to(deviation[..., None], mean.shape)
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    weights = weights / weights.sum()
    mean, variance = np.zeros(found.taken.shape[:2]), np.zeros(found.taken.shape[:2])
    for x, i in np.ndindex(*mean.shape):
        error = np.concatenate([-found.learned[x], np.eye(len(found.learned))[x]])  # over f_0
        change = np.concatenate([found.taken[x, i], np.zeros(len(found.learned))])
        both = np.stack([error, change])
        covariance = both @ start @ both.T
        values, vectors = np.linalg.eigh(covariance)
        root = vectors * np.sqrt(np.clip(values, 0, None))
        for o in range(targets.shape[1]):
            centre = [found.learned[x] @ targets[:, o] - wanted[x, o], -found.taken[x, i] @ targets[:, o]]
            first = second = 0.0
            for a, wa in zip(nodes, weights, strict=True):
                for b, wb in zip(nodes, weights, strict=True):
                    e, c = centre + root @ [a, b]
                    value = (e + c) ** 2 / 2 - e**2 / 2
                    first, second = first + wa * wb * value, second + wa * wb * value**2
            mean[x, i] += first
            variance[x, i] += second - first**2
    return mean, np.sqrt(variance)


def draws(found, start, targets, wanted, *, count, seed=0):
    """Return influences on the loss (count, m, n), of networks that start from draws of f_0."""
    n, k = targets.shape
    values, vectors = np.linalg.eigh(start)
    root = vectors * np.sqrt(np.clip(values, 0, None))
    draw = np.random.default_rng(seed)
    begun = np.einsum("pq,sqk->spk", root, draw.standard_normal((count, len(start), k)))
    residual = targets - begun[:, :n]
    error = begun[:, n:] + np.einsum("xj,sjk->sxk", found.learned, residual) - wanted
    change = -np.einsum("xij,sjk->sxik", found.taken, residual)
    return ((error[:, :, None] + change) ** 2 - error[:, :, None] ** 2).sum(-1) / 2
