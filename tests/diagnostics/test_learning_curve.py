"""Does the curve foretell what larger samples show, and is nothing used twice?"""

import math
import re

import numpy as np
import pytest
import torch

import leftout as lo
from laws import assert_same
from leftout.core.errors import NotPositiveError, OptionError
from leftout.diagnostics.learning_curve.forecast import Forecast
from leftout.diagnostics.learning_curve.learning_curve import learning_curve
from leftout.diagnostics.learning_curve.record import LearningCurve
from leftout.diagnostics.learning_curve.subsamples import backtest
from leftout.diagnostics.learning_curve.target_modes import mode_groups, target_power
from oracles import learning_curve as oracle
from problems.small import Apart, ToldApart

MODES, N, RIDGE, NOISE, OUTPUTS = 2500, 320, 0.3, 0.2, 6
VALUES = oracle.spectrum(MODES, 1.3)
TARGET = oracle.coefficients(MODES, 1.2, OUTPUTS)
DRAWS = 5


def model(x, y, rule=None):
    pair = (torch.arange(len(x), dtype=torch.float64), torch.from_numpy(y))
    return lo.fit(lo.kernels.Precomputed(torch.from_numpy(x @ x.T)), pair, rule=rule or lo.Ridge(RIDGE))


@pytest.fixture(scope="module")
def samples():
    """Draws of inputs and targets, models, and what was foretold from each."""
    found = []
    for seed in range(DRAWS):
        x, y = oracle.draw(N, VALUES, TARGET, NOISE, seed)
        fitted = model(x, y)
        found.append((x, y, fitted, learning_curve(fitted, [N, 2 * N, 4 * N])))
    return found


@pytest.fixture(scope="module")
def truth():
    """The expected errors at 2N and 4N, of the whole population, from two draws each."""
    return [oracle.expected_error(n, VALUES, TARGET, NOISE, RIDGE, range(90, 92))[0] for n in (2 * N, 4 * N)]


def test_larger_samples_show_what_was_foretold(samples, truth) -> None:
    inside = [
        low <= want <= high
        for *_, curve in samples
        for want, low, high in zip(truth, curve.error_low[1:], curve.error_high[1:], strict=True)
    ]
    # 95 % intervals, of which both of a draw are right or wrong together: two draws of five wrong have a
    # probability of 2 %.
    assert sum(inside) >= len(inside) - 2
    for j, want in enumerate(truth, start=1):
        mean = np.mean([curve.error[j] for *_, curve in samples])
        width = np.mean([np.log(c.error_high[j] / c.error[j]) / 1.96 for *_, c in samples])
        assert abs(np.log(mean / want)) < 3 * width / np.sqrt(DRAWS) + 0.03  # 3 % for theory


def test_the_plug_in_that_uses_examples_twice_sees_half_of_the_error_or_less(samples, truth) -> None:
    for x, _, fitted, _ in samples:
        values, power = oracle.plug_in(x @ x.T, fitted.residual.numpy())
        for n, want in zip((2 * N, 4 * N), truth, strict=True):
            assert oracle.theory(n, values, power, 0.0, RIDGE) < 0.5 * want


def test_the_targets_power_by_mode_is_not_counted_twice(samples) -> None:
    groups = mode_groups(N)
    told, twice = [], []
    for x, _, fitted, _ in samples:
        whole = float(fitted.residual.square().sum()) / N
        curve = backtest(fitted, seed=0).full.curve
        told.append(target_power(curve, fitted.spectrum.values / N, whole).numpy())
        _, power = oracle.plug_in(x @ x.T, fitted.residual.numpy())
        twice.append([power[a - 1 : b].sum() for a, b in groups])
    want = np.array([(TARGET[a - 1 : b] ** 2).sum() for a, b in groups])
    ours, error = np.mean(told, 0), np.std(told, 0) / np.sqrt(DRAWS - 1)
    # All but the last group have large eigenvalues, where plugging in does little harm.
    last = len(groups) - 1
    assert groups[last] == (17, 64)
    bias, plugged = ours[last] / want[last] - 1, np.mean(twice, 0)[last] / want[last] - 1
    assert abs(bias) < 3 * error[last] / want[last] + 0.1  # what the docstring promises
    assert plugged > 0.25, "noise and unresolved modes are in the plug-in"
    assert plugged > 2 * abs(bias)


def test_at_the_size_at_hand_it_is_the_exact_left_out_error(samples) -> None:
    _, _, fitted, curve = samples[0]
    exact = 2 * fitted.train.mean_loss(lo.out_of_sample(fitted))
    assert_same(curve.error[0], exact, 1e-9)
    assert_same(float(curve.unlearned.mean()), exact, 1e-9)
    assert_same(curve.measured[-1].error, exact, 1e-9)
    assert [one.n for one in curve.measured] == [N // 4, N // 2, N]


def test_measured_errors_of_parts_are_those_of_refits() -> None:
    x, y = oracle.draw(40, VALUES, TARGET, NOISE, 3)
    fitted = model(x, y)
    curve = learning_curve(fitted, [40], seed=5)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(5))
    y = fitted.residual.numpy()
    for count, told in ((4, curve.measured[0]), (2, curve.measured[1])):
        errors = []
        for part in order.tensor_split(count):
            held = np.isin(np.arange(40), part.numpy())
            gram = x[held] @ x[held].T + RIDGE * np.eye(held.sum())
            dual = np.linalg.solve(gram, y[held])
            errors.append(((y[~held] - x[~held] @ x[held].T @ dual) ** 2).sum(1).mean())
        assert_same(told.error, np.mean(errors), 1e-9)
        assert told.samples == count


