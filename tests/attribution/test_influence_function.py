"""Is the influence on a finite network the derivative of what training again would give?"""

import copy
import json
import re
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import leftout as lo
from laws import assert_same, difference
from leftout.attribution.first_order import first_order
from leftout.attribution.influence_function import influence_function
from leftout.core.errors import DataError, MemoryBudgetError, NotConvergedWarning, OptionError, ShapeError
from leftout.dynamics.train import train
from leftout.dynamics.two_layer import TwoLayerNetwork
from leftout.solvers.conjugate_gradients import ConjugateGradients
from leftout.solvers.dense_curvature import Exact
from leftout.solvers.lissa import LiSSA
from oracles import classical as oracles_classical

N, M, D = 9, 4, 3
LOSSES = pytest.mark.parametrize("loss", ["sum", "mean"])
CURVATURES = pytest.mark.parametrize("curvature", ["hessian", "ggn"])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def data(k=1, seed=0, n=N, m=M, d=D):
    draw = generator(seed)
    x = torch.randn(n + m, d, generator=draw, dtype=torch.float64)
    x /= x.norm(dim=1, keepdim=True)
    y = torch.sin(2 * x[:, :1]) + 0.4 * torch.randn(n + m, k, generator=draw, dtype=torch.float64)
    return (x[:n], y[:n]), (x[n:], y[n:])


def tanh_network(k=1, seed=0, hidden=4, bias=True):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        first, last = nn.Linear(D, hidden, bias=bias), nn.Linear(hidden, k, bias=bias)
        return nn.Sequential(first, nn.Tanh(), last).double()


def rule_of(loss, ridge=0.4):
    return lo.Ridge(ridge if loss == "sum" else ridge / N, loss)


def descent_of(loss, ridge=0.4):
    """Gradient descent at a rate well below the critical one of the networks here."""
    rate = 0.1 if loss == "sum" else 0.1 * N
    return lo.GradientDescent(rate, rule_of(loss, ridge).ridge, loss)


class Case:
    """A small network at the minimum of its objective, in the oracle's words and in ours."""

    def __init__(self, module, k, loss, *, ridge=0.4, seed=0):
        self.pair, self.query = data(k, seed)
        self.rule = rule_of(loss, ridge)
        self.network = oracles_classical.Network(module, *self.pair, ridge=self.rule.ridge, loss=loss)
        self.flat = self.network.minimised(self.network.start)
        start = self.network.written(self.flat, copy.deepcopy(module))
        self.trained = train(module, self.pair, rule=self.rule, start=start)

    def dense(self, **options):
        return oracles_classical.influence_dense(self.network, self.flat, *self.query, **options)


@pytest.fixture(scope="module")
def cases():
    made = {}

    def case(k=1, loss="sum"):
        if (k, loss) not in made:
            made[k, loss] = Case(tanh_network(k), k, loss)
        return made[k, loss]

    return case


SOLVED = 1e-8
"""Relative: a residual of 1e-10 times a condition number of C below 100 on these cases."""


@pytest.mark.sample(12)
@LOSSES
@CURVATURES
@pytest.mark.parametrize("damping", [0.0, 0.7])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_it_is_eq_12_with_the_curvature_written_down(cases, k, loss, curvature, damping) -> None:
    case = cases(k, loss)
    got = influence_function(case.trained, case.query, curvature=curvature, damping=damping)
    assert_same(got, case.dense(curvature=curvature, damping=damping), SOLVED)
    assert (got.coords["residual"] <= 1e-10).all()


@pytest.mark.sample(2)
@LOSSES
@pytest.mark.parametrize("k", [1, 2])
def test_it_is_the_slope_of_retraining_with_another_weight(cases, k, loss) -> None:
    # Networks are minimised to rounding, and five levels of halved steps leave terms of order
    # Π h² = 0.2^10 / 4^10 = 1e-13, for a radius of convergence of 1: less near a saddle.
    case = cases(k, loss)
    rows, steps = [0, 4, 8], [0.2 / 2**level for level in range(5)]
    want = oracles_classical.influence_by_retraining(case.network, case.flat, *case.query, rows, steps)
    got = influence_function(case.trained, case.query, rows, solver=Exact())
    assert_same(got, want, 1e-7)


