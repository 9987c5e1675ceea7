"""Does the recursion reach the solution, at the rate and up to the scale that theory says?"""

import re

import numpy as np
import pytest
import torch

from leftout.core.errors import MemoryBudgetError, NotPositiveError, OptionError
from leftout.solvers.conjugate_gradients import ConjugateGradients
from leftout.solvers.lissa import LiSSA
from leftout.solvers.solution import Status

SIDE, EXAMPLES = 12, 60


def symmetric(values, seed=0):
    draw = np.random.default_rng(seed)
    vectors = np.linalg.qr(draw.standard_normal((len(values), len(values))))[0]
    return torch.from_numpy((vectors * np.asarray(values, dtype=float)) @ vectors.T)


def columns(count, seed=1, side=SIDE):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((side, count)))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Sum:
    """Σ_i g_i g_iᵀ + ridge·I by its products, of all examples or estimated from some."""

    def __init__(self, ridge=20.0, seed=0):
        draw = np.random.default_rng(seed)
        self.rows = torch.from_numpy(draw.standard_normal((EXAMPLES, SIDE)))
        self.ridge = ridge
        self.drawn = []

    def __call__(self, x, rows=None):
        if rows is None:
            return self.rows.T @ (self.rows @ x) + self.ridge * x
        self.drawn.append(rows.tolist())
        some = self.rows[rows]
        return EXAMPLES / len(rows) * some.T @ (some @ x) + self.ridge * x

    @property
    def matrix(self):
        return self(torch.eye(SIDE, dtype=torch.float64))


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("scale", [None, 0.6, 1.0, 5.0])
def test_the_series_reaches_the_solution_whatever_the_scale_above_half_the_top(scale, factor, frozen) -> None:
    matrix = factor * symmetric(np.linspace(0.1, 1, SIDE))
    b = columns(3)
    frozen(b, matrix)
    given = None if scale is None else factor * scale
    found = LiSSA(scale=given, rtol=1e-9, depth=5000).solve(lambda x: matrix @ x, b)
    assert found.is_solved
    true = (b - matrix @ found.value).norm(dim=0) / b.norm(dim=0)
    torch.testing.assert_close(found.residual, true, rtol=0, atol=1e-13)
    # The error is at most the condition number, 10, times the residual.
    want = torch.linalg.solve(matrix, b)
    assert bool(((found.value - want).norm(dim=0) <= 1e-8 * want.norm(dim=0)).all())


def test_it_is_the_partial_sum_of_the_neumann_series() -> None:
    matrix, b = symmetric(np.linspace(0.1, 1, SIDE)), columns(2)
    found = LiSSA(scale=1.5, depth=7).solve(lambda x: matrix @ x, b)
    step = torch.eye(SIDE, dtype=torch.float64) - matrix / 1.5
    want = sum(torch.linalg.matrix_power(step, j) @ b for j in range(8)) / 1.5
    torch.testing.assert_close(found.value, want, rtol=1e-13, atol=1e-13)
    assert found.status == (Status.STEP_LIMIT,) * 2
    assert found.steps.tolist() == [7, 7]
    left = (torch.linalg.matrix_power(step, 8) @ b).norm(dim=0) / b.norm(dim=0)
    torch.testing.assert_close(found.residual, left, rtol=1e-10, atol=0)
    assert "stopped at its limit of steps" in found.advice


def test_the_steps_are_those_of_the_slowest_mode() -> None:
    # |(I − A/s)^j b| ≤ (1 − s_min/s)^j |b|.
    matrix = symmetric(np.linspace(0.05, 1, SIDE))
    found = LiSSA(scale=1.0, rtol=1e-8).solve(lambda x: matrix @ x, columns(4))
    assert found.is_solved
    allowed = np.log(1e-8) / np.log(0.95)
    assert 0.5 * allowed <= int(found.steps.max()) <= np.ceil(allowed)


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("depth", [40, 3000])
def test_a_scale_below_the_critical_one_is_recognised_and_the_number_named(depth, factor) -> None:
    matrix = factor * symmetric([*np.linspace(0.1, 0.8, SIDE - 1), 1.0])
    b = columns(3)
    found = LiSSA(scale=0.45 * factor, depth=depth).solve(lambda x: matrix @ x, b)
    assert found.status == (Status.DIVERGED,) * 3
    assert torch.isfinite(found.value).all(), "stopped before it overflows"
    assert int(found.steps.max()) <= 100
    words = (
        f"diverged: `scale` is too small for the recursion; pass a larger one, or None. Column "
        f"{int(found.residual.argmax())} has relative residual"
    )
    assert words in found.advice
    critical, top = re.search(
        r"must be above (\S+), half the largest eigenvalue (\S+)\.$", found.advice
    ).groups()
    assert float(critical) == pytest.approx(0.5 * factor, rel=1e-5)
    assert float(top) == pytest.approx(factor, rel=1e-5)
    # The number is the right one: just above it converges, just below it does not.
    above, below = (
        LiSSA(scale=share * float(critical), depth=20_000).solve(lambda x: matrix @ x, b)
        for share in (1.002, 0.998)
    )
    assert above.is_solved
    assert below.status == (Status.DIVERGED,) * 3


