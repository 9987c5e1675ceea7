"""Is a group's complexity the norm with everyone minus the norm of a model without it?"""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import leftout as lo
from laws import assert_same
from leftout.core.errors import NotPositiveError, OptionError
from leftout.diagnostics import complexity as module
from leftout.diagnostics.complexity import complexity
from oracles import diagnostics as oracle
from problems.small import Problem, Started, low_rank, problem, training

N = 12
EVERYONE = list(range(N))
GROUPS = [[3], [3, 7], [7, 2, 11, 0, 5], EVERYONE[1:], EVERYONE, [3, 7]]
EPS = np.finfo(float).eps
CONDITION = 1e3

RULES = {
    "Ridge 0": lo.Ridge(0.0),
    "Ridge": lo.Ridge(0.05),
    "mean Ridge": lo.Ridge(0.005, "mean"),
    "flow": lo.GradientFlow(1.0, 0.02),
    "descent": lo.GradientDescent(1.5),
}


def close(got, want, total):
    """Within 10·cond·eps of the norm with everyone: what the docstring promises."""
    assert np.abs(np.asarray(got) - np.asarray(want)).max() <= 10 * CONDITION * EPS * total


@pytest.mark.parametrize("k", [1, 3])
def test_it_is_the_norm_with_everyone_minus_that_of_an_interpolant_without(k) -> None:
    p = problem(N, 2, k, condition=CONDITION, seed=k)
    got = complexity(p.fitted(lo.Ridge(0.3)), GROUPS)
    assert got.dims == ("group",)
    total = oracle.norm(p.gram, p.residual)
    assert_same(got.attrs["total"], total, 10 * CONDITION * EPS)
    close(got.values, oracle.complexity(p.gram, p.residual, GROUPS), total)


@pytest.mark.parametrize("name", RULES)
def test_of_the_model_as_it_was_trained_likewise(name) -> None:
    p = problem(N, 2, 2, condition=CONDITION, seed=4)
    rule = RULES[name]
    got = complexity(p.fitted(rule), GROUPS, of="fitted")
    total = oracle.norm(p.gram, p.residual, training(rule))
    assert_same(got.attrs["total"], total, 10 * CONDITION * EPS)
    close(got.values, oracle.complexity(p.gram, p.residual, GROUPS, training(rule)), total)


def test_without_ridge_the_model_as_trained_is_the_interpolant() -> None:
    p = problem(N, 2, 2, condition=CONDITION)
    fitted = p.fitted(lo.Ridge(0.0))
    one, other = complexity(fitted, GROUPS), complexity(fitted, GROUPS, of="fitted")
    close(other.values, one.values, one.attrs["total"])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_it_is_never_negative_and_grows_with_the_group(data) -> None:
    n = data.draw(st.integers(2, 10))
    larger = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=n, unique=True))
    smaller = larger[: data.draw(st.integers(1, len(larger)))]
    p = problem(n, 2, data.draw(st.integers(1, 3)), condition=1e3, seed=data.draw(st.integers(0, 999)))
    got = complexity(p.fitted(lo.Ridge(1.0)), [smaller, larger])
    small, large = got.values
    assert small >= 0
    assert large >= small - 10 * CONDITION * EPS * got.attrs["total"]
    assert large <= got.attrs["total"] * (1 + 10 * CONDITION * EPS)


def test_of_all_examples_it_is_the_whole_norm() -> None:
    p = problem(N, 2, 2)
    for of in ("interpolant", "fitted"):
        got = complexity(p.fitted(lo.Ridge(0.3)), [EVERYONE], of=of)
        assert_same(got.values, [got.attrs["total"]], 1e-14)


def test_a_kernel_c_times_as_large_has_a_root_of_c_less() -> None:
    p = problem(N, 2, 2)
    scaled = Problem(7 * p.whole, N, p.targets)
    for of, ridge in (("interpolant", 1.0), ("fitted", 0.1)):
        one = complexity(p.fitted(lo.Ridge(ridge)), GROUPS, of=of)
        other = complexity(scaled.fitted(lo.Ridge(7 * ridge)), GROUPS, of=of)
        assert_same(other.values, one.values / np.sqrt(7), 1e-11)


def test_targets_c_times_as_large_have_c_times_the_complexity() -> None:
    p = problem(N, 2, 2)
    scaled = Problem(p.whole, N, -3 * p.targets)
    for of in ("interpolant", "fitted"):
        one = complexity(p.fitted(lo.Ridge(0.1)), GROUPS, of=of)
        assert_same(complexity(scaled.fitted(lo.Ridge(0.1)), GROUPS, of=of), 3 * one.values, 1e-11)


def test_the_order_of_examples_and_groups_does_not_matter() -> None:
    p = problem(N, 2, 2)
    order = np.random.default_rng(0).permutation(N)
    place = np.argsort(order)
    moved = [[int(place[i]) for i in group] for group in GROUPS]
    for of in ("interpolant", "fitted"):
        one = complexity(p.fitted(lo.Ridge(0.1)), GROUPS, of=of)
        other = complexity(p.permuted(order).fitted(lo.Ridge(0.1)), moved[::-1], of=of)
        assert_same(other.values[::-1], one.values, 1e-11)


