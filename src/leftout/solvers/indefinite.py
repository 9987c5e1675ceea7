"""Inversion of K + λI for a symmetric K with negative eigenvalues, by K + λI = L D Lᵀ.

D has diagonal blocks of sizes 1 and 2 (Bunch & Kaufman), which is stable for eigenvalues of any sign, at
n³/3 flops. An eigenvalue of K near −λ leaves a solution without a correct digit, and is refused.
"""

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float64, Int32
from torch import Tensor

from leftout.core.checks import check_at_least, check_rows
from leftout.core.errors import NotPositiveError
from leftout.core.work import Operation, WorkCount, operations
from leftout.solvers.factor import Factor
from leftout.solvers.krylov import norm_by_powers

EPS = torch.finfo(torch.float64).eps

NEAREST = math.sqrt(EPS)
"""How near to singular a matrix may come, |s|_min / |s|_max: half of the digits are then left.

A positive matrix may be solved up to the last digit. An indefinite one passes through singularity as its
strength grows; a solution next to that point is correct, but is no statement about the data.
"""

POWERS = 20
"""Powers of the inverse: an underestimate of ‖A⁻¹‖ by less than a third, but for odds of one in 10⁶."""


@final
@dataclass(frozen=True, eq=False)
class IndefiniteFactor(Factor):
    """K + λI = P L D Lᵀ Pᵀ.

    Attributes:
        compact: L and D in one matrix, as LAPACK packs them.
        pivots: the permutation P and the sizes of the blocks of D.
        nearest: |s|_min / |s|_max of K + λI, its distance from singularity, to a third.
    """

    compact: Float64[Tensor, "n n"]
    pivots: Int32[Tensor, " n"]
    ridge: float
    nearest: float

    def solve(self, rhs: Float64[Tensor, "n k"]) -> Float64[Tensor, "n k"]:
        """Return (K + λI)⁻¹ rhs, backward stably, in 2n²k flops."""
        check_rows("rhs", rhs, len(self.compact))
        solution: Tensor = torch.linalg.ldl_solve(self.compact, self.pivots, rhs)
        return solution

    def inverse(self) -> Float64[Tensor, "n n"]:
        """Return (K + λI)⁻¹, symmetric, in 2n³ flops and n² new numbers."""
        unit = torch.eye(len(self.compact), dtype=self.compact.dtype, device=self.compact.device)
        inverse = self.solve(unit)
        return (inverse + inverse.T).div_(2)


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

    Example:
        >>> import torch
        >>> gram = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)  # eigenvalues 1 and -1
        >>> factor_indefinite(gram, ridge=0.0).solve(torch.tensor([[4.0], [8.0]], dtype=torch.float64))
        tensor([[8.],
                [4.]], dtype=torch.float64)
    """
    check_at_least("ridge", ridge, 0)
    shifted = gram.clone()
    shifted.diagonal().add_(ridge)
    compact, pivots = torch.linalg.ldl_factor(shifted)
    high = norm_by_powers(shifted.mv, shifted, powers=POWERS)
    inverse = norm_by_powers(
        lambda x: torch.linalg.ldl_solve(compact, pivots, x[:, None])[:, 0], shifted, powers=POWERS
    )
    nearest = 1 / (inverse * high) if math.isfinite(inverse) and inverse * high > 0 else 0.0
    if nearest < NEAREST:
        raise NotPositiveError(
            f"`gram` + {ridge:g}·I is singular to half of the digits: its eigenvalues come as near to 0 as "
            f"{nearest:.1g} of the largest. Take another `strength` or a larger `ridge`. No jitter was added."
        )
    return IndefiniteFactor(compact=compact, pivots=pivots, ridge=ridge, nearest=nearest)


def indefinite_work(n: int) -> WorkCount:
    """Return the work of `factor_indefinite`."""
    return operations(Operation.INDEFINITE, side=n)
