"""Are the error rates those of the pairs, one by one, and is nothing hidden in a NaN?"""

import re

import numpy as np
import pytest
import torch

import leftout as lo
from laws import assert_same
from leftout.core.errors import MemoryBudgetError, OptionError
from leftout.diagnostics.influence_error.error_rates import error_rates
from oracles import definitions as oracles
from oracles import diagnostics as oracle
from problems.small import Problem, problem, training

N = 10
RIDGES = [2.0**j for j in range(-4, 5)]


def pairs(p, ridge):
    """|I − Î| and |I| of every pair, from fits without each example and from weight space."""
    rule = lo.Ridge(ridge)
    exact = oracles.leave_one_out(p.gram, p.cross, p.residual, p.wanted, training(rule))
    classical = oracle.classical(p.whole, p.n, p.targets, ridge)
    return np.abs(exact - classical), np.abs(exact)


@pytest.mark.parametrize("m", [5, 6])
@pytest.mark.parametrize("k", [1, 3])
def test_rates_are_those_of_the_pairs(m, k) -> None:
    p = problem(N, m, k, condition=100, top=4.0, seed=m)
    got = error_rates(p.fitted(lo.Ridge(1.0)), p.query, ridges=RIDGES)
    least = np.linalg.eigvalsh(p.gram)[0]
    assert got["mean_rate"].dims == ("ridge", "train")
    assert got.coords["ridge"].values.tolist() == RIDGES
    assert got["zeros"].values.sum() == 0
    for ridge in RIDGES:
        one = got.sel(ridge=ridge)
        missed, size = pairs(p, ridge)
        rates = missed / size
        # A rate of a small |I| has the rounding of the large ones behind it.
        rtol = 1e-12 * size.max() / size.min()
        assert_same(one["mean_rate"], rates.mean(0), rtol)
        assert_same(one["median_rate"], np.median(rates, 0), rtol)
        assert_same(one["ratio_of_sums"], missed.sum(0) / size.sum(0), 1e-10)
        assert_same(one["leverage"], oracle.leverage(p.gram, ridge), 1e-10)
        assert_same(one["pooled_mean_rate"], rates.mean(), rtol)
        assert_same(one["pooled_median_rate"], np.median(rates), rtol)
        assert_same(one["pooled_ratio_of_sums"], missed.sum() / size.sum(), 1e-10)
        assert_same(one["mean_leverage"], oracle.leverage(p.gram, ridge).mean(), 1e-10)
        assert_same(one["bound"], least / (least + ridge), 1e-10)


def test_one_ridge_is_that_of_the_model() -> None:
    p = problem(N, 4, 2)
    fitted = p.fitted(lo.GradientFlow(1.0, 0.25))
    got, want = error_rates(fitted, p.query), error_rates(fitted, p.query, ridges=[0.5, 0.25])
    assert got.sizes["ridge"] == 1
    for name in got:
        assert_same(got[name][0], want[name][1], 1e-12)


def test_the_model_that_was_given_keeps_its_ridge() -> None:
    p = problem(N, 4)
    fitted = p.fitted(lo.Ridge(0.25))
    before = lo.leave_one_out(fitted, p.query).values
    error_rates(fitted, p.query, ridges=[4.0])
    assert lo.leave_one_out(fitted, p.query).values.tolist() == before.tolist()


def test_without_ridge_all_is_missed() -> None:
    p = problem(N, 4, condition=100)
    got = error_rates(p.fitted(lo.Ridge(0.0)), p.query)
    assert (got["bound"] == 1).all()
    for name in ("mean_rate", "median_rate", "ratio_of_sums", "leverage", "pooled_median_rate"):
        assert_same(got[name], np.ones_like(got[name].values), 1e-14)


def test_under_a_large_ridge_the_classical_function_is_right() -> None:
    # |I − Î| = A I + (1 − A) term 2, and both leverage and α fall as 1/λ.
    p = problem(N, 4)
    one, other = (error_rates(p.fitted(lo.Ridge(ridge)), p.query) for ridge in (1e3, 1e4))
    assert one["pooled_ratio_of_sums"].item() < 1e-3
    ratio = (one["pooled_ratio_of_sums"].values / other["pooled_ratio_of_sums"].values).item()
    assert abs(ratio - 10) < 0.1


def test_theorem_3_holds_for_the_ratio_of_sums_but_for_term_2() -> None:
    p = problem(N, 6, 2, condition=30, top=4.0)
    got = error_rates(p.fitted(lo.Ridge(1.0)), p.query, ridges=RIDGES)
    for ridge in RIDGES:
        second = oracle.terms(p.whole, N, p.targets, ridge)[1]
        share = second.sum() / pairs(p, ridge)[1].sum()
        one = got.sel(ridge=ridge)
        assert float(one["pooled_ratio_of_sums"]) >= float(one["bound"]) - share - 1e-12


def blocked(m, uncoupled):
    """A problem whose training example 0 has nothing to do with the queries of `uncoupled`."""
    p = problem(N, m)
    whole = p.whole.copy()
    for query in uncoupled:
        whole[0, N + query] = whole[N + query, 0] = 0
    # Nothing else couples example 0, so its share of K⁻¹ does not reach the queries either.
    whole[0, 1:N] = whole[1:N, 0] = 0
    # What was cut may leave a matrix that is no kernel: a diagonal above every row's sum makes it one.
    return Problem(whole + np.abs(whole).sum(1).max() * np.eye(N + m), N, p.targets)


