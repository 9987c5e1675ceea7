"""Small problems with all that an oracle needs: one Gram matrix of training points and queries."""

from dataclasses import dataclass

import numpy as np
import torch

import leftout as lo
from leftout.kernels.base import Kernel
from oracles.definitions import Training


@dataclass(frozen=True)
class Problem:
    """n training points, then m queries, then spare points, by their rows in one Gram matrix."""

    whole: np.ndarray
    n: int
    targets: np.ndarray
    spare: int = 0

    @property
    def gram(self):
        return self.whole[: self.n, : self.n]

    @property
    def queries(self):
        """Row numbers of the queries."""
        return np.arange(self.n, len(self.whole) - self.spare)

    @property
    def spares(self):
        """Row numbers of points that are neither, to be added."""
        return np.arange(len(self.whole) - self.spare, len(self.whole))

    @property
    def cross(self):
        return self.whole[np.ix_(self.queries, np.arange(self.n))]

    @property
    def residual(self):
        return self.targets[: self.n]

    @property
    def wanted(self):
        return self.targets[self.queries]

    @property
    def kernel(self):
        return lo.kernels.Precomputed(torch.from_numpy(self.whole))

    def fitted(self, rule, kernel=None, **options):
        rows = torch.arange(self.n, dtype=torch.float64)
        pair = (rows, torch.from_numpy(self.residual))
        return lo.fit(kernel or self.kernel, pair, rule=rule, **options)

    @property
    def query(self):
        rows = torch.from_numpy(self.queries).double()
        return rows, torch.from_numpy(self.wanted)

    def permuted(self, order):
        """The same with its training points in another order."""
        rows = np.concatenate([order, np.arange(self.n, len(self.whole))])
        return Problem(self.whole[np.ix_(rows, rows)], self.n, self.targets[rows], self.spare)


class Started(Kernel):
    """A kernel given by its matrix, of a network that does not start from f_0 = 0."""

    def __init__(self, whole, start):
        self.inside = lo.kernels.Precomputed(torch.from_numpy(whole))
        self.start = torch.from_numpy(start)

    def block(self, queries, inputs):
        return self.inside.block(queries, inputs)

    def diagonal(self, inputs):
        return self.inside.diagonal(inputs)

    def check(self, name, inputs):
        self.inside.check(name, inputs)

    @property
    def record(self):
        return {"name": "started"}

    def initial(self, inputs):
        return self.start[inputs.long()]


def problem(n=24, m=5, k=1, *, condition=1e3, top=1.0, seed=0, spare=0):
    """Return a problem whose training Gram matrix has this condition number and top eigenvalue."""
    draw = np.random.default_rng(seed)
    basis = np.linalg.qr(draw.standard_normal((n, n)))[0]
    values = top * np.geomspace(1, 1 / condition, n)
    root = basis * np.sqrt(values)  # Φ, training features in rows
    fresh = draw.standard_normal((m, n)) @ (basis * np.sqrt(values)).T @ basis / np.sqrt(n)
    more = draw.standard_normal((spare, n)) @ (basis * np.sqrt(values)).T @ basis / np.sqrt(n)
    # Spare points and queries reach outside the span of the training points, as those of a real
    # kernel do; else nothing could be added without a ridge, or would show.
    beyond = np.vstack([draw.standard_normal((m, spare)), np.eye(spare)]) * np.sqrt(top / n)
    outside = np.vstack([np.zeros((n, spare)), beyond])
    features = np.hstack([np.vstack([root @ basis.T, fresh, more]), outside])
    whole = features @ features.T
    targets = draw.standard_normal((n + m + spare, k))
    return Problem((whole + whole.T) / 2, n, targets, spare)


def low_rank(n=20, m=4, k=1, *, rank=6, seed=0):
    """Return a problem whose Gram matrix is singular: a linear kernel in few dimensions."""
    draw = np.random.default_rng(seed)
    features = draw.standard_normal((n + m, rank)) / np.sqrt(n)
    whole = features @ features.T
    return Problem((whole + whole.T) / 2, n, draw.standard_normal((n + m, k)))


def training(rule, time=None):
    """Return the oracle's words for a rule and a time."""
    names = {"Ridge": "ridge", "GradientFlow": "flow", "GradientDescent": "descent"}
    return Training(names[type(rule).__name__], getattr(rule, "rate", 1.0), rule.ridge, rule.loss, time)


