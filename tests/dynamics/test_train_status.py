"""Does a network say how its training went, and refuse what cannot go well?"""

import math
import re

import numpy as np
import pytest
import torch
from torch import nn

import leftout as lo
from laws import assert_same
from leftout.core.errors import (
    DataError,
    DivergenceError,
    MemoryBudgetError,
    NotConvergedWarning,
    OptionError,
    ShapeError,
)
from leftout.dynamics.descend_two_layer import TwoLayerObjective
from leftout.dynamics.objective import Look
from leftout.dynamics.train import train
from oracles import networks as oracles
from problems.networks import arrays, linear, network, numpy_of, small_tanh, sphere


def test_it_says_that_it_converged() -> None:
    data = sphere(8, 5)
    found = train(network(40, 5), data, rule=lo.Ridge(0.5), tolerance=1e-5)
    assert found.converged
    assert found.relative_gradient <= 1e-5
    assert found.tolerance == 1e-5
    words = rf"converged after {found.steps} steps: relative gradient [\d.e-]+ ≤ 1e-05\."
    assert re.fullmatch(words, found.status)
    found.check_converged()


def test_it_says_how_far_it_is_when_steps_run_out() -> None:
    data = sphere(8, 5)
    module = linear(5)
    found = train(module, data, rule=lo.GradientDescent(0.1, 0.5), steps=60, tolerance=1e-6)
    assert not found.converged
    words = (
        r"stopped after 60 steps at relative gradient [\d.e-]+ > 1e-06; at the observed pace about "
        r"([\d.e+]+) steps are needed\."
    )
    match = re.fullmatch(words, found.status)
    assert match
    with pytest.warns(NotConvergedWarning, match=re.escape(found.status)):
        found.check_converged()
    needed = int(float(match[1]))
    enough = train(module, data, rule=found.rule, steps=2 * needed, tolerance=1e-6)
    assert enough.converged
    assert needed / 2 < enough.steps < 2 * needed


def test_it_says_when_gates_keep_switching() -> None:
    data = sphere(20, 3)
    net = network(10, 3, scale=0.01)
    rule = lo.GradientDescent(0.2, 0.5)
    found = train(net, data, rule=rule, steps=1500, tolerance=1e-9)
    assert not found.converged
    words = "it falls no further, as gates keep switching or rounding is reached: raise the width"
    assert words in found.status
    # The mean over the last steps is an honest gradient of nearby points, and smaller.
    parts = arrays(found.module)[0], *arrays(net), *numpy_of(*data), 0.5
    assert found.gradient_norm < np.linalg.norm(oracles.gradient(*parts)) / 2


def test_it_says_that_it_did_what_it_was_asked() -> None:
    found = train(linear(5), sphere(8, 5), rule=lo.GradientDescent(0.1), steps=7, tolerance=None)
    assert found.status.startswith("took the 7 steps asked for, to a relative gradient of ")
    assert found.tolerance is None
    assert not found.converged
    with pytest.warns(NotConvergedWarning, match="not trained to convergence: took the 7 steps"):
        found.check_converged()


def test_gradient_descent_takes_the_papers_steps_if_not_said() -> None:
    x, y = sphere(3, 2)
    found = train(linear(2), (x, y), rule=lo.GradientDescent(0.01), tolerance=None)
    assert found.steps == 5000


def test_it_reports_loss_and_gradient_in_the_reading_of_the_rule() -> None:
    x, y = sphere(8, 5)
    net = network(12, 5, scale=0.3)
    for loss, unit in (("sum", 1), ("mean", 8)):
        rule = lo.GradientDescent(0.3, 0.2, loss)
        found = train(net, (x, y), rule=rule, steps=5, tolerance=None)
        initial, signs = arrays(net)
        parts = (arrays(found.module)[0], initial, signs, *numpy_of(x, y), 0.2 * unit)
        assert found.loss == pytest.approx(oracles.objective(*parts) / unit, rel=1e-12)
        steep = np.linalg.norm(oracles.gradient(*parts)) / unit
        assert found.gradient_norm == pytest.approx(steep, rel=1e-9)
        first = np.linalg.norm(oracles.gradient(initial, *parts[1:])) / unit
        assert found.relative_gradient == pytest.approx(steep / first, rel=1e-9)
        assert found.rate == pytest.approx(0.3)