@pytest.mark.parametrize("ridge", [0.0, 0.3, 1e6])
def test_the_ridge_is_no_part_of_the_interpolant(ridge) -> None:
    p = problem(N, 2)
    want = complexity(p.fitted(lo.Ridge(1.0)), GROUPS).values
    assert complexity(p.fitted(lo.Ridge(ridge)), GROUPS).values.tolist() == want.tolist()


def test_under_a_large_ridge_the_model_as_trained_has_the_norm_of_one_gradient_step() -> None:
    # u = (K + λ)⁻¹Y → Y/λ, so the norm is √(YᵀKY)/λ, to relative s_max/λ = 1e-7.
    p = problem(N, 2, 2)
    got = complexity(p.fitted(lo.Ridge(1e7)), GROUPS, of="fitted")
    step = [np.sqrt(np.trace(p.residual.T @ p.gram @ p.residual))]
    for rows in GROUPS:
        left = p.residual.copy()
        left[rows] = 0
        step.append(np.sqrt(np.trace(left.T @ p.gram @ left)))
    assert_same(got.values * 1e7, step[0] - np.array(step[1:]), 1e-5)


def test_a_share_of_one_in_1e18_is_not_lost_in_the_difference() -> None:
    # On a diagonal kernel √(1 + 1e-18) − 1 = 5e-19, which no difference of doubles can show.
    whole = np.diag([1.0, 1.0, 1.0])
    p = Problem(whole, 2, np.array([[1.0], [1e-9], [0.0]]))
    for of, factor in (("interpolant", 1.0), ("fitted", 0.5)):
        got = complexity(p.fitted(lo.Ridge(1.0)), [[1]], of=of)
        assert_same(got.values, [factor * 5e-19], 1e-9)


def test_where_nothing_is_left_without_the_group_no_digit_is_lost() -> None:
    # The remaining norm is 0; from a difference of squares it would be √eps.
    p = problem(N, 2, condition=CONDITION)
    targets = p.targets.copy()
    targets[3:N] = 0
    p = Problem(p.whole, N, targets)
    got = complexity(p.fitted(lo.Ridge(0.1)), [[0, 1, 2]])
    close(got.values, [got.attrs["total"]], got.attrs["total"])


def test_groups_share_a_solve_and_do_not_mix(monkeypatch) -> None:
    p = problem(N, 2, 2)
    fitted = p.fitted(lo.Ridge(0.1))
    singles = [[i] for i in EVERYONE]
    together = complexity(fitted, singles + GROUPS).values
    for columns in (1, 3, 5):
        monkeypatch.setattr(module, "COLUMNS", columns)
        assert_same(complexity(fitted, singles + GROUPS).values, together, 1e-12)


def test_no_inverse_is_made_for_the_interpolant(monkeypatch) -> None:
    p = problem(N, 2)
    fitted = p.fitted(lo.Ridge(0.1))
    monkeypatch.setattr(lo.Fitted, "inverse", lambda *_: pytest.fail("an inverse was made"))
    complexity(fitted, GROUPS)


def test_what_the_network_starts_from_is_not_counted() -> None:
    p = problem(N, 2, 2)
    start = np.random.default_rng(0).standard_normal(p.targets.shape)
    moved = Problem(p.whole, N, p.targets + start)
    for of in ("interpolant", "fitted"):
        want = complexity(p.fitted(lo.Ridge(0.1)), GROUPS, of=of)
        got = complexity(moved.fitted(lo.Ridge(0.1), Started(p.whole, start)), GROUPS, of=of)
        assert_same(got.values, want.values, 1e-11)


def test_a_model_of_targets_that_are_all_zero_has_no_complexity() -> None:
    p = Problem(problem(N, 2).whole, N, np.zeros((N + 2, 1)))
    for of in ("interpolant", "fitted"):
        assert not complexity(p.fitted(lo.Ridge(0.1)), GROUPS, of=of).values.any()


def test_the_model_as_trained_may_be_simpler_with_a_group() -> None:
    # The copy of an example with the opposite label makes the function flat there.
    p = problem(N, 2)
    rows = np.concatenate([[0], np.arange(N + 2)])
    targets = p.targets[rows].copy()
    targets[0] *= -1
    twice = Problem(p.whole[np.ix_(rows, rows)], N + 1, targets)
    got = complexity(twice.fitted(lo.Ridge(0.05)), [[0]], of="fitted")
    want = oracle.complexity(twice.gram, twice.residual, [[0]], training(lo.Ridge(0.05)))
    assert_same(got.values, want, 1e-9)
    assert want[0] < 0


