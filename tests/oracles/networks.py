"""Finite networks once more, from their definition: loops and dense arrays, in NumPy, float64.

No code shared with the package. A two-layer network is its weights (m, d) and signs (m, k); a linear
model its weights (k, d). `ridge` holds on to the first weights; losses are sums over examples.
"""

import numpy as np


def outputs(weights, signs, inputs):
    """f (n, k) = m^-1/2 Σ_r a_r max(w_r·x, 0), neuron after neuron."""
    total = np.zeros((len(inputs), signs.shape[1]))
    for w, a in zip(weights, signs, strict=True):
        total += np.outer(np.maximum(inputs @ w, 0), a)
    return total / np.sqrt(len(weights))


def jacobian(weights, signs, inputs):
    """∂f_ic / ∂w_r as (n, k, m, d); the derivative of max(z, 0) at 0 is 0."""
    n, d = inputs.shape
    m, k = signs.shape
    found = np.zeros((n, k, m, d))
    for i, x in enumerate(inputs):
        for r in range(m):
            if weights[r] @ x > 0:
                for c in range(k):
                    found[i, c, r] = signs[r, c] * x / np.sqrt(m)
    return found


def tangent_kernel(weights, signs, inputs, others=None):
    """(n k, n' k): products of gradients; example-major, output-minor."""
    rows = jacobian(weights, signs, inputs).reshape(len(inputs) * signs.shape[1], -1)
    if others is None:
        return rows @ rows.T
    return rows @ jacobian(weights, signs, others).reshape(len(others) * signs.shape[1], -1).T


def objective(weights, initial, signs, inputs, targets, ridge):
    """½ Σ (f − y)² + ½ ridge ‖w − w_0‖²."""
    error = outputs(weights, signs, inputs) - targets
    return (error**2).sum() / 2 + ridge * ((weights - initial) ** 2).sum() / 2


def gradient(weights, initial, signs, inputs, targets, ridge):
    """Its gradient (m, d)."""
    error = outputs(weights, signs, inputs) - targets
    return np.einsum("icrd,ic->rd", jacobian(weights, signs, inputs), error) + ridge * (weights - initial)


def descended(initial, signs, inputs, targets, *, rate, ridge, steps, start=None):
    """The weights after plain steps."""
    weights = (initial if start is None else start).copy()
    for _ in range(steps):
        weights = weights - rate * gradient(weights, initial, signs, inputs, targets, ridge)
    return weights


def gates_that_hold(weights, initial, signs, inputs, targets, ridge):
    """How well gates between 0 and 1 hold the weights where they are, and how far open they are.

    Returns (m, d) what no gate of the rounded kind explains of −ridge (w − w_0): the pull c of an
    example counts in full where z ≥ c/2, not at all where z ≤ 0, and as 2z in between.
    """
    error = outputs(weights, signs, inputs) - targets
    left = ridge * (weights - initial)
    for r in range(len(weights)):
        for i, x in enumerate(inputs):
            z = weights[r] @ x
            if z > 0:
                pull = signs[r] @ error[i] / np.sqrt(len(weights))
                left[r] += min(pull, 2 * z) * x
    return left


def linear_fit(inputs, targets, initial, ridge, keep=None):
    """Weights (k, d) of min ½ Σ (W x − y)² + ½ ridge ‖W − W_0‖², by the normal equations."""
    keep = np.ones(len(inputs), dtype=bool) if keep is None else keep
    x, y = inputs[keep], targets[keep]
    matrix = x.T @ x + ridge * np.eye(x.shape[1])
    return np.linalg.solve(matrix, x.T @ y + ridge * initial.T).T