def test_where_there_is_nothing_to_learn_it_stays() -> None:
    x, _ = sphere(6, 4)
    net = network(10, 4)
    found = train(net, (x, torch.zeros(6, 1).double()), rule=lo.Ridge(1.0))
    assert (found.steps, found.converged, found.relative_gradient) == (0, True, 0.0)
    assert torch.equal(found.module.weights, net.weights)


def test_nothing_of_the_callers_is_written_to(frozen) -> None:
    x, y = sphere(8, 5)
    batched = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 1)).double().eval()
    for module in (network(12, 5), small_tanh(5), batched):
        frozen(x, y, *module.state_dict().values())
        before = torch.random.get_rng_state()
        found = train(module, (x, y), rule=lo.GradientDescent(0.01), steps=5, tolerance=None)
        found.predict(x)
        assert torch.equal(torch.random.get_rng_state(), before)
        assert all(one.grad is None for one in module.parameters())
        assert found.module is not module
        assert found.initial is not module
        for name, one in module.named_buffers():
            assert torch.equal(found.module.get_buffer(name), one)


def test_single_precision_is_trained_in_single_and_told_in_double() -> None:
    x, y = sphere(12, 8)
    wide = train(network(60, 8), (x, y), rule=lo.Ridge(0.5), tolerance=1e-5)
    single = train(network(60, 8, dtype=torch.float32), (x, y), rule=lo.Ridge(0.5), tolerance=1e-5)
    assert single.module.weights.dtype == torch.float32
    assert single.predict(x).dtype == torch.float64
    # Both are within tolerance · max|y| / ridge-ish of the minimiser; roundings are smaller.
    assert_same(single.predict(x), wide.predict(x), 1e-4)
    assert single.record["dtype"] == "float32"


def test_a_network_describes_itself() -> None:
    data = sphere(8, 5)
    net = network(12, 5)
    found = train(net, data, rule=lo.Ridge(0.5))
    record = found.record
    assert record["module"] == "TwoLayerNetwork"
    assert record["shape"] == repr(net)
    assert record["parameters"] == 60
    assert record["rule"] == lo.Ridge(0.5).record
    assert record["status"] == found.status
    assert record["train"] == found.train.fingerprint
    assert record["initial"] != record["weights"]
    assert train(net, data, rule=lo.Ridge(0.5)).record == record
    other = train(network(12, 5, seed=1), data, rule=lo.Ridge(0.5)).record
    assert other["initial"] != record["initial"]
    assert repr(found) == f"Trained(TwoLayerNetwork, 8 examples, rule={found.rule!r}, {found.status})"


def test_predictions_do_not_depend_on_the_memory() -> None:
    x, y = sphere(8, 5)
    net = small_tanh(5)
    rule = lo.GradientDescent(0.02)
    want = train(net, (x, y), rule=rule, steps=3, tolerance=None).predict(x)
    tight = train(net, (x, y), rule=rule, steps=3, tolerance=None, memory=1)
    assert_same(tight.predict(x), want, 1e-14)
    assert_same(tight.predict(x.tolist()), want, 1e-14)


# What cannot be


def test_a_rate_that_diverges_is_refused_with_the_critical_one() -> None:
    x, y = sphere(8, 5)
    net = network(12, 5)
    top = np.linalg.eigvalsh(oracles.tangent_kernel(*arrays(net), x.numpy()))[-1]
    for loss, unit in (("sum", 1), ("mean", 8)):
        critical = 2 * unit / (top + 0.3 * unit)
        with pytest.raises(DivergenceError, match=re.escape("`rate` must be below the critical")) as e:
            train(net, (x, y), rule=lo.GradientDescent(1.001 * critical, 0.3, loss))
        told = float(re.search(r"= ([\d.e-]+), or", str(e.value))[1])
        assert told == pytest.approx(critical, rel=1e-5)
        train(net, (x, y), rule=lo.GradientDescent(0.99 * critical, 0.3, loss), steps=1, tolerance=None)


