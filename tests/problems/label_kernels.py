"""Points that teach a kernel, and how far two results may be apart."""

import numpy as np

N, M = 14, 4

# A solve loses cond·eps; the condition of these matrices is below 1e4, and of what is learned of pairs
# (normal equations of features measured in their root mean square) below 1e8.
REGRESSED, LEARNED = 1e-10, 1e-7


def points(seed: int, count: int, classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Clusters on the sphere, with labels."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    rows = generator.normal(size=(count, 6)) + 1.5 * generator.normal(size=(classes, 6))[labels]
    rows *= np.sqrt(6) / np.linalg.norm(rows, axis=1, keepdims=True)
    return rows, labels


def worst(found, expected) -> float:
    found, expected = np.asarray(found), np.asarray(expected)
    return float(np.abs(found - expected).max() / np.abs(expected).max())