@LOSSES
@pytest.mark.parametrize("k", [1, 2])
def test_the_solvers_agree(cases, k, loss) -> None:
    # With damping, so that the series of LiSSA is done soon: its steps go with the condition number.
    case = cases(k, loss)
    damping = 10.0 if loss == "sum" else 10.0 / N
    exact, gradients, series = (
        influence_function(case.trained, case.query, solver=solver, damping=damping)
        for solver in (Exact(), ConjugateGradients(), LiSSA(rtol=1e-9))
    )
    assert_same(gradients, exact, SOLVED)
    assert_same(series, exact, 10 * SOLVED)


@LOSSES
@CURVATURES
@pytest.mark.parametrize("k", [1, 3])
def test_of_a_linear_network_it_is_that_of_the_linear_kernel(k, loss, curvature) -> None:
    pair, query = data(k, seed=2)
    module = nn.Linear(D, k, bias=False).double()
    nn.init.zeros_(module.weight)
    rule = rule_of(loss, 0.3)
    network = oracles_classical.Network(module, *pair, ridge=rule.ridge, loss=loss)
    start = network.written(network.minimised(network.start), copy.deepcopy(module))
    trained = train(module, pair, rule=rule, start=start)
    got = influence_function(trained, query, solver=Exact(), curvature=curvature)
    kernel = lo.kernels.From(lambda x, z: x @ z.T)
    want = first_order(lo.fit(kernel, pair, rule=rule), query)
    # Condition number of the normal equations: below (9 + 0.3) / 0.3 = 31.
    assert_same(got, want, 1e-12)


@LOSSES
def test_of_a_piecewise_linear_network_both_curvatures_are_one(loss) -> None:
    pair, query = data(2, seed=3)
    module = TwoLayerNetwork(40, D, 2, scale=1.0, generator=generator())
    trained = train(module, pair, rule=descent_of(loss), steps=50, tolerance=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)
        ours = [
            influence_function(trained, query, solver=Exact(), curvature=curvature)
            for curvature in ("hessian", "ggn")
        ]
    # Two orders of the same sums, solved at a condition number below 100.
    assert_same(ours[0], ours[1], 1e-12)


WIDTHS = (64, 256, 1024)
SEEDS = 4


@pytest.mark.parametrize(("scale", "ridge"), [(0.1, 1.0), (1.0, 0.5)])
def test_with_width_it_tends_to_the_limit_of_infinite_width(scale, ridge) -> None:
    # The tangent kernel of width m is its limit up to O(m^-1/2). Errors of single seeds spread by 0.1
    # to 0.3 of themselves: a mean of 4 is known to 0.15, a slope over log 16 = 2.8 to 0.15 √2 / 2.8 =
    # 0.08 at worst, and −1/2 within 2.5 of that.
    pair, query = data(seed=4, n=15, m=6, d=5)
    rule = lo.Ridge(ridge)
    limit = first_order(lo.fit(lo.kernels.TwoLayerReLU(), pair, rule=rule), query)
    errors = []
    for width in WIDTHS:
        found = []
        for seed in range(SEEDS):
            module = TwoLayerNetwork(width, 5, scale=scale, antisymmetric=True, generator=generator(seed))
            trained = train(module, pair, rule=rule, tolerance=1e-4)
            got = influence_function(trained, query)
            found.append(np.linalg.norm(got - limit) / np.linalg.norm(limit))
        errors.append(np.mean(found))
    slope = np.polyfit(np.log(WIDTHS), np.log(errors), 1)[0]
    assert -0.7 <= slope <= -0.3, f"errors {errors}"


@LOSSES
def test_index_names_the_examples_to_report(cases, loss) -> None:
    case = cases(2, loss)
    whole = influence_function(case.trained, case.query, solver=Exact())
    some = influence_function(case.trained, case.query, [7, 2], solver=Exact())
    assert some.coords["train"].values.tolist() == ["7", "2"]
    assert_same(some, whole[:, [7, 2]], 1e-12)
    one = influence_function(case.trained, case.query, torch.tensor(3), solver=Exact())
    assert_same(one, whole[:, [3]], 1e-12)


@pytest.mark.parametrize("k", [1, 3])
def test_under_mean_weighing_all_alike_changes_nothing(cases, k) -> None:
    case = cases(k, "mean")
    got = influence_function(case.trained, case.query, solver=Exact()).values
    # The gradient at the minimum is 1e-15 of those it is the sum of.
    assert np.abs(got.sum(1)).max() <= 1e-12 * np.abs(got).max()


