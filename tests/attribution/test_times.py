"""Is a time the same time, alone or among a hundred, in whatever form it is asked for?"""

import numpy as np
import pytest
import torch

import leftout as lo
from laws import assert_same, difference
from oracles import definitions as oracles
from problems.small import problem, training

SAME = 1e-11
"""Other windows, other nodes: each is within 1e-13 of the truth, a hundred times that is plenty."""


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("rule", "times"),
    [
        (lo.GradientFlow(1.0), np.geomspace(1e-4, 1e6, 100)),
        (lo.GradientFlow(13.0, 0.01, "mean"), np.geomspace(1e-4, 1e6, 100)),
        (lo.GradientDescent(1.9), np.arange(100)),
        (lo.GradientDescent(13.0, 0.001, "mean"), np.unique(np.geomspace(1, 1e6, 120).round())[:100]),
    ],
    ids=["flow", "mean flow", "descent", "mean descent"],
)
def test_a_hundred_times_are_each_time_alone(rule, times) -> None:
    p = problem(14, 3, 2)
    fitted = p.fitted(rule)
    together = lo.leave_one_out(fitted, p.query, at=list(times), of="prediction")
    assert together.coords["at"].values.tolist() == [float(time) for time in times]
    for time, slice_ in zip(times, together, strict=True):
        alone = lo.leave_one_out(fitted, p.query, at=time, of="prediction")
        assert_same(slice_, alone, SAME)
    unseen = lo.out_of_sample(fitted, at=list(times))
    assert_same(unseen[57], lo.out_of_sample(fitted, at=times[57]), SAME)


def test_order_and_repetition_of_times_change_nothing() -> None:
    p = problem(14, 3)
    fitted = p.fitted(lo.GradientFlow(1.0, 0.01))
    sorted_ = [0.0, 0.5, 3.0, 700.0, None]
    order = [3, 4, 0, 1, 1, 2, 4, 3]
    want = lo.leave_one_out(fitted, p.query, at=sorted_).values
    got = lo.leave_one_out(fitted, p.query, at=[sorted_[j] for j in order])
    assert got.values.tolist() == want[order].tolist()
    groups = lo.leave_out(fitted, p.query, [[1], [2, 3]], at=sorted_).values
    again = lo.leave_out(fitted, p.query, [[1], [2, 3]], at=[sorted_[j] for j in order])
    assert_same(again, groups[order], 1e-13)


@pytest.mark.parametrize(
    "form",
    [int, float, np.int64, np.int32, np.float64, np.float32, np.array, torch.tensor],
    ids=lambda form: f"{form.__module__}.{form.__name__}",
)
def test_a_time_may_come_as_any_number(form) -> None:
    p = problem(10, 3)
    for rule in (lo.GradientFlow(1.0), lo.GradientDescent(1.0)):
        fitted = p.fitted(rule)
        want = lo.leave_one_out(fitted, p.query, at=12)
        got = lo.leave_one_out(fitted, p.query, at=form(12))
        assert got.dims == ("query", "train")
        assert got.values.tolist() == want.values.tolist()
        assert got.attrs["at"] == 12.0


@pytest.mark.parametrize("form", [list, tuple, np.array, torch.tensor], ids=lambda form: form.__name__)
def test_times_may_come_in_any_sequence(form) -> None:
    p = problem(10, 3)
    fitted = p.fitted(lo.GradientDescent(1.0))
    want = lo.leave_one_out(fitted, p.query, at=range(10, 13))
    got = lo.leave_one_out(fitted, p.query, at=form([10, 11, 12]))
    assert want.dims == ("at", "query", "train")
    assert got.values.tolist() == want.values.tolist()
    assert lo.out_of_sample(fitted, at=form([10, 11, 12])).shape == (3, 10, 1)


@pytest.mark.usefixtures("as_users_run_it")
def test_no_time_is_lost_whatever_holds_them() -> None:
    p = problem(10, 3)
    fitted = p.fitted(lo.GradientDescent(1.0))
    want = lo.leave_one_out(fitted, p.query, at=[10, 11]).values
    for at in ({10: "a", 11: "b"}, {10: "a", 11: "b"}.keys(), (t for t in (10, 11))):
        assert lo.leave_one_out(fitted, p.query, at=at).values.tolist() == want.tolist()


def test_times_that_are_read_once_serve_every_question() -> None:
    p = problem(10, 3, 2)
    fitted = p.fitted(lo.GradientDescent(1.0))
    for ask in (
        lambda at: lo.leave_one_out(fitted, p.query, at=at, mean=True),
        lambda at: lo.leave_one_out(fitted, p.query, at=at, spread=True, prior=fitted.kernel).influence,
        lambda at: lo.leave_out(fitted, p.query, [[0, 1]], at=at),
        lambda at: lo.reweight(fitted, p.query, 3, 2.0, at=at),
        lambda at: lo.information(fitted, p.query, at=at).function,
        lambda at: lo.out_of_sample(fitted, at),
    ):
        assert np.array_equal(ask(iter([10, 11])), ask([10, 11]))


def test_one_time_in_a_list_keeps_its_axis() -> None:
    p = problem(10, 3)
    got = lo.leave_one_out(p.fitted(lo.Ridge(0.1)), p.query, at=[None])
    assert got.dims == ("at", "query", "train")
    assert got.coords["at"].values.tolist() == [np.inf]


def test_smaller_and_smaller_steps_become_a_flow() -> None:
    # The global error of Euler's method is of first order: ten times the steps, a tenth of it.
    p = problem(14, 3, condition=100)
    flow = lo.leave_one_out(p.fitted(lo.GradientFlow(1.0)), p.query, at=8.0)
    errors = []
    for steps in (800, 8000, 80000):
        fitted = p.fitted(lo.GradientDescent(8.0 / steps))
        descent = lo.leave_one_out(fitted, p.query, at=steps)
        errors.append(float(abs(descent - flow).max() / abs(flow).max()))
    assert errors[0] < 0.02
    assert errors[1] == pytest.approx(errors[0] / 10, rel=0.05)
    assert errors[2] == pytest.approx(errors[1] / 10, rel=0.05)


def test_the_first_step_takes_the_rate_times_kernel_times_target() -> None:
    p = problem(14, 3, 2)
    got = lo.leave_one_out(p.fitted(lo.GradientDescent(0.7)), p.query, at=1, of="prediction")
    assert_same(got, 0.7 * p.cross[:, :, None] * p.residual[None], 1e-12)


@pytest.mark.parametrize("steps", [9, 10, 11, 99, 100, 101])
def test_even_and_odd_step_counts_are_told_apart_near_the_critical_rate(steps) -> None:
    # At η·s_max = 1.9999 the top mode overshoots to and fro: a wrong parity shows.
    p = problem(12, 3, condition=50)
    fitted = p.fitted(lo.GradientDescent(1.9999))
    parts = (p.gram, p.cross, p.residual, p.wanted)
    got = lo.leave_one_out(fitted, p.query, at=steps, of="prediction")
    assert_same(got, oracles.leave_one_out(*parts, training(fitted.rule, steps), "prediction"))
    other = oracles.leave_one_out(*parts, training(fitted.rule, steps + 1), "prediction")
    assert difference(got, other) > 0.01
