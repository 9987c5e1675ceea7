"""Is K + λI inverted, and is a matrix that cannot be inverted refused whatever rounding makes of it?"""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leftout.core.errors import NotPositiveError, OptionError, ShapeError
from leftout.solvers.cholesky import factor_cholesky


def gram_of(n=20, rank=None, seed=0):
    features = np.random.default_rng(seed).standard_normal((n, rank or 2 * n))
    return torch.from_numpy(features @ features.T) / n


@pytest.mark.parametrize("ridge", [0.0, 1e-6, 1.0, 1e3])
def test_it_solves_the_shifted_system_and_inverts_it(ridge) -> None:
    gram = gram_of()
    before = gram.clone()
    factor = factor_cholesky(gram, ridge=ridge)
    shifted = gram + ridge * torch.eye(20, dtype=torch.float64)
    rhs = torch.arange(60.0, dtype=torch.float64).view(20, 3)
    torch.testing.assert_close(shifted @ factor.solve(rhs), rhs, rtol=1e-11, atol=1e-10)
    inverse = factor.inverse()
    eye = torch.eye(20, dtype=torch.float64)
    torch.testing.assert_close(shifted @ inverse, eye, rtol=0, atol=1e-11)
    torch.testing.assert_close(inverse, inverse.T, rtol=0, atol=1e-13)
    torch.testing.assert_close(factor.lower @ factor.lower.T, shifted, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(gram, before, rtol=0, atol=0)
    assert factor.ridge == ridge


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(2, 40), st.data())
def test_a_singular_matrix_is_refused_wherever_its_dependence_lies(n, data) -> None:
    # Repeated rows, or fewer features than rows: rounding leaves a last pivot of either sign.
    gram = gram_of(n, seed=data.draw(st.integers(0, 10**6)))
    if data.draw(st.booleans()):
        one, other = data.draw(st.lists(st.integers(0, n - 1), min_size=2, max_size=2, unique=True))
        gram[other] = gram[one]
        gram[:, other] = gram[:, one]
    else:
        gram = gram_of(n, rank=data.draw(st.integers(1, n - 1)))
    with pytest.raises(NotPositiveError, match=r"`gram` \+ 0·I is not positive definite"):
        factor_cholesky(gram, ridge=0.0)


@pytest.mark.parametrize("digits", range(1, 13))
def test_a_condition_number_up_to_1e12_is_not_singular(digits) -> None:
    basis = np.linalg.qr(np.random.default_rng(digits).standard_normal((30, 30)))[0]
    gram = torch.from_numpy((basis * np.geomspace(1, 10.0**-digits, 30)) @ basis.T)
    gram = (gram + gram.T) / 2
    rhs = torch.ones(30, 1, dtype=torch.float64)
    solved = factor_cholesky(gram, ridge=0.0).solve(rhs)
    # Backward stable: the residual is small whatever the condition number.
    assert float((gram @ solved - rhs).norm()) <= 1e-13 * float(solved.norm())


def test_a_ridge_makes_a_singular_matrix_whole() -> None:
    gram = gram_of(20, rank=3)
    rhs = torch.ones(20, 1, dtype=torch.float64)
    for ridge in (1e-12, 1e-3):
        solved = factor_cholesky(gram, ridge=ridge).solve(rhs)
        assert float((gram @ solved + ridge * solved - rhs).norm()) <= 1e-13 * float(solved.norm())
    with pytest.raises(NotPositiveError, match=r"`gram` \+ 1e-17·I .* Pass a larger `ridge`"):
        factor_cholesky(gram, ridge=1e-17)


def test_an_indefinite_matrix_names_its_pivot() -> None:
    gram = torch.diag(torch.tensor([1.0, 2.0, -3.0, 1.0], dtype=torch.float64))
    words = (
        "`gram` + 0.5·I is not positive definite to rounding: pivot 3 of 4 is not positive. Pass a "
        "larger `ridge`, ask for a finite training time, or drop repeated inputs. No jitter was added."
    )
    with pytest.raises(NotPositiveError, match=re.escape(words)):
        factor_cholesky(gram, ridge=0.5)
    factor_cholesky(gram, ridge=3.5)


def test_a_nearly_singular_matrix_names_its_eigenvalues() -> None:
    gram = torch.diag(torch.tensor([4.0, 1.0, 1e-17], dtype=torch.float64))
    with pytest.raises(NotPositiveError, match="its eigenvalues reach from 4 down to 1e-17"):
        factor_cholesky(gram, ridge=0.0)


@pytest.mark.parametrize("ridge", [-1e-9, float("nan"), float("inf")])
def test_a_ridge_below_zero_is_refused(ridge) -> None:
    with pytest.raises(OptionError, match=re.escape(f"`ridge` must be a finite number ≥ 0; got {ridge!r}")):
        factor_cholesky(gram_of(), ridge=ridge)


def test_a_right_hand_side_of_another_length_is_refused() -> None:
    factor = factor_cholesky(gram_of(), ridge=1.0)
    words = re.escape("`rhs` must have 20 rows, the side of `gram`; got (3, 1).")
    with pytest.raises(ShapeError, match=words):
        factor.solve(torch.ones(3, 1, dtype=torch.float64))