def test_the_order_of_sizes_and_the_scale_of_kernel_and_targets_do_not_matter() -> None:
    x, y = oracle.draw(60, VALUES, TARGET, NOISE, 4)
    one = learning_curve(model(x, y), [60, 120, 300])
    other = learning_curve(model(x, y), [300, 60, 120])
    assert (other.error[0], *other.error[1:]) == (one.error[2], *one.error[:2])
    larger = learning_curve(model(3 * x, 10 * y, lo.Ridge(9 * RIDGE)), [60, 120, 300])
    assert_same(np.array(larger.error), 100 * np.array(one.error), 1e-6)
    assert_same(
        np.log(np.divide(larger.error_high, larger.error)), np.log(np.divide(one.error_high, one.error)), 1e-5
    )
    assert_same([m.share for m in larger.modes], [m.share for m in one.modes], 1e-4)


def test_mean_loss_is_the_sum_with_a_ridge_that_grows_with_n() -> None:
    x, y = oracle.draw(60, VALUES, TARGET, NOISE, 6)
    summed = learning_curve(model(x, y, lo.Ridge(0.6)), [60])
    mean = learning_curve(model(x, y, lo.Ridge(0.01, "mean")), [60, 120])
    assert_same(mean.error[0], summed.error[0], 1e-12)
    halved = learning_curve(model(x, y, lo.Ridge(0.3)), [60])
    assert_same(mean.measured[1].error, halved.measured[1].error, 1e-12)


def test_pure_noise_stays() -> None:
    x, y = oracle.draw(200, VALUES, 0 * TARGET, 1.0, 0)
    curve = learning_curve(model(x, y, lo.Ridge(3.0)), [200, 800])
    # Of 200 · 6 squares of normal numbers the mean varies by 4 %; what 800 over-fit adds is 5 % at most.
    assert abs(curve.error[1] / OUTPUTS - 1) < 3 * 0.04 + 0.05
    assert curve.error_low[1] <= OUTPUTS * 1.05
    assert sum(one.share for one in curve.modes) < 0.15
    assert curve.left > 0.85


def test_of_pure_noise_only_over_fitting_changes_with_n() -> None:
    x, y = oracle.draw(200, VALUES, 0 * TARGET, 1.0, 1)
    curve = learning_curve(model(x, y, lo.Ridge(0.003, "mean")), [25, 200, 2000])
    want = []
    for n in curve.n:
        kappa = oracle.kappa(n, VALUES, 0.003 * n)
        want.append(n / (n - ((VALUES / (VALUES + kappa)) ** 2).sum()))
    assert want[0] > 1.25 * want[2], "else there is nothing to tell"
    # The noise is the same at all sizes but for its share in the rehearsal, a few percent.
    for j in (0, 2):
        found = curve.error[j] / curve.error[1] / (want[j] / want[1])
        assert abs(np.log(found)) < 0.06


@pytest.fixture(scope="module")
def digits():
    train, _ = lo.load("digits", n_train=300, n_query=10)
    fitted = lo.fit(lo.kernels.TwoLayerReLU(), train, rule=lo.Ridge(0.1))
    return fitted, learning_curve(fitted, [150, 300, 600, 900])


def test_accuracy_at_hand_is_the_exact_left_out_accuracy(digits) -> None:
    fitted, curve = digits
    exact = fitted.train.accuracy(lo.out_of_sample(fitted))
    # Half a wrong answer more is reckoned with.
    assert abs(curve.accuracy[1] - exact) <= 1 / 300
    assert curve.measured[-1].accuracy == exact
    for low, middle, high in zip(curve.accuracy_low, curve.accuracy, curve.accuracy_high, strict=True):
        assert 0 <= low <= middle <= high <= 1


def test_on_digits_900_examples_show_what_300_foretold(digits) -> None:
    _, curve = digits
    train, query = lo.load("digits", n_train=1200, seed=1)
    some = train.select(range(900))
    fitted = lo.fit(lo.kernels.TwoLayerReLU(), some, rule=lo.Ridge(0.1))
    error = 2 * query.mean_loss(fitted.predict(query))
    # The interval is for the expected error; the queries' own mean adds its standard error.
    spread = (fitted.predict(query) - query.targets).square().sum(1)
    own = 2 * float(spread.std() / len(spread) ** 0.5)
    assert curve.error_low[3] - own <= error <= curve.error_high[3] + own


