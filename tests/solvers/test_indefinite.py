"""Symmetric matrices with eigenvalues of either sign are solved; those next to singular are refused."""

import numpy as np
import pytest
import torch

from leftout.core.errors import NotPositiveError, OptionError, ShapeError
from leftout.solvers.cholesky import factor_cholesky
from leftout.solvers.indefinite import NEAREST, factor_indefinite

EPS = torch.finfo(torch.float64).eps


def with_eigenvalues(values, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    square = torch.randn(len(values), len(values), generator=generator, dtype=torch.float64)
    vectors, _ = torch.linalg.qr(square)
    found = (vectors * torch.as_tensor(values, dtype=torch.float64)) @ vectors.T
    return (found + found.T) / 2


@pytest.mark.parametrize("ridge", [0.0, 0.3, 5.0])
@pytest.mark.parametrize("n", [1, 2, 7, 60])
def test_it_solves_what_has_negative_eigenvalues(n, ridge):
    gram = with_eigenvalues(np.linspace(-2, 3, n) if n > 1 else [-2.0], seed=n)
    rhs = torch.randn(n, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    factor = factor_indefinite(gram, ridge=ridge)
    matrix = gram + ridge * torch.eye(n, dtype=torch.float64)
    # Backward stable: the residual is a small multiple of n·eps·‖A‖·‖x‖.
    found = factor.solve(rhs)
    assert float((matrix @ found - rhs).norm()) < 10 * n * EPS * 10 * float(found.norm()) + 1e-15
    inverse = factor.inverse()
    assert torch.equal(inverse, inverse.T)
    torch.testing.assert_close(inverse @ rhs, found, rtol=1e-9, atol=1e-11)


def test_of_a_positive_matrix_it_is_what_cholesky_finds():
    gram = with_eigenvalues(np.logspace(-3, 1, 30))
    rhs = torch.ones(30, 1, dtype=torch.float64)
    ours = factor_indefinite(gram, ridge=0.1).solve(rhs)
    # Condition 100: each is right to 100·eps·n or so.
    torch.testing.assert_close(ours, factor_cholesky(gram, ridge=0.1).solve(rhs), rtol=1e-11, atol=0)


def test_the_matrix_is_left_as_it_was():
    gram = with_eigenvalues([-1.0, 0.5, 2.0])
    before = gram.clone()
    factor_indefinite(gram, ridge=1.5)
    assert torch.equal(gram, before)


@pytest.mark.parametrize("low", [0.3, 1e-3, 1e-6])
def test_it_says_how_near_to_singular_a_matrix_is(low):
    gram = with_eigenvalues([-1.0, -low, 0.4, 0.9, 1.1, 2.0] + [0.7] * 20)
    # Powers of a random vector: from above, as ‖A‖ and ‖A⁻¹‖ are found from below.
    assert low / 2 <= factor_indefinite(gram, ridge=0.0).nearest <= 1.5 * low / 2


@pytest.mark.parametrize("off", [0.0, 1e-12, -0.5 * NEAREST])
def test_next_to_singular_it_stops(off):
    gram = with_eigenvalues([-1.0, 0.5, 2.0, 1.5])
    message = r"`gram` \+ 1.* is singular to half of the digits.*`strength`.*No jitter was added"
    with pytest.raises(NotPositiveError, match=message):
        factor_indefinite(gram, ridge=1.0 + off)


def test_what_is_no_ridge_is_refused():
    with pytest.raises(OptionError, match="`ridge` must be"):
        factor_indefinite(torch.eye(2, dtype=torch.float64), ridge=-1.0)
    with pytest.raises(ShapeError, match="`rhs` must have 2 rows"):
        factor_indefinite(torch.eye(2, dtype=torch.float64), ridge=0.0).solve(
            torch.ones(3, 1, dtype=torch.float64)
        )
