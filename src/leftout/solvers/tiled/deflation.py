"""An inverse that is exact along the leading directions of a matrix, whatever its tiles were rounded to.

A kernel of pairs has one eigenvalue that grows with n, what all inputs have in common, and many small ones.
An inverse G of few digits is wrong along it by rounding times that eigenvalue. With directions V, their
images U = A V under A = K + λI in float64, and T = (VᵀU)⁻¹,

    M = (I − V T Uᵀ) G (I − U T Vᵀ) + V T Vᵀ

is symmetric, M A V = V for any V, and I − M A is what I − G A is for a matrix without leading eigenvalues.

Source: deflation as in Nabben & Vuik, SIAM J. Sci. Comput. 27 (2006), 1742-1759.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

DIRECTIONS = 32
"""Directions at most: of pictures of digits they hold all eigenvalues above a thousandth of the largest."""

ROUNDS = 3
"""Products with the matrix that turn random directions to its leading ones."""


@final
@dataclass(frozen=True, eq=False)
class Deflation:
    """The correction of an inverse G of few digits.

    Attributes:
        vectors: V, orthonormal.
        images: U = (K + λI) V.
        inverted: G U.
    """

    vectors: Float64[Tensor, "n r"]
    images: Float64[Tensor, "n r"]
    inverted: Float64[Tensor, "n r"]

    @cached_property
    def small(self) -> Float64[Tensor, "r r"]:
        """Return T = (VᵀU)⁻¹."""
        inner = self.vectors.T @ self.images
        return torch.linalg.inv((inner + inner.T) / 2)

    @cached_property
    def beside(self) -> tuple[Float64[Tensor, "n s"], Float64[Tensor, "n s"]]:
        """Return two factors of M − G: left · rightᵀ, with s = 2r."""
        wrong = self.inverted - self.vectors  # G U − V
        along = self.vectors @ self.small  # V T
        twice = self.images.T @ wrong  # Uᵀ (G U − V)
        left = torch.cat([along, wrong @ self.small], 1)
        right = torch.cat([along @ ((twice + twice.T) / 2).T - wrong, -self.vectors], 1)
        return left, right

    def times(
        self, left: Float64[Tensor, "b n"], multiply: Callable[[Tensor], Tensor]
    ) -> Float64[Tensor, "b n"]:
        """Return left · M, where `multiply` returns a matrix times G, of few digits.

        What G is multiplied with is small: without what it has along the directions.
        """
        along = (left @ self.vectors) @ self.small  # (b, r)
        rest = multiply(left - along @ self.images.T)
        return rest + (along - (rest @ self.images) @ self.small) @ self.vectors.T


def leading_vectors(
    apply: Callable[[Float64[Tensor, "n r"]], Float64[Tensor, "n r"]], n: int, *, device: torch.device
) -> Float64[Tensor, "n r"]:
    """Return an orthonormal basis near the space of the largest eigenvalues, by powers of the matrix."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(n, min(DIRECTIONS, n), generator=generator, dtype=torch.float64, device="cpu")
    basis = torch.linalg.qr(start.to(device)).Q
    for _ in range(ROUNDS):
        basis = torch.linalg.qr(apply(basis)).Q
    return basis