def test_pairs_without_influence_are_counted_and_left_out() -> None:
    p = blocked(5, [1, 3])
    got = error_rates(p.fitted(lo.Ridge(0.5)), p.query)
    missed, size = pairs(p, 0.5)
    size[[1, 3], 0] = 0  # the oracle has the rounding of its solves there
    there = size[:, 0] > 0
    rates = missed[there, 0] / size[there, 0]
    assert got["zeros"].values[0].tolist() == [2] + [0] * (N - 1)
    assert got["pooled_zeros"].values.tolist() == [2]
    assert_same(got["mean_rate"][0, 0], rates.mean(), 1e-9)
    assert_same(got["median_rate"][0, 0], np.median(rates), 1e-9)
    every = missed[size > 0] / size[size > 0]
    assert_same(got["pooled_median_rate"][0], np.median(every), 1e-9)
    assert_same(got["pooled_mean_rate"][0], every.mean(), 1e-9)


def test_an_example_without_any_influence_is_got_right() -> None:
    p = blocked(4, range(4))
    got = error_rates(p.fitted(lo.Ridge(0.5)), p.query).sel(train="0")
    assert got["zeros"].values.tolist() == [4]
    for name in ("mean_rate", "median_rate", "ratio_of_sums"):
        assert got[name].values.tolist() == [0.0]
    for name in got:
        assert np.isfinite(got[name].values).all()


def test_an_influence_of_0_where_the_classical_is_not_is_infinitely_wrong(monkeypatch) -> None:
    from leftout.diagnostics.influence_error import decomposition as module

    p = problem(N, 4)
    monkeypatch.setattr(module, "loss_changes", lambda *given: torch.zeros(4, N, dtype=torch.float64))
    got = error_rates(p.fitted(lo.Ridge(0.5)), p.query)
    for name in ("mean_rate", "median_rate", "ratio_of_sums", "pooled_mean_rate"):
        assert np.isposinf(got[name].values).all()
    assert (got["zeros"] == 4).all()


def test_blocks_of_queries_change_nothing() -> None:
    p = problem(N, 300, 2)
    whole, small = p.fitted(lo.Ridge(0.5)), p.fitted(lo.Ridge(0.5))
    small.rows.memory = 60_000  # sixty queries at a time
    want, got = error_rates(whole, p.query), error_rates(small, p.query)
    for name in want:
        # Rates of pairs near 0 carry their rounding; sums do not.
        assert_same(got[name], want[name], 1e-12 if "mean_rate" not in name else 1e-8)


def test_bad_ridges_and_too_many_pairs_are_refused(monkeypatch) -> None:
    p = problem(N, 4)
    fitted = p.fitted(lo.Ridge(0.5))
    words = "`ridges` must hold at least one ridge; got none."
    with pytest.raises(OptionError, match=re.escape(words)):
        error_rates(fitted, p.query, ridges=[])
    with pytest.raises(OptionError, match="`ridge` must be a finite number ≥ 0; got -1"):
        error_rates(fitted, p.query, ridges=[1.0, -1.0])
    mean = p.fitted(lo.Ridge(0.5, "mean"))
    with pytest.raises(OptionError, match="`fitted` must be trained on a sum of losses"):
        error_rates(mean, p.query)
    monkeypatch.setattr(fitted.rows, "memory", 16 * 4 * N - 1)
    words = f"The rates of all pairs (4 × {N}, twice) needs 640 B"
    with pytest.raises(MemoryBudgetError, match=re.escape(words)):
        error_rates(fitted, p.query)


def test_ridges_are_read_in_the_loss_of_the_model() -> None:
    p = problem(N, 4)
    mean = p.fitted(lo.GradientFlow(1.0, 0.0, "mean"))
    with pytest.raises(OptionError, match="`fitted` must be trained on a sum of losses: under a mean"):
        error_rates(mean, p.query, ridges=[0.05])
    # Without a ridge both readings are one.
    got = error_rates(mean, p.query, ridges=[0.0])
    assert_same(got["ratio_of_sums"], error_rates(p.fitted(lo.Ridge(0.0)), p.query)["ratio_of_sums"])


def test_the_result_says_that_its_rows_are_ridges_and_its_numbers_shares() -> None:
    p = problem(N, 4)
    attrs = error_rates(p.fitted(lo.Ridge(0.5)), p.query, ridges=[0.5, 1.0]).attrs
    assert attrs["units"] == "none: shares; `zeros` and `pooled_zeros` are numbers of pairs"
    assert attrs["orientation"].startswith("rows are ridges, columns training examples")


@pytest.mark.usefixtures("as_users_run_it")
def test_what_are_no_ridges_is_refused() -> None:
    p = problem(N, 4)
    fitted = p.fitted(lo.Ridge(0.5))
    with pytest.raises(OptionError, match=r"`ridges` must be a list of ridges; got 1\.0\."):
        error_rates(fitted, p.query, ridges=1.0)
    with pytest.raises(OptionError, match=re.escape("`ridge` must be a number ≥ 0, or \"auto\"; got 'a'.")):
        error_rates(fitted, p.query, ridges=["a"])
    with pytest.raises(OptionError, match=re.escape("`fitted` must be a model, from `fit`; got None.")):
        error_rates(None, p.query)
