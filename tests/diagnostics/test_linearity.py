"""Is what linearity says of both trainings what both trainings are, stepped by the definition?"""

import math
import re

import numpy as np
import pytest
import torch
from torch import nn

import leftout as lo
from laws import assert_same
from leftout.core.errors import DataError, DivergenceError, MemoryBudgetError, OptionError, ShapeError
from leftout.diagnostics.linearity import linearity_test as source
from leftout.diagnostics.linearity.linearisation_gap import LARGE, SMALL
from leftout.diagnostics.linearity.linearity_test import (
    LEARNED_LITTLE,
    LEARNED_MUCH,
    LinearityTest,
    linearity_test,
)
from leftout.diagnostics.linearity.snapshots import Snapshot
from leftout.dynamics.wide import WideNetwork
from oracles import linearity as oracle
from problems.networks import linear, seeded, small_tanh, sphere

D, N = 3, 10
NUMBERS = ("gap", "gap_train", "moved", "moved_train", "weights", "kernel")


def data(k=1):
    return sphere(N, D, k), sphere(6, D, k, seed=1)


def found(module=None, k=1, **options):
    train, query = data(k)
    return linearity_test(small_tanh(D, k) if module is None else module, train, query, **options)


def arrays(module):
    return torch.cat([one.detach().flatten() for one in module.parameters()]).numpy()


def wanted(k, network, linearised):
    (x, _), (z, _) = data(k)
    net, w = oracle.Perceptron(D, 9, k), arrays(small_tanh(D, k))
    return [
        oracle.compared(net, w, one, other, x.numpy(), z.numpy())
        for one, other in zip(network, linearised, strict=True)
    ]


def assert_path(path, want, rtol):
    """Fail unless each number is within rtol of its largest along the path."""
    for name in NUMBERS:
        assert_same([getattr(one, name) for one in path], [one[name] for one in want], rtol=rtol)


@pytest.mark.sample(3)
@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize(("ridge", "loss"), [(0.0, "sum"), (0.3, "sum"), (0.02, "mean")])
def test_descent_is_compared_with_its_linearisation_step_by_step(k, ridge, loss) -> None:
    unit = N if loss == "mean" else 1
    rule = lo.GradientDescent(0.01 * unit, ridge, loss)
    got = found(k=k, rule=rule, steps=40)
    assert [one.step for one in got.path] == [0, 1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 40]
    (x, y), _ = data(k)
    net, w = oracle.Perceptron(D, 9, k), arrays(small_tanh(D, k))
    both = oracle.descended(net, w, x.numpy(), y.numpy(), rate=0.01, ridge=ridge * unit, steps=40)
    network, linearised = [[way[one.step] for one in got.path] for way in both]
    # Forty steps of rounding 1e-16 each, and differences of numbers 1e3 times their size.
    assert_path(got.path, wanted(k, network, linearised), rtol=1e-10)
    for name in ("gap", "gap_train", "weights", "kernel"):
        assert getattr(got, name) == max(getattr(one, name) for one in got.path)
    assert got.relative_gap == got.gap / max(one.moved for one in got.path)
    assert got.step_error == 0
    error = net.outputs(network[-1], x.numpy()) - y.numpy()
    assert_same(got.path[-1].loss, (error**2).sum() / 2)
    start = net.outputs(w, x.numpy())
    said = start + (net.jacobian(w, x.numpy()) @ (linearised[-1] - w)).reshape(start.shape)
    assert_same(got.path[-1].loss_linearised, ((said - y.numpy()) ** 2).sum() / 2)


@pytest.mark.parametrize(("rate", "loss"), [(2.5, "sum"), (1.5, "mean")])
def test_the_flow_is_compared_with_its_closed_form(rate, loss) -> None:
    unit = N if loss == "mean" else 1
    got = found(rule=lo.GradientFlow(rate * unit, 0.1 / unit, loss), steps=30)
    (x, y), _ = data()
    net, w = oracle.Perceptron(D, 9, 1), arrays(small_tanh(D))
    times = [rate * one.time for one in got.path]
    both = oracle.flowed(net, w, x.numpy(), y.numpy(), ridge=0.1, times=times)
    # The steps of the flow are off by 1.1e-5 of a move, which is at most thirty times the gap here.
    assert max(one.moved for one in got.path) < 30 * got.gap
    assert_path(got.path, wanted(1, *both), rtol=30 * 2e-5)
    assert 0 < got.step_error < 1.1e-5 * max(one.moved_train for one in got.path) * 10


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_learned_modes_count_alike(ridge) -> None:
    got = found(k=2, rule=lo.GradientDescent(0.01, ridge), steps=16)
    (x, y), _ = data(2)
    net, w = oracle.Perceptron(D, 9, 2), arrays(small_tanh(D, 2))
    network, _ = oracle.descended(net, w, x.numpy(), y.numpy(), rate=0.01, ridge=ridge, steps=16)
    grams = [net.jacobian(one, x.numpy()) for one in network]
    grams = [one @ one.T for one in grams]
    want = [
        oracle.learned_change(grams[0], grams[one.step], ridge + 1 / (0.01 * one.step))
        for one in got.path[1:]
    ]
    assert got.path[0].kernel_learned == 0
    assert_same([one.kernel_learned for one in got.path[1:]], want, rtol=1e-9)


