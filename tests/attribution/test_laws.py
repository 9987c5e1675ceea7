"""What must be so whatever the numbers are: symmetries, scalings, limits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import leftout as lo
from laws import assert_same, difference
from leftout.attribution.engine import query_blocks as queries
from leftout.attribution.engine.query_blocks import queries_of, query_blocks
from leftout.solvers import spectrum
from oracles import definitions as oracles
from problems.small import Problem, problem

N = 14
SAME = 1e-11
"""Between two ways to the same number, each within 10·cond·eps = 2e-12 on these (condition 1e3)."""

RULES = {
    "Ridge": (lo.Ridge(0.02), [None]),
    "mean Ridge": (lo.Ridge(0.002, "mean"), [None]),
    "flow": (lo.GradientFlow(1.0), [0.0, 0.5, 80.0, None]),
    "mean flow": (lo.GradientFlow(13.0, 1e-3, "mean"), [0.0, 0.5, 80.0, None]),
    "descent": (lo.GradientDescent(1.9), [0, 1, 6, 47, None]),
    "mean descent": (lo.GradientDescent(20.0, 1e-3, "mean"), [0, 1, 6, 47, None]),
}
EVERY_RULE = pytest.mark.parametrize("name", RULES)


def all_answers(p, rule, times):
    """Everything there is to ask, as one list of arrays."""
    fitted, query = p.fitted(rule), p.query
    answers = []
    for of in ("loss", "prediction"):
        options = {"at": times, "of": of}
        answers.append(lo.leave_one_out(fitted, query, **options).values)
        answers.append(lo.leave_out(fitted, query, [[0], [1, 5], range(N)], **options).values)
        answers.append(lo.relabel(fitted, query, [2, 3], [0.5, -1], **options).values)
        answers.append(lo.reweight(fitted, query, [2, 3], 0.25, **options).values)
        answers.append(
            lo.add(fitted, query, torch.from_numpy(p.spares).double(), [0.5, -1], **options).values
        )
    return answers


def assert_all_same(ours, theirs, factor=1.0):
    for one, other in zip(ours, theirs, strict=True):
        assert_same(one, factor * other, SAME)


@EVERY_RULE
def test_permuting_the_training_data_permutes_the_answers(name) -> None:
    rule, times = RULES[name]
    p = problem(N, 4, 2)
    order = np.random.default_rng(1).permutation(N)
    whole = lo.leave_one_out(p.fitted(rule), p.query, at=times, of="prediction").values
    mixed = lo.leave_one_out(p.permuted(order).fitted(rule), p.query, at=times, of="prediction")
    assert_same(mixed, whole[:, :, order], SAME)
    unseen = lo.out_of_sample(p.permuted(order).fitted(rule), at=times)
    assert_same(unseen, lo.out_of_sample(p.fitted(rule), at=times)[:, order], SAME)


@EVERY_RULE
def test_the_order_of_queries_and_their_company_do_not_matter(name) -> None:
    rule, times = RULES[name]
    p = problem(N, 7, 2)
    fitted = p.fitted(rule)
    whole = lo.leave_one_out(fitted, p.query, at=times).values
    for rows in ([6, 2, 0, 3, 5, 1, 4], [4], [2, 2, 2]):
        some = (p.query[0][rows], p.query[1][rows])
        assert_same(lo.leave_one_out(fitted, some, at=times), whole[:, rows], SAME)


@pytest.mark.sample(3)
@EVERY_RULE
def test_blocks_of_queries_do_not_show(name) -> None:
    rule, times = RULES[name]
    p = problem(N, 330, 2)
    fitted = p.fitted(rule)
    groups = [[i, i + 1] for i in range(N - 1)]

    def answers():
        # One time at a time, as the small budget does not hold all results; means and ranks fit.
        return [
            *(lo.leave_one_out(fitted, p.query, at=time).values for time in times),
            lo.leave_one_out(fitted, p.query, at=times, mean=True, of="prediction").values,
            lo.leave_one_out(fitted, p.query, at=times, top=3).helpful.values,
            lo.leave_out(fitted, p.query, groups, at=times).values,
        ]

    fitted.rows.memory = 10**9
    whole = answers()
    assert len(list(query_blocks(fitted, queries_of(fitted, p.query)))) == 1
    fitted.rows.memory = 6 * 8 * N * 100  # room for 100 queries, and for a few groups of duals
    assert len(list(query_blocks(fitted, queries_of(fitted, p.query)))) == 4
    assert_all_same(answers(), whole)


@pytest.mark.sample(9)
@EVERY_RULE
@pytest.mark.parametrize("size", [1, 5, N - 1])
def test_blocks_of_training_examples_do_not_show(name, size, monkeypatch) -> None:
    rule, times = RULES[name]
    p = problem(N, 4, 3)
    fitted = p.fitted(rule)

    def answers():
        return [
            *(lo.leave_one_out(fitted, p.query, at=times, of=of).values for of in ("loss", "prediction")),
            lo.leave_one_out(fitted, p.query, at=times, mean=True).values,
            lo.leave_one_out(fitted, p.query, at=times, top=3).harmful.values,
            lo.out_of_sample(fitted, at=times),
        ]

    whole = answers()
    monkeypatch.setattr(queries, "COLUMNS", size)
    monkeypatch.setattr(spectrum, "ROWS", size)
    assert_all_same(answers(), whole)


@pytest.mark.sample(8)
@pytest.mark.parametrize("factor", [1e-6, 0.3, 1e5])
@EVERY_RULE
def test_a_kernel_and_all_that_is_measured_in_it_scale_together(name, factor) -> None:
    # K → cK with λ → cλ and η → η/c leaves every prediction as it is.
    rule, times = RULES[name]
    p = problem(N, 4, 2, spare=2)
    scaled = Problem(factor * p.whole, N, p.targets, spare=2)
    options = {"ridge": rule.ridge * factor, "loss": rule.loss}
    if not isinstance(rule, lo.Ridge):
        options["rate"] = rule.rate / factor
    assert_all_same(all_answers(scaled, type(rule)(**options), times), all_answers(p, rule, times))


def test_time_and_rate_are_one_thing_to_a_flow() -> None:
    p = problem(N, 4, 2, spare=2)
    ours = all_answers(p, lo.GradientFlow(50.0, 1e-3), [0.1, 7.0])
    assert_all_same(ours, all_answers(p, lo.GradientFlow(1.0, 1e-3), [5.0, 350.0]))


@EVERY_RULE
def test_predictions_are_linear_in_the_targets_and_losses_quadratic(name) -> None:
    rule, times = RULES[name]
    p = problem(N, 4, 2)
    ask = {"at": times, "of": "prediction"}
    one, other = p.targets, np.random.default_rng(8).standard_normal(p.targets.shape)

    def changes(targets, of="prediction"):
        q = Problem(p.whole, N, targets)
        return lo.leave_one_out(q.fitted(rule), q.query, **(ask | {"of": of})).values

    assert_same(changes(2 * one - 3 * other), 2 * changes(one) - 3 * changes(other), SAME)
    assert_same(changes(-5 * one, "loss"), 25 * changes(one, "loss"), SAME)


@EVERY_RULE
def test_outputs_do_not_know_of_each_other(name) -> None:
    rule, times = RULES[name]
    p = problem(N, 4, 3)
    together = lo.leave_one_out(p.fitted(rule), p.query, at=times, of="prediction")
    losses = lo.leave_one_out(p.fitted(rule), p.query, at=times).values
    added = 0
    for output in range(3):
        q = Problem(p.whole, N, p.targets[:, [output]])
        alone = lo.leave_one_out(q.fitted(rule), q.query, at=times, of="prediction")
        assert_same(together.values[..., [output]], alone, SAME)
        added = added + lo.leave_one_out(q.fitted(rule), q.query, at=times).values
    assert_same(losses, added, SAME)


@EVERY_RULE
def test_the_loss_is_that_of_the_predictions(name) -> None:
    rule, times = RULES[name]
    p = problem(N, 4, 3)
    fitted = p.fitted(rule)
    losses = lo.leave_one_out(fitted, p.query, at=times)
    change = lo.leave_one_out(fitted, p.query, at=times, of="prediction").values
    for j, time in enumerate(times):
        full = fitted.predict(p.query[0], at=time).numpy()[:, None]
        without = full - change[j]
        want = oracles.loss(without, p.wanted[:, None]) - oracles.loss(full, p.wanted[:, None])
        assert_same(losses[j], want, SAME)


@EVERY_RULE
def test_out_of_sample_is_the_diagonal_of_leaving_out(name) -> None:
    rule, times = RULES[name]
    p = problem(N, 4, 2)
    fitted = p.fitted(rule)
    own = (torch.arange(N).double(), torch.from_numpy(p.residual))
    change = lo.leave_one_out(fitted, own, at=times, of="prediction").values
    for j, time in enumerate(times):
        full = fitted.predict(own[0], at=time).numpy()
        diagonal = full - np.einsum("iik->ik", change[j])
        assert_same(lo.out_of_sample(fitted, at=time), diagonal, SAME)


def test_the_flow_ends_where_ridge_regression_is() -> None:
    p = problem(N, 4, 2, spare=2)
    want = all_answers(p, lo.Ridge(0.02), [None])
    for rule in (lo.GradientFlow(1.0, 0.02), lo.GradientDescent(1.9, 0.02)):
        assert_all_same(all_answers(p, rule, [None]), want)
        assert_all_same(all_answers(p, rule, [10**4]), want)  # e^{−0.02·10⁴} = 1e−87 of it left
    mean = all_answers(p, lo.Ridge(0.002, "mean"), [None])
    assert_all_same(all_answers(p, lo.GradientFlow(1.0, 0.002, "mean"), [None]), mean)


@pytest.mark.parametrize("rule", [lo.Ridge, lo.GradientFlow, lo.GradientDescent])
def test_a_mean_loss_is_a_sum_loss_with_its_rate_and_ridge_per_example(rule) -> None:
    p = problem(N, 4, 2)
    time = None if rule is lo.Ridge else 30
    rate = {} if rule is lo.Ridge else {"rate": 12.0}
    sums = {} if rule is lo.Ridge else {"rate": 12.0 / N}
    mean = p.fitted(rule(ridge=0.004, loss="mean", **rate))
    sum_ = p.fitted(rule(ridge=0.004 * N, **sums))
    points = p.query[0]
    assert_same(mean.predict(points, at=time), sum_.predict(points, at=time), SAME)
    # … but not for what is left out: there the others weigh more.
    ours, theirs = (lo.leave_one_out(fitted, p.query, at=time) for fitted in (mean, sum_))
    assert difference(ours, theirs) > 1e-3


def test_the_ridge_of_a_mean_loss_shrinks_with_the_examples_left() -> None:
    p = problem(N, 4, 1)
    change = lo.leave_one_out(p.fitted(lo.Ridge(0.01, "mean")), p.query, of="prediction")
    full = oracles.predictions(p.gram, p.cross, p.residual, oracles.Training("ridge", ridge=0.01 * N))
    less = oracles.prediction_without(
        p.gram, p.cross, p.residual, oracles.Training("ridge", ridge=0.01 * (N - 1)), [3]
    )
    assert_same(change[:, 3], full - less)


def test_an_example_that_no_query_is_like_takes_nothing_with_it() -> None:
    p = problem(N, 4, 2)
    apart = p.whole.copy()
    apart[0, 1:] = apart[1:, 0] = 0
    q = Problem(apart, N, p.targets)
    for rule, times in RULES.values():
        got = lo.leave_one_out(q.fitted(rule), q.query, at=times, of="prediction").values
        if rule.loss == "sum":
            assert np.abs(got[:, :, 0]).max() <= 1e-13 * np.abs(got).max()
        else:
            assert np.abs(got[-1, :, 0]).max() > 1e-6 * np.abs(got).max(), "the others weigh more"


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(2, 9), st.integers(0, 10**6), st.floats(-3, 3), st.sampled_from(["sum", "mean"]))
def test_leaving_out_then_adding_back_is_nothing(n, seed, power, loss) -> None:
    p = problem(n, 3, 1, seed=seed)
    rows = np.concatenate([np.arange(1, n), np.arange(n, n + 3), [0]])
    less = Problem(p.whole[np.ix_(rows, rows)], n - 1, p.targets[rows], spare=1)
    rule, time = lo.GradientFlow(1.0, 0.01, loss), 10.0**power
    out = lo.leave_one_out(p.fitted(rule), p.query, at=time)
    back = lo.add(less.fitted(rule), less.query, torch.tensor([n + 2.0]), p.targets[0], at=time)
    assert_same(back[:, 0], out[:, 0], 1e-9)


def test_a_low_rank_kernel_is_its_features() -> None:
    # A linear kernel is regression on its features; here the refit is done on weights, not duals.
    draw = np.random.default_rng(0)
    x, z = draw.standard_normal((N, 3)), draw.standard_normal((4, 3))
    y = draw.standard_normal((N + 4, 1))
    both = np.vstack([x, z])
    p = Problem(both @ both.T, N, y)
    got = lo.leave_one_out(p.fitted(lo.Ridge(0.3)), p.query, of="prediction").values[:, :, 0]

    def weights(keep):
        return np.linalg.solve(x[keep].T @ x[keep] + 0.3 * np.eye(3), x[keep].T @ y[:N][keep])[:, 0]

    everyone = np.arange(N)
    want = [z @ (weights(everyone) - weights(np.delete(everyone, i))) for i in everyone]
    assert_same(got, np.stack(want, axis=1))
