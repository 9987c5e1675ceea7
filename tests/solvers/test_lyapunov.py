"""Is it the solution of A X + X A = C that algorithms for any A find?"""

import numpy as np
import pytest
import scipy.linalg
import torch

import leftout as lo
from laws import assert_same
from leftout.solvers.lyapunov import lyapunov


def drawn(n, condition, seed=0):
    draw = np.random.default_rng(seed)
    values = np.geomspace(1, 1 / condition, n)
    vectors = np.linalg.qr(draw.standard_normal((n, n)))[0]
    root = draw.standard_normal((n, n))
    return values, vectors, root @ root.T


def solved(values, right):
    return lyapunov(torch.as_tensor(values), torch.as_tensor(right)).numpy()


@pytest.mark.parametrize("n", [1, 2, 9])
def test_it_is_what_scipy_finds(n) -> None:
    values, vectors, right = drawn(n, condition=100)
    ours = vectors @ solved(values, vectors.T @ right @ vectors) @ vectors.T
    theirs = scipy.linalg.solve_continuous_lyapunov(vectors * values @ vectors.T, right)
    # Bartels and Stewart's rounding is amplified by the condition of the equation, 100.
    assert_same(ours, theirs, 100 * 100 * np.finfo(float).eps)


def test_the_equation_holds_however_ill_conditioned() -> None:
    values, _, right = drawn(9, condition=1e14)
    found = solved(values, right)
    assert_same(values[:, None] * found + found * values, right, 8 * np.finfo(float).eps)


def test_with_noise_of_the_shape_of_the_drift_half_the_noise_is_left() -> None:
    values, _, _ = drawn(5, condition=10)
    assert_same(solved(values, np.diag(values)), np.eye(5) / 2, 1e-15)


def test_it_scales_with_the_noise_and_against_the_drift() -> None:
    values, _, right = drawn(5, condition=10)
    assert_same(solved(3 * values, 6 * right), 2 * solved(values, right), 1e-15)


def test_equal_values_may_repeat_and_noise_of_low_rank_gives_a_covariance() -> None:
    values = np.repeat([1.0, 0.1, 0.01], 2)
    row = np.random.default_rng(0).standard_normal(6)
    found = solved(values, np.outer(row, row))
    assert_same(found, found.T, 0)
    assert np.linalg.eigvalsh(found)[0] > -1e-15 * np.linalg.eigvalsh(found)[-1]


def test_nothing_that_was_passed_is_written_to(frozen) -> None:
    values, _, right = (torch.as_tensor(x) for x in drawn(5, condition=10))
    frozen(values, right)
    lyapunov(values, right)


@pytest.mark.parametrize("value", [0.0, -1e-3, float("nan")])
def test_a_mode_that_nothing_draws_back_is_refused(value) -> None:
    values = torch.tensor([1.0, value, 0.5], dtype=torch.float64)
    with pytest.raises(lo.LeftoutError, match=r"`values` must be positive.*number 1 is"):
        lyapunov(values, torch.eye(3, dtype=torch.float64))


def test_a_right_side_of_another_shape_is_refused() -> None:
    with pytest.raises(lo.LeftoutError, match=r"`right` must have shape \(3, 3\).*got \(3, 2\)"):
        lyapunov(torch.ones(3, dtype=torch.float64), torch.ones(3, 2, dtype=torch.float64))
