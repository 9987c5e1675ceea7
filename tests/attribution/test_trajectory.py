"""When was it learned? Predictions with and without each example are those of refits, at every time."""

import math
import re

import numpy as np
import pytest
import torch

import leftout as lo
from laws import assert_same
from leftout.attribution.trajectory import COUNT, training_times, trajectory
from leftout.core.errors import DivergenceError, MemoryBudgetError, NotPositiveError, OptionError
from oracles import trajectory as oracle
from problems.curated import BINARY, THREE, classified, fitted_to, margin
from problems.small import Problem, Started, low_rank, problem, rules, training

TIMED = {name: rule for name, rule in rules(20).items() if not name.startswith("Ridge")}


def predicted(made, rule, times):
    """Return the two predictions by refits, (t, n, k) each."""
    words = [training(rule, None if time == math.inf else time) for time in times]
    return tuple(find(made.gram, made.residual, words) for find in (oracle.fitted, oracle.left_out))


@pytest.mark.sample(20)
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize(("rule", "times"), TIMED.values(), ids=TIMED)
def test_predictions_and_losses_are_those_of_refits(rule, times, k) -> None:
    made = problem(20, k=k)
    times = [math.inf if time is None else float(time) for time in times][:: 1 + (k > 1)]
    found = trajectory(made.fitted(rule), times)
    assert found["at"].values.tolist() == times
    for name, want in zip(("fitted", "left_out"), predicted(made, rule, times), strict=True):
        assert found[name].dims == ("at", "train", "output")
        assert_same(found[name], want)
        assert found[f"{name}_loss"].dims == ("at", "train")
        assert_same(found[f"{name}_loss"], 0.5 * ((want - made.residual) ** 2).sum(2))
    assert "fitted_margin" not in found


@pytest.mark.parametrize("classes", [BINARY, THREE])
def test_margins_are_the_given_score_minus_the_best_other(classes) -> None:
    made, labels = classified(classes)
    found = trajectory(fitted_to(made, labels, lo.GradientFlow(1.0, 0.01)), [3.0, 40.0])
    for name in ("fitted", "left_out"):
        for j in range(2):
            said = found[name].values[j]
            scores = np.hstack([-said, said]) if classes == BINARY else said + 1 / classes
            want = [margin(scores[i], labels[i]) for i in range(made.n)]
            assert_same(found[f"{name}_margin"].values[j], want, 1e-12)


@pytest.mark.parametrize("loss", ["sum", "mean"])
def test_a_network_that_has_an_opinion_before_training_keeps_it_at_time_0(loss) -> None:
    made = problem(15, k=2)
    start = np.random.default_rng(5).standard_normal((len(made.whole), 2))
    rule = lo.GradientFlow(3.0, 0.02, loss)
    found = trajectory(made.fitted(rule, Started(made.whole, start)), [0, 5.0])
    opinion = start[: made.n]
    shifted = Problem(made.whole, made.n, made.targets - start)
    for name, want in zip(("fitted", "left_out"), predicted(shifted, rule, [0, 5]), strict=True):
        assert_same(found[name].values[0], opinion, 1e-15)
        assert_same(found[name].values[1], want[1] + opinion)


@pytest.mark.parametrize("loss", ["sum", "mean"])
def test_long_training_becomes_the_end(loss) -> None:
    # All modes have settled: e^{−ητ(s + λ)} < e^{−50} with the smallest s + λ ≥ 1e−3.
    found = trajectory(problem(16).fitted(lo.GradientFlow(16.0, 0.001, loss)), [1e6, math.inf])
    for name in ("fitted", "left_out"):
        assert_same(found[name].values[0], found[name].values[1], 1e-10)


def test_the_predictions_of_others_stay_where_they_are_when_rows_trade_places() -> None:
    made = problem(18, k=2)
    order = np.random.default_rng(1).permutation(18)
    times = [0.5, 20.0, 300.0, None]
    rule = lo.GradientDescent(0.9, 0.01)
    times = [1, 20, 300, None]
    straight = trajectory(made.fitted(rule), times)
    shuffled = trajectory(made.permuted(order).fitted(rule), times)
    for name in ("fitted", "left_out", "fitted_loss", "left_out_loss"):
        assert_same(shuffled[name], straight[name].values[:, order])


