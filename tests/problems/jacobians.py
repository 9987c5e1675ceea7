"""Networks given by their Jacobians, whose information is known by training again."""

from dataclasses import dataclass

import numpy as np
import torch

import leftout as lo
from leftout.kernels.base import Kernel
from oracles import information as oracle
from problems.small import training

N, M = 9, 4


class OfJacobian(Kernel):
    """J Jᵀ of a network with a few outputs that are told apart, by row numbers."""

    def __init__(self, jacobian):
        self.jacobian = torch.from_numpy(jacobian)

    @property
    def outputs(self):
        return self.jacobian.shape[1]

    def _rows(self, inputs):
        return self.jacobian[inputs.long()].flatten(0, 1)

    def block(self, queries, inputs):
        return self._rows(queries) @ self._rows(inputs).T

    def diagonal(self, inputs):
        return self._rows(inputs).square().sum(1)

    def tiles(self, queries, inputs, work):
        value = self.block(queries, queries if inputs is None else inputs)
        yield slice(0, value.shape[0]), slice(0, value.shape[1]), value

    def check(self, name, inputs):
        pass

    @property
    def record(self):
        return {"name": "of a Jacobian"}


@dataclass(frozen=True)
class Network:
    """A linearised network at n training examples, then m queries."""

    jacobian: np.ndarray
    targets: np.ndarray
    n: int
    apart: bool = False

    @property
    def known(self):
        """Jacobian and residual of the training examples."""
        return self.jacobian[: self.n], self.targets[: self.n]

    @property
    def queries(self):
        return self.jacobian[self.n :]

    def fitted(self, rule, **options):
        if self.apart:
            kernel = OfJacobian(self.jacobian)
        else:  # one kernel for all outputs, each with its copy of the weights
            k = self.targets.shape[1]
            features = self.jacobian[:, 0, : self.jacobian.shape[2] // k]
            kernel = lo.kernels.Precomputed(torch.from_numpy(features @ features.T))
        rows = torch.arange(self.n, dtype=torch.float64)
        return lo.fit(kernel, (rows, torch.from_numpy(self.known[1])), rule=rule, **options)

    @property
    def query(self):
        rows = torch.arange(self.n, len(self.jacobian), dtype=torch.float64)
        return rows, torch.from_numpy(self.targets[self.n :])

    @property
    def itself(self):
        return torch.arange(self.n, dtype=torch.float64), torch.from_numpy(self.known[1])


def network(n=N, m=M, k=1, p=30, *, apart=False, seed=0):
    """Return a network with p weights whose Gram matrix has eigenvalues about 1."""
    draw = np.random.default_rng(seed)
    targets = draw.standard_normal((n + m, k))
    if apart:
        jacobian = draw.standard_normal((n + m, k, p)) / np.sqrt(max(p, n * k))
    else:
        features = draw.standard_normal((n + m, p)) / np.sqrt(max(p, n))
        jacobian = oracle.copies(features, k)
    return Network(jacobian, targets, n, apart)


NETWORKS = {
    "more weights than rows": network(),
    "fewer weights than rows": network(p=5),
    "three outputs, one kernel": network(k=3),
    "three outputs, one kernel, few weights": network(k=3, p=4),
    "two outputs, told apart": network(k=2, apart=True),
    "two outputs, told apart, few weights": network(k=2, p=7, apart=True),
}

RULES = {
    "Ridge": (lo.Ridge(0.05), [None]),
    "mean Ridge": (lo.Ridge(0.02, "mean"), [None]),
    "flow": (lo.GradientFlow(1.0), [0.0, 1e-3, 0.7, 40.0, 300.0]),
    "flow with decay": (lo.GradientFlow(1.0, 0.05), [0.7, 40.0, None]),
    "mean flow": (lo.GradientFlow(float(N), 0.0, "mean"), [1e-3, 0.7, 40.0]),
    "mean flow with decay": (lo.GradientFlow(float(N), 0.01, "mean"), [0.7, 40.0, None]),
    "descent": (lo.GradientDescent(0.3), [0, 1, 7, 60, 600]),
    "mean descent with decay": (lo.GradientDescent(2.0, 0.01, "mean"), [1, 7, 60, 600, None]),
}


def wanted(net, rule, times, groups=None, sigma=1.0):
    """Return weights and function from networks that are trained again."""
    both = []
    for time in times:
        changes = oracle.weight_changes(*net.known, training(rule, time), groups)
        both.append(
            [oracle.weight_information(changes), oracle.function_information(changes, net.queries, sigma)]
        )
    return np.array(both).transpose(1, 0, 2)


def assert_each(got, want, rtol=1e-8):
    """Every example by itself, not only relative to the largest."""
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-14 * max(np.abs(want).max(), 1e-300))