def test_before_anything_is_learned_all_change_is_that_of_the_largest_modes() -> None:
    """A floor far above the spectrum weighs all modes by their eigenvalue, as the plain norm does."""
    got = found(rule=lo.GradientDescent(1e-6), steps=2)
    assert got.kernel_learned == pytest.approx(got.kernel, rel=1e-4)


def test_a_linear_network_is_its_linearisation() -> None:
    got = found(linear(D), rule=lo.GradientDescent(0.05), steps=50)
    # Rounding, fifty steps of it; the kernel of a linear network is made of its inputs.
    assert got.relative_gap < 1e-13
    assert got.relative_gap_train < 1e-13
    assert got.kernel < 1e-15
    assert got.verdict == "yes"
    assert got.weights > 0.1


@pytest.mark.parametrize("rule", [lo.GradientDescent, lo.GradientFlow])
def test_a_network_that_hardly_moves_parts_from_its_linearisation_to_second_order(rule) -> None:
    """Targets at a distance ε from f_0 move it by ε, change the kernel by ε and leave a gap of ε²."""
    (x, _), (z, _) = data()
    module = small_tanh(D)
    start, away = module(x).detach(), torch.sin(5 * x[:, :1])
    query = (z, module(z).detach())
    near, far = (
        linearity_test(module, (x, start + size * away), query, rule=rule(0.02), steps=30)
        for size in (1e-4, 2e-4)
    )
    for name, order in (("gap", 4), ("gap_train", 4), ("weights", 2), ("kernel", 2)):
        # What follows in the series is 1e-4 of it; a flow's own error is 1.1e-5 of the move.
        allowed = 0.01 if rule is lo.GradientDescent or order == 2 else 0.5
        assert getattr(far, name) / getattr(near, name) == pytest.approx(order, rel=allowed), name


def test_wider_networks_are_closer() -> None:
    train, query = data()
    gaps = [
        linearity_test(
            WideNetwork(width, D, activation="tanh", weight_variance=1.0, generator=seeded(0)),
            train,
            query,
            steps=50,
        )
        for width in (32, 2048)
    ]
    # Widths 64 times apart: 1/√64 = 1/8 for weights and at least that for the others, with room for chance.
    for name in ("gap", "weights", "kernel", "kernel_learned"):
        assert getattr(gaps[1], name) < getattr(gaps[0], name) / 4, name


def test_critical_rates_are_those_of_the_kernel_at_the_start() -> None:
    (x, _), _ = data()
    rows = oracle.Perceptron(D, 9, 1).jacobian(arrays(small_tanh(D)), x.numpy())
    values = np.linalg.eigvalsh(rows @ rows.T)
    for rule, unit, ridge in (
        (lo.GradientDescent(0.01, 0.3), 1, 0.3),
        (lo.GradientDescent(0.01, 0.3, "mean"), N, 0.3 * N),
    ):
        got = found(rule=rule, steps=1)
        assert_same(got.critical_rate, 2 * unit / (values[-1] + ridge))
        assert_same(got.lee_rate, 2 * unit / (values[0] + values[-1] + 2 * ridge))


@pytest.mark.parametrize(
    ("rule", "ridge", "loss"),
    [(None, 0.0, "sum"), (lo.Ridge(0.5), 0.5, "sum"), (lo.Ridge(0.1, "mean"), 0.1, "mean")],
)
def test_half_the_critical_rate_is_taken_where_none_is_said(rule, ridge, loss) -> None:
    got = found(rule=rule, steps=3)
    assert got.rule == lo.GradientDescent(got.rule.rate, ridge, loss)
    assert got.rule.rate == pytest.approx(got.critical_rate / 2, rel=1e-6)


