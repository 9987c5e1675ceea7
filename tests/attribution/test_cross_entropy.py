"""Every answer under cross-entropy against fits in the weights, dense and from the definition."""

import numpy as np
import pytest
import torch
from torch import nn

import leftout as lo
from leftout.core.errors import DataError, NotPositiveError, OptionError, ShapeError
from leftout.data.pairs import examples_of
from oracles.cross_entropy import DenseLogistic, cross_entropy, probabilities

EXACT = 1e-8
"""Of the largest effect: fits end at 1e-11 of the predictions, and effects are a hundredth of them or more."""


def data(k, *, n=24, d=5, seed=0, noise=0.2):
    """Return inputs and labels of k classes, some of them wrong, every class there."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.nn.functional.normalize(torch.randn(n, d, generator=generator, dtype=torch.float64))
    labels = (inputs @ torch.randn(d, k, generator=generator, dtype=torch.float64)).argmax(1)
    wrong = torch.rand(n, generator=generator) < noise
    labels[wrong] = torch.randint(k, (int(wrong.sum()),), generator=generator)
    labels[:k] = torch.arange(k)
    return inputs, labels


class Case:
    """A fitted model, queries, and the oracle of both."""

    def __init__(self, kernel, pair, rule, *, queries=8, seed=1):
        inputs, labels = pair
        self.fitted = lo.fit(kernel, pair, rule=rule)
        generator = torch.Generator().manual_seed(seed)
        points = torch.nn.functional.normalize(
            torch.randn(queries, inputs.shape[1], generator=generator, dtype=torch.float64)
        )
        self.query = examples_of(
            (points, labels[torch.randint(len(labels), (queries,), generator=generator)]),
            encoding=self.fitted.train.encoding,
        )
        total = len(inputs) if rule.loss == "mean" else 1
        self.oracle = DenseLogistic(
            self.fitted.gram.numpy(),
            self.fitted.cross(points).numpy(),
            self.fitted.initial(inputs).numpy(),
            self.fitted.initial(points).numpy(),
            self.fitted.train.targets.numpy(),
            ridge=rule.ridge * total,
            tilted=kernel.is_trained,
        )

    def without(self, group):
        weights = np.ones(len(self.fitted))
        weights[group] = 0
        return weights

    def check(self, prediction, loss, predicted):
        """Compare both effects, first minus second of two dense predictions."""
        first, second = predicted
        targets = self.query.targets.numpy()
        size = max(abs(first - second).max(), 1e-12)
        assert abs(prediction - (first - second)).max() <= EXACT * size
        change = cross_entropy(second, targets) - cross_entropy(first, targets)
        assert abs(loss - change).max() <= EXACT * max(abs(change).max(), size)


def network(k, *, seed=0, width=6):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, width), nn.Tanh(), nn.Linear(width, k)).double()


CASES = {
    "one output": lambda ridge: Case(lo.kernels.ReLU(1), data(2), lo.Logistic(ridge)),
    "three classes": lambda ridge: Case(lo.kernels.ReLU(1), data(3), lo.Logistic(ridge)),
    "mean loss": lambda ridge: Case(lo.kernels.ReLU(1), data(3), lo.Logistic(ridge, "mean")),
    "seven classes": lambda ridge: Case(lo.kernels.ReLU(2), data(7), lo.Logistic(ridge)),
    "network of two outputs": lambda ridge: Case(
        lo.kernels.Empirical(network(2)), data(2), lo.Logistic(ridge)
    ),
    "network of three outputs": lambda ridge: Case(
        lo.kernels.Empirical(network(3)), data(3), lo.Logistic(ridge)
    ),
}


@pytest.mark.sample(9)
@pytest.mark.parametrize("ridge", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize("name", CASES)
def test_leaving_out_is_a_fit_without(name, ridge):
    case = CASES[name](ridge)
    fitted, query = case.fitted, case.query
    with_all = case.oracle.predict()
    assert abs(fitted.predict(query).numpy() - with_all).max() <= 1e-9 * abs(with_all).max()
    p = fitted.probabilities(query).numpy()
    assert p.sum(1) == pytest.approx(1, abs=1e-14)
    assert p[:, -1] == pytest.approx(probabilities(with_all)[:, -1], abs=1e-9)
    singles = [
        lo.leave_one_out(fitted, query, newton_steps=None, of=of).values for of in ("prediction", "loss")
    ]
    groups = [[0, 1, 2], [5], list(range(4, 16))]
    together = [lo.leave_out(fitted, query, groups, of=of).values for of in ("prediction", "loss")]
    mean = fitted.rule.loss == "mean"
    n = len(fitted)
    for i in range(0, n, 5):
        total = {"ridge": fitted.rule.ridge * (n - 1)} if mean else {}
        after = case.oracle.predict(case.without([i]), **total)
        case.check(singles[0][:, i], singles[1][:, i], (with_all, after))
    for j, group in enumerate(groups):
        total = {"ridge": fitted.rule.ridge * (n - len(group))} if mean else {}
        after = case.oracle.predict(case.without(group), **total)
        case.check(together[0][:, j], together[1][:, j], (with_all, after))
