"""What is computed on one tile: kernel values, and the steps of the inversion of K + λI in place.

With K + λI = L Lᵀ and W = L⁻¹, step k turns its panel into L and row k of the triangle into W:

    W_kk = chol(S_kk)⁻¹,     L_ik = S_ik W_kkᵀ,     W_kj = −W_kk V_kj
    S_ij − L_ik L_jkᵀ  (k < j),     V_ik = L_ik W_kk,     V_ij + L_ik W_kj  (j < k)         for i > k

so each tile is first of K, then of S, V and W, and nothing else of its size is kept.
"""

import numpy as np
import scipy.linalg
import torch
from jaxtyping import Float64
from scipy.linalg.lapack import dtrtri
from torch import Tensor

from leftout.core.errors import NotPositiveError
from leftout.kernels import assemble
from leftout.kernels.base import Kernel

Tile = Float64[np.ndarray, "a b"]


def kernel_tile(kernel: Kernel, rows: Tensor, columns: Tensor | None = None, *, dtype: torch.dtype) -> Tile:
    """Return K(rows, columns), or K(rows, rows), symmetric to the last bit."""
    if columns is None:
        return assemble.gram(kernel, rows, dtype=dtype).numpy()
    return assemble.cross(kernel, rows, columns, dtype=dtype).numpy()


def diagonal_of(tile: Float64[np.ndarray, "a a"]) -> Float64[np.ndarray, " a"]:
    """Return a copy of the diagonal."""
    return tile.diagonal().copy()


def inverse_of_corner(
    corner: Float64[np.ndarray, "a a"], *, first: int, ridge: float, shift: float
) -> Float64[np.ndarray, "a a"]:
    """Return the inverse of the Cholesky factor of a diagonal tile.

    Args:
        first: its first row in the matrix, for the message.
        ridge: λ, for the message.
        shift: what is still to be added to the diagonal.

    Raises:
        NotPositiveError: it has no Cholesky factor.
    """
    shifted = corner + shift * np.eye(len(corner))
    try:
        lower = scipy.linalg.cholesky(shifted, lower=True, overwrite_a=True)
    except scipy.linalg.LinAlgError as error:
        raise NotPositiveError(
            f"`gram` + {ridge:g}·I is not positive definite to rounding: {error}, of the rows from {first} "
            "on. Pass a larger `ridge`, or drop repeated inputs. No jitter was added."
        ) from None
    inverse, info = dtrtri(lower, lower=1, overwrite_c=1)
    assert info == 0, "a Cholesky factor has no zero on its diagonal"
    return np.tril(np.ascontiguousarray(inverse))


def panel_tile(tile: Tile, corner: Float64[np.ndarray, "b b"]) -> Tile:
    """Return L_ik = S_ik W_kkᵀ."""
    return tile @ corner.T


def inverse_tile(corner: Float64[np.ndarray, "a a"], tile: Tile) -> Tile:
    """Return W_kj = −W_kk V_kj."""
    return -(corner @ tile)


def remaining_tile(
    tile: Tile, panel: Float64[np.ndarray, "a c"], right: Float64[np.ndarray, "b c"] | None = None
) -> Tile:
    """Return S_ij − L_ik L_jkᵀ; on the diagonal, where both are one, symmetric to the last bit."""
    if right is None:
        below = np.tril(tile - panel @ panel.T)
        return below + np.tril(below, -1).T
    return tile - panel @ right.T


def first_inverse_part(panel: Tile, corner: Float64[np.ndarray, "b b"]) -> Tile:
    """Return V_ik = L_ik W_kk."""
    return panel @ corner


def next_inverse_part(tile: Tile, panel: Float64[np.ndarray, "a c"], row: Float64[np.ndarray, "c b"]) -> Tile:
    """Return V_ij + L_ik W_kj."""
    return tile + panel @ row


def sum_of_products(*tiles_and_parts: np.ndarray, transposed: bool) -> Float64[np.ndarray, "a c"]:
    """Return Σ W B, or Σ Wᵀ B; the first half of the arguments are W, the others B."""
    half = len(tiles_and_parts) // 2
    pairs = zip(tiles_and_parts[:half], tiles_and_parts[half:], strict=True)
    return sum((tile.T if transposed else tile) @ part for tile, part in pairs)


def total_of(*parts: np.ndarray) -> np.ndarray:
    """Return the sum of arrays of one shape."""
    total = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total


def squared_columns(*tiles: Tile) -> Float64[np.ndarray, " b"]:
    """Return Σ_i W_ij², summed down the columns of some tiles: their part of diag G."""
    return total_of(*(np.einsum("ab,ab->b", tile, tile) for tile in tiles))
