"""Does every refusal name the thing, the rule, what came and what to do? A message is code."""

import re

import jaxtyping
import numpy as np
import pytest
import torch

import leftout as lo
from leftout.core.errors import (
    DataError,
    DivergenceError,
    MemoryBudgetError,
    NotPositiveError,
    OptionError,
    ShapeError,
)
from problems.small import Problem, low_rank, problem

N = 10
P = problem(N, 3, spare=1)
P2 = problem(N, 3, 2)
NAN = float("nan")


def refused(kind, words, ask):
    with pytest.raises(kind, match=re.escape(words)) as caught:
        ask()
    assert isinstance(caught.value, lo.LeftoutError)
    assert isinstance(caught.value, ValueError)


@pytest.fixture(scope="module")
def fitted():
    return P.fitted(lo.Ridge(0.1))


@pytest.fixture(scope="module")
def flow():
    return P.fitted(lo.GradientFlow(1.0))


TIME = "`at` must be a time ≥ 0, or None for the end; got "
STEPS = "`at` must be a whole number of steps ≥ 0, or None for the end; got "


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("at", [-1, -1e-300, NAN, -np.inf, "5", True, 1j, [[1]]], ids=repr)
def test_a_time_that_is_none_is_refused(flow, at) -> None:
    words = TIME + (repr(at) if not isinstance(at, list) else "[1]")
    refused(OptionError, words, lambda: lo.leave_one_out(flow, P.query, at=at))
    refused(OptionError, TIME, lambda: lo.out_of_sample(flow, at=[1.0, at]))
    refused(OptionError, TIME, lambda: flow.predict(P.query[0], at=at))
    refused(OptionError, TIME, lambda: lo.certify(flow, P.query, at=at))


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("at", [-1, 2.5, 1e-9, NAN, -np.inf, "5", True], ids=repr)
def test_a_step_count_that_is_none_is_refused(at) -> None:
    fitted = P.fitted(lo.GradientDescent(1.0))
    refused(OptionError, STEPS + repr(at), lambda: lo.leave_one_out(fitted, P.query, at=at))
    refused(OptionError, STEPS, lambda: lo.certify(fitted, P.query, at=at))


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("at", [0, 3.0, NAN, "end"], ids=repr)
def test_ridge_regression_has_no_training_time(fitted, at) -> None:
    refused(
        OptionError,
        "`at` must be None under Ridge(ridge=0.1, loss='sum'), which has no training time; got "
        f"{at if isinstance(at, float | int) else at[0]!r}. Use GradientFlow or GradientDescent.",
        lambda: lo.leave_one_out(fitted, P.query, at=at),
    )


def test_no_time_at_all_is_refused(flow) -> None:
    words = "`at` must hold at least one training time; got none."
    refused(OptionError, words, lambda: lo.leave_one_out(flow, P.query, at=[]))
    refused(OptionError, words, lambda: lo.leave_out(flow, P.query, [[1]], at=()))
    refused(OptionError, words, lambda: lo.out_of_sample(flow, at=np.array([])))


@pytest.mark.usefixtures("as_users_run_it")
def test_several_times_are_refused_where_one_is_asked(flow) -> None:
    refused(OptionError, TIME + "[1.0, 2.0]", lambda: flow.predict(P.query[0], at=[1.0, 2.0]))
    refused(OptionError, TIME + "[1.0, 2.0]", lambda: lo.certify(flow, P.query, at=[1.0, 2.0]))


@pytest.mark.usefixtures("as_users_run_it")
def test_an_effect_on_something_else_is_refused(fitted) -> None:
    words = "`of` must be one of 'loss', 'prediction'; got 'accuracy'."
    query = P.query
    for ask in (
        lambda: lo.leave_one_out(fitted, query, of="accuracy"),
        lambda: lo.leave_out(fitted, query, [[1]], of="accuracy"),
        lambda: lo.relabel(fitted, query, 1, 0.0, of="accuracy"),
        lambda: lo.reweight(fitted, query, 1, 0.0, of="accuracy"),
        lambda: lo.add(fitted, query, query[0], 0.0, of="accuracy"),
    ):
        refused(OptionError, words, ask)