@pytest.mark.parametrize("loss", ["sum", "mean"])
def test_a_kernel_that_outgrows_the_rate_stops_training(loss) -> None:
    # f = u v x: the kernel u² + v² grows as u v is learned, from a start that makes it small.
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.u = nn.Parameter(torch.tensor(0.1).double())
            self.v = nn.Parameter(torch.tensor(0.1).double())

        def forward(self, x):
            return self.u * self.v * x

    x = torch.ones(1, 1).double()
    with pytest.raises(DivergenceError, match=r"Training diverged: after \d+ steps the") as error:
        train(Product(), (x, 10 * x), rule=lo.GradientDescent(1.0, 0.0, loss), tolerance=None)
    words = re.search(r"2 / \(s_max \+ ridge\) .* is ([\d.e-]+); got 1\. ", str(error.value))
    assert float(words[1]) < 1 or "where it began" in str(error.value)


def test_a_minimiser_is_found_even_where_the_kernel_grows() -> None:
    x, y = sphere(8, 5)
    module = small_tanh(5)
    with torch.no_grad():
        for one in module.parameters():
            one.mul_(0.02)
    found = train(module, (x, 5 * y), rule=lo.Ridge(1e-3), tolerance=1e-4, steps=20_000)
    assert found.converged


def test_steps_that_cannot_be_enough_are_refused_before_they_are_taken() -> None:
    x, y = sphere(8, 5)
    words = (
        r"`steps` = 10 at `rate` = 0\.001 cannot bring the gradient to the tolerance 1e-06: the "
        r"fastest of all modes takes (\d+) steps, and slow ones many more\. Raise the rate "
        r"\(critical: ([\d.e-]+)\) or the steps, or pass tolerance=None to take the steps and no more\."
    )
    rule = lo.GradientDescent(0.001, 0.3)
    with pytest.raises(OptionError, match=words) as error:
        train(linear(5), (x, y), rule=rule, steps=10)
    told = re.search(words, str(error.value))
    top = float(torch.linalg.eigvalsh(x @ x.T)[-1]) + 0.3
    assert float(told[2]) == pytest.approx(2 / top, rel=1e-2)
    assert int(told[1]) == math.ceil(math.log(1e-6) / math.log1p(-0.001 * top))
    # Not proved, so not refused: a larger rate, or a start that may be close already.
    train(linear(5), (x, y), rule=lo.GradientDescent(0.9 / top, 0.3), steps=10)
    train(linear(5), (x, y), rule=rule, steps=10, start=linear(5, seed=1))
    train(linear(5), (x, y), rule=rule, steps=10, tolerance=None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, "`steps` must be a whole number ≥ 1; got 0."),
        ({"steps": -3}, "`steps` must be a whole number ≥ 1; got -3."),
        ({"tolerance": 0.0}, "`tolerance` must lie in (0, 1); got 0.0."),
        ({"tolerance": -1.0}, "`tolerance` must lie in (0, 1); got -1.0."),
        ({"tolerance": float("nan")}, "`tolerance` must lie in (0, 1); got nan."),
        ({"tolerance": None}, "`tolerance` must be given under Ridge, which asks for the minimiser"),
        ({"device": "nowhere"}, "`device` must be one that this machine has"),
    ],
)
def test_options_that_cannot_be_are_refused(options, words) -> None:
    with pytest.raises(OptionError, match=re.escape(words)):
        train(linear(5), sphere(8, 5), rule=lo.Ridge(1.0), **options)


@pytest.mark.usefixtures("as_users_run_it")
def test_a_flow_is_refused_with_what_takes_its_place() -> None:
    words = "`rule` must be Ridge or GradientDescent, which finite networks can follow; got Gradient"
    for rule in (lo.GradientFlow(1.0), "ridge"):
        with pytest.raises(OptionError, match="`rule` must be Ridge or GradientDescent"):
            train(linear(5), sphere(8, 5), rule=rule)
    with pytest.raises(OptionError, match=words):
        train(linear(5), sphere(8, 5), rule=lo.GradientFlow(1.0))
    with pytest.raises(OptionError, match=r"`steps` must be a whole number ≥ 1; got 2\.5"):
        train(linear(5), sphere(8, 5), rule=lo.Ridge(1.0), steps=2.5)


