"""Is the classical influence function the derivative that it says it is?"""

import itertools
import math
import re

import numpy as np
import pytest

import leftout as lo
from laws import assert_same, difference
from leftout.attribution.first_order import first_order
from leftout.core.errors import DivergenceError, MemoryBudgetError, NotPositiveError, OptionError
from oracles import classical as oracles_classical
from problems.small import Problem, Started, low_rank, problem

N = 14
OUTPUTS = pytest.mark.parametrize("k", [1, 2, 3])
LOSSES = pytest.mark.parametrize("loss", ["sum", "mean"])
CONDITION = 100.0
EXACT = 1e-11
"""Relative: the oracle and we each solve a system of condition ≤ 100, to 10·cond·eps = 2e-13; the
centring under "mean" and products of two such numbers leave a digit more."""


def oracle(p, rule):
    return oracles_classical.first_order(
        p.gram, p.cross, p.residual, p.wanted, ridge=rule.ridge, loss=rule.loss
    )


def rule_of(loss, ridge=0.05):
    """Under "mean" the ridge that adds the same to the Gram matrix."""
    return lo.Ridge(ridge if loss == "sum" else ridge / N, loss)


@LOSSES
@OUTPUTS
@pytest.mark.parametrize("ridge", [1e-3, 0.05, 7.0])
def test_it_is_minus_the_derivative_of_the_query_loss_by_the_weight(loss, k, ridge) -> None:
    p = problem(N, 4, k, condition=CONDITION, seed=k)
    rule = rule_of(loss, ridge)
    assert_same(first_order(p.fitted(rule), p.query), oracle(p, rule), EXACT)


@LOSSES
def test_the_limit_of_flow_and_of_descent_is_the_minimiser(loss) -> None:
    p = problem(N, 4, 2, condition=CONDITION)
    ridge = rule_of(loss).ridge
    want = oracle(p, rule_of(loss))
    for rule in (lo.GradientFlow(3.0, ridge, loss), lo.GradientDescent(0.7, ridge, loss)):
        for end in (None, math.inf):
            assert_same(first_order(p.fitted(rule), p.query, at=end), want, EXACT)


STEPS = [0.4 / 2**level for level in range(6)]


@LOSSES
@OUTPUTS
def test_it_is_the_slope_of_what_reweighting_measures(loss, k) -> None:
    # loss(ω) is rational, its poles where 1 + (ω − 1) A_i = 0 or, under "mean", where the ridge
    # n + ω − 1 times λ meets an eigenvalue: |ω − 1| > 1. A central difference is an even power
    # series in the step, of which six levels leave Π h_j² relative to its size on a circle of radius
    # ≥ 1: 0.4^12 / 4^15 = 2e-14; rounding leaves eps · |loss| / h = 2e-14 · 5 |loss|, amplified by
    # the weights of the table (< 3).
    p = problem(N, 3, k, condition=CONDITION, seed=10 + k)
    rule = rule_of(loss)
    fitted = p.fitted(rule)
    slopes = []
    for step in STEPS:
        above, below = (lo.reweight(fitted, p.query, range(N), 1 + sign * step).values for sign in (1, -1))
        slopes.append((below - above) / (2 * step))
    predicted = fitted.predict(p.query[0]).numpy()
    largest = 0.5 * ((predicted - p.wanted) ** 2).sum(1).max()
    got = first_order(fitted, p.query).values
    error = np.abs(got - oracles_classical.extrapolated(slopes, STEPS)).max()
    assert error <= 1e-12 * max(np.abs(got).max(), largest)


@OUTPUTS
def test_the_exact_influence_follows_from_it_and_the_leverage(k) -> None:
    p = problem(N, 4, k, condition=CONDITION, seed=3)
    fitted = p.fitted(lo.Ridge(0.05))
    inverse = np.linalg.inv(p.gram + 0.05 * np.eye(N))
    leverage = 1 - 0.05 * np.diag(inverse)
    unseen = lo.out_of_sample(fitted).numpy() - p.residual  # r_i, of the model without i
    alpha = p.cross @ inverse
    first = first_order(fitted, p.query).values
    exact = first / (1 - leverage) + alpha**2 * (unseen**2).sum(1) / 2
    assert_same(lo.leave_one_out(fitted, p.query), exact, EXACT)