def test_top_is_refused_beyond_the_examples_and_beside_other_reductions(fitted) -> None:
    for top in (0, -1, N + 1):
        words = f"`top` must lie in 1 … {N}, the training examples; got {top}."
        refused(OptionError, words, lambda top=top: lo.leave_one_out(fitted, P.query, top=top))
    words = "`top` ranks influences on single queries: use it alone, with of='loss'."
    refused(OptionError, words, lambda: lo.leave_one_out(fitted, P.query, top=2, mean=True))
    refused(OptionError, words, lambda: lo.leave_one_out(fitted, P.query, top=2, of="prediction"))


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ([], "`groups` must hold at least one group of row numbers; got none."),
        ({}, "`groups` must hold at least one group of row numbers; got none."),
        ([[1], []], "`groups`: group 1 is empty; name at least one training row."),
        ({"a": []}, "`groups`: group 'a' is empty; name at least one training row."),
        ([[0, N]], f"`groups`: group 0 names row {N}; rows go from 0 to {N - 1}."),
        ([[-1]], f"`groups`: group 0 names row -1; rows go from 0 to {N - 1}."),
        ({"b": [2, 3, 2]}, "`groups`: group 'b' names a row twice; name each once."),
        ([[0, 1.5]], "`groups[0]` must be row numbers, whole and no truth values; got 1.5."),
        ([np.arange(N) < 3], "whole and no truth values; got True."),
        ([torch.arange(N) < 3], "whole and no truth values; got True."),
        ([["one"]], "whole and no truth values; got 'one'."),
        ([np.array([[1, 2]])], "whole and no truth values; got [1, 2]."),
    ],
)
@pytest.mark.usefixtures("as_users_run_it")
def test_a_group_that_is_none_is_refused(fitted, groups, words) -> None:
    refused(OptionError, words, lambda: lo.leave_out(fitted, P.query, groups))


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (N, f"`index` must be a row number from 0 to {N - 1}; got {N}."),
        (-1, f"`index` must be a row number from 0 to {N - 1}; got -1."),
        ([0, 99], f"`index` must be a row number from 0 to {N - 1}; got 99."),
        (1.0, "`index` must be row numbers, whole and no truth values; got 1.0."),
        (True, "`index` must be row numbers, whole and no truth values; got True."),
        (np.array([1.5]), "`index` must be row numbers, whole and no truth values; got 1.5."),
        ("3", "`index` must be row numbers, whole and no truth values; got '3'."),
        ([], "`index` must name at least one training example; got none."),
    ],
)
@pytest.mark.usefixtures("as_users_run_it")
def test_an_example_that_is_not_there_is_refused(fitted, index, words) -> None:
    refused(OptionError, words, lambda: lo.relabel(fitted, P.query, index, 0.0))
    refused(OptionError, words, lambda: lo.reweight(fitted, P.query, index, 0.5))


@pytest.mark.parametrize("weight", [-1e-9, NAN, float("inf")])
def test_a_weight_below_zero_is_refused(fitted, weight) -> None:
    words = f"`weight` must be a finite number ≥ 0; got {weight!r}."
    refused(OptionError, words, lambda: lo.reweight(fitted, P.query, 0, weight))


@pytest.mark.usefixtures("as_users_run_it")
def test_a_target_that_does_not_fit_is_refused(fitted) -> None:
    two = P2.fitted(lo.Ridge(0.1))
    columns = "`target` must hold 2 numbers an example, as in training; got "
    refused(OptionError, columns + "0.5.", lambda: lo.relabel(two, P2.query, 1, 0.5))
    refused(OptionError, columns, lambda: lo.add(two, P2.query, P2.query[0], 0.5))
    one = "`target` must hold 1 numbers an example, as in training; got 'cat'."
    refused(OptionError, one, lambda: lo.relabel(fitted, P.query, 1, "cat"))
    count = "`target` must hold one entry for all or one for each of 2 examples; got 3."
    refused(ShapeError, count, lambda: lo.relabel(fitted, P.query, [1, 2], [0.0, 1.0, 2.0]))
    finite = "`target` must be finite; got nan."
    refused(OptionError, finite, lambda: lo.relabel(fitted, P.query, 1, NAN))