def test_a_singular_kernel_is_refused_and_the_other_norm_offered() -> None:
    p = low_rank(N, 2, rank=4)
    fitted = p.fitted(lo.Ridge(0.1))
    with pytest.raises(NotPositiveError) as caught:
        complexity(fitted, GROUPS)
    assert str(caught.value) == (
        "`of`='interpolant' needs a Gram matrix that can be inverted without ridge, and this one is "
        "singular to rounding: nothing passes through all targets. Pass of='fitted' for the norm of "
        "the model as it was trained, or drop repeated inputs."
    )
    got = complexity(fitted, GROUPS, of="fitted")
    want = oracle.complexity(p.gram, p.residual, GROUPS, training(lo.Ridge(0.1)))
    assert np.abs(got.values - want).max() <= 1e-10 * got.attrs["total"]


def test_repeated_inputs_are_named() -> None:
    train, _ = lo.load("digits", n_train=30, seed=0)
    twice = train.select([*range(30), 7])
    fitted = lo.fit(lo.kernels.TwoLayerReLU(), twice)
    words = f"Examples {train.ids[7]!r} and {train.ids[7]!r} have identical inputs. Pass of='fitted'"
    with pytest.raises(NotPositiveError, match=re.escape(words)):
        complexity(fitted, [[1]])


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ([], "`groups` must hold at least one group of row numbers; got none."),
        ({"a": []}, "`groups`: group 'a' is empty; name at least one training row."),
        ([[0, N]], f"`groups`: group 0 names row {N}; rows go from 0 to {N - 1}."),
        ({"b": [2, 3, 2]}, "`groups`: group 'b' names a row twice; name each once."),
    ],
)
def test_groups_are_checked_as_for_leave_out(groups, words) -> None:
    for of in ("interpolant", "fitted"):
        with pytest.raises(OptionError, match=re.escape(words)):
            complexity(problem(N, 2).fitted(lo.Ridge(0.1)), groups, of=of)


@pytest.mark.usefixtures("as_users_run_it")
def test_another_norm_is_refused() -> None:
    words = "`of` must be one of 'interpolant', 'fitted'; got 'kernel'."
    with pytest.raises(OptionError, match=re.escape(words)):
        complexity(problem(N, 2).fitted(lo.Ridge(0.1)), [[1]], of="kernel")


def test_a_diverging_rate_is_refused_for_the_model_as_trained() -> None:
    fitted = problem(N, 2).fitted(lo.GradientDescent(2.1))
    with pytest.raises(lo.LeftoutError, match="critical rate"):
        complexity(fitted, [EVERYONE], of="fitted")


def test_groups_are_named_and_the_result_says_what_it_is(frozen) -> None:
    p = problem(N, 2)
    fitted = p.fitted(lo.Ridge(0.1))
    frozen(fitted.gram, fitted.residual)
    got = complexity(fitted, {"even": range(0, N, 2), 7: torch.tensor([1, 3])})
    assert got.name == "complexity"
    assert got.coords["group"].values.tolist() == ["even", "7"]
    assert got.attrs["of"] == "interpolant"
    assert got.attrs["sign"].startswith("norm with everyone minus norm without the group: ≥ 0")
    assert got.attrs["train_fingerprint"] == fitted.train.fingerprint
    assert got.attrs["fitted_fingerprint"] == fitted.record["weights"]


@pytest.mark.usefixtures("as_users_run_it")
def test_what_are_no_groups_and_no_model_is_refused() -> None:
    fitted = problem(N, 2).fitted(lo.Ridge(0.1))
    with pytest.raises(OptionError, match=re.escape("`groups` must be groups of row numbers; got None.")):
        complexity(fitted, None)
    with pytest.raises(OptionError, match=re.escape("`fitted` must be a model, from `fit`; got None.")):
        complexity(None, [[1]])


def aware_of(strength: float, *, frozen: bool) -> lo.Fitted:
    """Return a model whose kernel has seen labels, of points at random."""
    inputs = torch.nn.functional.normalize(
        torch.randn(20, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    )
    kernel = lo.kernels.LabelAware(lo.kernels.ReLU(1), "kr-v1", strength, frozen=frozen)
    return lo.fit(kernel, (inputs, torch.arange(20) % 2), rule=lo.Ridge(1.0))


@pytest.mark.parametrize("of", ["interpolant", "fitted"])
def test_functions_of_an_indefinite_kernel_have_no_norm(of) -> None:
    fitted = aware_of(3.0, frozen=True)
    assert float(torch.linalg.eigvalsh(fitted.gram)[0]) < -1
    with pytest.raises(NotPositiveError, match=r"no norm.*down to -\d"):
        complexity(fitted, [[0, 1]], of=of)
    with pytest.raises(OptionError, match="freeze_labels"):
        complexity(aware_of(0.1, frozen=False), [[0, 1]], of=of)


@pytest.mark.parametrize("of", ["interpolant", "fitted"])
def test_a_kernel_that_stays_as_labels_made_it_is_one_like_any(of) -> None:
    fitted = aware_of(0.1, frozen=True)
    rows = (torch.arange(20.0).double(), fitted.train.labels)
    same = lo.fit(lo.kernels.Precomputed(fitted.gram), rows, rule=fitted.rule)
    found, wanted = (complexity(one, [[0, 1], [4]], of=of) for one in (fitted, same))
    np.testing.assert_allclose(found.values, wanted.values, rtol=1e-12)
