"""Do conjugate gradients solve what they say they solve, and say so where they do not?"""

import dataclasses
import re

import numpy as np
import pytest
import torch

from leftout.core.errors import OptionError, SolveError
from leftout.solvers.conjugate_gradients import ConjugateGradients
from leftout.solvers.solution import Solution, Status

SIDE = 40
EPS = np.finfo(float).eps


def basis(seed=0, side=SIDE):
    draw = np.random.default_rng(seed)
    return torch.from_numpy(np.linalg.qr(draw.standard_normal((side, side)))[0])


def symmetric(values, seed=0):
    vectors = basis(seed, len(values))
    return (vectors * torch.as_tensor(np.asarray(values, dtype=float))) @ vectors.T


def columns(count, seed=1, side=SIDE):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((side, count)))


class Counted:
    """A matrix by its products, that counts them and the columns of each."""

    def __init__(self, matrix):
        self.matrix = matrix
        self.widths = []

    def __call__(self, x):
        self.widths.append(x.shape[1])
        return self.matrix @ x


SPECTRA = {
    "geometric": np.geomspace(1, 1e-3, SIDE),
    "linear": np.linspace(0.2, 1, SIDE),
    "one value": np.full(SIDE, 3.0),
    "small": 1e-9 * np.geomspace(1, 1e-2, SIDE),
    "large": 1e12 * np.geomspace(1, 1e-2, SIDE),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_a_positive_definite_system_is_solved_to_the_tolerance(name, frozen) -> None:
    values = SPECTRA[name]
    matrix, b = symmetric(values), columns(3)
    frozen(b, matrix)
    found = ConjugateGradients(rtol=1e-11).solve(Counted(matrix), b)
    assert found.status == (Status.SOLVED,) * 3
    assert found.is_solved
    assert found.advice == ""
    # The residual is the true one; the error of x is at most the condition number times it.
    true = (b - matrix @ found.value).norm(dim=0) / b.norm(dim=0)
    assert bool((found.residual <= 1e-11).all())
    torch.testing.assert_close(found.residual, true, rtol=0, atol=1e-14)
    want = torch.linalg.solve(matrix, b)
    error = (found.value - want).norm(dim=0) / want.norm(dim=0)
    assert bool((error <= 1e-11 * values.max() / values.min()).all())
    assert found.is_solved
    assert found.advice == ""


def test_columns_are_independent_systems() -> None:
    # Alone or among others: each within its residual times the condition number of the solution.
    spectrum = SPECTRA["geometric"]
    matrix, b = symmetric(spectrum), columns(4)
    together = ConjugateGradients().solve(Counted(matrix), b)
    for j in range(4):
        alone = ConjugateGradients().solve(Counted(matrix), b[:, j : j + 1])
        apart = (alone.value[:, 0] - together.value[:, j]).norm() / alone.value[:, 0].norm()
        residuals = float(alone.residual[0] + together.residual[j])
        assert float(apart) <= residuals * spectrum.max() / spectrum.min()
        assert int(alone.steps[0]) == pytest.approx(int(together.steps[j]), rel=0.1)


def test_a_matrix_of_few_distinct_eigenvalues_takes_as_many_steps() -> None:
    values = np.repeat([5.0, 2.0, 1.0, 0.5], SIDE // 4)
    found = ConjugateGradients().solve(Counted(symmetric(values)), columns(3))
    assert found.is_solved
    assert found.steps.tolist() == [4, 4, 4]


def test_the_steps_are_bounded_by_the_condition_number() -> None:
    # 2 ((√c − 1)/(√c + 1))^j in the norm of A; the residual may be √c worse.
    condition, rtol = 100.0, 1e-8
    values = np.linspace(1 / condition, 1, 300)
    vectors = basis(side=300)
    matrix = (vectors * torch.from_numpy(values)) @ vectors.T
    found = ConjugateGradients(rtol=rtol).solve(Counted(matrix), columns(2, side=300))
    rate = (condition**0.5 - 1) / (condition**0.5 + 1)
    allowed = np.log(rtol / (2 * condition**0.5)) / np.log(rate)
    assert found.is_solved
    assert int(found.steps.max()) <= allowed


def test_columns_that_are_done_cost_no_more_products() -> None:
    values = np.geomspace(1, 1e-3, SIDE)
    matrix = symmetric(values)
    easy = basis()[:, :1]  # an eigenvector: one step
    counted = Counted(matrix)
    found = ConjugateGradients().solve(counted, torch.cat([easy, columns(1)], dim=1))
    assert found.steps[0] == 1
    assert found.steps[1] > 10
    assert counted.widths[0] == 2
    assert set(counted.widths[2:-1]) == {1}
    assert counted.widths[-1] == 2, "the residual at the end is that of all"


def test_a_right_hand_side_of_zero_is_solved_by_zero() -> None:
    b = columns(2)
    b[:, 1] = 0
    found = ConjugateGradients().solve(Counted(symmetric(SPECTRA["linear"])), b)
    assert found.is_solved
    assert not found.value[:, 1].any()
    assert found.steps[1] == 0
    assert found.residual[1] == 0
    nothing = ConjugateGradients().solve(Counted(symmetric(SPECTRA["linear"])), b[:, :0])
    assert nothing.value.shape == (SIDE, 0)
    assert nothing.is_solved


@pytest.mark.parametrize("factor", [1e-7, 3.0, 1e9])
def test_scaling_matrix_and_right_hand_side_together_changes_nothing(factor) -> None:
    matrix, b = symmetric(SPECTRA["geometric"]), columns(2)
    one = ConjugateGradients().solve(Counted(matrix), b)
    other = ConjugateGradients().solve(Counted(factor * matrix), factor * b)
    # Each is within condition · rtol of the solution.
    torch.testing.assert_close(one.value, other.value, rtol=0, atol=2e-7 * float(one.value.norm()))


def test_negative_curvature_is_met_and_said() -> None:
    values = np.append(np.linspace(0.5, 1, SIDE - 1), -0.25)
    found = ConjugateGradients().solve(Counted(symmetric(values)), columns(2))
    assert found.status == (Status.INDEFINITE,) * 2
    assert not found.is_solved
    assert re.match(r"A direction had curvature -0\.\d+\.", found.note)
    words = (
        "2 of 2 right-hand sides met negative curvature: the Hessian is indefinite; use "
        'curvature="ggn", or a larger `damping`. Column'
    )
    assert words in found.advice
    assert found.note in found.advice


def test_negative_curvature_that_a_right_hand_side_does_not_see_is_no_obstacle() -> None:
    # A sound answer for that column: the system restricted to its invariant space is definite.
    values = np.append(np.full(SIDE - 1, 2.0), -0.25)
    vectors = basis()
    b = vectors[:, :2]  # eigenvectors of 2
    found = ConjugateGradients().solve(Counted(symmetric(values)), b)
    assert found.is_solved
    torch.testing.assert_close(found.value, b / 2, rtol=0, atol=1e-12)


@pytest.mark.parametrize("zeros", [1, 20, SIDE])
def test_a_singular_matrix_is_named_as_such(zeros) -> None:
    values = np.concatenate([np.linspace(1, 2, SIDE - zeros), np.zeros(zeros)])
    found = ConjugateGradients().solve(Counted(symmetric(values)), columns(3))
    assert found.status == (Status.SINGULAR,) * 3
    assert "met a direction without curvature: the matrix is sing" in found.advice


def test_a_singular_matrix_is_solved_where_the_right_hand_side_lies_in_its_range() -> None:
    values = np.concatenate([np.linspace(1, 2, 10), np.zeros(SIDE - 10)])
    matrix = symmetric(values)
    b = matrix @ columns(2)
    found = ConjugateGradients().solve(Counted(matrix), b)
    assert found.is_solved
    torch.testing.assert_close(matrix @ found.value, b, rtol=0, atol=1e-9)


def test_the_limit_of_steps_is_said_with_the_residual_that_is_left() -> None:
    matrix, b = symmetric(np.geomspace(1, 1e-6, SIDE)), columns(2)
    found = ConjugateGradients(max_steps=5).solve(Counted(matrix), b)
    assert found.status == (Status.STEP_LIMIT,) * 2
    assert found.steps.tolist() == [5, 5]
    worst = int(found.residual.argmax())
    words = (
        f"2 of 2 right-hand sides {Status.STEP_LIMIT}. Column {worst} has relative residual "
        f"{float(found.residual.max()):.2g} after 5 steps."
    )
    assert found.advice == words


def test_a_tolerance_below_rounding_ends_there_and_says_so() -> None:
    # eps · ‖A‖ |x| ≤ eps · cond · |b| = 2e-10 |b| is what a rounding of A alone leaves.
    matrix, b = symmetric(np.geomspace(1, 1e-6, SIDE)), columns(2)
    found = ConjugateGradients(rtol=1e-15, max_steps=4000).solve(Counted(matrix), b)
    assert found.status == (Status.ROUNDING,) * 2
    assert int(found.steps.max()) < 1000
    assert 1e-15 < float(found.residual.max()) <= 10 * EPS * 1e6
    assert "stopped where rounding ends it" in found.advice


def rounded_to(level, matrix):
    """Products with a random rounding of this level in every entry."""
    noise = torch.Generator().manual_seed(0)

    def apply(x):
        image = matrix @ x
        return image * (1 + level * torch.randn(image.shape, generator=noise, dtype=image.dtype))

    return apply


def test_a_recurrence_that_drifts_is_started_afresh_until_the_residual_is_true() -> None:
    matrix, b = symmetric(np.geomspace(1, 1e-3, SIDE)), columns(2)
    found = ConjugateGradients(rtol=1e-7).solve(rounded_to(1e-9, matrix), b)
    assert found.is_solved
    true = (b - matrix @ found.value).norm(dim=0) / b.norm(dim=0)
    assert bool((true <= 1.1e-7).all())


def test_products_that_are_rounded_more_than_doubles_end_at_their_own_rounding() -> None:
    matrix, b = symmetric(np.geomspace(1, 1e-2, SIDE)), columns(2)
    found = ConjugateGradients(rtol=1e-12).solve(rounded_to(1e-6, matrix), b)
    assert found.status == (Status.ROUNDING,) * 2
    assert int(found.steps.max()) < 500
    assert 1e-12 < float(found.residual.max()) < 1e-4


def test_the_residual_is_taken_from_its_definition_every_25_steps_and_at_the_end() -> None:
    counted = Counted(symmetric(np.geomspace(1, 1e-8, 80)))
    ConjugateGradients(max_steps=60).solve(counted, columns(1, side=80))
    assert len(counted.widths) == 60 + 2 + 1


def test_a_product_that_is_not_finite_is_said() -> None:
    with pytest.raises(SolveError, match="A product with the matrix is not finite"):
        ConjugateGradients().solve(lambda x: x * torch.nan, columns(1))


@pytest.mark.parametrize("rtol", [0.0, -1.0, 1.0, 2.0, float("nan")])
def test_rtol_outside_the_unit_interval_is_refused(rtol) -> None:
    with pytest.raises(OptionError, match=r"`rtol` must lie in \(0, 1\); got"):
        ConjugateGradients(rtol=rtol)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("steps", [0, -3, 2.5, True, "7"])
def test_a_number_of_steps_is_whole_and_positive(steps) -> None:
    words = rf"`max_steps` must be a whole number ≥ 1; got {steps!r}"
    with pytest.raises(OptionError, match=words):
        ConjugateGradients(max_steps=steps)


def test_options_are_frozen_and_recorded() -> None:
    solver = ConjugateGradients(rtol=1e-5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        solver.rtol = 1e-3
    assert solver.record == {"solver": "ConjugateGradients", "rtol": 1e-5, "max_steps": 1000}


def test_advice_is_about_the_worst_of_what_went_wrong() -> None:
    value, steps = torch.zeros(2, 3).double(), torch.tensor([7, 8, 9])
    residual = torch.tensor([0.5, 1e-12, 0.25]).double()
    status = (Status.STEP_LIMIT, Status.SADDLE, Status.SOLVED)
    found = Solution(value, status, residual, steps, "A number.")
    assert not found.is_solved
    assert found.advice == (
        f"1 of 3 right-hand sides {Status.STEP_LIMIT}. Column 0 has relative residual 0.5 after 7 "
        "steps. A number."
    )
    found = Solution(value, (Status.SOLVED, Status.SADDLE, Status.SOLVED), residual, steps)
    assert found.is_solved
    assert found.advice.startswith("1 of 3 right-hand sides solved, but the Hessian is indefinite")
