"""Learning curves where the truth is known: independent normal features with a spectrum written down.

Inputs are φ(x) = √λ z with z normal, the kernel is φ·φ', the targets are Σ v z and noise: what theory assumes
holds exactly, the population's eigenvalues are λ and its coefficients v, a column for each output. Nothing
from the package.
"""

import numpy as np


def spectrum(modes, decay):
    return np.arange(1, modes + 1) ** -float(decay)


def coefficients(modes, decay, outputs=1):
    """Of power one an output, and of random signs."""
    v = np.arange(1, modes + 1) ** (-decay / 2)
    signs = np.random.default_rng(7).choice([-1.0, 1.0], (modes, outputs))
    return v[:, None] * signs / np.sqrt((v**2).sum())


def draw(n, values, coefficients, noise, seed):
    """Return inputs (n, modes) and targets (n, outputs)."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n, len(values)))
    y = z @ coefficients
    return z * np.sqrt(values), y + np.sqrt(noise) * rng.standard_normal(y.shape)


def true_error(inputs, targets, values, coefficients, noise, ridge):
    """The error of kernel ridge regression over the whole population: exact, no test set.

    f(x) = w·φ(x), and z is normal: E (f − y)² = Σ (w √λ − v)² + noise.
    """
    gram = inputs @ inputs.T
    dual = np.linalg.solve(gram + ridge * np.eye(len(gram)), targets)
    missed = inputs.T @ dual * np.sqrt(values)[:, None] - coefficients
    return float((missed**2).sum() + noise * targets.shape[1])


def expected_error(n, values, coefficients, noise, ridge, seeds):
    """The mean over draws of n examples."""
    errors = []
    for seed in seeds:
        x, y = draw(n, values, coefficients, noise, seed)
        errors.append(true_error(x, y, values, coefficients, noise, ridge))
    return float(np.mean(errors)), float(np.std(errors) / np.sqrt(len(errors)))


def kappa(n, values, ridge):
    """The root of Σ λ/(λ + κ) + ridge/κ = n, by halving."""
    low, high = 1e-12, 1e3
    for _ in range(200):
        middle = np.sqrt(low * high)
        if (values / (values + middle)).sum() + ridge / middle > n:
            low = middle
        else:
            high = middle
    return low


def theory(n, values, power, noise, ridge):
    """Eigenlearning's error at n, from a spectrum, power by mode and the whole noise that are given."""
    k = kappa(n, values, ridge)
    learned = values / (values + k)
    return n / (n - (learned**2).sum()) * (((1 - learned) ** 2 * power).sum() + noise)


def plug_in(gram, targets):
    """Eigenvalues and power by mode of the sample itself, each example used twice."""
    values, vectors = np.linalg.eigh(gram)
    n = len(gram)
    return values[::-1] / n, ((vectors.T @ targets) ** 2).sum(1)[::-1] / n


def refitted_without_each(gram, targets, ridge):
    """Left-out residuals, one refit each."""
    rows = []
    for i in range(len(gram)):
        keep = np.arange(len(gram)) != i
        shifted = gram[np.ix_(keep, keep)] + ridge * np.eye(len(gram) - 1)
        rows.append(targets[i] - gram[i, keep] @ np.linalg.solve(shifted, targets[keep]))
    return np.array(rows)
