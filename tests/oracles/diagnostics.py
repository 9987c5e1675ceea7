"""Bounds, complexity and agreement once more, from their definitions; nothing from the package.

Where the package has one formula for all examples, this fits again, works in the space of features, or
writes every pair of a resample down as often as it was drawn.
"""

import numpy as np
import scipy.stats

from oracles import definitions as oracles


def norm(gram, residual, training=None):
    """√(uᵀKu) of the model trained on these examples; of the interpolant if no training is given."""
    if len(gram) == 0:
        return 0.0
    if training is None:
        return np.sqrt(sum(y @ np.linalg.solve(gram, y) for y in residual.T))
    dual = oracles.dual(gram, residual, training)
    return np.sqrt(max(np.trace(dual.T @ gram @ dual), 0.0))


def complexity(gram, residual, groups, training=None):
    """Norm with everyone minus norm without each group."""
    found = []
    for rows in groups:
        keep = np.setdiff1d(np.arange(len(gram)), rows)
        without = norm(gram[np.ix_(keep, keep)], residual[keep], training)
        found.append(norm(gram, residual, training) - without)
    return np.array(found)


def features(whole):
    """Rows φ with φ·φ' the kernel between all points, and a Hessian of as many rows and columns."""
    values, vectors = np.linalg.eigh(whole)
    return vectors * np.sqrt(values.clip(0))


def classical(whole, n, targets, ridge):
    """(m, n): minus the gradient at the query · inverse Hessian · gradient, in weight space, of k outputs.

    f(x) = φ(x)·w. Removing i moves w by H⁻¹ ∇ℓ_i to first order, and the loss at x with it.
    """
    phi = features(whole)
    train, query = phi[:n], phi[n:]
    hessian = train.T @ train + ridge * np.eye(len(whole))
    found = np.zeros((len(query), n))
    for y in targets.T:
        w = np.linalg.solve(hessian, train.T @ y[:n])
        at_train = train * (train @ w - y[:n])[:, None]
        at_query = query * (query @ w - y[n:])[:, None]
        found += at_query @ np.linalg.solve(hessian, at_train.T)
    return found


def leverage(gram, ridge):
    """How much of a change of its own target every example is given."""
    n = len(gram)
    unit = np.eye(n)
    return np.array([gram[i] @ np.linalg.solve(gram + ridge * np.eye(n), unit[i]) for i in range(n)])


def terms(whole, n, targets, ridge):
    """(m, n) each: the terms of proposition 2, r_i from a fit without i."""
    gram, cross = whole[:n, :n], whole[n:, :n]
    shifted = gram + ridge * np.eye(n)
    alpha = np.linalg.solve(shifted, cross.T).T
    error = alpha @ targets[:n] - targets[n:]
    training = oracles.Training("ridge", ridge=ridge)
    missed = oracles.out_of_sample(gram, targets[:n], training) - targets[:n]
    return alpha * (error @ missed.T), alpha**2 * (missed**2).sum(1) / 2


def epsilon(radius):
    return np.sqrt(2 * radius**2 + np.arccos(1 - 2 * radius**2))


def gamma(gram, ridge):
    """The least γ with |[α(x_i)]_i| ≤ √(γ/n) |α(x_i)| for every i."""
    n = len(gram)
    alpha = gram @ np.linalg.inv(gram + ridge * np.eye(n))
    return n * max(alpha[i, i] ** 2 / (alpha[i] @ alpha[i]) for i in range(n))


def top_overlap(scores, truth, top):
    largest = [
        set(sorted(range(len(values)), key=lambda i, values=values: -abs(values[i]))[:top])
        for values in (scores, truth)
    ]
    return len(largest[0] & largest[1]) / top


def measures(scores, truth, top):
    """Every measure of two lists, by the books."""
    scores, truth = np.ravel(scores), np.ravel(truth)
    return {
        "pearson": scipy.stats.pearsonr(scores, truth).statistic,
        "spearman": scipy.stats.spearmanr(scores, truth).statistic,
        "kendall": scipy.stats.kendalltau(scores, truth).statistic,
        "top_overlap": top_overlap(scores, truth, top),
        "slope": np.polyfit(scores, truth, 1)[0],
        "relative_error": np.linalg.norm(scores - truth) / np.linalg.norm(truth),
    }


def resampled(values, weights):
    """Every entry as often as it was drawn."""
    return np.repeat(np.asarray(values), np.asarray(weights).astype(int))