@LOSSES
def test_under_a_large_ridge_it_is_the_exact_influence(loss) -> None:
    # They differ by the leverage and by α R / (2 e), both of which fall like 1 / ridge; under
    # "mean" the others gain 1 / (n − 1) each where n examples weighed 1 / n.
    p = problem(N, 4, 2, condition=CONDITION, seed=4)
    step = 1 if loss == "sum" else N / (N - 1)
    apart = []
    for ridge in (1e3, 1e4, 1e5):
        fitted = p.fitted(rule_of(loss, ridge))
        first = step * first_order(fitted, p.query)
        apart.append(difference(first, lo.leave_one_out(fitted, p.query)))
    assert apart[0] < 10 / 1e3
    for worse, better in itertools.pairwise(apart):
        assert better == pytest.approx(worse / 10, rel=0.01)


@OUTPUTS
def test_under_mean_weighing_all_alike_changes_nothing(k) -> None:
    p = problem(N, 4, k, condition=CONDITION, seed=5)
    got = first_order(p.fitted(rule_of("mean")), p.query).values
    assert np.abs(got.sum(1)).max() <= 10 * N * np.finfo(float).eps * np.abs(got).max()
    # and but for that it is what "sum" says under the ridge that both add.
    alike = first_order(p.fitted(lo.Ridge(0.05)), p.query).values
    assert_same(got, alike - alike.mean(1, keepdims=True), EXACT)


@LOSSES
def test_everything_twice_halves_the_share_of_each_copy(loss) -> None:
    p = problem(N, 4, 2, condition=CONDITION, seed=6)
    rows = np.concatenate([np.arange(N), np.arange(N), p.queries])
    twice = Problem(p.whole[np.ix_(rows, rows)], 2 * N, p.targets[rows])
    once = first_order(p.fitted(lo.Ridge(0.05, loss)), p.query).values
    ridge = 0.1 if loss == "sum" else 0.05  # "mean" doubles what it adds by itself
    got = first_order(twice.fitted(lo.Ridge(ridge, loss)), twice.query).values
    assert_same(got, np.concatenate([once, once], axis=1) / 2, EXACT)


@LOSSES
def test_permuting_the_training_examples_permutes_the_columns(loss) -> None:
    p = problem(N, 4, 2, condition=CONDITION, seed=7)
    order = np.random.default_rng(0).permutation(N)
    rule = rule_of(loss)
    got = first_order(p.permuted(order).fitted(rule), p.query).values
    assert_same(got, first_order(p.fitted(rule), p.query).values[:, order], EXACT)


@LOSSES
def test_targets_three_times_as_large_give_nine_times_the_influence(loss) -> None:
    p = problem(N, 4, 2, condition=CONDITION, seed=8)
    larger = Problem(p.whole, N, 3 * p.targets)
    rule = rule_of(loss)
    assert_same(
        first_order(larger.fitted(rule), larger.query).values,
        9 * first_order(p.fitted(rule), p.query).values,
        EXACT,
    )


@LOSSES
def test_a_network_that_does_not_start_from_zero_has_its_start_taken_off(loss) -> None:
    p = problem(N, 4, 2, condition=CONDITION, seed=9)
    start = np.random.default_rng(1).standard_normal(p.targets.shape)
    rule = rule_of(loss)
    got = first_order(p.fitted(rule, Started(p.whole, start)), p.query)
    assert_same(got, oracle(Problem(p.whole, N, p.targets - start), rule), EXACT)


@LOSSES
def test_a_singular_gram_matrix_is_no_obstacle_with_a_ridge(loss) -> None:
    p = low_rank(N, 4, 2, rank=5)
    rule = rule_of(loss)
    assert_same(first_order(p.fitted(rule), p.query), oracle(p, rule), EXACT)


@pytest.mark.parametrize("mean", [False, True])
@LOSSES
@pytest.mark.parametrize("made", [lo.Ridge, lambda ridge, loss: lo.GradientFlow(1.0, ridge, loss)])
def test_without_a_ridge_it_is_nothing_and_says_so(made, loss, mean) -> None:
    p = problem(N, 4, 2, condition=CONDITION)
    fitted = p.fitted(made(0.0, loss))
    got = first_order(fitted, p.query, mean=mean)
    assert not got.values.any()
    assert got.attrs["note"].startswith("identically 0: with ridge 0 the training residuals are 0")
    assert lo.leave_one_out(fitted, p.query).values.any(), "the exact influence is not nothing"
    assert "note" not in first_order(p.fitted(made(0.1, loss)), p.query).attrs