def test_damping_is_a_ridge_in_the_curvature_alone(cases) -> None:
    # Very much of it leaves gradients and a division.
    case = cases(2, "sum")
    large = 1e9
    got, apart = (
        influence_function(case.trained, case.query, solver=Exact(), damping=damping)
        for damping in (large, 2 * large)
    )
    assert_same(got, case.dense(damping=large), 1e-12)
    # ‖C − damping‖ is below 100.
    assert_same(2 * apart.values, got, 100 / large)


@LOSSES
def test_permuting_training_examples_and_queries_permutes_the_influence(cases, loss) -> None:
    case = cases(2, loss)
    order = torch.randperm(N, generator=generator(1))
    turned = tuple(one[order] for one in case.pair)
    start = copy.deepcopy(case.trained.module)
    trained = train(case.trained.initial, turned, rule=case.rule, start=start)
    query = tuple(one.flip(0) for one in case.query)
    got = influence_function(trained, query, solver=Exact())
    want = influence_function(case.trained, case.query, solver=Exact())
    assert_same(got, want.values[::-1][:, order.numpy()], 1e-12)


def test_a_query_without_residual_is_influenced_by_nothing() -> None:
    """Without biases f(0) = 0 to the bit, whatever computes it: nothing is to be solved."""
    case = Case(tanh_network(2, bias=False), 2, "mean")
    x, y = (one.clone() for one in case.query)
    x[0], y[0] = 0.0, 0.0
    got = influence_function(case.trained, (x, y))
    assert not got.values[0].any()
    assert got.coords["steps"][0] == 0
    assert got.values[1:].any(axis=1).all()


def test_a_query_predicted_to_rounding_is_influenced_by_rounding(cases) -> None:
    """One row alone and a row of many are other sums: the residual that is left is their rounding.

    Each of the two outputs is within D + 10 roundings of the true one, of the size of what is added
    up: chains of D + 1 and 5 terms, a tanh, a difference. The influence is linear in the residual.
    """
    case = cases(2, "mean")
    x = case.query[0][:1]
    y = case.trained.predict(x).detach()
    got = influence_function(case.trained, (x, y))
    w, b, v, c = (one.detach().abs() for one in case.trained.module.parameters())
    added = float(((x.abs() @ w.T + b + 1) @ v.T + c).max())
    residual = 2 * (D + 10) * torch.finfo(torch.float64).eps * added
    off = y - torch.eye(2, dtype=torch.float64)  # residuals of 1, one output each
    of_one = influence_function(case.trained, (x.repeat(2, 1), off)).values
    assert np.abs(got.values).max() <= residual * np.abs(of_one).max(axis=1).sum()
    assert np.abs(of_one).max() > 1e-3, "what a residual does is not nothing"


def test_queries_and_examples_are_taken_in_blocks_that_change_nothing(cases, monkeypatch) -> None:
    case = cases(2, "mean")
    side = len(case.flat)
    x, y = data(2, seed=8, m=30)[1]
    whole = influence_function(case.trained, (x, y), damping=2.0)
    seen = []
    solved = ConjugateGradients.prepare

    def counted(self, *given, **more):
        ask = solved(self, *given, **more)
        return lambda rhs: seen.append(rhs.shape[1]) or ask(rhs)

    monkeypatch.setattr(ConjugateGradients, "prepare", counted)
    got = influence_function(case.trained, (x, y), damping=2.0, memory=4 * 12 * 8 * side * 7)
    assert seen == [7, 7, 7, 7, 2]
    assert_same(got, whole, SOLVED)
    # One query at a time, its product one example at a time.
    got = influence_function(case.trained, (x[:2], y[:2]), damping=2.0, memory=12 * 8 * side)
    assert_same(got, whole[:2], SOLVED)


def test_nothing_of_the_callers_is_written_to(cases, frozen) -> None:
    case = cases(2, "mean")
    module, initial = case.trained.module, case.trained.initial
    frozen(*module.parameters(), *initial.parameters(), *case.pair, *case.query)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    for solver in (Exact(), ConjugateGradients(), LiSSA()):
        influence_function(case.trained, case.query, solver=solver, damping=2.0)
    assert all(value.grad is None for value in module.parameters())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_network_in_single_precision_is_solved_in_double() -> None:
    pair, query = data(1, seed=5)
    module = tanh_network().float()
    trained = train(module, pair, rule=rule_of("sum"), steps=3000, tolerance=1e-4)
    got = influence_function(trained, query)
    assert trained.module[0].weight.dtype == torch.float32
    assert (got.coords["residual"] <= 1e-10).all()
    double = copy.deepcopy(trained.module).double()
    network = oracles_classical.Network(double, *pair, ridge=0.4)
    assert_same(got, oracles_classical.influence_dense(network, network.start, *query), SOLVED)