def test_inputs_of_another_dimension_are_refused() -> None:
    with pytest.raises(ShapeError, match="`inputs` must have 4 features in each row, as the network"):
        train(network(6, 4), sphere(8, 5), rule=lo.Ridge(1.0))
    words = r"`train` must hold inputs that `module` takes; on inputs of shape \(8, 5\) it raised Runt"
    with pytest.raises(ShapeError, match=words):
        train(linear(4), sphere(8, 5), rule=lo.Ridge(1.0))
    found = train(linear(5), sphere(8, 5), rule=lo.Ridge(1.0))
    with pytest.raises(ShapeError, match="`inputs` must hold inputs that `module` takes"):
        found.predict(torch.zeros(2, 4))


def test_a_start_that_is_another_network_is_refused() -> None:
    for start in (linear(5, 2), network(6, 5)):
        with pytest.raises(ShapeError, match="`start` must be the same network as `module` with"):
            train(linear(5), sphere(8, 5), rule=lo.Ridge(1.0), start=start)


def test_outputs_that_do_not_match_the_targets_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"one column for each target: \(3, 2\); got \(3, 1\)"):
        train(linear(5), sphere(8, 5, 2), rule=lo.Ridge(1.0))


def test_a_module_in_training_mode_that_minds_is_refused() -> None:
    for layer in (nn.Dropout(0.5), nn.BatchNorm1d(4)):
        module = nn.Sequential(nn.Linear(5, 4), layer, nn.Linear(4, 1)).double()
        with pytest.raises(OptionError, match=r"a function of each input alone; .* Call module\.eval"):
            train(module, sphere(8, 5), rule=lo.Ridge(1.0))
        train(module.eval(), sphere(8, 5), rule=lo.GradientDescent(0.01), steps=2, tolerance=None)


def test_weights_that_are_not_finite_are_refused() -> None:
    net = network(6, 5)
    net.weights.data[0] = float("nan")
    with pytest.raises(DataError, match="`module outputs` must be finite; row 0 holds NaN"):
        train(net, sphere(8, 5), rule=lo.Ridge(1.0))


def test_a_network_too_wide_for_the_memory_is_refused_before_it_is_trained() -> None:
    words = "Training 1000 neurons on 8 examples needs 288 kB, more than the budget of 100 kB."
    with pytest.raises(MemoryBudgetError, match=re.escape(words)):
        train(network(1000, 5), sphere(8, 5), rule=lo.Ridge(1.0), memory=100_000)


def test_an_interruption_leaves_everything_as_it_was(monkeypatch) -> None:
    net = network(12, 5)
    before = net.weights.detach().clone()

    def stop(self, rate, momentum=0.0) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(TwoLayerObjective, "advance", stop)
    with pytest.raises(KeyboardInterrupt):
        train(net, sphere(8, 5), rule=lo.Ridge(1.0))
    assert torch.equal(net.weights, before)


@pytest.mark.parametrize("rule", [lo.Ridge(0.5), lo.GradientDescent(0.1)])
@pytest.mark.parametrize(
    ("dtype", "size", "said"),
    [
        (torch.float64, 1e160, "1e+160 from the outputs at the initial weights, and the objective"),
        (torch.float64, 1e200, "1e+200 from the outputs at the initial weights, and the objective"),
        (torch.float32, 1e25, "1e+25 from the outputs at the initial weights, and the gradient"),
    ],
)
def test_targets_whose_squares_overflow_are_refused_at_once(rule, dtype, size, said) -> None:
    x, y = sphere(12, 5)
    net = network(64, 5, dtype=dtype)
    with pytest.raises(DataError, match=re.escape(f"they are up to {said} overflows. Divide them")):
        train(net, (x, y.sign() * size), rule=rule)


def test_targets_c_times_as_large_are_learned_alike_up_to_there() -> None:
    # In units of the kernel: a linear model, whose path is c times as long.
    x, y = sphere(8, 5)
    start = linear(5)
    nn.init.zeros_(start.weight)
    one = train(start, (x, y), rule=lo.Ridge(0.5))
    large = train(start, (x, y * 1e150), rule=lo.Ridge(0.5))
    assert large.converged
    assert_same(large.predict(x) / 1e150, one.predict(x), 1e-12)