@pytest.mark.parametrize("target", ["cat", 3, -1, 1.0, [0.0]])
@pytest.mark.usefixtures("as_users_run_it")
def test_a_class_that_training_does_not_have_is_refused(target) -> None:
    rows = torch.arange(N).double()
    fitted = lo.fit(P.kernel, (rows, np.arange(N) % 3), rule=lo.Ridge(0.1))
    words = "`target` must be a class of the training data, by name (0, 1, 2) or by number 0 … 2; got "
    query = (P.query[0], np.array([0, 1, 2]))
    got = repr(target[0] if isinstance(target, list) else target)
    refused(OptionError, words + got, lambda: lo.relabel(fitted, query, 1, target))


def test_new_examples_of_another_shape_are_refused(fitted) -> None:
    words = "`inputs` must have shape ('a',) like the training inputs; got (1, 2)."
    refused(ShapeError, words, lambda: lo.add(fitted, P.query, torch.zeros(1, 2), 0.0))
    refused(ShapeError, "got (0,)", lambda: lo.add(fitted, P.query, torch.zeros(0), 0.0))


def test_queries_unlike_the_training_examples_are_refused(fitted) -> None:
    column = (P.query[0][:, None], P.query[1])
    refused(ShapeError, "`query` inputs must have shape", lambda: lo.leave_one_out(fitted, column))
    refused(ShapeError, "must have 1 columns", lambda: lo.leave_one_out(fitted, P2.query))
    beyond = (torch.tensor([99.0]), torch.zeros(1, 1).double())
    refused(DataError, "`query` must be row numbers", lambda: lo.leave_one_out(fitted, beyond))
    other = lo.fit(P2.kernel, (P2.query[0], P2.query[1]), rule=lo.Ridge(0.1)).train
    refused(DataError, "coded as the training examples", lambda: lo.leave_one_out(fitted, other))


def test_a_copy_of_a_training_example_cannot_be_added_without_ridge() -> None:
    # Of condition 10: what rounding leaves of a copy, eps times that, is then below the n eps that counts as
    # nothing.
    p = problem(N, 3, spare=1, condition=10)
    fitted = p.fitted(lo.Ridge(0.0))
    both = torch.tensor([N + 3.0, 4.0])  # the first is new, the second is example 4
    words = (
        "Added example 1 makes the Gram matrix singular: its inputs are those of a training "
        "example, or depend on them. Pass a `ridge` > 0, or a finite `at`."
    )
    refused(NotPositiveError, words, lambda: lo.add(fitted, p.query, both, 1.0))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("alike", [True, False])
def test_repeated_inputs_without_ridge_are_named(seed, alike) -> None:
    # Rounding makes the last pivot positive in one case of three: no solution for all that.
    draw = np.random.default_rng(seed)
    x = draw.standard_normal((30, 10))
    x[17] = x[3]
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y = draw.standard_normal((30, 1))
    if alike:
        y[17] = y[3]
    fitted = lo.fit(lo.kernels.TwoLayerReLU(), (x, y), rule=lo.Ridge(0.0))
    words = (
        "Pass a larger `ridge`, ask for a finite training time, or drop repeated inputs. No jitter "
        "was added. Examples '3' and '17' have identical inputs and "
        f"{'the same target' if alike else 'different targets'}."
    )
    refused(NotPositiveError, words, lambda: lo.leave_one_out(fitted, (x[:2], y[:2])))
    refused(NotPositiveError, words, lambda: fitted.predict(x[:2]))
    refused(NotPositiveError, words, lambda: lo.out_of_sample(fitted))


@pytest.mark.parametrize("rank", [3, 9])
def test_a_singular_gram_matrix_has_no_end_without_ridge(rank) -> None:
    for seed in range(10):
        p = low_rank(N, 3, rank=rank, seed=seed)
        fitted = p.fitted(lo.GradientFlow(1.0))
        words = "`gram` + 0·I is not positive definite"
        refused(NotPositiveError, words, lambda f=fitted, q=p.query: lo.leave_one_out(f, q))


