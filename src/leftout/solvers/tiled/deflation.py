"""What a kernel matrix has along its leading directions is taken out before it is rounded, and put back.

A kernel of pairs has one eigenvalue that grows with n, what all inputs have in common, and many small ones.
In tiles of few digits rounding is relative to the largest. With some directions V, their images U = A V under
A = K + λI in float64, and T = (VᵀU)⁻¹, what is factored in tiles is

    A' = A − U T Uᵀ + μ V Vᵀ

which has the small eigenvalues of A, and μ along V. Then, with G = A'⁻¹,

    A⁻¹ = (I − V T Uᵀ) G (I − U T Vᵀ) + V T Vᵀ

for any V: what is multiplied by G has nothing along V, and what comes out loses what it has there. Rounded or
not, the right side is symmetric and takes A V to V.

Source: deflation as in Nabben & Vuik, SIAM J. Sci. Comput. 27 (2006), 1742-1759.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.core.structured_matrix import StructuredMatrix

DIRECTIONS = 32
"""Directions at most: products with them cost little beside those with a tile."""

COLUMNS = 1024
"""Columns of the matrix, drawn at random, from which directions are found."""


@final
@dataclass(frozen=True, eq=False)
class Deflation:
    """Leading directions of A = K + λI.

    Attributes:
        vectors: V, orthonormal.
        images: U = A V.
    """

    vectors: Float64[Tensor, "n r"]
    images: Float64[Tensor, "n r"]

    @cached_property
    def within(self) -> Float64[Tensor, "r r"]:
        """Return VᵀU."""
        inner = self.vectors.T @ self.images
        return (inner + inner.T) / 2

    @cached_property
    def small(self) -> Float64[Tensor, "r r"]:
        """Return T = (VᵀU)⁻¹."""
        return torch.linalg.inv(self.within)

    @cached_property
    def ends(self) -> tuple[float, float]:
        """Return the smallest and the largest eigenvalue of A along the directions; the first is μ."""
        values = torch.linalg.eigvalsh(self.within)
        return float(values[0]), float(values[-1])

    def taken_out(self, rows: slice, columns: slice) -> Float64[Tensor, "a b"]:
        """Return A − A' at some rows and columns."""
        u, v = self.images, self.vectors
        return (u[rows] @ self.small) @ u[columns].T - self.ends[0] * (v[rows] @ v[columns].T)

    def times(
        self, rows_over: Float64[Tensor, "b n"], multiply: Callable[[Tensor], Tensor]
    ) -> Float64[Tensor, "b n"]:
        """Return rows_over · A⁻¹, where `multiply` returns a matrix times G."""
        along = (rows_over @ self.vectors) @ self.small  # (b, r)
        rest = multiply(rows_over - along @ self.images.T)
        return rest + (along - (rest @ self.images) @ self.small) @ self.vectors.T

    def times_columns(
        self,
        rows_over: Float64[Tensor, "b n"],
        tiles: Float64[Tensor, "n e"],
        columns: Int64[Tensor, " e"],
        inverted: Float64[Tensor, "n r"],
    ) -> Float64[Tensor, "b e"]:
        """Return rows_over · A⁻¹ at some columns.

        Args:
            tiles: these columns of G.
            inverted: G U.
        """
        along = (rows_over @ self.vectors) @ self.small  # (b, r)
        of_columns = self.vectors[columns].T  # (r, e)
        kept = torch.addmm(tiles, inverted, self.small @ of_columns, alpha=-1)
        return (rows_over - along @ self.images.T) @ kept + along @ of_columns

    def beside(
        self, inverted: Float64[Tensor, "n r"]
    ) -> tuple[Float64[Tensor, "n s"], Float64[Tensor, "n s"]]:
        """Return two factors of A⁻¹ − G, the first times the transposed second, with s = 2r.

        Args:
            inverted: G U.
        """
        t, v = self.small, self.vectors
        twice = t @ ((self.images.T @ inverted + inverted.T @ self.images) / 2) @ t + t
        return torch.cat([v, inverted @ t], 1), torch.cat([v @ twice - inverted @ t, -v], 1)


def leading_vectors(matrix: Float64[Tensor, "n n"]) -> Float64[Tensor, "n r"]:
    """Return an orthonormal basis near the space of the largest eigenvalues, from some of the columns."""
    n = len(matrix)
    drawn = torch.randperm(n, generator=torch.Generator().manual_seed(0), device="cpu")
    sample = drawn[: min(n, COLUMNS)].sort().values.to(matrix.device)
    columns = matrix[:, sample]
    if isinstance(columns, StructuredMatrix):
        columns = columns.numbers
    _, vectors = torch.linalg.eigh(columns[sample])
    basis: Tensor = torch.linalg.qr(columns @ vectors[:, -min(DIRECTIONS, max(1, n // 4)) :]).Q
    return basis