def test_classes_and_examples_carry_the_whole_unlearned_part(digits) -> None:
    fitted, curve = digits
    assert_same(sum(one.share for one in curve.classes), 1.0, 1e-12)
    assert sum(one.count for one in curve.classes) == 300
    total = sum(one.count * one.error for one in curve.classes)
    assert_same(total, float(curve.unlearned.sum()), 1e-12)
    residual = (lo.out_of_sample(fitted) - fitted.train.targets).square().sum(1)
    assert_same(curve.unlearned.numpy(), residual.numpy(), 1e-9)


def test_modes_are_learned_in_order_and_more_from_more(digits) -> None:
    _, curve = digits
    assert [one.first for one in curve.modes] == [1, 2, 5]
    now = [one.now for one in curve.modes]
    assert now == sorted(now, reverse=True)
    for one in curve.modes:
        assert list(one.later) == sorted(one.later)
        assert_same(one.later[1], one.now, 1e-9)
        assert 0 <= one.share <= 1
    assert list(curve.left_later) == sorted(curve.left_later, reverse=True)
    assert_same(curve.left_later[1], curve.left, 1e-9)


def test_the_verdict_says_what_the_last_size_brings(digits) -> None:
    _, curve = digits
    assert re.match(
        r"900 examples instead of 300 would take the mean squared error from 0\.\d+ to", curve.verdict
    )
    assert "less, and accuracy from" in curve.verdict
    assert curve.record["verdict"] == curve.verdict


def test_half_of_the_examples_anchored_at_all_say_what_all_say(digits) -> None:
    fitted, curve = digits
    half = lo.fit(lo.kernels.TwoLayerReLU(), fitted.train.select(range(150)), rule=lo.Ridge(0.1))
    found = learning_curve(half, [300, 600, 900]).rescale_to(lo.out_of_sample(fitted), fitted.train)
    assert isinstance(found, LearningCurve)
    assert (found.examples, found.n) == (300, (600, 900))
    assert_same(found.measured[-1].error, curve.measured[-1].error, 1e-9)
    for j in (0, 1):
        assert found.error_low[j] < curve.error[j + 2] < found.error_high[j]
    assert_same([c.error for c in found.classes], [c.error for c in curve.classes], 1e-9)


def test_the_end_of_training_is_that_of_any_rule(digits) -> None:
    fitted, curve = digits
    flow = lo.fit(lo.kernels.TwoLayerReLU(), fitted.train, rule=lo.GradientFlow(2.0, 0.1))
    assert learning_curve(flow, [150, 300, 600, 900]).error == curve.error


def test_a_kernel_that_tells_outputs_apart_alike_says_what_one_for_all_says() -> None:
    x, y = oracle.draw(60, VALUES[:200], TARGET[:200, :2], NOISE, 8)
    # Each output has its copy of the weights.
    features = np.einsum("np,ab->nabp", x, np.eye(2)).reshape(60, 2, -1)
    told = ToldApart(Apart(features, np.zeros((60, 2))), 60, 0, y).fitted(lo.Ridge(RIDGE))
    alike = model(x, y)
    one, other = learning_curve(told, [60, 240]), learning_curve(alike, [60, 240])
    assert_same(one.error[0], other.error[0], 1e-9)
    # The path ends at so many modes, twice as many here: other ridges, and lines between them.
    assert_same(one.error[1], other.error[1], 1e-2)
    assert_same(one.unlearned.numpy(), other.unlearned.numpy(), 1e-9)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([601], r"`n` must lie in 2 … 600, ten times the 60 examples at hand; got 601"),
        ([60, 1], r"`n` must lie in 2 … 600.*got 1"),
        ([], "`n` must hold at least one sample size; got none"),
    ],
)
def test_sizes_out_of_reach_are_refused(sizes, message) -> None:
    x, y = oracle.draw(60, VALUES, TARGET, NOISE, 4)
    with pytest.raises(OptionError, match=message):
        learning_curve(model(x, y), sizes)


def test_what_cannot_be_foretold_is_refused() -> None:
    x, y = oracle.draw(39, VALUES, TARGET, NOISE, 4)
    with pytest.raises(OptionError, match=r"`fitted` must hold 40 examples or more.*got 39"):
        learning_curve(model(x, y), [39])
    x, y = oracle.draw(60, VALUES, TARGET, NOISE, 4)
    with pytest.raises(OptionError, match="`fitted` must have a target that differs from f_0"):
        learning_curve(model(x, 0 * y), [60])
    with pytest.raises(NotPositiveError, match=r"`fitted` has no end of training.*\+ 0·I is singular"):
        learning_curve(model(x[:, :20], y, lo.Ridge(0.0)), [60])
    with pytest.raises(OptionError, match=r"`confidence` must lie in \(0, 1\); got 1"):
        learning_curve(model(x, y), [60], confidence=1)


def test_where_nobody_is_wrong_the_interval_has_no_upper_end_and_no_error() -> None:
    forecast = Forecast(values=(1e-300, 0.1), half=(800.0, 0.5))
    assert forecast.low == (0.0, pytest.approx(0.1 * math.exp(-0.5)))
    assert forecast.high == (math.inf, pytest.approx(0.1 * math.exp(0.5)))
