"""Does the fitted model predict what training predicts, and make only what it is asked for?"""

import re

import numpy as np
import pytest
import torch

import leftout as lo
from laws import assert_same
from leftout.core.errors import MemoryBudgetError, NotPositiveError, OptionError, ShapeError
from leftout.kernels import assemble
from oracles import definitions as oracles
from problems.small import Problem, Started, low_rank, problem, rules, training

N = 13
RULES = rules(N)


@pytest.mark.parametrize("name", RULES)
def test_a_prediction_is_that_of_the_trained_model(name) -> None:
    rule, times = RULES[name]
    p = problem(N, 4, 2)
    start = np.random.default_rng(1).standard_normal(p.targets.shape)
    moved = Problem(p.whole, N, p.targets - start)
    plain, started = p.fitted(rule), p.fitted(rule, Started(p.whole, start))
    for time in times:
        told = training(rule, time)
        want = oracles.predictions(p.gram, p.cross, p.residual, told)
        assert_same(plain.predict(p.query[0], at=time), want)
        want = oracles.predictions(moved.gram, moved.cross, moved.residual, told)
        assert_same(started.predict(p.query[0], at=time), start[N:] + want)


def test_at_time_zero_it_is_the_start() -> None:
    p = problem(N, 4, 2)
    start = np.random.default_rng(1).standard_normal(p.targets.shape)
    for rule in (lo.GradientFlow(1.0), lo.GradientDescent(1.0)):
        fitted = p.fitted(rule, Started(p.whole, start))
        assert fitted.predict(p.query[0], at=0).tolist() == start[N:].tolist()
        assert not p.fitted(rule).predict(p.query[0], at=0).any()


def test_without_ridge_the_end_interpolates() -> None:
    p = problem(N, 4, 2)
    for rule in (lo.Ridge(0.0), lo.GradientFlow(1.0), lo.GradientDescent(1.0)):
        own = p.fitted(rule).predict(torch.arange(N).double())
        assert_same(own, p.residual, 1e-11)


def test_a_finite_time_on_a_singular_kernel_is_exact() -> None:
    p = low_rank(N, 4, 2)
    for rule, time in [(lo.GradientFlow(1.0), 1e4), (lo.GradientDescent(0.1), 5000)]:
        want = oracles.predictions(p.gram, p.cross, p.residual, training(rule, time))
        assert_same(p.fitted(rule).predict(p.query[0], at=time), want)


def test_the_dual_is_what_predicts_and_knows_its_total() -> None:
    p = problem(N, 4, 2)
    rule = lo.GradientFlow(5.0, 0.01, "mean")
    fitted = p.fitted(rule)
    for time in (0.0, 30.0, np.inf):
        predicted = fitted.predict(p.query[0], at=time)
        assert_same(fitted.cross(p.query[0]) @ fitted.dual(time), predicted, 1e-12)
    # With a total of n − 1: rate / (n − 1) and ridge · (n − 1) on the same Gram matrix.
    other = oracles.Training("flow", 5.0 / (N - 1), 0.01 * (N - 1), "sum", 30.0)
    assert_same(fitted.dual(30.0, total=N - 1), oracles.dual(p.gram, p.residual, other))
    other = oracles.Training("ridge", 1.0, 0.01 * (N - 1))
    assert_same(fitted.dual(np.inf, total=N - 1), oracles.dual(p.gram, p.residual, other))


def test_only_what_is_asked_for_is_made_and_then_it_is_kept() -> None:
    p = problem(N, 4)
    fitted = p.fitted(lo.GradientFlow(1.0, 0.1))
    assert not fitted.factorisations.has_spectrum
    fitted.predict(p.query[0])
    lo.leave_one_out(fitted, p.query)
    assert not fitted.factorisations.has_spectrum, "the end of training needs no eigenvalues"
    assert fitted.factor(0.1) is fitted.factor(0.1)
    assert fitted.inverse(0.1) is fitted.inverse(0.1)
    fitted.predict(p.query[0], at=1.0)
    assert fitted.spectrum is fitted.spectrum
    assert fitted.factor(0.2) is not fitted.factor(0.1)