FLOW_TIMES = (1e-3, 0.7, 12.0, 345.0, 4e4, None)
"""In 1/s_max: nothing learned yet, some, most, all but the last modes, everything."""

STEPS = (*range(13), 101, 1000, 4001, None)
"""Each of the few, which the circle serves; both parities of many."""


def rules(n, *, top=1.0, losses=("sum", "mean"), ridges=(0.0, 0.01)):
    """Return named rules with times for n examples whose Gram matrix ends at `top`.

    Rates are set so that η (s_max + λ) without one example is the number in the name.
    """
    found = {}
    for loss in losses:
        unit = n - 1 if loss == "mean" else 1  # η / unit and λ · unit in the formulas
        for ridge in ridges:
            name = f"{loss}, ridge {ridge:g}"
            scaled = ridge * top / unit
            found[f"Ridge, {name}"] = (lo.Ridge(scaled, loss), (None,))
            flow = lo.GradientFlow(unit / top, scaled, loss)
            found[f"GradientFlow, {name}"] = (flow, FLOW_TIMES)
            for reach in (0.3, 1.0, 1.7, 1.9999):
                rate = reach * unit / (top * (1 + ridge))
                descent = lo.GradientDescent(rate, scaled, loss)
                found[f"GradientDescent {reach:g}, {name}"] = (descent, STEPS)
    return found


class Apart(Kernel):
    """A kernel that tells outputs apart, by explicit features (points, k, p); inputs are row numbers."""

    def __init__(self, features, start):
        self.features = torch.from_numpy(features)
        self.start = torch.from_numpy(start)

    @property
    def outputs(self):
        return self.features.shape[1]

    def rows(self, inputs):
        return self.features[inputs.reshape(-1).long()].flatten(0, 1)

    def block(self, queries, inputs):
        return (self.rows(queries) @ self.rows(inputs).T).to(inputs)

    def tiles(self, queries, inputs, work):
        value = self.block(queries, queries if inputs is None else inputs)
        yield slice(0, len(value)), slice(0, value.shape[1]), value

    def diagonal(self, inputs):
        return self.rows(inputs).square().sum(1).to(inputs)

    def check(self, name, inputs):
        pass

    @property
    def record(self):
        return {"name": "apart"}

    def initial(self, inputs):
        return self.start[inputs.reshape(-1).long()]


@dataclass(frozen=True)
class ToldApart:
    """n training points, m queries and spare points whose kernel tells k outputs apart.

    `flat` matrices have k rows a point, point by point, and one column of targets.
    """

    kernel: Apart
    n: int
    m: int
    targets: np.ndarray

    @property
    def k(self):
        return self.targets.shape[1]

    def fitted(self, rule, **options):
        rows = torch.arange(self.n, dtype=torch.float64)
        return lo.fit(self.kernel, (rows, torch.from_numpy(self.targets[: self.n])), rule=rule, **options)

    def points(self, numbers):
        """Row numbers of points as inputs, and their targets."""
        numbers = np.asarray(numbers)
        return torch.from_numpy(numbers).double(), torch.from_numpy(self.targets[numbers])

    @property
    def query(self):
        return self.points(np.arange(self.n, self.n + self.m))

    def flat(self, left, right):
        """The kernel between points."""
        features = self.kernel.features.numpy()
        one, other = (features[np.asarray(x)].reshape(-1, features.shape[2]) for x in (left, right))
        return one @ other.T

    def missing(self, points):
        """y − f_0 in one column."""
        points = np.asarray(points)
        return (self.targets[points] - self.kernel.start.numpy()[points]).reshape(-1, 1)

    def rows(self, points):
        """The rows of points."""
        return (np.asarray(points)[:, None] * self.k + np.arange(self.k)).ravel()


def told_apart(n=12, m=4, k=3, *, spare=2, seed=0):
    """Return a problem with full-rank Gram matrix of condition about 1e3 and s_max about 1."""
    draw = np.random.default_rng(seed)
    points, p = n + m + spare, 2 * (n + m + spare) * k
    features = draw.standard_normal((points, k, p)) * np.geomspace(1, 0.05, p)
    features += draw.standard_normal((points, 1, p)) * 0.3 * np.geomspace(1, 0.05, p)
    features /= np.linalg.norm(features[:n].reshape(n * k, p), 2)
    start, targets = draw.standard_normal((2, points, k))
    return ToldApart(Apart(features, start), n, m, targets)
