"""Relabelled, reweighted, added: is it what a model fitted to the edited data says?"""

import numpy as np
import pytest
import torch

import leftout as lo
from laws import assert_same
from oracles import definitions as oracles
from problems.small import Problem, Started, low_rank, problem, training

N = 12
RULES = {
    "Ridge 0": (lo.Ridge(0.0), [None]),
    "Ridge": (lo.Ridge(0.05), [None]),
    "mean Ridge": (lo.Ridge(0.005, "mean"), [None]),
    "flow": (lo.GradientFlow(1.0), [0.0, 0.3, 9.0, 2e3, 1e5, None]),
    "mean flow": (lo.GradientFlow(9.0, 0.001, "mean"), [0.0, 0.3, 9.0, 2e3, 1e5, None]),
    "descent": (lo.GradientDescent(1.1), [0, 1, 2, 7, 10, 333, 1000, None]),
    "slow descent": (lo.GradientDescent(0.1), [1, 2, 7, 10, 333, None]),
    "descent with decay": (lo.GradientDescent(0.8, 0.5), [1, 2, 7, 10, 333, None]),
    "mean descent": (lo.GradientDescent(9.0, 0.01, "mean"), [1, 2, 7, 10, 333, None]),
}
OF = pytest.mark.parametrize("of", ["loss", "prediction"])
EVERY_RULE = pytest.mark.parametrize("name", RULES)


def parts(p):
    return p.gram, p.cross, p.residual, p.wanted


def assert_same_at(times, ours, theirs):
    for time, one, other in zip(times, ours.values, theirs, strict=True):
        if time == 0:
            assert not one.any()
        else:
            assert_same(one, other)


@EVERY_RULE
@OF
def test_relabelling_is_fitting_the_other_target(name, of) -> None:
    rule, times = RULES[name]
    p = problem(N, 3, 2, condition=100, seed=1)
    rows, new = [4, 0, 4], np.array([[1.0, -2.0], [0.0, 0.5], [7.0, 7.0]])
    got = lo.relabel(p.fitted(rule), p.query, rows, new, at=times, of=of)
    assert got.dims == ("at", "query", "edit", "output")[: got.ndim]
    assert got.coords["edit"].values.tolist() == ["4", "0", "4"]
    theirs = [oracles.relabelled(*parts(p), training(rule, t), rows, new, of) for t in times]
    assert_same_at(times, got, theirs)


@pytest.mark.sample(42)
@EVERY_RULE
@OF
@pytest.mark.parametrize("weight", [0.0, 1e-3, 0.4, 1.0, 1.7, 2.0, 30.0])
def test_reweighting_is_fitting_with_that_weight(name, of, weight) -> None:
    rule, times = RULES[name]
    if weight == 30 and isinstance(rule, lo.GradientDescent):
        rule = lo.GradientDescent(rule.rate / 20, rule.ridge, rule.loss)  # or it diverges
    p = problem(N, 3, 2, condition=100, seed=2)
    rows = [5, 0, 11]
    got = lo.reweight(p.fitted(rule), p.query, rows, weight, at=times, of=of)
    if weight == 1:
        assert np.abs(got.values).max() < 1e-14
        return
    for time, ours in zip(times, got.values, strict=True):
        theirs, left_out = (
            oracles.reweighted(*parts(p), training(rule, time), rows, w, of) for w in (weight, 0)
        )
        # Without a ridge everything is interpolated in the end, whatever it weighs: what is left
        # to compare is rounding then, so errors are relative to leaving out if that is more.
        scale = max(np.abs(theirs).max(), np.abs(left_out).max())
        assert np.abs(ours - theirs).max() <= 1e-9 * scale, time


@EVERY_RULE
def test_weight_zero_is_leaving_out(name) -> None:
    rule, times = RULES[name]
    p = problem(N, 3, 2, condition=100)
    fitted = p.fitted(rule)
    got = lo.reweight(fitted, p.query, range(N), 0, at=times)
    want = lo.leave_one_out(fitted, p.query, at=times)
    assert_same_at(times, got, want.values)


@EVERY_RULE
def test_weight_two_is_the_example_twice(name) -> None:
    rule, times = RULES[name]
    if name == "Ridge 0":
        return  # the same row twice is singular
    p = problem(N, 3, 1, condition=100)
    rows = np.concatenate([np.arange(N), [6], np.arange(N, N + 3)])
    twice = Problem(p.whole[np.ix_(rows, rows)], N + 1, p.targets[rows])
    fitted = p.fitted(rule)
    for time in times:
        if time is None and rule.ridge == 0:
            continue
        got = lo.reweight(fitted, p.query, 6, 2, at=time, of="prediction")
        before = oracles.predictions(p.gram, p.cross, p.residual, training(rule, time))
        after = oracles.predictions(twice.gram, twice.cross, twice.residual, training(rule, time))
        assert_same(before - got.values[:, 0], after)


@EVERY_RULE
@OF
def test_adding_is_fitting_with_one_more(name, of) -> None:
    rule, times = RULES[name]
    p = problem(N, 3, 2, condition=100, seed=3, spare=4)
    got = lo.add(
        p.fitted(rule), p.query, torch.from_numpy(p.spares).double(), p.targets[p.spares], at=times, of=of
    )
    data = np.vstack([p.residual, p.targets[p.spares]])
    theirs = [
        oracles.added(p.whole, N, p.spares, data, p.wanted, training(rule, t), p.queries, of) for t in times
    ]
    assert_same_at(times, got, theirs)


