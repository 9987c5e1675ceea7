"""What does a kernel learn from *these* examples? Exactly, for every function on the domain at once.

On a domain of M points, fitted to the points D of it, f̂ = K(·, D) (K(D, D) + ridge)⁻¹ f(D) is linear in f.
In an orthonormal basis φ_i under ⟨f, g⟩ = (1/M) Σ f g its matrix is the learning transfer matrix; in the
eigenbasis, with Φ the (M, n) values of the eigenfunctions at D,

    v̂ = T v,    T = Λ Φ (Φᵀ Λ Φ + ridge)⁻¹ Φᵀ,    L^D(f) = ⟨f, f̂⟩ / ⟨f, f⟩ = vᵀ T v / vᵀ v.

Its trace is n without ridge, in any complete basis: no free lunch. With G = (K(D, D) + ridge)⁻¹ and
q_ij = φ_i(D)ᵀ G φ_j(D),

    dT_jj / dλ_i = δ_ij q_jj − λ_j q_ij²:

a mode is learned better if its eigenvalue rises, and worse if that of another mode does. (For i = j the two
terms are q_jj (1 − T_jj) ≥ 0.)
"""

from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.core.checks import check_at_least, check_finite
from leftout.core.errors import DataError
from leftout.diagnostics.eigenlearning.domain import domain_functions, domain_gram, domain_rows
from leftout.solvers.cholesky import factor_cholesky
from leftout.solvers.spectrum import spectrum_of

ORTHOGONAL = 1e-8
"""Largest |cos| of two functions of an orthogonal basis; rounding of doubles is far below."""


def transfer(gram: Any, rows: Any, *, ridge: float = 0.0, basis: Any = None) -> Float64[Tensor, "r r"]:
    """Return the learning transfer matrix of one data set, exactly.

    Args:
        gram: the kernel between all M points of the domain; tensor or array.
        rows: numbers of the points that are examples.
        ridge: added to their Gram matrix as given.
        basis: orthogonal functions (M, r), of any length, one per column; None for all M eigenfunctions of
            the kernel, largest eigenvalue first.

    Returns:
        T, whose diagonal is the D-learnability of each function of the basis.

    Raises:
        OptionError: rows out of range or repeated.
        NotPositiveError: the examples' Gram matrix is singular and there is no ridge.
        DataError: a basis that is not orthogonal, or holds a function that is 0.
        ShapeError: a matrix that is not square, functions of another length.

    Cost:
        n³/3 + 2 M n r + 2 n² r, and 9 M³ for eigenfunctions.

    Example:
        >>> import leftout as lo, torch
        >>> gram = torch.ones(3, 3) + torch.eye(3)
        >>> round(float(lo.transfer(gram, [0, 1]).trace()), 9)  # no free lunch: the number of examples
        2.0
        >>> matrix = lo.transfer(gram, [0, 1], basis=torch.eye(3))
        >>> [round(weight, 3) for weight in matrix[2].tolist()]  # of both targets in the third prediction
        [0.333, 0.333, 0.0]
    """
    matrix, made_in = domain_gram(gram)
    points = _point_numbers(rows, ridge, matrix)
    if basis is None:
        functions = spectrum_of(matrix, made_in=made_in).vectors
    else:
        functions = _orthonormal(domain_functions("basis", basis, matrix))
    matrix_in_basis: Tensor = functions.T @ _predictions(matrix, functions, points, ridge)
    return matrix_in_basis


def data_learnability(gram: Any, functions: Any, rows: Any, *, ridge: float = 0.0) -> Float64[Tensor, " k"]:
    """Return ⟨f, f̂⟩ / ⟨f, f⟩ of functions learned from one data set, exactly.

    For eigenfunctions of the kernel it lies in [0, 1] and does not fall when examples are added; for other
    functions it can be any number.

    Args:
        gram, rows, ridge: as for `transfer`.
        functions: (M,) or (M, k), one per column, none of them 0.

    Raises:
        OptionError, NotPositiveError, DataError, ShapeError: as for `transfer`.

    Cost:
        n³/3 + 2 (M n + n²) k.

    Example:
        >>> import leftout as lo, torch
        >>> gram, constant = torch.ones(3, 3) + torch.eye(3), torch.ones(3)
        >>> round(float(lo.data_learnability(gram, constant, [0, 1])), 3)
        0.889
    """
    matrix, _ = domain_gram(gram)
    points = _point_numbers(rows, ridge, matrix)
    values = domain_functions("functions", functions, matrix)
    unit = _unit("functions", values)
    shares: Tensor = (unit * _predictions(matrix, unit, points, ridge)).sum(0)
    return shares