@pytest.mark.parametrize("scale", [None, 2.0])
def test_negative_curvature_is_told_from_a_small_scale(scale) -> None:
    matrix = symmetric([*np.linspace(0.5, 1, SIDE - 1), -0.2])
    found = LiSSA(scale=scale).solve(lambda x: matrix @ x, columns(2))
    assert found.status == (Status.INDEFINITE,) * 2
    said = re.match(r"The smallest eigenvalue is about (\S+)\.$", found.note)
    assert float(said.group(1)) == pytest.approx(-0.2, rel=1e-3)
    assert "the Hessian is indefinite; use" in found.advice


def test_a_column_of_zero_is_solved_by_zero() -> None:
    b = columns(2)
    b[:, 0] = 0
    apply = Sum()
    for solver in (LiSSA(), LiSSA(batch=30, generator=generator(), rtol=0.9)):
        found = solver.solve(apply, b, examples=EXAMPLES)
        assert found.is_solved
        assert not found.value[:, 0].any()
        assert found.residual[0] == 0


def test_drawing_all_examples_is_the_series() -> None:
    apply, b = Sum(), columns(2)
    series = LiSSA(scale=200.0, depth=30, rtol=1e-15).solve(apply, b)
    drawn = LiSSA(scale=200.0, depth=30, batch=EXAMPLES, generator=generator()).solve(
        apply, b, examples=EXAMPLES
    )
    torch.testing.assert_close(drawn.value, series.value, rtol=1e-12, atol=1e-14)


def test_the_draws_are_distinct_examples_of_the_callers_generator() -> None:
    b = columns(2)
    found = []
    for seed in (3, 3, 4):
        apply = Sum()
        solver = LiSSA(scale=300.0, depth=20, batch=7, repeats=2, generator=generator(seed))
        found.append((solver.solve(apply, b, examples=EXAMPLES), apply.drawn))
        assert all(len(set(rows)) == 7 for rows in apply.drawn)
        assert len(apply.drawn) == 40
        assert found[-1][0].steps.tolist() == [40, 40]
    assert found[0][1] == found[1][1]
    assert torch.equal(found[0][0].value, found[1][0].value)
    assert found[0][1] != found[2][1]


def test_drawn_recursions_are_right_on_average() -> None:
    # The recursion is linear in independent draws of mean A: its expectation is the series.
    apply, b = Sum(), columns(1)
    options = {"scale": 300.0, "depth": 40, "rtol": 1e-12}
    want = LiSSA(**options).solve(apply, b).value
    draws = generator()
    several = torch.stack(
        [
            LiSSA(**options, batch=10, generator=draws).solve(apply, b, examples=EXAMPLES).value
            for _ in range(200)
        ]
    )
    spread = several.std(0) / 200**0.5
    # 12 entries, each within 4 standard errors but in one case of 16 000.
    assert bool(((several.mean(0) - want).abs() <= 4 * spread).all())


def test_repeats_average_the_chance_away() -> None:
    apply, b = Sum(), columns(1)
    want = torch.linalg.solve(apply.matrix, b)

    def error(repeats):
        runs = [
            LiSSA(batch=10, depth=60, repeats=repeats, generator=generator(seed), rtol=0.99).solve(
                apply, b, examples=EXAMPLES
            )
            for seed in range(10)
        ]
        return np.mean([float((run.value - want).norm()) for run in runs])

    # √16 = 4, each mean over ten of relative spread about 0.2 / √10.
    assert 3 < error(1) / error(16) < 5.3


