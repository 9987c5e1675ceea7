"""Small problems with all that an oracle needs: one Gram matrix of training points and queries."""

from dataclasses import dataclass

import numpy as np
import torch

import leftout as lo
from oracles import Training


@dataclass(frozen=True)
class Problem:
    """n training points and m queries, by their rows in one Gram matrix."""

    whole: np.ndarray
    n: int
    targets: np.ndarray

    @property
    def gram(self):
        return self.whole[: self.n, : self.n]

    @property
    def cross(self):
        return self.whole[self.n :, : self.n]

    @property
    def residual(self):
        return self.targets[: self.n]

    @property
    def wanted(self):
        return self.targets[self.n :]

    def fitted(self, rule):
        kernel = lo.kernels.Precomputed(torch.from_numpy(self.whole))
        rows = torch.arange(self.n, dtype=torch.float64)
        return lo.fit(kernel, (rows, torch.from_numpy(self.residual)), rule=rule)

    @property
    def query(self):
        rows = torch.arange(self.n, len(self.whole), dtype=torch.float64)
        return rows, torch.from_numpy(self.wanted)


def problem(n=24, m=5, k=1, *, condition=1e3, top=1.0, seed=0):
    """Return a problem whose training Gram matrix has this condition number and top eigenvalue."""
    draw = np.random.default_rng(seed)
    basis = np.linalg.qr(draw.standard_normal((n, n)))[0]
    values = top * np.geomspace(1, 1 / condition, n)
    root = basis * np.sqrt(values)  # Φ, training features in rows
    fresh = draw.standard_normal((m, n)) @ (basis * np.sqrt(values)).T @ basis / np.sqrt(n)
    features = np.vstack([root @ basis.T, fresh])
    whole = features @ features.T
    targets = draw.standard_normal((n + m, k))
    return Problem((whole + whole.T) / 2, n, targets)


def training(rule, time):
    """Return the oracle's words for a rule and a time."""
    names = {"Ridge": "ridge", "GradientFlow": "flow", "GradientDescent": "descent"}
    return Training(
        names[type(rule).__name__], getattr(rule, "rate", 1.0), rule.ridge, rule.loss, time
    )
