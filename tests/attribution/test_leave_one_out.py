"""Is every number that of a model really fitted without the example?

1e-9 of the largest change is what is promised on well-conditioned problems; on these (condition 1e3)
rounding leaves 1e-12, of which the oracle's exponentials and powers have their share.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import leftout as lo
from laws import assert_same
from oracles import definitions as oracles
from problems.small import Problem, Started, low_rank, problem, rules, training

N = 15
RULES = rules(N)


def oracle(p, rule, times, of):
    """(t, m, n[, k]) by fitting again."""
    return np.stack(
        [
            oracles.leave_one_out(p.gram, p.cross, p.residual, p.wanted, training(rule, time), of)
            for time in times
        ]
    )


@pytest.mark.sample(24)
@pytest.mark.parametrize("outputs", [1, 10])
@pytest.mark.parametrize("name", RULES)
def test_leaving_out_is_fitting_again_without(name, outputs) -> None:
    rule, times = RULES[name]
    p = problem(N, 4, outputs, condition=1e3, seed=outputs)
    fitted = p.fitted(rule)
    for of in ("loss", "prediction"):
        got = lo.leave_one_out(fitted, p.query, at=list(times), of=of)
        assert got.dims == ("at", "query", "train", "output")[: got.ndim]
        for time, ours, theirs in zip(times, got.values, oracle(p, rule, times, of), strict=True):
            if time == 0:
                assert not ours.any(), "nothing is learned at time 0"
            else:
                assert_same(ours, theirs)


@pytest.mark.parametrize("name", RULES)
def test_out_of_sample_is_the_prediction_of_a_model_that_never_saw_it(name) -> None:
    rule, times = RULES[name]
    p = problem(N, 1, 2, seed=3)
    got = lo.out_of_sample(p.fitted(rule), at=list(times))
    assert got.shape == (len(times), N, 2)
    for time, ours in zip(times, got, strict=True):
        assert_same(ours, oracles.out_of_sample(p.gram, p.residual, training(rule, time)))


LOSSES = st.sampled_from(["sum", "mean"])


@st.composite
def trainings(draw, n):
    """A rule and a time, of any size that does not diverge, for kernels with s_max = 1."""
    loss = draw(LOSSES)
    unit = max(n - 1, 1) if loss == "mean" else 1
    ridge = draw(st.sampled_from([0.0, 1e-6, 1e-2, 3.0]))
    kind = draw(st.sampled_from(["ridge", "flow", "descent"]))
    if kind == "ridge":
        return lo.Ridge(ridge / unit, loss), None
    if kind == "flow":
        time = draw(st.one_of(st.none(), st.floats(-6, 4).map(lambda power: 10.0**power)))
        return lo.GradientFlow(unit * draw(st.floats(0.1, 10)), ridge / unit, loss), time
    reach = draw(st.floats(0.001, 1.9999))
    steps = draw(st.one_of(st.none(), st.integers(0, 25), st.integers(26, 3000)))
    return lo.GradientDescent(reach * unit / (1 + ridge), ridge / unit, loss), steps


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_any_small_problem_agrees_with_refits(data) -> None:
    n = data.draw(st.integers(1, 12), label="n")
    rule, time = data.draw(trainings(n), label="training")
    condition = 10 ** data.draw(st.floats(0, 4), label="digits")
    p = problem(
        n,
        data.draw(st.integers(1, 4)),
        data.draw(st.integers(1, 3)),
        condition=condition,
        seed=data.draw(st.integers(0, 10**6)),
    )
    if n == 1 and rule.loss == "mean" and isinstance(rule, lo.GradientDescent):
        time = None if time is None else min(time, 50)
    got = lo.leave_one_out(p.fitted(rule), p.query, at=time, of="prediction")
    assert_same(got, oracle(p, rule, [time], "prediction")[0])


@pytest.mark.parametrize("name", ["Ridge", "GradientFlow", "GradientDescent 1.7"])
@pytest.mark.parametrize("loss", ["sum", "mean"])
def test_a_network_that_does_not_start_from_zero_keeps_its_start(name, loss) -> None:
    rule, times = RULES[f"{name}, {loss}, ridge 0.01"]
    p = problem(N, 4, 2, seed=5)
    start = np.random.default_rng(1).standard_normal(p.targets.shape)
    fitted = p.fitted(rule, Started(p.whole, start))
    moved = Problem(p.whole, p.n, p.targets - start)  # what is left to learn
    for of in ("loss", "prediction"):
        got = lo.leave_one_out(fitted, p.query, at=list(times), of=of)
        for time, ours, theirs in zip(times, got.values, oracle(moved, rule, times, of), strict=True):
            if time != 0:
                assert_same(ours, theirs)
    unseen = lo.out_of_sample(fitted, at=times[-1])
    theirs = oracles.out_of_sample(moved.gram, moved.residual, training(rule, times[-1]))
    assert_same(unseen, start[:N] + theirs)


@pytest.mark.parametrize(
    ("rule", "time"),
    [
        (lo.GradientFlow(1.0), 0.5),
        (lo.GradientFlow(1.0), 300.0),
        (lo.GradientDescent(0.3), 5),
        (lo.GradientDescent(0.3), 77),
        (lo.GradientFlow(1.0, 0.02), 1e5),
        (lo.GradientFlow(20.0, 1e-3, "mean"), 1e5),
        (lo.Ridge(0.02), None),
        (lo.Ridge(0.001, "mean"), None),
    ],
)
def test_a_singular_gram_matrix_is_no_obstacle_before_the_end_or_with_a_ridge(rule, time) -> None:
    p = low_rank()
    got = lo.leave_one_out(p.fitted(rule), p.query, at=time)
    assert_same(got, oracle(p, rule, [time], "loss")[0])


def test_repeated_inputs_with_different_targets_are_left_out_one_at_a_time() -> None:
    p = problem(N, 4)
    twice = np.concatenate([[0, 0, 0], np.arange(1, N - 2), np.arange(N, N + 4)])
    repeated = Problem(p.whole[np.ix_(twice, twice)], N, p.targets)
    for rule, time in [(lo.Ridge(0.1), None), (lo.GradientFlow(1.0), 40.0)]:
        got = lo.leave_one_out(repeated.fitted(rule), repeated.query, at=time)
        assert_same(got, oracle(repeated, rule, [time], "loss")[0])


@pytest.mark.parametrize("loss", ["sum", "mean"])
@pytest.mark.parametrize("time", [None, 3])
def test_without_its_only_example_the_network_stays_at_its_start(loss, time) -> None:
    p = problem(1, 3, 2, seed=2)
    start = np.random.default_rng(0).standard_normal(p.targets.shape)
    for rule in (lo.Ridge(0.1, loss), lo.GradientFlow(1.0, 0.1, loss), lo.GradientDescent(0.1, 0.1, loss)):
        if time is not None and isinstance(rule, lo.Ridge):
            continue
        fitted = p.fitted(rule, Started(p.whole, start))
        learned = fitted.predict(p.query[0], at=time) - torch.from_numpy(start[1:])
        got = lo.leave_one_out(fitted, p.query, at=time, of="prediction")
        assert_same(got.values[:, 0], learned, rtol=1e-12)
        assert_same(lo.out_of_sample(fitted, at=time), start[:1], rtol=1e-12)
        none = lo.reweight(fitted, p.query, 0, 0.0, at=time, of="prediction")
        assert_same(none.values[:, 0], learned, rtol=1e-12)
        assert lo.certify(fitted, p.query, at=time).refits == ()


@pytest.mark.parametrize("steps", [2**53, 2**53 + 2, 10**19, 10**20, 1e300])
def test_more_steps_than_an_integer_counts_are_the_end_of_training(steps) -> None:
    p = problem(N, 3)
    fitted = p.fitted(lo.GradientDescent(1.9))
    got = lo.leave_one_out(fitted, p.query, at=steps)
    assert_same(got, lo.leave_one_out(fitted, p.query))


@pytest.mark.parametrize("time", [1e-300, 1e-200, 1e-100, 1e-30])
def test_a_moment_after_the_start_only_the_first_order_is_there(time) -> None:
    # f_t(x) = t K(x, X) y + O(t²): leaving out i takes t k(x, x_i) y_i.
    p = problem(N, 3, 2)
    got = lo.leave_one_out(p.fitted(lo.GradientFlow(1.0)), p.query, at=time, of="prediction")
    assert_same(got / time, p.cross[:, :, None] * p.residual[None])


@pytest.mark.parametrize("time", [1e15, 1e100, 1e300])
def test_long_after_the_end_it_is_the_end(time) -> None:
    p = problem(N, 3, 2)
    fitted = p.fitted(lo.GradientFlow(1.0))
    got = lo.leave_one_out(fitted, p.query, at=time)
    assert_same(got, lo.leave_one_out(fitted, p.query))


def test_a_kernel_that_is_zero_learns_nothing() -> None:
    p = Problem(np.zeros((8, 8)), 6, np.random.default_rng(0).standard_normal((8, 1)))
    for rule, time in [
        (lo.Ridge(0.1), None),
        (lo.GradientFlow(1.0), 3.0),
        (lo.GradientDescent(0.1), 3),
        (lo.GradientDescent(0.1), 30),
    ]:
        fitted = p.fitted(rule)
        assert not lo.leave_one_out(fitted, p.query, at=time).values.any()
        certificate = lo.certify(fitted, p.query, at=time)
        assert (certificate.quadrature, certificate.rounding) == (0, 0)
        assert certificate.residual < 1e-15


def test_targets_of_zero_leave_nothing_to_take_away() -> None:
    p = problem(N, 3)
    p = Problem(p.whole, N, np.concatenate([np.zeros((N, 1)), p.wanted]))
    for time in (None, 3.0):
        fitted = p.fitted(lo.GradientFlow(1.0))
        assert not lo.leave_one_out(fitted, p.query, at=time).values.any()
        assert lo.certify(fitted, p.query, at=time).residual == 0
        assert lo.certify(fitted, p.query, at=time).refit_difference == 0


def test_a_kernel_evaluated_in_single_precision_is_left_out_as_evaluated() -> None:
    # Its Gram matrix has eigenvalues of −1e-7·s_max by rounding: no obstacle with a ridge.
    points = np.linspace(0, 1, 43)[:, None]
    whole = np.exp(-10 * (points - points.T) ** 2).astype(np.float32)
    p = Problem(whole.astype(float), 40, np.sin(6 * points))
    fitted = p.fitted(lo.GradientFlow(1.0, 0.1), dtype=torch.float32)
    assert np.linalg.eigvalsh(p.gram)[0] < -40 * 2.3e-16 * np.linalg.eigvalsh(p.gram)[-1]
    for time in (20.0, None):
        got = lo.leave_one_out(fitted, p.query, at=time)
        assert_same(got, oracle(p, fitted.rule, [time], "loss")[0])
        assert got.attrs["kernel_dtype"] == "float32"


def test_time_infinity_is_the_end() -> None:
    p = problem(N, 3)
    for rule in (lo.Ridge(0.1), lo.GradientFlow(1.0, 0.1), lo.GradientDescent(1.0, 0.1)):
        fitted = p.fitted(rule)
        want = lo.leave_one_out(p.fitted(lo.Ridge(0.1)), p.query)
        for end in (None, math.inf, np.inf, np.float64("inf")):
            assert lo.leave_one_out(fitted, p.query, at=end).values.tolist() == want.values.tolist()
