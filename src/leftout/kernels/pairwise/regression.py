"""How likely do two inputs share a label? Estimated from their kernel value alone.

A kernel regression over all n² training pairs: the label L_ij = ±1 of a pair (+1: same class) is averaged
with Epanechnikov weights in the kernel value h, of bandwidth σ = max H − min H and not clipped at 0,

    Z(h) = Σ_ij (σ² − (h − H_ij)²) L_ij / Σ_ij (σ² − (h − H_ij)²)

Multiplied out, with a = h − r and H measured from any r, six sums are enough:

    Z = (S0 (σ² − a²) + 2 a S1 − S2) / (N (σ² − a²) + 2 a T1 − T2)

N = n², S_p = Σ L (H − r)^p, T_p = Σ (H − r)^p. L = 2 Σ_c 1_c 1_cᵀ − 1 1ᵀ has a rank of at most the number
of classes + 1, so the sums cost one product of H with the class indicators. Variant V2 has H⁻¹ L H⁻¹ in
place of L in the numerator: indicators are then solved for first.
"""

from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.core.blocks import blocks
from leftout.core.errors import DataError, NotPositiveError
from leftout.kernels.pairwise.pairs import Pairs, symmetric_matrix

LEAST_WEIGHT = 1e-10
"""Σ weights over n² σ² below which Z is refused.

For a training pair the sum is positive, as its own weight is σ². Far from all training pairs the sum becomes
0, where Z has a pole, and then negative, where Z is no estimate of labels.
"""

ROWS = 64
"""Rows of pairs taken at once: half a dozen arrays of them are held."""

RESIDUAL = 1e-6
"""Relative residual of H⁻¹ times the class indicators above which V2 is refused."""


@final
@dataclass(frozen=True)
class KernelRegression:
    """Z as a function of the kernel value: the six sums, the bandwidth σ and the origin r."""

    origin: float
    bandwidth: float
    pairs: float
    label_sums: tuple[float, float, float]
    sums: tuple[float, float]

    def on(self, pairs: Pairs) -> Float64[Tensor, "m n"]:
        """Return Z of pairs, from their kernel alone.

        Raises:
            DataError: a pair so far from all training pairs that the sum of their weights is not positive.
        """
        higher = torch.empty_like(pairs.kernel)
        for rows in blocks(len(higher), ROWS):
            higher[rows] = self.at(pairs.kernel[rows], first=rows.start)
        return higher

    def among(self, pairs: Pairs) -> Float64[Tensor, "n n"]:
        """Return Z of the training pairs: one triangle and its mirror."""
        return symmetric_matrix(pairs.kernel, lambda i, j: self.at(pairs.kernel[i, j]))

    def at(self, kernel: Float64[Tensor, "..."], *, first: int = 0) -> Float64[Tensor, "..."]:
        """Return Z at kernel values of any shape; errors as `on`, rows counted from `first`."""
        away = kernel - self.origin
        window = self.bandwidth**2 - away * away
        doubled = 2 * away
        (s0, s1, s2), (t1, t2) = self.label_sums, self.sums
        weights = self.pairs * window + t1 * doubled - t2
        self._check(weights, kernel, first)
        return (s0 * window + s1 * doubled - s2) / weights

    def _check(self, weights: Tensor, kernel: Tensor, first: int) -> None:
        far = weights <= LEAST_WEIGHT * self.pairs * self.bandwidth**2
        if not bool(far.any()):
            return
        at = tuple(int(index) for index in far.nonzero()[0])
        value, centre = float(kernel[at]), self.origin + self.sums[0] / self.pairs
        pair = (at[0] + first, *at[1:])
        raise DataError(
            f"The kernel of pair {pair} must lie where training pairs have weight; it is {value:.6g}, "
            f"more than the bandwidth {self.bandwidth:.6g} from nearly all of them (mean {centre:.6g}), and "
            'Z has a pole there. Load inputs with one norm (normalise="sphere"), or drop this input.'
        )

    @property
    def record(self) -> dict[str, Any]:
        """Return bandwidth, origin and sums."""
        return {
            "bandwidth": self.bandwidth,
            "origin": self.origin,
            "pairs": self.pairs,
            "label_sums": list(self.label_sums),
            "sums": list(self.sums),
        }


def learn_regression(pairs: Pairs, labels: Int64[Tensor, " n"], *, solved: bool) -> KernelRegression:
    """Return Z as fitted to all pairs of training inputs.

    Args:
        solved: V2, with H⁻¹ L H⁻¹ for L.

    Raises:
        DataError: all kernel values are equal.
        NotPositiveError: V2 of a kernel matrix without an inverse.

    Cost:
        Two products of n² numbers with the class indicators; V2 n³/3 more.
    """
    kernel = pairs.kernel
    low, high = (float(bound) for bound in torch.aminmax(kernel))
    if not high > low:
        raise DataError(
            f"The kernel must differ between pairs of training inputs; it is {low:.6g} for all of them. "
            "Are all inputs the same?"
        )
    # Class numbers may lie far apart: classes without examples are left out.
    class_of = torch.unique(labels, return_inverse=True)[1]
    classes = torch.nn.functional.one_hot(class_of).double().to(kernel.device)  # (n, c)
    marks = _solve(kernel, classes) if solved else classes
    origin = float(kernel.mean())
    away = kernel - origin
    first = away @ marks
    t1 = float(away.sum())
    away.mul_(away)
    n = float(len(kernel))
    return KernelRegression(
        origin,
        high - low,
        n * n,
        (_pair_sum(marks, marks.sum(0)[None]), _pair_sum(marks, first), _pair_sum(marks, away @ marks)),
        (t1, float(away.sum())),
    )


def _pair_sum(marks: Float64[Tensor, "n c"], weighted: Float64[Tensor, "#n c"]) -> float:
    """Return Σ_ij W_ij M_ij, M = 2 Σ_c m_c m_cᵀ − (Σ_c m_c)(Σ_c m_c)ᵀ, from W m_c."""
    return float(2 * (marks * weighted).sum() - (marks.sum(1) * weighted.sum(1)).sum())


def _solve(kernel: Float64[Tensor, "n n"], classes: Float64[Tensor, "n c"]) -> Float64[Tensor, "n c"]:
    """Return H⁻¹ times the class indicators."""
    lower, pivot = torch.linalg.cholesky_ex(kernel)
    solutions = torch.cholesky_solve(classes, lower)
    error = (kernel @ solutions - classes).norm() / classes.norm()
    if int(pivot) or not bool(error < RESIDUAL):
        raise NotPositiveError(
            'The kernel matrix must be invertible for the estimator "kr-v2"; '
            + (
                f"pivot {int(pivot)} of {len(kernel)} is ≤ 0. "
                if int(pivot)
                else f"its solutions are off by {float(error):.1g} of themselves. "
            )
            + 'Drop repeated inputs, or take "kr-v1". No jitter was added.'
        )
    return solutions