def test_a_minimiser_that_diverges_gets_no_advice_on_a_rate_it_never_chose(monkeypatch) -> None:
    monkeypatch.setattr(TwoLayerObjective, "look", exploding())
    words = r"Training diverged: .* at every rate down to .*: take a larger width or ridge, train in"
    with pytest.raises(DivergenceError, match=words) as error:
        train(network(12, 5), sphere(8, 5), rule=lo.Ridge(1.0))
    assert "critical" not in str(error.value)


def exploding():
    """A look whose gradient, and not its loss, is no number from the second one on."""
    real, seen = TwoLayerObjective.look, []

    def look(self):
        seen.append(real(self))
        return seen[0] if len(seen) == 1 else Look(seen[0].loss, float("nan"))

    return look


@pytest.mark.usefixtures("as_users_run_it")
def test_what_is_no_network_is_refused() -> None:
    pair = sphere(8, 5)
    found = train(linear(5), pair, rule=lo.Ridge(1.0))
    words = "must be a network, a torch.nn.Module; a trained one is `trained.module`; got "
    for module, came in ((None, "None."), (found, "Trained."), (nn.Linear, "the class Linear;")):
        with pytest.raises(OptionError, match=re.escape(f"`module` {words}{came}")):
            train(module, pair, rule=lo.Ridge(1.0))
    with pytest.raises(OptionError, match=re.escape(f"`start` {words}Trained.")):
        train(linear(5), pair, rule=lo.Ridge(1.0), start=found)
    for tolerance in ("a", True):
        with pytest.raises(OptionError, match=r"`tolerance` must lie in \(0, 1\); got"):
            train(linear(5), pair, rule=lo.Ridge(1.0), tolerance=tolerance)


def test_messages_say_the_shape_that_was_given() -> None:
    x, y = sphere(20, 5)
    for module in (linear(5), network(6, 5)):
        with pytest.raises(ShapeError) as error:
            train(module, (x[:, :3], y), rule=lo.Ridge(1.0))
        assert "(20, 3)" in str(error.value) or "got 3 in each." in str(error.value)
        found = train(module, (x, y), rule=lo.Ridge(1.0))
        words = "`inputs` must have an axis of rows, shape (m, 5) as in training; got (5,). Write inp"
        with pytest.raises(ShapeError, match=re.escape(words)):
            found.predict(x[0])
        with pytest.raises(ShapeError) as error:
            found.predict(x[:, :2])
        assert "(20, 2)" in str(error.value) or "got 2 in each." in str(error.value)


def test_of_a_network_under_ridge_the_gradient_is_that_of_opened_gates() -> None:
    x, y = sphere(20, 5)
    y = y.sign()
    net = network(64, 5, scale=0.1)
    found = train(net, (x, y), rule=lo.Ridge(0.5))
    # The gap that the docstring states, to the digits that it has.
    exact = found
    for rate in (0.02, 0.004, 0.0008):
        rule = lo.GradientDescent(rate, 0.5)
        exact = train(net, (x, y), rule=rule, steps=4000, tolerance=None, start=exact.module)
    assert found.loss == pytest.approx(8.030, abs=2e-3)
    assert exact.loss == pytest.approx(7.855, abs=2e-3)
    assert float((found.predict(x) - exact.predict(x)).abs().max()) == pytest.approx(0.031, abs=2e-3)
    weights, signs = arrays(found.module)
    initial = arrays(net)[0]
    x, y = numpy_of(x, y)
    held = np.linalg.norm(oracles.gates_that_hold(weights, initial, signs, x, y, 0.5))
    plain = np.linalg.norm(oracles.gradient(weights, initial, signs, x, y, 0.5))
    assert found.gradient_norm == pytest.approx(held, rel=1e-6, abs=1e-12)
    assert plain > 1e3 * found.gradient_norm
    assert found.loss == pytest.approx(oracles.objective(weights, initial, signs, x, y, 0.5))