@EVERY_RULE
def test_what_was_added_is_what_is_left_out_of_the_bigger_fit(name) -> None:
    rule, times = RULES[name]
    p = problem(N, 3, 2, condition=100, seed=4, spare=1)
    spare = len(p.whole) - 1
    rows = np.concatenate([np.arange(N), [spare], p.queries])
    bigger = Problem(p.whole[np.ix_(rows, rows)], N + 1, p.targets[rows])
    for of in ("loss", "prediction"):
        added = lo.add(p.fitted(rule), p.query, torch.tensor(float(spare)), p.targets[spare], at=times, of=of)
        left = lo.leave_one_out(bigger.fitted(rule), bigger.query, at=times, of=of)
        assert_same_at(times, added[:, :, 0], left.values[:, :, N])


def test_at_a_finite_time_a_copy_can_be_added_even_without_ridge() -> None:
    p = problem(N, 3)
    rule = lo.GradientFlow(1.0)
    got = lo.add(p.fitted(rule), p.query, torch.tensor(5.0), [2.0], at=30.0)
    rows = np.concatenate([np.arange(N), [5], np.arange(N, N + 3)])
    whole = p.whole[np.ix_(rows, rows)]
    data = np.vstack([p.residual, [[2.0]]])
    queries = np.arange(N + 1, N + 4)
    want = oracles.added(whole, N, [N], data, p.wanted, training(rule, 30.0), queries)
    assert_same(got, want)


@pytest.mark.parametrize("loss", ["sum", "mean"])
@pytest.mark.parametrize("time", [None, 4.0, 900.0])
def test_edits_of_a_singular_kernel_and_of_a_network_with_a_start(loss, time) -> None:
    p = low_rank(N, 4, rank=4)
    start = np.random.default_rng(0).standard_normal(p.targets.shape)
    moved = Problem(p.whole, N, p.targets - start)
    rule = lo.GradientFlow(1.0, 0.01, loss)
    fitted = p.fitted(rule, Started(p.whole, start))
    told = training(rule, time)
    new = np.array([[3.0]])
    got = lo.relabel(fitted, p.query, 2, 3.0, at=time)
    assert_same(got, oracles.relabelled(*parts(moved), told, [2], new - start[2]))
    got = lo.reweight(fitted, p.query, [2, 3], 1.4, at=time)
    assert_same(got, oracles.reweighted(*parts(moved), told, [2, 3], 1.4))
    some = (p.query[0][:3], p.query[1][:3])
    got = lo.add(fitted, some, p.query[0][3:], 3.0, at=time)
    data = np.vstack([moved.residual, new - start[-1]])
    queries = np.arange(N, N + 3)
    want = oracles.added(p.whole, N, [N + 3], data, moved.wanted[:3], told, queries)
    assert_same(got, want)


@pytest.mark.parametrize("form", [int, np.int64, lambda i: [i], lambda i: np.array([i]), torch.tensor])
def test_an_example_may_be_named_in_any_form(form) -> None:
    p = problem(N, 3)
    fitted = p.fitted(lo.Ridge(0.1))
    want = lo.relabel(fitted, p.query, [3], [1.0])
    assert lo.relabel(fitted, p.query, form(3), 1.0).values.tolist() == want.values.tolist()
    want = lo.reweight(fitted, p.query, [3], 0.5)
    assert lo.reweight(fitted, p.query, form(3), 0.5).values.tolist() == want.values.tolist()


def test_relabelling_with_the_own_target_changes_nothing() -> None:
    p = problem(N, 3)
    for rule, time in [(lo.Ridge(0.1), None), (lo.GradientFlow(1.0), 5.0)]:
        got = lo.relabel(p.fitted(rule), p.query, range(N), p.residual, at=time)
        assert not got.values.any()


def test_a_relabelling_is_linear_in_the_prediction() -> None:
    p = problem(N, 3)
    fitted = p.fitted(lo.GradientFlow(1.0, 0.01, "mean"))
    own = p.residual[2, 0]
    one, three = (lo.relabel(fitted, p.query, 2, own + step, at=50.0, of="prediction") for step in (1, 3))
    assert_same(three, 3 * one, 1e-11)


def test_the_critical_rate_of_edited_data_is_its_own() -> None:
    # Only where the edited data really diverge, and the number in the message is theirs.
    p = problem(N, 3, spare=1)
    heavier = np.sqrt([[4.0 if i == 0 else 1.0 for i in range(N)]])
    rows = np.append(np.arange(N), N + 3)
    tops = [
        np.linalg.eigvalsh(heavier.T * p.gram * heavier)[-1],
        np.linalg.eigvalsh(p.whole[np.ix_(rows, rows)])[-1],
    ]
    spare = torch.tensor([N + 3.0])
    for top, edit in [
        (tops[0], lambda fitted: lo.reweight(fitted, p.query, 0, 4.0, at=20)),
        (tops[1], lambda fitted: lo.add(fitted, p.query, spare, [1.0], at=20)),
    ]:
        assert top > 1.001, "the edit raises the spectrum"
        edit(p.fitted(lo.GradientDescent(1.9999 / top)))
        with pytest.raises(lo.LeftoutError, match=rf"critical rate .* = {2 / top:.6g},"):
            edit(p.fitted(lo.GradientDescent(2.0001 / top)))


@pytest.mark.parametrize("steps", [1, 5, 9, 10, 63])
def test_edits_just_below_their_critical_rate_are_exact(steps) -> None:
    p = problem(N, 3, spare=1)
    rows = np.append(np.arange(N), N + 3)
    top = np.linalg.eigvalsh(p.whole[np.ix_(rows, rows)])[-1]
    rule = lo.GradientDescent(1.9999 / top)
    got = lo.add(p.fitted(rule), p.query, torch.tensor([N + 3.0]), [1.0], at=steps)
    data = np.vstack([p.residual, [[1.0]]])
    told = training(rule, steps)
    assert_same(got, oracles.added(p.whole, N, [N + 3], data, p.wanted, told, p.queries))
