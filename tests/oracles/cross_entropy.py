"""Cross-entropy with a ridge, minimised in the weights by dense Newton steps: numpy, float64, from the "
"definition."""

import numpy as np
from scipy.special import expit, log_expit, log_softmax, softmax


class DenseLogistic:
    """min Σ ω_i ce(f_i, y_i) + ½ λ |θ|² − tiltᵀ θ,  f = f_0 + Φ θ, with Φ Φᵀ the kernel of examples and
    queries.

    Args:
        gram: (n, n), one value for all outputs, or (n k, n k), rows of an example side by side.
        cross: between queries and examples, in the same layout.
        initial, query_initial: f_0.
        targets: probabilities (n, k).
        tilted: whether f_0 is kept as the minimum of all examples.
    """

    def __init__(self, gram, cross, initial, query_initial, targets, *, ridge, tilted=False):
        n, k = targets.shape
        if len(gram) == n:
            gram, cross = np.kron(gram, np.eye(k)), np.kron(cross, np.eye(k))
        values, vectors = np.linalg.eigh(gram)
        real = values > 1e-13 * values[-1]
        root = np.sqrt(values[real])
        self.features = vectors[:, real] * root
        self.query_features = cross @ (vectors[:, real] / root)
        self.initial, self.query_initial, self.targets = initial, query_initial, targets
        self.ridge = ridge
        self.tilt = np.zeros(real.sum())
        if tilted:
            self.tilt = self.features.T @ (probabilities(initial) - targets).ravel()

    def weights(self, omega=None, targets=None, ridge=None):
        """Return θ at the minimum."""
        targets = self.targets if targets is None else targets
        n, k = targets.shape
        omega = np.ones(n) if omega is None else omega
        ridge = self.ridge if ridge is None else ridge
        theta = np.zeros(self.features.shape[1])

        def objective(theta):
            f = self.initial + (self.features @ theta).reshape(n, k)
            return omega @ cross_entropy(f, targets) + ridge / 2 * theta @ theta - self.tilt @ theta

        for _ in range(300):
            p = probabilities(self.initial + (self.features @ theta).reshape(n, k))
            gradient = self.features.T @ (omega[:, None] * (p - targets)).ravel() + ridge * theta - self.tilt
            rows = self.features.reshape(n, k, -1)
            bent = (
                p[:, :, None] * rows - p[:, :, None] * np.einsum("nk,nkd->nd", p, rows)[:, None]
                if k > 1
                else ((p * (1 - p))[:, :, None] * rows)
            )
            curvature = np.einsum("n,nkd,nke->de", omega, rows, bent) + ridge * np.eye(len(theta))
            step = np.linalg.solve(curvature, -gradient)
            length, before = 1.0, objective(theta)
            small = abs(self.features @ step).max() < 0.1
            while not small and objective(theta + length * step) > before + 1e-4 * length * gradient @ step:
                length /= 2
            theta = theta + length * step
            if np.linalg.norm(length * step) <= 1e-14 * np.linalg.norm(theta):
                break
        return theta

    def predict(self, omega=None, **edit):
        """Return logits at the queries."""
        k = self.targets.shape[1]
        return self.query_initial + (self.query_features @ self.weights(omega, **edit)).reshape(-1, k)

    def losses(self, query_targets, omega=None, **edit):
        """Return the cross-entropy of every query."""
        return cross_entropy(self.predict(omega, **edit), query_targets)


def probabilities(logits):
    """Return the softmax, or the logistic function of one output."""
    return expit(logits) if logits.shape[1] == 1 else softmax(logits, axis=1)


def cross_entropy(logits, targets):
    """Return the loss of each row."""
    if logits.shape[1] == 1:
        f, y = logits[:, 0], targets[:, 0]
        return -(y * log_expit(f) + (1 - y) * log_expit(-f))
    return -(targets * log_softmax(logits, axis=1)).sum(1)