def test_the_residual_of_what_was_drawn_is_the_true_one() -> None:
    apply, b = Sum(), columns(2)
    found = LiSSA(batch=10, depth=50, repeats=4, generator=generator(), rtol=1e-9).solve(
        apply, b, examples=EXAMPLES
    )
    true = (b - apply(found.value)).norm(dim=0) / b.norm(dim=0)
    torch.testing.assert_close(found.residual, true, rtol=1e-12, atol=0)
    assert found.status == (Status.STEP_LIMIT,) * 2
    loose = LiSSA(batch=10, depth=50, repeats=4, generator=generator(), rtol=0.9).solve(
        apply, b, examples=EXAMPLES
    )
    assert loose.is_solved


def test_a_drawn_recursion_that_explodes_is_recognised() -> None:
    # One example of sixty speaks for all: A_j has a top eigenvalue of 60 |g_i|², far above A's.
    apply, b = Sum(), columns(2)
    top = float(torch.linalg.eigvalsh(apply.matrix)[-1])
    found = LiSSA(scale=0.6 * top, depth=300, batch=1, generator=generator()).solve(
        apply, b, examples=EXAMPLES
    )
    assert found.status == (Status.DIVERGED,) * 2
    assert torch.isfinite(found.value).all()
    words = r"`scale` must be above (\S+), half the largest eigenvalue \S+, the most of 8 drawn"
    critical = float(re.search(words, found.note).group(1))
    largest = max(EXAMPLES * float(row @ row) for row in apply.rows) + 20
    assert 0.6 * top < critical <= largest / 2
    calm = LiSSA(depth=300, batch=1, generator=generator(), rtol=0.999).solve(apply, b, examples=EXAMPLES)
    assert Status.DIVERGED not in calm.status, "the scale that it chooses itself"


def test_it_agrees_with_conjugate_gradients() -> None:
    apply, b = Sum(), columns(3)
    series = LiSSA(rtol=1e-10).solve(apply, b).value
    other = ConjugateGradients(rtol=1e-12).solve(apply, b).value
    torch.testing.assert_close(series, other, rtol=0, atol=1e-9 * float(other.norm()))


def test_a_matrix_without_a_positive_eigenvalue_has_no_scale() -> None:
    words = "The curvature matrix must have a positive eigenvalue; its largest is"
    for factor in (0.0, -1.0):
        with pytest.raises(NotPositiveError, match=words):
            LiSSA().solve(lambda x, factor=factor: factor * x, columns(1))


def test_finding_a_scale_needs_memory_and_says_so() -> None:
    words = (
        "Finding `scale` with 24 vectors of 12 numbers needs 2.3 kB, more than the budget of 2 kB. "
        "Pass `scale`, above half the largest eigenvalue, or raise `memory`."
    )
    with pytest.raises(MemoryBudgetError, match=re.escape(words)):
        LiSSA().solve(Sum(), columns(1), memory=2000)
    LiSSA(scale=100.0).solve(Sum(), columns(1), memory=2000)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scale": 0.0}, "`scale` must be a finite number > 0; got 0.0"),
        ({"scale": float("nan")}, "`scale` must be a finite number > 0; got nan"),
        ({"depth": 0}, "`depth` must be a whole number ≥ 1; got 0"),
        ({"repeats": 0}, "`repeats` must be a whole number ≥ 1; got 0"),
        ({"rtol": 1.0}, "`rtol` must lie in (0, 1); got 1.0"),
        ({"batch": 0}, "`batch` must be a whole number ≥ 1; got 0"),
        ({"batch": 3}, "`generator` must be a torch.Generator where `batch` draws examples"),
        ({"repeats": 2}, "`repeats` must be 1 without `batch`: all would be alike; got 2"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, words) -> None:
    with pytest.raises(OptionError, match=re.escape(words)):
        LiSSA(**options)


@pytest.mark.parametrize(("examples", "known"), [(None, "which was not given"), (5, "5")])
def test_a_batch_needs_as_many_examples(examples, known) -> None:
    words = f"`batch` must be at most the number of examples that the matrix is a sum over, {known}; got 6."
    with pytest.raises(OptionError, match=re.escape(words)):
        LiSSA(batch=6, generator=generator()).solve(Sum(), columns(1), examples=examples)


def test_options_are_recorded_with_the_seed() -> None:
    assert LiSSA().record == {
        "solver": "LiSSA",
        "scale": None,
        "depth": 1000,
        "batch": None,
        "repeats": 1,
        "rtol": 1e-6,
    }
    assert LiSSA(batch=5, generator=generator(7)).record["seed"] == 7
