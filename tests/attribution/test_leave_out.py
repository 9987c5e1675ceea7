"""Is what is said of a group what a model fitted without the whole group says?"""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import leftout as lo
from laws import assert_same, difference
from leftout.attribution.engine import group_removal as module
from leftout.core.errors import DivergenceError
from oracles import definitions as oracles
from problems.small import Problem, Started, low_rank, problem, training

N = 12
EVERYONE = list(range(N))
GROUPS = [[3], [3, 7], [7, 2, 11, 0, 5], EVERYONE[1:], EVERYONE, [3, 7]]
"""One, two, some in no order, all but one, all, and one that came before; they overlap."""

RULES = {
    "Ridge 0": (lo.Ridge(0.0), [None]),
    "Ridge": (lo.Ridge(0.05), [None]),
    "mean Ridge": (lo.Ridge(0.005, "mean"), [None]),
    "flow": (lo.GradientFlow(1.0), [0.0, 0.3, 9.0, 2e3, None]),
    "mean flow": (lo.GradientFlow(9.0, 0.001, "mean"), [0.3, 9.0, 2e3, None]),
    "descent": (lo.GradientDescent(1.99), [0, 1, 2, 7, 10, 333, 1000, None]),
    "descent with decay": (lo.GradientDescent(1.0, 0.5), [1, 2, 7, 10, 333, None]),
    # With one example left its rate is 1.5 / 1: just what K_ii < 1 still bears.
    "mean descent": (lo.GradientDescent(1.5, 0.01, "mean"), [1, 2, 7, 10, 333, None]),
}


def oracle(p, rule, times, groups, of):
    parts = (p.gram, p.cross, p.residual, p.wanted)
    return np.stack([oracles.leave_out(*parts, training(rule, time), groups, of) for time in times])


@pytest.mark.sample(24)
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("of", ["loss", "prediction"])
@pytest.mark.parametrize("way", ["cheaper", "blocks", "afresh"])
def test_a_group_left_out_is_a_fit_without_it(name, of, way, monkeypatch) -> None:
    if way != "cheaper":
        monkeypatch.setattr(module, "refit_is_cheaper", lambda *_: way == "afresh")
    rule, times = RULES[name]
    p = problem(N, 3, 2, condition=100, seed=7)
    got = lo.leave_out(p.fitted(rule), p.query, GROUPS, at=times, of=of)
    assert got.dims == ("at", "query", "group", "output")[: got.ndim]
    assert got.coords["group"].values.tolist() == ["0", "1", "2", "3", "4", "5"]
    for time, ours, theirs in zip(times, got.values, oracle(p, rule, times, GROUPS, of), strict=True):
        if time == 0:
            assert not ours.any()
        else:
            assert_same(ours, theirs)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.data())
def test_any_group_at_any_time(data) -> None:
    n = data.draw(st.integers(2, 10))
    group = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=n, unique=True))
    loss = data.draw(st.sampled_from(["sum", "mean"]))
    ridge = data.draw(st.sampled_from([0.0, 0.01, 1.0]))
    left = max(n - len(group), 1) if loss == "mean" else 1
    rule, time = data.draw(
        st.sampled_from(
            [
                (lo.Ridge(ridge, loss), None),
                (lo.GradientFlow(left, ridge, loss), data.draw(st.floats(1e-4, 1e3))),
                (lo.GradientDescent(left / (1 + ridge * left), ridge, loss), data.draw(st.integers(0, 99))),
            ]
        )
    )
    p = problem(n, 2, 2, condition=1e3, seed=data.draw(st.integers(0, 999)))
    got = lo.leave_out(p.fitted(rule), p.query, [group], at=time, of="prediction")
    assert_same(got, oracle(p, rule, [time], [group], "prediction")[0])


@pytest.mark.parametrize("name", RULES)
def test_a_group_of_one_is_leave_one_out(name) -> None:
    rule, times = RULES[name]
    p = problem(N, 3, 2, condition=100)
    fitted = p.fitted(rule)
    groups = lo.leave_out(fitted, p.query, [[i] for i in range(N)], at=times)
    singles = lo.leave_one_out(fitted, p.query, at=times)
    for ours, theirs in zip(groups.values, singles.values, strict=True):
        assert_same(ours, theirs, 1e-11)


def test_groups_do_not_add_up_and_are_not_made_to() -> None:
    p = problem(N, 3)
    fitted = p.fitted(lo.Ridge(0.01))
    both = lo.leave_out(fitted, p.query, [[2, 5]], of="prediction").values[:, 0]
    singles = lo.leave_one_out(fitted, p.query, of="prediction").values[:, [2, 5]].sum(1)
    assert difference(both, singles) > 1e-3


def test_leaving_out_an_example_and_its_copy_undoes_both() -> None:
    p = problem(N, 3)
    rows = np.concatenate([[1], np.arange(1, N + 3)])  # examples 0 and 1 are the same
    twice = Problem(p.whole[np.ix_(rows, rows)], N, p.targets[rows])
    without = Problem(p.whole[2:, 2:], N - 2, p.targets[2:])
    for rule, time in [(lo.Ridge(0.01), None), (lo.GradientFlow(1.0), 60.0)]:
        fitted = twice.fitted(rule)
        change = lo.leave_out(fitted, twice.query, [[0, 1]], at=time, of="prediction")
        left = fitted.predict(twice.query[0], at=time).numpy() - change.values[:, 0]
        assert_same(left, without.fitted(rule).predict(without.query[0], at=time), 1e-11)


