"""Are `top=` and `mean=` what one would make of the whole array?"""

import numpy as np
import pytest
import torch
import xarray as xr

import leftout as lo
from laws import assert_same
from problems.small import problem

N = 13
CASES = [(lo.Ridge(0.02), [None]), (lo.GradientFlow(12.0, 1e-3, "mean"), [0.5, 80.0, None])]
EVERY = pytest.mark.parametrize(("rule", "times"), CASES, ids=["ridge", "flow"])


@EVERY
@pytest.mark.parametrize("top", [1, 4, N])
def test_top_is_the_head_and_the_tail_of_the_sorted_row(rule, times, top) -> None:
    p = problem(N, 6, 2)
    fitted = p.fitted(rule)
    whole = lo.leave_one_out(fitted, p.query, at=times).values
    got = lo.leave_one_out(fitted, p.query, at=times, top=top)
    assert isinstance(got, xr.Dataset)
    assert got.helpful.dims == ("at", "query", "rank")
    assert got.coords["rank"].values.tolist() == list(range(1, top + 1))
    order = np.sort(whole, axis=-1)
    assert_same(got.helpful, order[..., ::-1][..., :top], 1e-13)
    assert_same(got.harmful, order[..., :top], 1e-13)
    for name in ("helpful", "harmful"):
        rows = got[f"{name}_train"].values
        assert rows.dtype == np.int64
        assert_same(np.take_along_axis(whole, rows, axis=-1), got[name], 1e-13)


@EVERY
@pytest.mark.parametrize("of", ["loss", "prediction"])
def test_mean_is_the_mean_over_queries(rule, times, of) -> None:
    p = problem(N, 6, 2)
    fitted = p.fitted(rule)
    whole = lo.leave_one_out(fitted, p.query, at=times, of=of)
    got = lo.leave_one_out(fitted, p.query, at=times, of=of, mean=True)
    assert got.dims == tuple(axis for axis in whole.dims if axis != "query")
    assert_same(got, whole.mean("query"), 1e-12)
    assert got.attrs["mean_over"] == "query"


def test_one_time_has_no_axis_in_a_reduction_either() -> None:
    p = problem(N, 6)
    fitted = p.fitted(lo.GradientFlow(1.0))
    assert lo.leave_one_out(fitted, p.query, at=3.0, mean=True).dims == ("train",)
    ranked = lo.leave_one_out(fitted, p.query, at=3.0, top=2)
    assert ranked.helpful.dims == ("query", "rank")
    assert ranked.attrs["at"] == 3.0


def test_reductions_answer_where_the_whole_would_not_fit() -> None:
    p = problem(N, 400, 1)
    fitted = p.fitted(lo.Ridge(0.02))
    fitted.rows.memory = 150_000
    times = [None] * 5
    with pytest.raises(lo.LeftoutError, match=r"The result \(5 × 400 × 13 × 1\) needs 208 kB"):
        lo.leave_one_out(fitted, p.query, at=times)
    with pytest.raises(lo.LeftoutError, match="`top=` or `mean=True`"):
        lo.leave_one_out(fitted, p.query, at=times, of="prediction")
    roomy = p.fitted(lo.Ridge(0.02))
    whole = lo.leave_one_out(roomy, p.query)
    assert_same(lo.leave_one_out(fitted, p.query, at=times, mean=True)[4], whole.mean("query"), 1e-12)
    best = lo.leave_one_out(fitted, p.query, at=times, top=1).helpful[2, :, 0]
    assert_same(best, whole.max("train"), 1e-12)


def test_a_tie_is_broken_without_losing_an_example() -> None:
    p = problem(N, 2)
    fitted = p.fitted(lo.GradientFlow(1.0))
    got = lo.leave_one_out(fitted, p.query, at=0.0, top=N)  # every influence is 0
    assert np.sort(got.helpful_train.values).tolist() == [list(range(N))] * 2
    assert not got.helpful.values.any()
    assert torch.get_default_dtype() == torch.float32, "the default type is the user's"


@EVERY
def test_pieces_of_the_training_examples_change_nothing(rule, times, monkeypatch) -> None:
    p = problem(N, 6, 2)
    fitted = p.fitted(rule)
    top, mean = (lo.leave_one_out(fitted, p.query, at=times, **kept) for kept in ({"top": 4}, {"mean": True}))
    for name in ("COLUMNS", "STREAMED"):
        monkeypatch.setattr(f"leftout.attribution.engine.single_changes.{name}", 3)
    assert_same(lo.leave_one_out(fitted, p.query, at=times, mean=True), mean, 1e-13)
    in_pieces = lo.leave_one_out(fitted, p.query, at=times, top=4)
    for name in ("helpful", "harmful"):
        assert_same(in_pieces[name], top[name], 1e-13)
        assert np.array_equal(in_pieces[f"{name}_train"], top[f"{name}_train"])
