"""Factor, inverse and spectrum of Φ Φᵀ from Φ: are they those of the matrix?"""

import numpy as np
import pytest
import torch

from laws import assert_same
from leftout.core.errors import MemoryBudgetError, NotPositiveError
from leftout.core.product_matrix import ProductMatrix
from leftout.solvers.features import feature_directions
from leftout.solvers.kept_matrix import factor_kept, spectrum_kept

N, D = 30, 6
RIDGE = 0.3


def rows(n=N, d=D, *, sizes=None):
    generator = torch.Generator().manual_seed(1)
    made = torch.randn(n, d, generator=generator, dtype=torch.float64)
    return made if sizes is None else made * torch.tensor(sizes, dtype=torch.float64)


def kept(of, room=10**6):
    return ProductMatrix(of, of, room=room)


def inverse_of(of):
    return np.linalg.inv((of @ of.T).numpy() + RIDGE * np.eye(len(of)))


INVERSES = {
    "all": lambda matrix: matrix.numbers if hasattr(matrix, "numbers") else matrix,
    "product": lambda matrix: matrix @ rows()[:, :2],
    "product from the left": lambda matrix: rows()[:, :2].T @ matrix,
    "columns": lambda matrix: torch.eye(N, dtype=torch.float64) @ matrix[:, 3:9],
    "columns by number": lambda matrix: matrix[:, torch.tensor([7, 2])] @ rows()[:2, :2],
    "rows by number": lambda matrix: matrix[torch.tensor([7, 2])] @ rows()[:, :2],
    "block": lambda matrix: matrix[torch.tensor([7, 2])][:, torch.tensor([2, 5])] @ rows()[:2, :2],
    "block at once": lambda matrix: (
        matrix[torch.tensor([7, 2])[:, None], torch.tensor([2, 5])] @ rows()[:2, :2]
    ),
    "transpose of columns": lambda matrix: matrix[:, 3:9].T @ rows()[:, :2],
    "row": lambda matrix: matrix[4],
    "vector": lambda matrix: matrix @ rows()[:, 0],
    "diagonal": lambda matrix: matrix.diagonal(),
    "sum": lambda matrix: matrix.sum(),
    "any other operation": lambda matrix: matrix.abs().max(dim=1).values,
}


@pytest.mark.parametrize("operation", INVERSES.values(), ids=INVERSES)
def test_the_inverse_is_a_matrix(operation) -> None:
    matrix = factor_kept(kept(rows()), ridge=RIDGE).inverse()
    assert_same(operation(matrix), operation(torch.from_numpy(inverse_of(rows()))), 1e-12)


def test_kernel_rows_times_the_inverse_stay_products() -> None:
    gram = kept(rows())
    inverse = factor_kept(gram, ridge=RIDGE).inverse()
    cross = ProductMatrix(rows(4), gram.left, room=10**6)
    found = cross @ inverse[:, 3:9]
    assert isinstance(found, ProductMatrix)
    want = (rows(4) @ rows().T).numpy() @ inverse_of(rows())[:, 3:9]
    assert_same(found.numbers, want, 1e-12)
    assert_same((inverse @ cross.T)[3:9].T, want, 1e-12)


@pytest.mark.parametrize("sizes", [None, [1e4, 1e2, 1, 1, 1e-2, 0]], ids=["alike", "uneven, one of length 0"])
def test_solutions_and_eigenpairs_are_those_of_the_matrix(sizes) -> None:
    of = rows(sizes=sizes)
    dense = (of @ of.T).numpy()
    rhs = rows(d=2)
    # Relative to the solution: a stable solve is right to some cond·eps.
    tolerance = 100 * (1 + np.linalg.norm(dense, 2) / RIDGE) * 2.0**-52
    want = np.linalg.solve(dense + RIDGE * np.eye(N), rhs.numpy())
    assert_same(factor_kept(kept(of), ridge=RIDGE).solve(rhs), want, max(tolerance, 1e-13))
    spectrum = spectrum_kept(kept(of))
    rank = np.linalg.matrix_rank(of.numpy())
    assert spectrum.vectors.shape == (N, rank)
    assert_same(spectrum.values, np.linalg.eigvalsh(dense)[::-1][:rank], 1e-13)
    # Singular values of the features are the reference: eigenvalues of the matrix lose half of the digits.
    singular = np.linalg.svd(of.numpy(), compute_uv=False)[:rank]
    np.testing.assert_allclose(spectrum.values.sqrt(), singular, rtol=0, atol=1e-14 * singular[0])
    assert_same(spectrum.vectors @ (spectrum.values[:, None] * spectrum.vectors.T), dense, 1e-13)
    assert_same(
        spectrum.vectors.T @ spectrum.vectors, np.eye(rank), 2.0**-52 * 100 * singular[0] / singular[-1]
    )


def test_vectors_that_do_not_fit_are_made_where_they_are_used() -> None:
    few, many = (feature_directions(kept(rows(), room)).spectrum() for room in (0, 10**6))
    assert isinstance(few.vectors, ProductMatrix)
    assert_same(few.vectors.make_numbers(), many.vectors, 1e-13)
    filters = torch.rand(3, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(
        torch.complex128
    )
    few.vectors.room = 10**6
    assert_same(few.diagonal(filters, 2).real, many.diagonal(filters, 2).real, 1e-13)


def test_pieces_change_nothing(monkeypatch) -> None:
    want = feature_directions(kept(rows(200)))
    monkeypatch.setattr("leftout.solvers.features.PIECE", 7)
    found = feature_directions(kept(rows(200)))
    assert_same(found.values, want.values, 1e-14)


def test_a_ridge_lost_in_rounding_is_refused() -> None:
    for ridge in (0.0, 1e-16):
        with pytest.raises(NotPositiveError, match=r"30 rows of 6 features leave eigenvalues .* No jitter"):
            factor_kept(kept(rows()), ridge=ridge)


def test_more_features_than_rows_are_a_matrix() -> None:
    square = rows(5, 8)
    assert_same(
        factor_kept(kept(square), ridge=0.0).inverse(), np.linalg.inv((square @ square.T).numpy()), 1e-10
    )
    with pytest.raises(MemoryBudgetError, match="kept as products of its rows"):
        spectrum_kept(kept(square, room=8))


def test_numbers_that_do_not_fit_are_refused() -> None:
    inverse = factor_kept(kept(rows(), room=8 * N), ridge=RIDGE).inverse()
    with pytest.raises(MemoryBudgetError, match=r"30 × 30, 7.2 kB, which is kept as features of its rows"):
        inverse.abs()