def test_training_ends_where_the_gradient_is_small() -> None:
    got = found(rule=lo.Ridge(5.0), tolerance=1e-4)
    assert got.converged
    assert not got.diverged
    assert got.status.startswith(f"converged after {got.path[-1].step} steps: relative gradient ")
    again = found(rule=got.rule, steps=got.path[-1].step)
    assert again.path[-1] == got.path[-1]
    short = lo.train(small_tanh(D), data()[0], rule=got.rule, steps=got.path[-1].step - 1, tolerance=None)
    assert short.relative_gradient > 1e-4
    assert "took the" in again.status
    assert not again.converged


def test_training_that_falls_short_says_so(monkeypatch) -> None:
    monkeypatch.setattr(source, "MANY_STEPS", 5)
    got = found(tolerance=1e-9)
    assert not got.converged
    assert got.path[-1].step == 5
    assert "stopped after 5 steps at relative gradient" in got.status


def test_nothing_to_learn_is_learned_at_once() -> None:
    (x, _), (z, _) = data()
    module = small_tanh(D)
    got = linearity_test(module, (x, module(x).detach()), (z, module(z).detach()))
    assert got.converged
    assert (got.gap, got.relative_gap, got.verdict) == (0, 0, "yes")
    assert [one.step for one in got.path] == [0]
    asked = linearity_test(module, (x, module(x).detach()), (z, module(z).detach()), steps=5)
    assert not asked.diverged
    # Rounding of outputs of size 1, beside which nothing is there to be relative to.
    assert asked.gap < 1e-14


def growing():
    """A network whose kernel grows as it learns: f = (w·x) v with small weights."""
    module = nn.Sequential(nn.Linear(D, 1, bias=False), nn.Linear(1, 1, bias=False)).double()
    with torch.no_grad():
        for one in module.parameters():
            one.fill_(0.1)
    return module


def test_a_network_that_diverges_is_not_spoken_for() -> None:
    (x, y), query = data()
    got = linearity_test(growing(), (x, 30 * y), query, steps=200)
    assert got.diverged
    assert got.verdict == "no"
    assert got.status.startswith("diverged at step")
    assert "the kernel grew as the network learned" in got.status
    assert math.isfinite(got.gap)
    assert got.path[-1].step < 200


def told(**numbers):
    one = Snapshot(
        step=1,
        time=1.0,
        gap=0.0,
        gap_train=0.0,
        moved=1.0,
        moved_train=1.0,
        weights=0.0,
        kernel=0.0,
        growth=1.0,
        kernel_learned=0.0,
        loss=0.0,
        loss_linearised=0.0,
        step_error=0.0,
    )
    path = (one, Snapshot(**vars(one) | numbers))
    return LinearityTest(
        path, lo.GradientDescent(0.1), 1.0, 1.0, 1.0, 1.0, 10, 10, False, False, "took 1 step."
    )


@pytest.mark.parametrize(
    ("learned", "gap", "verdict"),
    [
        (0.0, 0.0, "yes"),
        (LEARNED_LITTLE, 0.0, "yes"),
        (LEARNED_LITTLE * 1.01, 0.0, "with care"),
        (LEARNED_MUCH, 0.0, "with care"),
        (LEARNED_MUCH * 1.01, 0.0, "no"),
        (0.0, SMALL, "yes"),
        (0.0, SMALL * 1.01, "with care"),
        (0.0, LARGE * 1.01, "no"),
    ],
)
def test_the_verdict_is_the_worse_of_two(learned, gap, verdict) -> None:
    got = told(kernel_learned=learned, gap=gap)
    assert got.verdict == verdict
    assert got.record["verdict"] == verdict
    assert got.record["kernel_learned"] is learned


def test_a_sample_of_everything_is_everything_and_one_of_few_is_said() -> None:
    options = {"rule": lo.GradientDescent(0.01), "steps": 8}
    whole, same, few = (found(sample=size, **options) for size in (N, 999, 4))
    assert whole.path == same.path
    assert (same.sample, few.sample, few.examples) == (N, 4, N)
    assert few.kernel != whole.kernel
    assert few.gap == whole.gap
    assert found(sample=4, seed=1, **options).kernel != few.kernel


def test_only_chosen_parameters_are_moved() -> None:
    module = small_tanh(D)
    got = found(module, parameters="2.*", steps=20, rule=lo.GradientDescent(0.01))
    # A readout alone is linear in its weights.
    assert got.relative_gap < 1e-12
    assert got.weights > 1e-3


