"""Weighted kernel ridge regression, with a noise of its own for each example if wanted.

    P = (S K S + E)⁻¹,   α = P S y,   f(x) = K(x, X) S α

E is a diagonal: the ridge, or the variance of each target's noise. An example of weight 0 says nothing.
"""

from typing import final

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.solvers.cholesky import factor_cholesky
from leftout.solvers.smoother import Smoother


@final
class GramSmoother(Smoother):
    """The smoother of a kernel matrix; queries are compared by K(x, X).

    Args:
        gram: K, symmetric; it is not written to.
        scale: s, the square root of each example's weight.
        noise: the diagonal E ≥ 0.

    Raises:
        NotPositiveError: S K S + E is not positive definite to rounding.

    Cost:
        n³ flops and two n × n matrices.
    """

    def __init__(
        self, gram: Float64[Tensor, "n n"], *, scale: Float64[Tensor, " n"], noise: Float64[Tensor, " n"]
    ) -> None:
        self.scale = scale
        self.noise = noise
        shifted = gram * scale * scale[:, None]
        shifted.diagonal().add_(noise)
        self._factor = factor_cholesky(shifted, ridge=0.0)
        self._inverse = self._factor.inverse()
        # Norms that no eigenvalue exceeds, of a matrix and of its inverse.
        self.condition = float(
            torch.linalg.matrix_norm(shifted, 1) * torch.linalg.matrix_norm(self._inverse, 1)
        )

    @property
    def diagonal(self) -> Float64[Tensor, " n"]:
        return self._inverse.diagonal()

    def block(self, rows: Int64[Tensor, " g"]) -> Float64[Tensor, "g g"]:
        return self._inverse[rows[:, None], rows]

    def duals(self, targets: Float64[Tensor, "n k"]) -> Float64[Tensor, "n k"]:
        return self._factor.solve(self.scale[:, None] * targets)

    def shares(self, queries: Float64[Tensor, "m n"]) -> Float64[Tensor, "m n"]:
        return (queries * self.scale) @ self._inverse

    def predict(
        self, queries: Float64[Tensor, "m n"], targets: Float64[Tensor, "n k"]
    ) -> Float64[Tensor, "m k"]:
        return (queries * self.scale) @ self.duals(targets)