def test_a_network_of_images_is_one_function_of_its_weights() -> None:
    draw = generator(6)
    x = torch.randn(10, 1, 6, 6, generator=draw, dtype=torch.float64)
    y = torch.randn(10, 2, generator=draw, dtype=torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(
            nn.Conv2d(1, 2, 3), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 2)
        ).double()
    network = oracles_classical.Network(module, x[:7], y[:7], ridge=0.5)
    flat = network.minimised(network.start)
    start = network.written(flat, copy.deepcopy(module))
    trained = train(module, (x[:7], y[:7]), rule=lo.Ridge(0.5), start=start)
    want = oracles_classical.influence_dense(network, flat, x[7:], y[7:])
    assert_same(influence_function(trained, (x[7:], y[7:])), want, SOLVED)


def test_weights_that_are_not_trained_have_no_part_in_it() -> None:
    pair, query = data(1, seed=7)
    module = tanh_network()
    module[0].requires_grad_(False)
    alone = nn.Linear(4, 1).double()
    alone.load_state_dict(module[2].state_dict())
    features = torch.tanh(module[0](pair[0])), torch.tanh(module[0](query[0]))
    small = oracles_classical.Network(alone, features[0], pair[1], ridge=0.4)
    flat = small.minimised(small.start)
    start = copy.deepcopy(module)
    small.written(flat, start[2])
    trained = train(module, pair, rule=rule_of("sum"), start=start)
    want = oracles_classical.influence_dense(small, flat, features[1], query[1])
    assert_same(influence_function(trained, query), want, SOLVED)


def test_draws_of_a_few_examples_come_close(cases) -> None:
    case = cases(2, "mean")
    exact = influence_function(case.trained, case.query, solver=Exact())
    drawn = LiSSA(batch=5, depth=100, repeats=5, generator=generator(), rtol=0.5)
    got = influence_function(case.trained, case.query, solver=drawn)
    assert difference(got, exact) < 0.3
    assert (got.coords["residual"] > 1e-6).all(), "chance leaves its mark, and it is shown"


def test_a_solve_that_falls_short_is_not_hidden(cases) -> None:
    case = cases(2, "sum")
    words = (
        "Not every query has the influence that was asked for: 4 of 4 right-hand sides stopped at "
        "its limit of steps, before the tolerance"
    )
    with pytest.warns(NotConvergedWarning, match=re.escape(words)):
        got = influence_function(case.trained, case.query, solver=ConjugateGradients(max_steps=2))
    assert got.coords["steps"].values.tolist() == [2] * 4
    assert all("stopped at its limit" in status for status in got.coords["status"].values)
    assert (got.coords["residual"] > 1e-10).all()
    exact = influence_function(case.trained, case.query, solver=Exact())
    assert difference(got, exact) > 1e-6, "and the residual does not cry wolf"


def far_from_any_minimum():
    """A network with large residuals: its Hessian has negative eigenvalues, its ggn none."""
    (x, y), query = data(1, seed=9)
    rule = lo.GradientDescent(1e-3, 1e-3)
    return train(tanh_network(), (x, 30 * y), rule=rule, steps=3, tolerance=None), query


def test_an_indefinite_hessian_is_said_and_the_advice_helps() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)
        trained, query = far_from_any_minimum()
        for solver in (ConjugateGradients(), LiSSA()):
            with pytest.warns(NotConvergedWarning, match="met negative curvature: the Hessian is"):
                influence_function(trained, query, solver=solver)
        with pytest.warns(NotConvergedWarning, match=r"The smallest eigenvalue is (-\S+),") as said:
            influence_function(trained, query, solver=Exact())
        lowest = float(re.search(r"eigenvalue is (\S+),", str(said[-1].message)).group(1))
        for way in ({"curvature": "ggn"}, {"damping": -1.01 * lowest}):
            got = influence_function(trained, query, solver=Exact(), **way)
            assert set(got.coords["status"].values) == {"solved to tolerance"}


def test_a_network_that_was_not_trained_to_the_end_is_flagged() -> None:
    pair, query = data(1, seed=5)
    trained = train(tanh_network(), pair, rule=descent_of("sum"), steps=1, tolerance=None)
    with pytest.warns(NotConvergedWarning):
        got = influence_function(trained, query, curvature="ggn")
    assert got.attrs["converged"] == 0
    assert got.attrs["relative_gradient"] > 1e-6
    assert got.attrs["training"] == str(trained.status)