def test_a_mean_loss_is_a_sum_at_a_rate_over_n_and_over_n_less_1_where_one_is_left_out() -> None:
    made, n = problem(16, k=2), 16
    times = [0.3, 7.0, 300.0]
    mean = trajectory(made.fitted(lo.GradientFlow(8.0, 1e-3, "mean")), times)
    for name, total in (("fitted", n), ("left_out", n - 1)):
        summed = trajectory(made.fitted(lo.GradientFlow(8.0 / total, 1e-3 * total)), times)
        assert_same(mean[name], summed[name], 1e-11)


@pytest.mark.parametrize("rule", [lo.GradientFlow(1.0), lo.GradientDescent(1.7)], ids=["f", "d"])
def test_what_is_left_out_is_what_out_of_sample_says(rule) -> None:
    fitted = problem(25, k=3).fitted(rule)
    times = [0, 1, 9, 10, 130, 4000, math.inf]
    want = lo.out_of_sample(fitted, at=times)
    assert_same(trajectory(fitted, times)["left_out"], want, 1e-11)


def test_times_keep_their_order_and_may_be_one_or_repeated() -> None:
    fitted = problem(12).fitted(lo.GradientFlow())
    several = trajectory(fitted, [30.0, 2.0, 30.0])
    assert several["at"].values.tolist() == [30.0, 2.0, 30.0]
    assert np.array_equal(several["left_out"][0], several["left_out"][2])
    alone = trajectory(fitted, 2.0)
    assert alone["left_out"].dims == ("train", "output")
    assert alone.attrs["at"] == 2.0
    assert_same(alone["left_out"], several["left_out"][1], 1e-11)
    assert trajectory(fitted, [None])["at"].values.tolist() == [math.inf]
    assert trajectory(fitted, math.inf).attrs["at"] == "end of training"


def test_a_single_example_is_unknown_without_itself() -> None:
    one = Problem(np.array([[2.0]]), 1, np.array([[3.0]]))
    for rule in (lo.GradientFlow(1.0, 0.5), lo.GradientFlow(1.0, 0.5, "mean")):
        found = trajectory(one.fitted(rule), [0.4, math.inf])
        learned = [1 - math.exp(-0.4 * 2.5), 1.0]
        assert_same(found["fitted"].values.ravel(), 3.0 * 2 / 2.5 * np.array(learned), 1e-12)
        # What remains is the difference of two numbers of this size.
        assert np.abs(found["left_out"].values).max() < 1e-12
        assert len(training_times(one.fitted(rule))) == COUNT


def test_results_say_what_they_are() -> None:
    fitted = problem(10, k=2).fitted(lo.GradientFlow(2.0))
    found = trajectory(fitted, [1.0, 5.0])
    for one in (found, found["left_out"], found["fitted_loss"]):
        assert one.attrs["method"] == "trajectory"
        assert one.attrs["train_fingerprint"] == fitted.train.fingerprint
        assert "without that very one" in one.attrs["sign"]
    assert found["train"].values.tolist() == list(fitted.train.ids)


# The times of a curve that nobody chose.


@pytest.mark.parametrize("loss", ["sum", "mean"])
@pytest.mark.parametrize("ridge", [0.0, 1e-4])
def test_the_curve_begins_before_anything_and_ends_when_all_is_learned(loss, ridge) -> None:
    made = problem(30, condition=1e4, top=7.0)
    fitted = made.fitted(lo.GradientFlow(5.0, ridge, loss))
    times = training_times(fitted)
    assert len(times) == COUNT
    assert list(times) == sorted(set(times))
    assert all(time == float(f"{time:.1e}") for time in times), "two digits"
    n = 30 if loss == "mean" else 1
    values = np.linalg.eigvalsh(made.gram) + ridge * n
    # A tenth, and five times over, to the two digits that a time is rounded to.
    assert 5.0 / n * times[0] * values[-1] == pytest.approx(0.1, rel=0.05)
    assert 5.0 / n * times[-1] * values[0] == pytest.approx(5.0, rel=0.05)
    found = trajectory(fitted)
    assert found["at"].values.tolist() == list(times)
    assert_same(found["fitted"][-1], trajectory(fitted, math.inf)["fitted"], 0.01)


