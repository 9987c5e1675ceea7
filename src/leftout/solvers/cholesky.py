"""Inversion of K + λI for one ridge by Cholesky's K + λI = L Lᵀ, at n³/3 flops, without eigenvalues.

The inverse costs another 2n³/3 and n² numbers.
"""

import math
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.core.checks import check_at_least, check_rows
from leftout.core.errors import NotPositiveError
from leftout.core.work import Operation, WorkCount, allocation, operations
from leftout.solvers.factor import Factor
from leftout.solvers.krylov import norm_by_powers

EPS = torch.finfo(torch.float64).eps


@final
class CholeskyFactor(Factor):
    """K + λI = L Lᵀ, L lower triangular."""

    def __init__(self, lower: Float64[Tensor, "n n"], ridge: float) -> None:
        self.lower = lower
        self.ridge = ridge

    def solve(self, rhs: Float64[Tensor, "n k"]) -> Float64[Tensor, "n k"]:
        """Return (K + λI)⁻¹ rhs, backward stably, in 2n²k flops."""
        check_rows("rhs", rhs, len(self.lower))
        return torch.cholesky_solve(rhs, self.lower)

    def inverse(self) -> Float64[Tensor, "n n"]:
        """Return (K + λI)⁻¹, symmetric, in 2n³/3 flops and n² new numbers."""
        return torch.cholesky_inverse(self.lower)


def factor_cholesky(gram: Float64[Tensor, "n n"], *, ridge: float) -> CholeskyFactor:
    """Return the Cholesky factor of K + λI.

    Args:
        gram: K, symmetric; it is not written to.
        ridge: λ ≥ 0, added as given.

    Raises:
        NotPositiveError: K + λI is not positive definite, or so nearly singular that no digit of a
            solution would be right, 10·cond·eps ≥ 1. No jitter is added.

    Cost:
        n³/3 flops; one n × n temporary, freed on return, besides the factor. Where λ ≤ n·eps·tr K,
        three products and solves, 18n², on top.

    Example:
        >>> import torch
        >>> factor = factor_cholesky(3 * torch.eye(2, dtype=torch.float64), ridge=1.0)
        >>> factor.solve(torch.tensor([[4.0], [8.0]], dtype=torch.float64))
        tensor([[1.],
                [2.]], dtype=torch.float64)
    """
    check_at_least("ridge", ridge, 0)
    shifted = gram.clone()
    shifted.diagonal().add_(ridge)
    lower, pivot = torch.linalg.cholesky_ex(shifted)
    if int(pivot):
        raise _singular_error(ridge, f"pivot {int(pivot)} of {len(gram)} is not positive")
    factor = CholeskyFactor(lower, ridge)
    # Rounding may leave a small positive pivot to a singular matrix, and a solution with no digit
    # right. A ridge above rounding excludes that; else s_min is estimated with the factor.
    if ridge <= len(gram) * EPS * float(gram.diagonal().sum()):
        low, high = _spectrum_ends(gram, factor)
        if low <= 10 * EPS * high:
            raise _singular_error(ridge, f"its eigenvalues reach from {high:.2g} down to {low:.1g}")
    return factor


def _spectrum_ends(gram: Float64[Tensor, "n n"], factor: CholeskyFactor) -> tuple[float, float]:
    """Return the smallest and the largest eigenvalue of K + λI, estimated from three powers.

    The smallest is never below the true one, the largest never above. Where the matrix is singular to
    rounding, one power of the inverse lies in its null space, and the smallest is right.
    """
    inverse = norm_by_powers(lambda x: factor.solve(x[:, None])[:, 0], gram, powers=3)
    return (1 / inverse if inverse > 0 else math.inf), norm_by_powers(gram.mv, gram, powers=3) + factor.ridge


def _singular_error(ridge: float, why: str) -> NotPositiveError:
    return NotPositiveError(
        f"`gram` + {ridge:g}·I is not positive definite to rounding: {why}. Pass a larger `ridge`, "
        "ask for a finite training time, or drop repeated inputs. No jitter was added."
    )


def cholesky_work(n: int) -> WorkCount:
    """Return the work of `factor_cholesky`."""
    return operations(Operation.CHOLESKY, side=n) + allocation(2 * n * n)


def inverse_work(n: int) -> WorkCount:
    """Return the work of the inverse of a factored n × n matrix."""
    return operations(Operation.INVERSE, side=n) + allocation(n * n)
