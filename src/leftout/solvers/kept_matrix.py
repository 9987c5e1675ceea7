"""Factor and spectrum of a kernel matrix, by the way that suits how it is kept.

A matrix of numbers is factored itself; one that is kept as Φ Φᵀ with more rows than features by its features.
"""

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.core.product_matrix import ProductMatrix
from leftout.core.structured_matrix import StructuredMatrix
from leftout.solvers.cholesky import factor_cholesky
from leftout.solvers.factor import Factor
from leftout.solvers.features import FeatureDirections, feature_directions
from leftout.solvers.spectrum import Spectrum, spectrum_of


def directions_of(gram: Float64[Tensor, "n n"]) -> FeatureDirections | None:
    """Return the directions of the features that a matrix is kept as; None where it is its numbers.

    Cost:
        2nd² flops where there are fewer features than rows; else nothing.
    """
    if not isinstance(gram, ProductMatrix) or gram.left.shape[1] >= len(gram):
        return None
    assert gram.left is gram.right, "a kernel matrix is the product of one set of rows with itself"
    return feature_directions(gram)


def factor_kept(gram: Float64[Tensor, "n n"], *, ridge: float) -> Factor:
    """Return a factorisation of K + λI, for K positive semi-definite.

    Raises:
        NotPositiveError: K + λI is not positive definite to rounding.
    """
    directions = directions_of(gram)
    if directions is not None:
        return directions.factor(ridge)
    return factor_cholesky(as_numbers(gram), ridge=ridge)


def spectrum_kept(gram: Float64[Tensor, "n n"], *, made_in: torch.dtype = torch.float64) -> Spectrum:
    """Return all eigenpairs of K; of those that are zero only those a matrix of numbers has.

    Raises:
        NotPositiveError: K is not positive semi-definite.
    """
    directions = directions_of(gram)
    return spectrum_of(as_numbers(gram), made_in=made_in) if directions is None else directions.spectrum()


def as_numbers(gram: Float64[Tensor, "n n"]) -> Float64[Tensor, "n n"]:
    """Return a matrix as numbers: it is refused where they do not fit."""
    return gram.numbers if isinstance(gram, StructuredMatrix) else gram