def test_the_largest_eigenvalue_is_the_same_with_and_without_a_spectrum() -> None:
    p = problem(N, 4)
    products, spectrum = p.fitted(lo.Ridge()), p.fitted(lo.Ridge())
    assert spectrum.spectrum.largest == spectrum.largest
    assert products.largest == pytest.approx(spectrum.largest, rel=1e-9)
    assert not products.factorisations.has_spectrum


def test_inverse_and_factor_are_of_the_ridge_asked_for() -> None:
    p = problem(N, 4)
    fitted = p.fitted(lo.Ridge())
    for ridge in (0.1, 2.0, 0.1):
        shifted = torch.from_numpy(p.gram) + ridge * torch.eye(N, dtype=torch.float64)
        assert_same(shifted @ fitted.inverse(ridge), np.eye(N), 1e-12)
        assert fitted.factor(ridge).ridge == ridge


def test_a_model_describes_itself() -> None:
    p = problem(N, 4, 2)
    fitted = p.fitted(lo.GradientDescent(0.5), dtype=torch.float32)
    assert len(fitted) == N
    assert repr(fitted) == f"Fitted({fitted.kernel!r}, {N} examples, rule={fitted.rule!r})"
    assert fitted.device == torch.device("cpu")
    assert fitted.kernel_dtype == torch.float32
    assert fitted.gram.dtype == torch.float64
    assert fitted.record["kernel_dtype"] == "float32"
    assert fitted.record["rule"] == fitted.rule.record
    assert fitted.output_names == ["0", "1"]


def test_ridge_one_is_what_is_fitted_if_nothing_is_said() -> None:
    p = problem(N, 4)
    assert p.fitted(None).rule == lo.Ridge(1.0)
    assert p.fitted(None).rule.loss == "sum"


def test_single_precision_changes_the_kernel_and_nothing_after_it() -> None:
    p = problem(N, 4)
    rounded = Problem(p.whole.astype(np.float32).astype(float), N, p.targets)
    for rule, time in [(lo.Ridge(0.1), None), (lo.GradientFlow(1.0, 0.01), 40.0)]:
        got = p.fitted(rule, dtype=torch.float32).predict(p.query[0], at=time)
        assert_same(got, rounded.fitted(rule).predict(rounded.query[0], at=time), 1e-11)
        assert got.dtype == torch.float64


def test_queries_may_come_as_rows_examples_or_arrays() -> None:
    p = problem(N, 4)
    fitted = p.fitted(lo.Ridge(0.1))
    want = fitted.predict(p.query[0]).tolist()
    assert fitted.predict(p.query[0].numpy()).tolist() == want
    assert fitted.predict(p.query[0].tolist()).tolist() == want
    examples = lo.Examples(p.query[0], p.query[1], fitted.train.encoding)
    assert fitted.predict(examples).tolist() == want


def test_a_model_too_large_for_its_budget_is_refused_before_the_kernel() -> None:
    p = problem(N, 4)
    words = (
        "A model of 13 examples needs 4.06 kB, more than the budget of 4 kB. Take fewer examples "
        "(`n_train`), or raise `memory`."
    )
    with pytest.raises(MemoryBudgetError, match=re.escape(words)):
        p.fitted(lo.Ridge(), memory=4000)


@pytest.mark.parametrize(
    ("memory", "words"),
    [
        ("much", "`memory` must be a number of bytes or a size such as '4GB' or '512MiB'; got 'much'."),
        ("4 parsecs", "got '4 parsecs'."),
        ("", "got ''."),
        (0, "`memory` must be positive; got 0."),
        ("-1GB", "`memory` must be positive; got '-1GB'."),
        (float("nan"), "`memory` must be positive; got nan."),
    ],
)
def test_a_memory_that_is_no_size_is_refused(memory, words) -> None:
    with pytest.raises(OptionError, match=re.escape(words)):
        problem(N, 4).fitted(lo.Ridge(), memory=memory)