def test_without_all_examples_the_network_is_at_its_start() -> None:
    p = problem(N, 3, 2)
    start = np.random.default_rng(0).standard_normal(p.targets.shape)
    for rule, time in [(lo.Ridge(0.1), None), (lo.GradientFlow(1.0), 3.0), (lo.GradientDescent(1.0), 3)]:
        fitted = p.fitted(rule, Started(p.whole, start))
        change = lo.leave_out(fitted, p.query, [EVERYONE], at=time, of="prediction")
        predicted = fitted.predict(p.query[0], at=time).numpy()
        assert_same(predicted - change.values[:, 0], start[N:], 1e-12)
        losses = lo.leave_out(fitted, p.query, [EVERYONE], at=time)
        want = oracles.loss(start[N:], p.wanted) - oracles.loss(predicted, p.wanted)
        assert_same(losses.values[:, 0], want, 1e-11)


@pytest.mark.parametrize("way", ["blocks", "afresh"])
def test_groups_of_a_singular_kernel_and_of_a_network_with_a_start(way, monkeypatch) -> None:
    monkeypatch.setattr(module, "refit_is_cheaper", lambda *_: way == "afresh")
    p = low_rank(N, 3, rank=4)
    start = np.random.default_rng(0).standard_normal(p.targets.shape)
    fitted = p.fitted(lo.GradientFlow(1.0, 0.01), Started(p.whole, start))
    moved = Problem(p.whole, N, p.targets - start)
    groups = [[0, 1], [2, 3, 4, 5, 6, 7, 8]]
    for time in (2.0, 300.0, None):
        got = lo.leave_out(fitted, p.query, groups, at=time)
        assert_same(got, oracle(moved, fitted.rule, [time], groups, "loss")[0])


@pytest.mark.parametrize("form", [list, tuple, set, np.array, torch.tensor, iter], ids=lambda f: f.__name__)
def test_a_group_may_be_any_collection_of_rows(form) -> None:
    p = problem(N, 3)
    fitted = p.fitted(lo.Ridge(0.1))
    want = lo.leave_out(fitted, p.query, [[1, 4]]).values
    got = lo.leave_out(fitted, p.query, [form([1, 4])])
    assert_same(got, want, 1e-13)


def test_a_mapping_names_the_groups() -> None:
    p = problem(N, 3)
    fitted = p.fitted(lo.Ridge(0.1))
    got = lo.leave_out(fitted, p.query, {"even": range(0, N, 2), 7: [1, 3]})
    assert got.coords["group"].values.tolist() == ["even", "7"]
    want = lo.leave_out(fitted, p.query, [list(range(0, N, 2)), [1, 3]])
    assert got.values.tolist() == want.values.tolist()


def test_the_order_within_a_group_does_not_matter() -> None:
    p = problem(N, 3)
    for rule, time in [(lo.Ridge(0.01), None), (lo.GradientFlow(1.0), 60.0)]:
        got = lo.leave_out(p.fitted(rule), p.query, [[5, 1, 8], [8, 5, 1]], at=time).values
        assert_same(got[:, 0], got[:, 1], 1e-11)


def test_a_rate_beyond_the_critical_one_is_refused_for_every_group_even_all() -> None:
    p = problem(N, 3)
    fitted = p.fitted(lo.GradientDescent(2.1))
    for group in ([0], EVERYONE[1:], EVERYONE):
        for time in (5, 500, None):
            with pytest.raises(lo.LeftoutError, match="critical rate"):
                lo.leave_out(fitted, p.query, [group], at=time)


def test_larger_steps_of_a_mean_over_fewer_are_judged_by_what_remains() -> None:
    """Half of the examples, twice the step: the half bears it where the whole would diverge."""
    p = problem(N, 3, 2, condition=100, seed=7)
    half = list(range(0, N, 2))
    top = np.linalg.eigvalsh(p.gram)[-1]
    kept = np.setdiff1d(np.arange(N), half)
    remaining = np.linalg.eigvalsh(p.gram[np.ix_(kept, kept)])[-1]
    rate = 1.7 * len(kept) / remaining
    assert rate * top / N < 2 < rate * top / len(kept)
    rule = lo.GradientDescent(rate, loss="mean")
    for times in ([3, 50, None], [None]):
        got = lo.leave_out(p.fitted(rule), p.query, [half], at=times)
        assert_same(got.values, oracle(p, rule, times, [half], "loss"))


def test_larger_steps_than_what_remains_can_bear_are_refused() -> None:
    p = problem(N, 3, 2, condition=100, seed=7)
    rate = 1.99 * N / np.linalg.eigvalsh(p.gram)[-1]
    fitted = p.fitted(lo.GradientDescent(rate, loss="mean"))
    critical = 2 / p.gram[4, 4]  # one example, and all of the mean
    assert rate > critical
    with pytest.raises(DivergenceError, match=re.escape(f"= {critical:.6g}")):
        lo.leave_out(fitted, p.query, [[i for i in range(N) if i != 4]], at=3)