def test_without_a_ridge_more_weights_than_numbers_have_no_derivative() -> None:
    pair, query = data(1, seed=5)
    module = nn.Linear(20, 1, bias=False).double()
    wide = pair[0].repeat(1, 7)[:, :20], pair[1]
    network = oracles_classical.Network(module, *wide, ridge=1e-9)
    start = network.written(network.minimised(network.start), copy.deepcopy(module))
    trained = train(module, wide, rule=lo.Ridge(0.0), start=start)
    asked = torch.randn(M, 20, generator=generator(), dtype=torch.float64), query[1]
    for solver in (ConjugateGradients(), Exact()):
        with pytest.warns(NotConvergedWarning, match="the matrix is singular to rounding; add"):
            influence_function(trained, asked, solver=solver)


def test_the_result_says_what_it_is(cases) -> None:
    case = cases(2, "mean")
    got = influence_function(
        case.trained, case.query, solver=ConjugateGradients(rtol=1e-6), curvature="ggn", damping=1
    )
    assert got.dims == ("query", "train")
    assert got.name == "influence"
    assert {name: got.coords[name].dims for name in ("residual", "steps", "status")} == {
        "residual": ("query",),
        "steps": ("query",),
        "status": ("query",),
    }
    assert json.loads(got.attrs["solver"]) == {
        "solver": "ConjugateGradients",
        "rtol": 1e-6,
        "max_steps": 1000,
    }
    assert got.attrs["method"] == "influence_function"
    assert got.attrs["curvature"] == "ggn"
    assert got.attrs["damping"] == 1
    assert got.attrs["converged"] == 1
    assert got.attrs["loss"] == "mean"
    assert got.attrs["at"] == "end of training"
    assert "positive = the example helped" in got.attrs["sign"]
    assert json.loads(got.attrs["rule"]) == case.rule.record
    assert all(isinstance(value, str | int | float) for value in got.attrs.values())


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"curvature": "fisher"}, OptionError, "`curvature` must be one of 'hessian', 'ggn'; got"),
        ({"damping": -0.1}, OptionError, "`damping` must be a finite number ≥ 0; got -0.1."),
        ({"index": [9]}, OptionError, "`index` must be a row number from 0 to 8; got 9."),
        ({"index": []}, OptionError, "`index` must name at least one training example; got none."),
        ({"index": [True]}, OptionError, "`index` must be row numbers, whole and no truth values"),
        (
            {"memory": 2000},
            MemoryBudgetError,
            "A query of a network of 26 parameters needs 2.5 kB, more than the budget of 2 kB. "
            "Raise `memory`, or ask a smaller network.",
        ),
        (
            {"memory": 100},
            MemoryBudgetError,
            "The result (4 × 9) needs 288 B, more than the budget of 100 B. Ask for fewer queries",
        ),
        (
            {"memory": 10_000, "solver": Exact()},
            MemoryBudgetError,
            "The 26 × 26 curvature matrix of 26 parameters needs 21.6 kB, more than the budget of",
        ),
    ],
)
def test_what_cannot_be_had_is_refused(cases, options, kind, words) -> None:
    case = cases(2)
    with pytest.raises(kind, match=re.escape(words)):
        influence_function(case.trained, case.query, **options)


def test_queries_are_like_the_training_examples(cases) -> None:
    case = cases(2)
    x, y = case.query
    words = "`query` inputs must have shape (m, 3) as in training; got (4, 2)."
    with pytest.raises(ShapeError, match=re.escape(words)):
        influence_function(case.trained, (x[:, :2], y))
    with pytest.raises(ShapeError, match="`query targets` must have 2 columns"):
        influence_function(case.trained, (x, y[:, :1]))
    with pytest.raises(DataError, match="`query targets` must be numbers"):
        influence_function(case.trained, (x, ["a"] * M))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@LOSSES
def test_on_a_gpu_it_is_the_same(cases, loss) -> None:
    case = cases(2, loss)
    start = copy.deepcopy(case.trained.module)
    trained = train(case.trained.initial, case.pair, rule=case.rule, start=start, device="cuda")
    drawn = LiSSA(batch=5, depth=20, generator=generator(), rtol=0.99, scale=30.0)
    for solver in (Exact(), ConjugateGradients(), drawn):
        drawn.generator.manual_seed(0)
        got = influence_function(trained, case.query, solver=solver)
        drawn.generator.manual_seed(0)
        want = influence_function(case.trained, case.query, solver=solver)
        assert_same(got, want, SOLVED)
