"""How is K + λI inverted when K is symmetric, but has negative eigenvalues? By K + λI = L D Lᵀ.

D has blocks of one and two numbers (Bunch & Kaufman): stable whatever the signs of the eigenvalues, at n³/3.
What can go wrong is an eigenvalue near −λ: then no digit of a solution is right, and that is refused.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float64, Int32
from torch import Tensor

from leftout.core.checks import check_at_least, check_rows
from leftout.core.errors import NotPositiveError
from leftout.core.work import Operation, WorkCount, operations
from leftout.solvers.factor import Factor

EPS = torch.finfo(torch.float64).eps

NEAREST = math.sqrt(EPS)
"""How near to singular a matrix may come, |s|_min / |s|_max: half of the digits are then left.

A positive matrix is solved up to the last digit. An indefinite one passes through singularity as its
strength grows: what is solved next to that point is right and says nothing about the data.
"""

POWERS = 20
"""Powers of the inverse: an underestimate of ‖A⁻¹‖ by less than a third, but for odds of one in 10⁶."""


@final
@dataclass(frozen=True, eq=False)
class IndefiniteFactor(Factor):
    """K + λI = P L D Lᵀ Pᵀ.

    Attributes:
        nearest: |s|_min / |s|_max of K + λI, its distance from singularity, to a third.
    """

    parts: Float64[Tensor, "n n"]
    pivots: Int32[Tensor, " n"]
    ridge: float
    nearest: float

    def solve(self, rhs: Float64[Tensor, "n k"]) -> Float64[Tensor, "n k"]:
        """Return (K + λI)⁻¹ rhs, backward stably, in 2n²k flops."""
        check_rows("rhs", rhs, len(self.parts))
        found: Tensor = torch.linalg.ldl_solve(self.parts, self.pivots, rhs)
        return found

    def inverse(self) -> Float64[Tensor, "n n"]:
        """Return (K + λI)⁻¹, symmetric, in 2n³ flops and n² new numbers."""
        unit = torch.eye(len(self.parts), dtype=self.parts.dtype, device=self.parts.device)
        found = self.solve(unit)
        return (found + found.T).div_(2)


def factor_indefinite(gram: Float64[Tensor, "n n"], *, ridge: float) -> IndefiniteFactor:
    """Return the factorisation of K + λI, K symmetric with eigenvalues of either sign.

    Args:
        gram: K, symmetric; it is not written to.
        ridge: λ ≥ 0, added as given.

    Raises:
        NotPositiveError: an eigenvalue of K + λI is so near to 0 that half of the digits are lost,
            |s|_min < √eps |s|_max. No jitter is added.

    Cost:
        n³/3 flops, and forty products and solves with it, 120n².
    """
    check_at_least("ridge", ridge, 0)
    shifted = gram.clone()
    shifted.diagonal().add_(ridge)
    parts, pivots = torch.linalg.ldl_factor(shifted)
    high = _stretch(shifted.mv, shifted)
    inverse = _stretch(lambda x: torch.linalg.ldl_solve(parts, pivots, x[:, None])[:, 0], shifted)
    nearest = 1 / (inverse * high) if math.isfinite(inverse) and inverse * high > 0 else 0.0
    if nearest < NEAREST:
        raise NotPositiveError(
            f"`gram` + {ridge:g}·I is singular to half of the digits: its eigenvalues come as near to 0 as "
            f"{nearest:.1g} of the largest. Take another `strength` or a larger `ridge`. No jitter was added."
        )
    return IndefiniteFactor(parts=parts, pivots=pivots, ridge=ridge, nearest=nearest)


def _stretch(apply: Callable[[Tensor], Tensor], like: Float64[Tensor, "n n"]) -> float:
    """Return ‖A x‖ / ‖x‖ after powers of A on a random vector: ‖A‖ from below."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(len(like), generator=generator, dtype=like.dtype).to(like.device)
    for _ in range(POWERS):
        x = apply(x / x.norm().clamp_min(torch.finfo(x.dtype).tiny))
    return float(x.norm())


def indefinite_work(n: int) -> WorkCount:
    """Return the work of `factor_indefinite`."""
    return operations(Operation.INDEFINITE, side=n)
