"""What kernels learn, from the definitions: refitting, sums in many digits, averages over data sets."""

from functools import reduce
from itertools import pairwise

import mpmath
import numpy as np


def equation(eigenvalues, kappa, ridge, multiplicities=None):
    """Left side of the eigenvalue equation, and minus its slope in log kappa, in 60 digits."""
    with mpmath.workdps(60):
        kappa, ridge = mpmath.mpf(kappa), mpmath.mpf(float(ridge))
        counts = np.ones(len(eigenvalues)) if multiplicities is None else multiplicities
        left = slope = ridge / kappa
        for value, count in zip(eigenvalues, counts, strict=True):
            value, count = mpmath.mpf(float(value)), mpmath.mpf(float(count))
            left += count * value / (value + kappa)
            slope += count * value * kappa / (value + kappa) ** 2
        return left, slope


def miss(eigenvalues, kappa, n, ridge, multiplicities=None):
    """By how much log kappa misses the root, to first order: excess over slope."""
    left, slope = equation(eigenvalues, kappa, ridge, multiplicities)
    return abs(float((left - mpmath.mpf(float(n))) / slope))


def predict(gram, rows, targets, ridge):
    """f̂ on the whole domain, of one data set."""
    inside = gram[np.ix_(rows, rows)] + ridge * np.eye(len(rows))
    return gram[:, rows] @ np.linalg.solve(inside, targets)


def share(f, fitted):
    """<f, f̂> / <f, f>."""
    return (f * fitted).mean() / (f * f).mean()


def rebuilt(values, vectors):
    """The Gram matrix of eigenvalues of gram / M and orthonormal eigenvectors."""
    return vectors * (len(vectors) * values) @ vectors.T


def data_sets(gram, targets, n, *, ridge=0.0, noise=0.0, count=300, seed=0):
    """Refit on many random data sets: predictions on the domain, and what noisy examples were given."""
    draw = np.random.default_rng(seed)
    for _ in range(count):
        rows = draw.permutation(len(gram))[:n]
        given = targets[rows] + np.sqrt(noise) * draw.standard_normal(n)
        yield rows, given, predict(gram, rows, given, ridge)


def normal_data_sets(values, v, n, *, ridge, noise, count, seed=0):
    """Learned coefficients and training errors where eigenfunctions are independent normal numbers."""
    draw = np.random.default_rng(seed)
    for _ in range(count):
        features = draw.standard_normal((len(values), n))  # Φ
        given = features.T @ v + np.sqrt(noise) * draw.standard_normal(n)
        gram = features.T @ (values[:, None] * features)
        dual = np.linalg.solve(gram + ridge * np.eye(n), given)
        yield values * (features @ dual), ((ridge * dual) ** 2).mean()


def mean_and_error(values):
    """A mean and its standard error, over the first axis."""
    values = np.asarray(list(values))
    return values.mean(0), values.std(0, ddof=1) / np.sqrt(len(values))


def parities(inputs, degree):
    """Products of every set of `degree` coordinates at the corners of a cube, by Kronecker products."""
    found = []
    for mask in range(2**inputs):
        if bin(mask).count("1") == degree:
            factors = [np.array([1.0, -1.0 if mask >> i & 1 else 1.0]) for i in range(inputs)]
            found.append(reduce(np.kron, factors))
    return np.array(found).T


def corners(inputs):
    """The corners, in the order of those products."""
    one = [
        reduce(np.kron, [np.array([1.0, -1.0]) if j == i else np.ones(2) for j in range(inputs)])
        for i in range(inputs)
    ]
    return np.array(one).T


def arc_cosine(c):
    """E[relu relu] and E[relu' relu'] of two standard normals of correlation c, times 2."""
    c = np.clip(c, -1, 1)
    theta = np.arccos(c)
    return (np.sin(theta) + (np.pi - theta) * c) / np.pi, (np.pi - theta) / np.pi


def tangent_of_relu(left, right, depth, weight, bias, readout):
    """The NTK of a ReLU network whose readout has its own weight variance and no bias."""
    d = left.shape[1]
    own = [weight * (x * x).sum(1) / d + bias for x in (left, right)]
    covariance = weight * left @ right.T / d + bias
    tangent = covariance
    layers = [(weight, bias)] * (depth - 1) + [(readout, 0.0)]
    for w, b in layers:
        scale = np.sqrt(np.outer(*own))
        value, gate = arc_cosine(covariance / scale)
        after = w * scale * value / 2 + b
        tangent = after + w * tangent * gate / 2
        covariance = after
        own = [w * x / 2 + b for x in own]
    return tangent


def falls(values):
    return all(b < a for a, b in pairwise(values))