def test_steps_of_a_curve_are_whole_and_each_once() -> None:
    fitted = problem(20, condition=100).fitted(lo.GradientDescent(0.5))
    times = training_times(fitted)
    assert times[0] == 1
    assert all(time == int(time) for time in times)
    assert list(times) == sorted(set(times))
    settled = 5.0 / 0.5 * 100
    assert times[-1] == pytest.approx(settled, rel=0.05)


def test_modes_lost_in_rounding_are_not_waited_for() -> None:
    made = low_rank(20, rank=6)
    values = np.linalg.eigvalsh(made.gram)
    assert values[0] < 1e-14
    fitted = made.fitted(lo.GradientFlow())
    times = training_times(fitted)
    assert times[-1] * values[-6] == pytest.approx(5.0, rel=0.05)
    assert np.isfinite(trajectory(fitted)["left_out"]).all()


@pytest.mark.parametrize("n", [3, 40])
@pytest.mark.parametrize("loss", ["sum", "mean"])
def test_a_curve_ends_where_rounding_would_be_amplified(n, loss) -> None:
    # As rounding leaves the Gram matrix of a kernel in single precision: a mode below zero, and one
    # above it that would take longer to settle than the other lets training go on.
    noise = n * 2.0**-23
    whole = np.diag(np.r_[np.ones(n - 2), 2 * noise, -0.9 * noise])
    kernel = lo.kernels.Precomputed(torch.from_numpy(whole))
    rows = torch.arange(n, dtype=torch.float64)
    rule = lo.GradientFlow(1.0, 0.0, loss)
    fitted = lo.fit(kernel, (rows, rows[:, None]), rule=rule, dtype=torch.float32)
    pace = 1 / (n - 1) if loss == "mean" else 1.0
    assert training_times(fitted)[-1] * pace == pytest.approx(0.045 / (0.9 * noise), rel=0.05)
    assert np.isfinite(trajectory(fitted)["left_out"]).all()


def test_a_kernel_that_sees_nothing_has_a_curve_of_nothing() -> None:
    zero = Problem(np.zeros((4, 4)), 4, np.ones((4, 1)))
    found = trajectory(zero.fitted(lo.GradientFlow()))
    assert not found["fitted"].values.any()
    assert not found["left_out"].values.any()


# What is refused.


def test_a_rule_without_time_is_refused_and_the_others_are_named() -> None:
    message = re.escape(
        "`fitted` must be trained under a rule with training time; got Ridge(ridge=0.5, loss='sum'), "
        "which gives the end of training alone. Use GradientFlow or GradientDescent with the same "
        "ridge, whose end it is."
    )
    fitted = problem(8).fitted(lo.Ridge(0.5))
    for ask in (trajectory, training_times):
        with pytest.raises(OptionError, match=message):
            ask(fitted)


def test_times_that_are_none_and_models_that_do_not_train_are_refused() -> None:
    made = problem(8)
    with pytest.raises(OptionError, match="`at` must be a time ≥ 0"):
        trajectory(made.fitted(lo.GradientFlow()), [1.0, -2.0])
    with pytest.raises(OptionError, match="`at` must hold at least one training time"):
        trajectory(made.fitted(lo.GradientFlow()), [])
    with pytest.raises(DivergenceError, match="`rate` must be below the critical rate"):
        trajectory(made.fitted(lo.GradientDescent(2.1)), [5])
    with pytest.raises(NotPositiveError, match="is not positive definite"):
        trajectory(low_rank(8, rank=3).fitted(lo.GradientFlow()), [None])
    small = made.fitted(lo.GradientFlow(), memory=10_000)
    with pytest.raises(
        MemoryBudgetError, match=r"A trajectory of 99 × 8 × 1 predictions.*Ask for fewer times"
    ):
        trajectory(small, range(1, 100))


def test_nothing_given_is_written_to(frozen) -> None:
    fitted = problem(10).fitted(lo.GradientFlow(1.0, 0.01, "mean"))
    frozen(fitted.gram, fitted.residual, fitted.train.targets, fitted.spectrum.vectors)
    trajectory(fitted, [0, 1.0, 50.0, None])
