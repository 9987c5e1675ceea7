"""Local elasticity and the kernels it is asked of, from their definitions, in numpy."""

import numpy as np


def two_layer_kernel(w, a, x, z):
    """Return (1/m) Σ_r [relu(w_r·x) relu(w_r·z) + a_r² 1{w_r·x > 0} 1{w_r·z > 0} x·z]."""
    total = np.zeros((len(x), len(z)))
    for w_r, a_r in zip(w, a, strict=True):
        left, right = x @ w_r, z @ w_r
        total += np.outer(np.maximum(left, 0), np.maximum(right, 0))
        total += a_r**2 * np.outer(left > 0, right > 0) * (x @ z.T)
    return total / len(w)


def infinite_two_layer_kernel(x, z):
    """Return E of that over w ~ N(0, I), a ~ N(0, 1)."""
    lengths = np.outer(np.linalg.norm(x, axis=1), np.linalg.norm(z, axis=1))
    cosine = np.clip(x @ z.T / lengths, -1, 1)
    angle = np.arccos(cosine)
    gates = (np.pi - angle) / (2 * np.pi)
    return x @ z.T * gates + lengths * (np.sin(angle) / (2 * np.pi) + gates * cosine)


def pair_estimate(h, kernel, labels):
    """Return the weighted mean of label products of all pairs, weights σ² − (h − H_ij)², pair by pair."""
    signs = 2.0 * np.asarray(labels) - 1
    width = (kernel.max() - kernel.min()) ** 2
    over, under = np.zeros_like(h), np.zeros_like(h)
    for i, row in enumerate(kernel):
        for j, value in enumerate(row):
            weight = width - (h - value) ** 2
            over += weight * signs[i] * signs[j]
            under += weight
    return over / under


def relative_ratio(cross, left_squares, right_squares, left, right):
    """Return RR, in percent, by a loop over pairs."""
    same, other = [], []
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            value = cross[i, j] / np.sqrt(left_squares[i] * right_squares[j])
            (same if a == b else other).append(value)
    return 100 * np.mean(same) / (np.mean(same) + np.mean(other))
