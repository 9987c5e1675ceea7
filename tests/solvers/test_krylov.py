"""Do products alone give g(K) b and the end of the spectrum?"""

import numpy as np
import pytest
import torch

from leftout.core.errors import LeftoutError
from leftout.solvers.krylov import Lanczos, filtered_vector, largest_eigenvalue


def spd(values, seed=0):
    draw = np.random.default_rng(seed)
    basis = np.linalg.qr(draw.standard_normal((len(values), len(values))))[0]
    return torch.from_numpy((basis * np.asarray(values)) @ basis.T)


def dense(matrix, vector, function):
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ (function(values) * (vectors.T @ vector))


def vector(n, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(n))


FUNCTIONS = {
    "inverse": lambda s: 1 / (s + 0.01),
    "flow": lambda s: -torch.expm1(-20 * s) / s,
    "descent": lambda s: (1 - (1 - 1.9 * s) ** 37) / s,
    "identity": lambda s: s,
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    "values",
    [np.geomspace(1, 1e-3, 60), np.linspace(0.2, 1, 60), [1.0] * 40, [1, 1, 1, 0.5, 0.5], [0.7]],
    ids=["geometric", "linear", "one value", "two values", "one number"],
)
def test_a_function_of_a_matrix_is_that_of_its_eigenvalues(name, values) -> None:
    matrix, b = spd(values), vector(len(values))
    got = filtered_vector(lambda x: matrix @ x, b, FUNCTIONS[name])
    want = dense(matrix, b, FUNCTIONS[name])
    assert float((got - want).norm()) <= 1e-10 * float(want.norm())


def test_a_large_matrix_needs_few_products() -> None:
    matrix, b = spd(np.linspace(0.5, 1, 400)), vector(400)
    products = 0

    def apply(x):
        nonlocal products
        products += 1
        return matrix @ x

    got = filtered_vector(apply, b, lambda s: 1 / s)
    torch.testing.assert_close(matrix @ got, b, rtol=0, atol=1e-10)
    assert products <= 60


def test_a_singular_matrix_of_low_rank_is_exhausted() -> None:
    matrix = spd([1.0, 0.5, 0.25, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    b = vector(12)
    got = filtered_vector(lambda x: matrix @ x, b, lambda s: 1 / (s + 0.1))
    torch.testing.assert_close(got, dense(matrix, b, lambda s: 1 / (s + 0.1)), rtol=0, atol=1e-12)


def test_nothing_gives_nothing() -> None:
    assert not filtered_vector(lambda x: x, torch.zeros(5).double(), lambda s: 1 / s).any()


def test_a_pole_at_an_eigenvalue_is_said() -> None:
    matrix = torch.diag(torch.tensor([1.0, 2.0, 0.0])).double()
    with pytest.raises(LeftoutError, match=r"g\(K\) b is not finite: g has a pole"):
        filtered_vector(lambda x: matrix @ x, torch.tensor([0.0, 0.0, 1.0]).double(), lambda s: 1 / s)


def test_the_basis_stays_orthonormal_on_a_badly_conditioned_matrix() -> None:
    matrix, b = spd(np.geomspace(1, 1e-14, 50)), vector(50)
    space = Lanczos(lambda x: matrix @ x, b)
    while not space.exhausted:
        space.step()
    basis = torch.stack(space.basis)
    eye = torch.eye(len(basis), dtype=torch.float64)
    torch.testing.assert_close(basis @ basis.T, eye, rtol=0, atol=1e-13)
    torch.testing.assert_close(basis @ matrix @ basis.T, space.tridiagonal, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    "values",
    [
        np.geomspace(1, 1e-9, 300),
        np.linspace(0, 1, 300),
        [1.0, 0.9999999, 0.5, 0.1],
        [3.0] * 7,
        [2.5],
        [0.0, 0.0, 0.0],
    ],
    ids=["geometric", "linear", "close", "one value", "one number", "zero"],
)
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e9])
def test_the_largest_eigenvalue_is_found_and_never_exceeded(values, scale) -> None:
    matrix = scale * spd(values)
    want = scale * max(values)
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        got = largest_eigenvalue(lambda x: matrix @ x, len(values), generator=generator, device=matrix.device)
        assert got == pytest.approx(want, rel=1e-8, abs=1e-300)
        assert got <= want * (1 + 1e-14)