def transfer_derivatives(gram: Any, rows: Any, *, ridge: float = 0.0) -> Float64[Tensor, "m m"]:
    """Return dT_jj / dλ_i in row i and column j, exactly: how modes compete for one data set.

    λ are the eigenvalues of gram / M, largest first; the eigenfunctions stay. The diagonal is ≥ 0 and
    everything else ≤ 0, up to rounding.

    Args:
        gram, rows, ridge: as for `transfer`.

    Raises:
        OptionError, NotPositiveError, DataError, ShapeError: as for `transfer`.

    Cost:
        9 M³.

    Source:
        The review, eqs. 9, 10, 39 and 40.

    Example:
        >>> import leftout as lo
        >>> from leftout.data import Circle
        >>> points = Circle(6).points
        >>> derivatives = transfer_derivatives(lo.kernels.ReLU(1).block(points, points), [0, 2])
        >>> bool((derivatives.diagonal() >= -1e-12).all())
        True
    """
    matrix, made_in = domain_gram(gram)
    points, m = _point_numbers(rows, ridge, matrix), len(matrix)
    spectrum = spectrum_of(matrix, made_in=made_in)
    at_rows = spectrum.vectors[points]  # (n, M), Φᵀ / √M
    factor = factor_cholesky(matrix[points][:, points], ridge=ridge)
    # φ = √M times a unit vector and λ = s / M: λ q² is s M (vᵀ G v)².
    products = m * at_rows.T @ factor.solve(at_rows)  # q, (M, M)
    slopes = -(spectrum.values / m) * products.square()
    slopes.diagonal().add_(products.diagonal())
    return slopes


def _point_numbers(rows: Any, ridge: float, matrix: Float64[Tensor, "m m"]) -> Tensor:
    check_at_least("ridge", ridge, 0)
    return domain_rows(rows, len(matrix), matrix)


def _predictions(
    matrix: Float64[Tensor, "m m"], functions: Float64[Tensor, "m k"], rows: Tensor, ridge: float
) -> Float64[Tensor, "m k"]:
    """Return f̂ on the domain."""
    if not len(rows):
        return torch.zeros_like(functions)
    factor = factor_cholesky(matrix[rows][:, rows], ridge=ridge)
    predictions: Tensor = matrix[:, rows] @ factor.solve(functions[rows])
    check_finite("predictions", predictions)
    return predictions


def _orthonormal(basis: Float64[Tensor, "m r"]) -> Float64[Tensor, "m r"]:
    unit = _unit("basis", basis)
    cosines = (unit.T @ unit).fill_diagonal_(0).abs()
    worst = float(cosines.max()) if cosines.numel() else 0.0
    if worst > ORTHOGONAL:
        i, j = divmod(int(cosines.argmax()), cosines.shape[1])
        raise DataError(
            f"`basis` must hold orthogonal functions; those in columns {i} and {j} have the cosine "
            f"{worst:.2g}. Orthogonalise them, with `torch.linalg.qr`."
        )
    return unit


def _unit(name: str, functions: Float64[Tensor, "m k"]) -> Float64[Tensor, "m k"]:
    """Return functions of length 1."""
    # Scaled by the largest value first, so that squares do not overflow.
    sizes = functions.abs().amax(0)
    if bool((sizes == 0).any()):
        column = int(sizes.argmin())
        raise DataError(
            f"`{name}` must hold no function that is 0 everywhere; column {column} does. Nothing "
            "can be learned of it."
        )
    scaled = functions / sizes
    unit: Tensor = scaled / scaled.norm(dim=0)
    return unit
