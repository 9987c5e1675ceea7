"""A kernel of few features, K = Φ Φᵀ with Φ (n × d): all that a matrix gives, in n d², with nothing n × n.

    Φ = V diag(σ) Wᵀ,     K = V diag(σ²) Vᵀ,     (K + λI)⁻¹ = (I − Φ W diag(1 / (σ² + λ)) Wᵀ Φᵀ) / λ

σ and W are those of R in Φ = Q R, which is made of Φ piece by piece: R takes d² numbers, and Q is never kept.
Of ΦᵀΦ the singular values would be right to √eps·σ_max alone; those of R are right to eps·σ_max.
"""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.core.blocks import blocks
from leftout.core.checks import check_at_least, check_rows
from leftout.core.errors import NotPositiveError
from leftout.core.product_matrix import ProductMatrix
from leftout.core.structured_matrix import to_numbers
from leftout.core.work import Operation, WorkCount, operations
from leftout.solvers.factor import Factor
from leftout.solvers.feature_inverse import FeatureInverse, ShiftedRows
from leftout.solvers.spectrum import Spectrum

EPS = torch.finfo(torch.float64).eps

PIECE = 4096
"""Rows of Φ at least that are factored together."""


@dataclass(frozen=True, eq=False)
class FeatureDirections:
    """The directions in which rows of features have any length.

    Attributes:
        rows: Φ; not copied.
        values: σ², largest first, of the r directions above rounding.
        right: W.
        room: bytes up to which numbers of matrices are made for operations that need them.
    """

    rows: Float64[Tensor, "n d"]
    values: Float64[Tensor, " r"]
    right: Float64[Tensor, "d r"]
    room: int

    def factor(self, ridge: float) -> "FeatureFactor":
        """Return K + ridge·I factored, as `factor_features` says."""
        return factor_features(self, ridge=ridge)

    def spectrum(self) -> "FeatureSpectrum":
        """Return the eigenpairs of K that are not zero.

        V is a tensor where it takes no more than `room`, and else a product that is made where it is used.
        """
        scaled = self.right / self.values.sqrt()
        is_small = 8 * len(self.rows) * len(self.values) <= self.room
        vectors = self.rows @ scaled if is_small else ProductMatrix(self.rows, scaled.T, room=self.room)
        return FeatureSpectrum(self.values, vectors, self)


def feature_directions(matrix: ProductMatrix) -> FeatureDirections:
    """Return the singular values and right vectors of Φ, where the matrix is Φ Φᵀ.

    Cost:
        2nd² flops, of pieces that hold 4d rows or more, and 20d³ once.

    Accuracy:
        backward stable: σ is that of a Φ which differs by about √d·eps·σ_max. Directions below d·eps·σ_max
        are left out; in σ² that is d²·eps² of the largest, far below what K itself could tell from zero.

    Example:
        >>> import torch
        >>> rows = torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
        >>> feature_directions(ProductMatrix(rows, rows, room=1000)).values
        tensor([9.0000, 2.0000], dtype=torch.float64)
    """
    rows = matrix.left
    n, d = rows.shape
    upper = rows.new_zeros(0, d)
    for piece in blocks(n, max(PIECE, 4 * d)):
        upper = torch.linalg.qr(torch.cat([upper, rows[piece]]), mode="r").R
    _, values, right = torch.linalg.svd(upper, full_matrices=False)
    kept = int((values > d * EPS * values[:1]).sum()) if len(values) else 0
    return FeatureDirections(rows, values[:kept].square(), right[:kept].T.contiguous(), matrix.room)


@final
class FeatureFactor(Factor):
    """K + λI of K = Φ Φᵀ, by the directions of Φ."""

    def __init__(self, directions: FeatureDirections, ridge: float) -> None:
        self.directions = directions
        self.ridge = ridge

    def solve(self, rhs: Float64[Tensor, "n k"]) -> Float64[Tensor, "n k"]:
        """Return (K + λI)⁻¹ rhs, in 12ndk flops.

        What the features explain is a difference of numbers (σ² + λ)/λ times larger: one step of refinement,
        on the residual, brings its digits back.
        """
        rows, rhs = self.directions.rows, to_numbers(rhs)
        check_rows("rhs", rhs, len(rows))
        first = self._one_pass(rhs)
        return first + self._one_pass(rhs - rows @ (rows.T @ first) - self.ridge * first)

    def _one_pass(self, rhs: Float64[Tensor, "n k"]) -> Float64[Tensor, "n k"]:
        rows, right = self.directions.rows, self.directions.right
        inside = (right.T @ (rows.T @ rhs)) / (self.directions.values + self.ridge)[:, None]
        return (rhs - rows @ (right @ inside)) / self.ridge

    def inverse(self) -> Float64[Tensor, "n n"]:
        """Return (K + λI)⁻¹, whose numbers are made where they are used."""
        weights = 1 / (self.directions.values + self.ridge)
        d = self.directions
        return FeatureInverse(ShiftedRows(d.rows, d.right, weights, self.ridge, d.room))


def factor_features(directions: FeatureDirections, *, ridge: float) -> FeatureFactor:
    """Return the factor of K + λI; nothing is computed.

    Raises:
        NotPositiveError: K + λI is singular to rounding, 10·cond·eps ≥ 1: where there are more examples
            than features, K itself is singular, and λ its smallest eigenvalue.

    Accuracy:
        that of a Cholesky factor, relative errors of some cond(K + λI)·eps.
    """
    check_at_least("ridge", ridge, 0)
    n, r = len(directions.rows), len(directions.values)
    high = float(directions.values[0]) if r else 0.0
    low = ridge if r < n else float(directions.values[-1]) + ridge
    if low <= 10 * EPS * (high + ridge) or ridge == 0:
        raise NotPositiveError(
            f"`gram` + {ridge:g}·I is not positive definite to rounding: {n} rows of "
            f"{directions.rows.shape[1]} features leave eigenvalues from {high + ridge:.2g} down to "
            f"{low:.1g}. Pass a larger `ridge`, or ask for a finite training time. No jitter was added."
        )
    return FeatureFactor(directions, ridge)


@final
@dataclass(frozen=True, eq=False)
class FeatureSpectrum(Spectrum):
    """The spectrum of K = Φ Φᵀ: V = Φ W diag(1/σ).

    Attributes:
        directions: of Φ.

    Accuracy:
        V Σ Vᵀ is K to rounding. Columns of V are orthogonal to eps·σ_max/σ of theirs.
    """

    directions: FeatureDirections

    def of_rows(self, cross: Float64[Tensor, "m n"]) -> Float64[Tensor, "m r"]:
        """Return K(queries, X) V, which is Φ(queries) W diag(σ) where the first is kept as a product."""
        d = self.directions
        if isinstance(cross, ProductMatrix) and cross.right is d.rows:
            return cross.left @ (d.right * d.values.sqrt())
        return super().of_rows(cross)


def feature_work(n: int, d: int) -> WorkCount:
    """Return the work of `feature_directions` of n rows of d features."""
    return operations(Operation.FLOP, 2 * n * d**2 + 20 * d**3)