@pytest.mark.parametrize(("size", "same"), [("1MB", 10**6), ("1 MiB", 2**20), (5e5, 500_000)])
def test_a_memory_may_be_said_in_units(size, same) -> None:
    assert problem(N, 4).fitted(lo.Ridge(), memory=size).memory == same


def test_a_kernel_that_is_not_positive_is_refused_at_a_finite_time() -> None:
    p = problem(N, 4)
    indefinite = Problem(p.whole - 0.5 * np.eye(N + 4), N, p.targets)
    fitted = indefinite.fitted(lo.GradientFlow(1.0))
    with pytest.raises(NotPositiveError, match="`gram` must be positive semi-definite"):
        fitted.predict(p.query[0], at=1.0)
    with pytest.raises(NotPositiveError, match="is not positive definite"):
        fitted.predict(p.query[0])


def test_queries_the_kernel_is_not_defined_on_are_refused() -> None:
    fitted = problem(N, 4).fitted(lo.Ridge())
    with pytest.raises(ShapeError, match="`inputs` must be row numbers"):
        fitted.predict(torch.zeros(2, 3))


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(shape)


class TestRemembered:
    """What is kept of queries is what would be computed, and is not computed again."""

    def counted(self, monkeypatch, kernel, n=9):
        fitted = lo.fit(kernel, (numbers(n, 4), np.arange(n) % 2))
        calls = []
        monkeypatch.setattr(
            "leftout.kernels.assemble.cross",
            lambda *args, cross=assemble.cross, **kw: calls.append(1) or cross(*args, **kw),
        )
        return fitted, calls

    def test_slices_come_from_what_is_kept(self, monkeypatch):
        fitted, calls = self.counted(monkeypatch, lo.kernels.ReLU(1))
        queries = torch.tensor(numbers(6, 4))
        fresh = [fitted.cross(queries), fitted.cross(queries[2:5])]
        fitted.rows.keep_comparison(queries)
        before = len(calls)
        assert torch.equal(fitted.cross(queries), fresh[0])
        assert torch.equal(fitted.cross(queries[2:5]), fresh[0][2:5])
        assert len(calls) == before
        fitted.cross(queries.clone())
        assert len(calls) == before + 1

    def test_nothing_is_kept_beyond_an_eighth_of_the_memory(self, monkeypatch):
        fitted, calls = self.counted(monkeypatch, lo.kernels.ReLU(1), n=90)
        queries = torch.tensor(numbers(60, 4))
        monkeypatch.setattr(fitted.rows, "memory", 8 * 8 * 60 * 90 - 1)
        fitted.rows.keep_comparison(queries)
        assert not calls
        monkeypatch.setattr(fitted.rows, "memory", 8 * 8 * 60 * 90)
        fitted.rows.keep_comparison(queries)
        assert len(calls) == 1

    def test_a_kernel_that_sees_labels_keeps_its_pairs(self):
        aware = lo.kernels.LabelAware(lo.kernels.ReLU(1), "fjlt-v1")
        fitted = lo.fit(aware, (numbers(9, 4), np.arange(9) % 2))
        queries = torch.tensor(numbers(6, 4))
        fresh = fitted.cross(queries)
        fitted.rows.keep_comparison(queries)
        assert fitted.rows.compare(queries[1:3]).pairs.kernel.data_ptr() == (
            fitted.rows.compare(queries).pairs.kernel[1:].data_ptr()
        )
        torch.testing.assert_close(fitted.cross(queries[1:3]), fresh[1:3], rtol=1e-12, atol=1e-12)
        frozen = fitted.freeze_labels()
        assert (
            frozen.rows.compare(queries).pairs.kernel.data_ptr()
            == fitted.rows.compare(queries).pairs.kernel.data_ptr()
        )