def test_a_time_beyond_what_rounding_resolves_is_refused() -> None:
    p = low_rank(N, 3, rank=3, seed=1)
    p = Problem(p.whole - 1e-16 * np.eye(N + 3), N, p.targets)  # as rounding could leave it
    fitted = p.fitted(lo.GradientFlow(1.0))
    words = "`at` = 1e+17 is beyond what double precision resolves: the Gram matrix is singular"
    refused(NotPositiveError, words, lambda: lo.leave_one_out(fitted, p.query, at=1e17))
    with pytest.raises(NotPositiveError, match=r"Ask for at ≤ (\S+), or pass a `ridge` > 0") as said:
        lo.leave_one_out(fitted, p.query, at=1e17)
    allowed = float(re.search(r"at ≤ (\S+),", str(said.value)).group(1))
    assert np.isfinite(lo.leave_one_out(fitted, p.query, at=allowed)).all()


@pytest.mark.parametrize("loss", ["sum", "mean"])
@pytest.mark.parametrize("ridge", [0.0, 0.05])
def test_the_critical_rate_is_named_as_the_user_would_pass_it(loss, ridge) -> None:
    top = np.linalg.eigvalsh(P.gram)[-1]

    def critical(left, top=top):
        return 2 / (top + ridge) if loss == "sum" else 2 * left / (top + left * ridge)

    kept = np.delete(np.arange(N), [1, 2, 3])
    # A group is judged by what remains, and by the whole, which is compared with.
    remaining = critical(N - 3, np.linalg.eigvalsh(P.gram[np.ix_(kept, kept)])[-1])
    group = min(critical(N), remaining)
    for left, ask in [
        (N, lambda fitted: fitted.predict(P.query[0], at=7)),
        (N - 1, lambda fitted: lo.leave_one_out(fitted, P.query, at=7)),
        (N - 1, lambda fitted: lo.out_of_sample(fitted)),
        (None, lambda fitted: lo.leave_out(fitted, P.query, [[1, 2, 3]], at=30)),
        (N, lambda fitted: lo.relabel(fitted, P.query, 1, 0.0, at=30)),
        (N - 0.5, lambda fitted: lo.reweight(fitted, P.query, 1, 0.5, at=30)),
        (N - 1, lambda fitted: lo.certify(fitted, P.query, at=30)),
    ]:
        rate = group if left is None else critical(left)
        words = (
            f"`rate` must be below the critical rate 2 / (s_max + ridge) = {rate:.6g}, or gradient "
            f"descent diverges; got {1.0001 * rate:g}."
        )
        ask(P.fitted(lo.GradientDescent(0.9999 * rate, ridge, loss)))
        bad = P.fitted(lo.GradientDescent(1.0001 * rate, ridge, loss))
        refused(DivergenceError, words, lambda ask=ask, bad=bad: ask(bad))


def test_a_negative_number_of_refits_is_refused(fitted) -> None:
    words = "`refit_examples` must be a whole number ≥ 0; got -1."
    refused(OptionError, words, lambda: lo.certify(fitted, P.query, refit_examples=-1))


def test_a_result_that_does_not_fit_is_refused_before_it_is_made(flow) -> None:
    small = P.fitted(lo.GradientFlow(1.0))
    small.rows.memory = 3000
    words = (
        "The result (20 × 3 × 10 × 1) needs 4.8 kB, more than the budget of 3 kB. Keep less of it: "
        "`top=` or `mean=True`; or ask for fewer queries or times."
    )
    refused(MemoryBudgetError, words, lambda: lo.leave_one_out(small, P.query, at=range(20)))
    assert not small.factorisations.has_spectrum, "nothing was computed"


@pytest.mark.slow  # as are annotations
def test_types_are_enforced_in_slow_tests(fitted, request) -> None:
    # The net under all other tests: shapes in signatures are checked while they run.
    if not request.config.getoption("jaxtyping_packages"):
        pytest.skip("annotations are checked by `make test-slow` and in the examples")
    with pytest.raises(jaxtyping.TypeCheckError, match="fitted"):
        lo.leave_one_out("no model", P.query)
    with pytest.raises(jaxtyping.TypeCheckError, match="inputs"):
        fitted.cross(torch.arange(3))
