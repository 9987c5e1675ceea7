"""Weighted ridge regression on features, with an intercept that no penalty shrinks if wanted.

    min over w, b of  Σ_i ω_i (φ_i · w + b − y_i)² + λ ‖w‖²

The intercept makes weighted means vanish: with φ − φ̄ for φ, B = S (φ − φ̄) = U diag(s) Vᵀ, and
u = S 1 / ‖S 1‖, which is orthogonal to U,

    P = I − U diag(s² / (s² + λ)) Uᵀ − u uᵀ,    α = P S y = S (y − f)

so leaving an example out, which moves the means, is exact: the intercept is one more column that is never
shrunk. Nothing of size n × n is made.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.core.errors import NotPositiveError
from leftout.solvers.smoother import EPS, Smoother


@dataclass(frozen=True, eq=False)
class CentredFeatures:
    """Weighted features and their singular values, which all ridges share; see the module.

    Attributes:
        scale: S.
        centre: φ̄, zero without an intercept.
        left, values, right: U (n, r), s and V (p, r), of the r values above rounding.
        constant: u; None without an intercept.
        noise: the largest singular value that rounding makes of a zero.
    """

    scale: Float64[Tensor, " n"]
    centre: Float64[Tensor, " p"]
    left: Float64[Tensor, "n r"]
    values: Float64[Tensor, " r"]
    right: Float64[Tensor, "p r"]
    constant: Float64[Tensor, " n"] | None
    noise: float


def feature_smoothers(
    features: Float64[Tensor, "n p"],
    *,
    scale: Float64[Tensor, " n"],
    ridges: Sequence[float],
    intercept: bool,
) -> list["FeatureSmoother"]:
    """Return the smoother at each ridge, from one singular value decomposition.

    Args:
        scale: s, the square root of each example's weight; one at least is above 0.
        ridges: λ ≥ 0 of each.
        intercept: whether there is an intercept, without penalty.

    Raises:
        NotPositiveError: a ridge of 0 where features depend on each other.

    Cost:
        6np·min(n, p) flops.
    """
    centre, constant = torch.zeros_like(features[0]), None
    if intercept:
        weights = scale.square()
        centre = weights @ features / weights.sum()
        constant = scale / scale.norm()
    left, values, right = torch.linalg.svd(scale[:, None] * (features - centre), full_matrices=False)
    noise = max(features.shape) * EPS * float(values[0]) if len(values) else 0.0
    keep = values > noise
    shared = CentredFeatures(scale, centre, left[:, keep], values[keep], right[keep].T, constant, noise)
    return [FeatureSmoother(shared, ridge) for ridge in ridges]


@final
class FeatureSmoother(Smoother):
    """The smoother of features at one ridge; queries are compared by their features."""

    def __init__(self, shared: CentredFeatures, ridge: float) -> None:
        self.scale = shared.scale
        self.noise = torch.ones_like(shared.scale)
        self.shared = shared
        values, columns = shared.values, len(shared.centre)
        if len(values) < columns and ridge <= shared.noise**2:
            rank = len(values)
            raise NotPositiveError(
                f"`alpha` = {ridge:g} does not determine {columns} coefficients: the features have rank "
                f"{rank} to rounding. Fit with a larger `alpha`, or drop features that depend on others."
            )
        squares = values.square() + ridge
        self._filter = values / squares
        unlearned = ridge / squares
        basis = shared.left
        if shared.constant is not None:
            basis = torch.cat([basis, shared.constant[:, None]], dim=1)
            unlearned = torch.cat([unlearned, unlearned.new_zeros(1)])
        self._basis = basis  # (n, r + 1)
        # Where the columns span all n dimensions nothing lies beside them, not even rounding.
        self._beside = 0.0 if basis.shape[1] == len(basis) else 1.0
        self._unlearned = unlearned - self._beside
        ends = torch.cat([squares, squares.new_full((int(len(values) < columns),), ridge)])
        self.condition = float(ends.max() / ends.min()) if len(ends) else 1.0

    @cached_property
    def diagonal(self) -> Float64[Tensor, " n"]:
        return self._beside + self._basis.square() @ self._unlearned

    def block(self, rows: Int64[Tensor, " g"]) -> Float64[Tensor, "g g"]:
        basis = self._basis[rows]
        block = (basis * self._unlearned) @ basis.T
        block.diagonal().add_(self._beside)
        return block

    def duals(self, targets: Float64[Tensor, "n k"]) -> Float64[Tensor, "n k"]:
        scaled = self.scale[:, None] * targets
        return self._beside * scaled + self._basis @ (self._unlearned[:, None] * (self._basis.T @ scaled))

    def shares(self, queries: Float64[Tensor, "m p"]) -> Float64[Tensor, "m n"]:
        shares = self._coordinates(queries) @ self.shared.left.T
        if self.shared.constant is not None:
            shares += self.shared.constant / self.scale.norm()
        return shares

    def predict(
        self, queries: Float64[Tensor, "m p"], targets: Float64[Tensor, "n k"]
    ) -> Float64[Tensor, "m k"]:
        scaled = self.scale[:, None] * targets
        prediction = self._coordinates(queries) @ (self.shared.left.T @ scaled)
        if self.shared.constant is not None:
            prediction += self.shared.constant @ scaled / self.scale.norm()
        return prediction

    def _coordinates(self, queries: Float64[Tensor, "m p"]) -> Float64[Tensor, "m r"]:
        """Return (φ − φ̄) V diag(s / (s² + λ))."""
        return ((queries - self.shared.centre) @ self.shared.right) * self._filter
