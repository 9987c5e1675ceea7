"""How is K + λI inverted when one ridge is enough? By K + λI = L Lᵀ, at n³/3.

The inverse costs another 2n³/3 and n² numbers; nothing here needs eigenvalues.
"""

import math
from collections.abc import Callable
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.core.checks import check_at_least, check_rows
from leftout.core.errors import NotPositiveError
from leftout.core.work import Operation, WorkCount, allocation, operations
from leftout.solvers.factor import Factor

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
    """
    check_at_least("ridge", ridge, 0)
    shifted = gram.clone()
    shifted.diagonal().add_(ridge)
    lower, pivot = torch.linalg.cholesky_ex(shifted)
    if int(pivot):
        raise _singular(ridge, f"pivot {int(pivot)} of {len(gram)} is not positive")
    factor = CholeskyFactor(lower, ridge)
    # Rounding may leave a small positive pivot to a singular matrix, and a solution with no digit
    # right. A ridge that rounding cannot reach settles it; else 1 / s_min is asked of the factor.
    if ridge <= len(gram) * EPS * float(gram.diagonal().sum()):
        low, high = _ends(gram, factor)
        if low <= 10 * EPS * high:
            raise _singular(ridge, f"its eigenvalues reach from {high:.2g} down to {low:.1g}")
    return factor


def _ends(gram: Float64[Tensor, "n n"], factor: CholeskyFactor) -> tuple[float, float]:
    """Return the smallest and the largest eigenvalue of K + λI, as three powers tell them.

    The smallest is never below the true one, the largest never above; where the matrix is singular
    to rounding, one power of the inverse is all its null space, and the smallest is right.
    """
    inverse = _stretch(lambda x: factor.solve(x[:, None])[:, 0], gram)
    return (1 / inverse if inverse > 0 else math.inf), _stretch(gram.mv, gram) + factor.ridge


def _stretch(apply: Callable[[Tensor], Tensor], like: Float64[Tensor, "n n"]) -> float:
    """Return ‖A x‖ / ‖x‖ after three powers of A on a random vector."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(len(like), generator=generator, dtype=like.dtype).to(like.device)
    for _ in range(3):
        x = apply(x / x.norm().clamp_min(torch.finfo(x.dtype).tiny))
    return float(x.norm())


def _singular(ridge: float, why: str) -> NotPositiveError:
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