def test_nothing_of_the_caller_changes(frozen) -> None:
    (x, y), (z, w) = data()
    module = nn.Sequential(nn.Linear(D, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1)).double().eval()
    frozen(x, y, z, w, *module.parameters(), *module.buffers())
    before = torch.random.get_rng_state()
    linearity_test(module, (x, y), (z, w), steps=5)
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(one.grad is None and one.requires_grad for one in module.parameters())
    assert not module.training


def test_the_order_of_examples_does_not_matter() -> None:
    (x, y), query = data()
    order = torch.randperm(N, generator=seeded(0))
    one, other = (
        linearity_test(small_tanh(D), pair, query, rule=lo.GradientDescent(0.01), steps=20)
        for pair in ((x, y), (x[order], y[order]))
    )
    for name in (*NUMBERS, "kernel_learned"):
        assert getattr(one.path[-1], name) == pytest.approx(getattr(other.path[-1], name), rel=1e-9)


def test_a_float32_network_is_that_network_to_its_rounding() -> None:
    rule = lo.GradientDescent(0.01)
    one, other = (found(module, rule=rule, steps=20) for module in (small_tanh(D), small_tanh(D).float()))
    for name in NUMBERS:
        assert getattr(other.path[-1], name) == pytest.approx(getattr(one.path[-1], name), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"steps": 0}, OptionError, "`steps` must be a whole number ≥ 1; got 0"),
        ({"steps": 2.5}, OptionError, "`steps` must be a whole number ≥ 1; got 2.5"),
        ({"tolerance": 0.0}, OptionError, r"`tolerance` must lie in \(0, 1\); got 0.0"),
        ({"sample": 0}, OptionError, "`sample` must be a whole number ≥ 1; got 0"),
        ({"seed": -1}, OptionError, "`seed` must be"),
        ({"rule": "descent"}, OptionError, "`rule` must be GradientDescent, GradientFlow or Ridge"),
        ({"rule": lo.GradientDescent(9.0)}, DivergenceError, "`rate` must be below the critical rate"),
        ({"parameters": "nothing"}, OptionError, "'nothing' matches none"),
        ({"memory": 1000}, MemoryBudgetError, "needs .* more than the budget"),
    ],
)
def test_options_that_cannot_be_are_refused(options, error, message, as_users_run_it) -> None:
    with pytest.raises(error, match=message):
        found(**options)


@pytest.mark.parametrize(
    ("module", "error", "message"),
    [
        (torch.relu, OptionError, "`module` must be a network, a torch.nn.Module"),
        (nn.Sequential(nn.Linear(D, 4), nn.Dropout(0.5), nn.Linear(4, 1)), OptionError, "module.eval"),
        (nn.Sequential(nn.Linear(D, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)), OptionError, "module.eval"),
        (nn.Linear(D + 1, 1), ShapeError, "must hold inputs that `module` takes"),
        (nn.Linear(D, 2), ShapeError, "must have a column of targets for each output"),
    ],
)
def test_modules_that_are_no_such_function_are_refused(module, error, message, as_users_run_it) -> None:
    with pytest.raises(error, match=message):
        found(module)


def test_weights_and_queries_that_do_not_fit_are_refused() -> None:
    train, _ = data()
    with pytest.raises(ShapeError, match="`query` inputs must have shape"):
        linearity_test(small_tanh(D), train, sphere(4, D + 1))
    broken = small_tanh(D)
    with torch.no_grad():
        broken[0].weight[0, 0] = math.nan
    with pytest.raises(DataError, match="`module` must have finite weights"):
        found(broken)


def test_a_rate_that_the_grown_kernel_no_longer_bears_is_named(monkeypatch) -> None:
    """Half the critical rate at the start; the kernel of this narrow network grows as it learns."""
    monkeypatch.setattr(source, "MANY_STEPS", 500)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1)).double()
    inputs = torch.randn(20, 4, dtype=torch.float64)
    train = inputs, 3 * torch.sin(2 * inputs[:, :1])
    got = linearity_test(module, train, train, rule=lo.Ridge(0.01))
    assert got.path[-1].growth == pytest.approx(2, rel=0.15)
    assert re.search(
        r"stopped after 500 steps.*its kernel grew \d\.\d times, and the critical rate fell to .*, at "
        r"which it bounces: take a lower one",
        got.status,
    )
    assert "take a ridge" not in got.status
