"""Is what holds for the first inputs looked up for all? Odd inputs come first, last and in between."""

import numpy as np
import pytest
import torch
from torch import nn

import leftout as lo
from laws import assert_same
from leftout.core.errors import OptionError
from leftout.kernels.assemble import gram
from oracles.empirical import full, jacobian
from problems.tangent_networks import drawn
from problems.uneven_modules import COUPLED, UNEVEN, D, uneven_module

N = 10
X = drawn(N, D, seed=1) / 2
X[-3:, 0] += 3
Y, QUERY, LABELS = drawn(N, 2, seed=2), drawn(5, D, seed=3), drawn(5, 2, seed=4)
ORDERS = {"last": range(N), "first": range(N)[::-1], "between": [0, 1, 7, 2, 8, 3, 4, 9, 5, 6]}

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is differentiated one input at a time:UserWarning"),
    pytest.mark.filterwarnings("ignore:The network is not trained to convergence:UserWarning"),
]


@pytest.mark.sample(15)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("method", ["auto", "layers"])
@pytest.mark.parametrize("kind", UNEVEN)
def test_kernels_are_those_of_derivatives_taken_alone_in_any_order(kind, method, order) -> None:
    module, x = uneven_module(kind), X[list(ORDERS[order])]
    kernel = lo.kernels.Empirical(module, method=method, weights="initial")
    rows = jacobian(module, x)
    assert_same(gram(kernel, x), full(rows), 1e-12)
    # Queries of another kind than all inputs before.
    assert_same(kernel.block(X[-2:], x), full(jacobian(module, X[-2:]), rows), 1e-12)


def test_inputs_that_use_a_layer_otherwise_may_come_later() -> None:
    for kind in UNEVEN:
        module = uneven_module(kind)
        kernel = lo.kernels.Empirical(module, weights="initial")
        assert_same(kernel.block(X[:4], X[:4]), full(jacobian(module, X[:4])), 1e-12)
        assert_same(kernel.block(X, X[:4]), full(jacobian(module, X), jacobian(module, X[:4])), 1e-12)
        assert_same(kernel.block(X[:4], X[:4]), full(jacobian(module, X[:4])), 1e-12)


@pytest.mark.parametrize("kind", UNEVEN)
def test_permuting_training_rows_permutes_every_result(kind) -> None:
    module = uneven_module(kind)

    def results(order):
        data = X[order], Y[order]
        fitted = lo.fit(lo.kernels.Empirical(module, weights="initial"), data, rule=lo.Ridge(0.3))
        trained = lo.train(module, data, rule=lo.GradientDescent(0.02), steps=5, tolerance=None)
        return (
            lo.leave_one_out(fitted, (QUERY, LABELS)).values,
            lo.retrain(trained, (QUERY, LABELS), [[order.index(9)]], jobs=1).values,
            lo.influence_function(trained, (QUERY, LABELS), solver=lo.Exact(), curvature="ggn", damping=1.0),
            trained.predict(QUERY),
        )

    order = list(ORDERS["first"])
    scores, retrained, influence, predictions = results(list(range(N)))
    permuted, retrained_permuted, influence_permuted, same = results(order)
    assert_same(permuted, scores[:, order], 1e-9)
    assert_same(retrained_permuted, retrained, 1e-9)
    assert_same(influence_permuted, influence[:, order], 1e-9)
    assert_same(same, predictions, 1e-12)


@pytest.mark.parametrize("equal", [3, 6])
@pytest.mark.parametrize("kind", COUPLED)
def test_modules_that_couple_their_batch_are_refused_though_the_first_rows_are_equal(kind, equal) -> None:
    module = uneven_module(kind)
    x = X.clone()
    x[:equal] = x[0]
    for inputs in (x, x.flip(0), x.repeat_interleave(2, 0)):
        data = inputs, drawn(len(inputs), 2)
        for method in ("auto", "jacobian"):
            with pytest.raises(OptionError, match="must be a function of each input alone"):
                lo.fit(lo.kernels.Empirical(module, method=method, weights="initial"), data)
        with pytest.raises(OptionError, match="must be a function of each input alone"):
            lo.train(module, data, rule=lo.Ridge(1.0))


def test_statistics_of_the_batch_are_refused_where_the_layer_has_no_others() -> None:
    module = nn.Sequential(nn.Linear(D, 3), nn.BatchNorm1d(3, track_running_stats=False)).double().eval()
    with pytest.raises(OptionError, match=r"function of each input alone.*Take such layers out"):
        lo.fit(lo.kernels.Empirical(module, weights="initial"), (X, drawn(N, 3)))


def test_looking_at_all_inputs_takes_two_forward_passes_however_many_they_are() -> None:
    class Counted(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(D, 1)

        def forward(self, x):
            COUNTED.append(len(x))
            return self.a(x)

    taken = []
    for n in (40, 80):
        COUNTED = []
        kernel = lo.kernels.Empirical(Counted().double(), method="jacobian", weights="initial")
        kernel.check("inputs", drawn(n, D))
        taken.append(sum(COUNTED))
        kernel.check("inputs", drawn(n, D))  # these were looked at
        assert sum(COUNTED) == taken[-1]
    assert np.diff(taken) == 2 * 40


def test_a_forward_that_writes_to_later_inputs_only_is_refused_and_they_stay() -> None:
    class Writing(nn.Linear):
        def forward(self, x):
            if len(x) > 3:
                x[3] -= 1
            return super().forward(x)

    x = X.clone()
    for call in (
        lambda: lo.fit(lo.kernels.Empirical(Writing(D, 2).double(), weights="initial"), (x, Y)),
        lambda: lo.train(Writing(D, 2).double(), (x, Y), rule=lo.Ridge(1.0)),
    ):
        with pytest.raises(OptionError, match=r"must not write to its inputs|function of each input alone"):
            call()
        assert torch.equal(x, X)
