"""Is a matrix known by its products solved as if it had been given?"""

import re

import numpy as np
import pytest
import torch

from leftout.core.errors import MemoryBudgetError, SolveError
from leftout.solvers.conjugate_gradients import ConjugateGradients
from leftout.solvers.dense_curvature import Exact
from leftout.solvers.solution import Status

EPS = np.finfo(float).eps


def symmetric(values, seed=0):
    draw = np.random.default_rng(seed)
    vectors = np.linalg.qr(draw.standard_normal((len(values), len(values))))[0]
    return torch.from_numpy((vectors * np.asarray(values, dtype=float)) @ vectors.T)


def columns(side, count, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((side, count)))


def apply_of(matrix):
    return lambda x: matrix @ x


@pytest.mark.parametrize("condition", [1.0, 1e3, 1e9])
@pytest.mark.parametrize("side", [1, 7, 300])
def test_it_solves_the_system(side, condition, frozen) -> None:
    matrix, b = symmetric(np.geomspace(1, 1 / condition, side)), columns(side, 3)
    frozen(matrix, b)
    found = Exact().solve(apply_of(matrix), b)
    assert found.status == (Status.SOLVED,) * 3
    assert found.steps.tolist() == [0, 0, 0]
    true = (b - matrix @ found.value).norm(dim=0) / b.norm(dim=0)
    torch.testing.assert_close(found.residual, true, rtol=0, atol=10 * EPS * condition * side)
    want = torch.linalg.solve(matrix, b)
    error = (found.value - want).norm() / want.norm()
    assert error <= 10 * side**0.5 * condition * EPS


def test_it_agrees_with_conjugate_gradients() -> None:
    matrix, b = symmetric(np.geomspace(1, 1e-2, 30)), columns(30, 2)
    exact = Exact().solve(apply_of(matrix), b).value
    other = ConjugateGradients(rtol=1e-13).solve(apply_of(matrix), b).value
    torch.testing.assert_close(exact, other, rtol=0, atol=1e-11 * float(exact.norm()))


def test_an_indefinite_matrix_is_solved_and_its_smallest_eigenvalue_said() -> None:
    matrix, b = symmetric([3.0, 2.0, 1.0, 0.5, -0.125]), columns(5, 2)
    found = Exact().solve(apply_of(matrix), b)
    assert found.status == (Status.SADDLE,) * 2
    torch.testing.assert_close(found.value, torch.linalg.solve(matrix, b))
    assert found.note == "The smallest eigenvalue is -0.125, the largest 3."
    assert re.match(
        r"2 of 2 right-hand sides solved, but the Hessian is indefinite: the network is not at a "
        r'minimum; train on, or use curvature="ggn" or a larger `damping`\. Column . has relative '
        r"residual \S+ after 0 steps\. The smallest eigenvalue is -0\.125, the largest 3\.",
        found.advice,
    )


def singular(rank, side=6, seed=0):
    root = columns(side, rank, seed)
    return root @ root.T


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("rank", [0, 1, 5])
def test_a_singular_matrix_has_no_solution_that_looks_like_one(rank, seed) -> None:
    # Rounding makes the last pivot positive in some cases, negative or zero in others.
    matrix = singular(rank, seed=seed)
    found = Exact().solve(apply_of(matrix), columns(6, 2))
    assert found.status == (Status.SINGULAR,) * 2
    assert "met a direction without curvature: the matrix is sing" in found.advice


def test_a_right_hand_side_of_zero_is_solved_by_zero() -> None:
    b = columns(5, 2)
    b[:, 0] = 0
    for matrix in (symmetric([5, 4, 3, 2, 1.0]), symmetric([5, 4, 3, 2, -1.0])):
        found = Exact().solve(apply_of(matrix), b)
        assert found.is_solved
        assert not found.value[:, 0].any()
        assert found.residual[0] == 0


def test_products_that_are_symmetric_to_rounding_only_are_made_so() -> None:
    matrix = symmetric(np.linspace(1, 2, 20))
    noise = 1e-13 * columns(20, 20)
    found = Exact().solve(apply_of(matrix + noise), columns(20, 1))
    want = torch.linalg.solve(matrix + (noise + noise.T) / 2, columns(20, 1))
    torch.testing.assert_close(found.value, want, rtol=1e-14, atol=1e-14)


def test_blocks_of_the_identity_follow_the_memory_and_change_nothing() -> None:
    side = 50
    matrix, widths = symmetric(np.linspace(1, 2, side)), []

    def apply(x):
        widths.append(x.shape[1])
        return matrix @ x

    held = 4 * 8 * side**2
    wide = Exact().solve(apply, columns(side, 2))
    assert widths == [50]
    widths.clear()
    narrow = Exact().solve(apply, columns(side, 2), memory=held + 4 * 8 * side * 20)
    assert widths == [20, 20, 10]
    torch.testing.assert_close(narrow.value, wide.value, rtol=1e-13, atol=1e-13)


def test_the_matrix_is_made_once_for_all_right_hand_sides() -> None:
    matrix, products = symmetric(np.linspace(1, 2, 9)), []

    def apply(x):
        products.append(x.shape[1])
        return matrix @ x

    ask = Exact().prepare(apply, 9, device=torch.device("cpu"))
    for seed in range(3):
        b = columns(9, 2, seed)
        torch.testing.assert_close(ask(b).value, torch.linalg.solve(matrix, b))
    assert products == [9]


def test_a_matrix_that_does_not_fit_is_refused_with_the_numbers() -> None:
    words = (
        "The 1000 × 1000 curvature matrix of 1000 parameters needs 32 MB, more than the budget of "
        "2 MB. Up to 250 parameters fit; ConjugateGradients() and LiSSA() need only products. Or "
        "raise `memory`."
    )
    with pytest.raises(MemoryBudgetError, match=re.escape(words)):
        Exact().solve(lambda x: pytest.fail("nothing was computed"), columns(1000, 1), memory=2_000_000)
    Exact().solve(lambda x: x, columns(240, 1), memory=2_000_000)


def test_a_product_that_is_not_finite_is_said() -> None:
    with pytest.raises(SolveError, match="The curvature matrix is not finite"):
        Exact().solve(lambda x: x * torch.inf, columns(4, 1))


def test_it_has_no_options_to_record() -> None:
    assert Exact().record == {"solver": "Exact"}