@LOSSES
def test_the_mean_is_that_over_the_queries(loss) -> None:
    p = problem(N, 5, 2, condition=CONDITION)
    fitted = p.fitted(rule_of(loss))
    got = first_order(fitted, p.query, mean=True)
    each = first_order(fitted, p.query)
    assert got.dims == ("train",)
    assert got.attrs["mean_over"] == "query"
    assert "mean_over" not in each.attrs
    assert_same(got, each.values.mean(0), EXACT)


def test_the_memory_budget_changes_nothing_but_the_blocks(monkeypatch, frozen) -> None:
    p = problem(N, 250, 2, condition=CONDITION)
    whole = p.fitted(rule_of("mean"))
    want = first_order(whole, p.query)
    small = p.fitted(rule_of("mean"))
    small.rows.memory = 100 * 6 * 8 * N  # a hundred queries at a time
    seen = []
    rows, compare = type(small.rows), type(small.rows).compare
    monkeypatch.setattr(rows, "compare", lambda self, x: seen.append(len(x)) or compare(self, x))
    frozen(small.gram, small.residual, small.train.targets, *p.query)
    assert_same(first_order(small, p.query), want, 1e-13)
    assert_same(first_order(small, p.query, mean=True), want.values.mean(0), EXACT)
    assert seen == 2 * [100, 100, 50]


def test_the_result_says_what_it_is() -> None:
    p = problem(N, 4, 2)
    fitted = p.fitted(lo.GradientFlow(1.0, 0.1, "mean"))
    got = first_order(fitted, p.query)
    exact = lo.leave_one_out(fitted, p.query)
    assert got.dims == ("query", "train")
    assert got.name == "influence"
    assert got.coords["train"].values.tolist() == list(fitted.train.ids)
    assert got.attrs == {**exact.attrs, "method": "first_order"}
    assert got.attrs["at"] == "end of training"


def refused(kind, words, ask):
    with pytest.raises(kind, match=re.escape(words)):
        ask()


@pytest.mark.parametrize("at", [0, 3, 1e9])
def test_a_finite_time_is_refused_because_nothing_is_minimised_there(at) -> None:
    p = problem(N, 3)
    words = (
        "`at` must be None, the end of training: the classical influence function is the derivative "
        f"of a minimiser, which training has not reached before; got {at!r}. `leave_one_out` is "
        "exact at any time."
    )
    for rule in (lo.GradientFlow(1.0, 0.1), lo.GradientDescent(0.5, 0.1)):
        refused(OptionError, words, lambda rule=rule: first_order(p.fitted(rule), p.query, at=at))
    words = "`at` must be None under Ridge"
    refused(OptionError, words, lambda: first_order(p.fitted(lo.Ridge(0.1)), p.query, at=at))


@pytest.mark.usefixtures("as_users_run_it")
def test_several_times_are_refused_too() -> None:
    p = problem(N, 3)
    words = "`at` must be a time ≥ 0, or None for the end; got [1.0, 2.0]"
    flow = p.fitted(lo.GradientFlow(1.0, 0.1))
    refused(OptionError, words, lambda: first_order(flow, p.query, at=[1.0, 2.0]))


def test_what_cannot_be_had_is_refused_as_elsewhere() -> None:
    p = problem(N, 1000)
    small = p.fitted(lo.Ridge(0.1))
    small.rows.memory = 100_000
    words = "The result (1000 × 14) needs 112 kB, more than the budget of 100 kB. Keep only the mean"
    refused(MemoryBudgetError, words, lambda: first_order(small, p.query))
    first_order(small, p.query, mean=True)
    fast = p.fitted(lo.GradientDescent(2.5, 0.1))
    refused(DivergenceError, "below the critical rate", lambda: first_order(fast, p.query))
    singular = low_rank(N, 3, rank=4)
    words = "is not positive definite"
    refused(NotPositiveError, words, lambda: first_order(singular.fitted(lo.Ridge(0.0)), singular.query))


def test_cross_entropy_is_refused() -> None:
    """The derivative is that of squares: of logits it would be another question."""
    train, query = lo.load("digits", n_train=30, n_query=5)
    fitted = lo.fit(lo.kernels.ReLU(1), train, rule=lo.Logistic(1.0))
    with pytest.raises(lo.LeftoutError, match="squared loss"):
        lo.first_order(fitted, query)
