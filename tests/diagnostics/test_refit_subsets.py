"""Exact truth of a kernel model: every subset is a solve of its own."""

import numpy as np
import pytest
import torch

import leftout as lo
from laws import assert_same
from leftout.core.errors import MemoryBudgetError, OptionError

N, M, D = 30, 7, 4


def problem(k=2):
    draws = np.random.default_rng(1)
    x, y = draws.normal(size=(N + M, D)), draws.normal(size=(N + M, k))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return (x[:N], y[:N]), (x[N:], y[N:])


def gram_of(a, b):
    """A kernel by hand."""
    return (1 + a @ b.T) ** 3


def solved(kept, ridge):
    """The losses by numpy."""
    (x, y), (points, wanted) = problem()
    k = gram_of(x[kept], x[kept]) + ridge * np.eye(kept.sum())
    predicted = gram_of(points, x[kept]) @ np.linalg.solve(k, y[kept])
    return ((predicted - wanted) ** 2).sum(1) / 2


@pytest.mark.parametrize(("loss", "ridge"), [("sum", 0.1), ("sum", 10.0), ("mean", 0.01)])
def test_each_subset_is_a_solve_of_its_own(loss, ridge) -> None:
    train, query = problem()
    fitted = lo.fit(lo.kernels.From(gram_of), train, rule=lo.Ridge(ridge, loss))
    subsets = np.concatenate([lo.random_subsets(N, count=4), lo.random_subsets(N, count=2, fraction=0.2)])
    truth = lo.refit_subsets(fitted, query, subsets)
    assert truth.loss.dims == ("subset", "query")
    for row, kept in enumerate(subsets):
        added = ridge * (kept.sum() if loss == "mean" else 1)
        # cond(K + λI) is at most 30 · 8 / 0.1: 10 · cond · eps.
        assert_same(truth.loss[row], solved(kept, added), 1e-11)
    assert np.array_equal(truth.kept, subsets)


def test_all_but_one_is_leave_one_out() -> None:
    train, query = problem()
    fitted = lo.fit(lo.kernels.From(gram_of), train, rule=lo.Ridge(0.3))
    everything = np.ones((1, N), dtype=bool)
    truth = lo.refit_subsets(fitted, query, np.concatenate([everything, ~np.eye(N, dtype=bool)]))
    effects = truth.loss[1:].values - truth.loss[0].values
    assert_same(effects.T, lo.leave_one_out(fitted, query), 1e-10)


def test_at_a_finite_time_it_is_the_model_of_the_subset() -> None:
    train, query = problem()
    fitted = lo.fit(lo.kernels.From(gram_of), train, rule=lo.GradientFlow())
    kept = lo.random_subsets(N, count=2)
    truth = lo.refit_subsets(fitted, query, kept, at=0.5)
    for row, members in enumerate(kept):
        alone = lo.fit(
            lo.kernels.From(gram_of), (train[0][members], train[1][members]), rule=lo.GradientFlow()
        )
        want = (alone.predict(query[0], at=0.5) - torch.from_numpy(query[1])).square().sum(1) / 2
        assert_same(truth.loss[row], want, 1e-10)


def test_a_kernel_that_sees_labels_is_fitted_to_them_again() -> None:
    draws = np.random.default_rng(0)
    x = draws.normal(size=(26, 3))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y = np.arange(26) % 2
    kernel = lo.kernels.LabelAware(lo.kernels.ReLU(1), "kr-v1", 0.1)
    fitted = lo.fit(kernel, (x[:20], y[:20]), rule=lo.Ridge(0.5))
    kept = lo.random_subsets(20, count=2, fraction=0.7)
    truth = lo.refit_subsets(fitted, (x[20:], y[20:]), kept)
    for row, members in enumerate(kept):
        alone = lo.fit(kernel, (x[:20][members], y[:20][members]), rule=lo.Ridge(0.5))
        want = (alone.predict(x[20:])[:, 0].numpy() - (2 * y[20:] - 1)) ** 2 / 2
        assert_same(truth.loss[row], want, 1e-8)


def test_the_result_says_what_it_is_and_too_little_memory_is_refused() -> None:
    train, query = problem()
    fitted = lo.fit(lo.kernels.From(gram_of), train, rule=lo.Ridge(0.3))
    truth = lo.refit_subsets(fitted, query, {"first": [0, 1], "last": range(20, 30)})
    assert truth["subset"].values.tolist() == ["first", "last"]
    assert truth.attrs["method"] == "refit_subsets"
    assert truth.attrs["loss"] == "squared"
    assert truth.attrs["train_fingerprint"] == fitted.train.fingerprint
    with pytest.raises(OptionError, match="subset 0 names row 30"):
        lo.refit_subsets(fitted, query, [[30]])
    small = lo.fit(lo.kernels.From(gram_of), train, rule=lo.Ridge(0.3), memory=130_000)
    many = np.repeat(query[0], 100, axis=0), np.repeat(query[1], 100, axis=0)
    with pytest.raises(MemoryBudgetError, match="The kernel between 700 queries and 30 training examples"):
        lo.refit_subsets(small, many, [[0]])
