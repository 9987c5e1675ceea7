"""What changes at the end of training? With G = (K + λI)⁻¹ and α = G (Y − f_0):

    without i            f_without_i(x) − f(x) = −(K(x, X) G)_i α_i / G_ii
    without a group I    −(K(x, X) G)_I (G_II)⁻¹ α_I
    relabelled           (K(x, X) G)_i (y' − y_i)
    weight ω             −(K(x, X) G)_i α_i λ(1 − ω) / (λ(1 − ω) G_ii + ω)
    with (x*, y*) added  (k(x, x*) − K(x, X) G k) (y* − kᵀα) / (k(x*, x*) + λ − kᵀGk)

Source: rethinking influence functions, eq. 9; Rifkin & Lippert 2007 for the diagonal.
"""

import math
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.attribution.instant import Features, Instant
from leftout.core.errors import NotPositiveError
from leftout.dynamics.fitted import Fitted


@final
class Converged(Instant):
    """The end of training, from one Cholesky factorisation and its inverse: n³ flops."""

    def __init__(self, fitted: Fitted, *, total: float) -> None:
        self.fitted = fitted
        self.total = total
        self.ridge = fitted.rule.shifted(total)
        self._last: tuple[tuple[Features, int, int], Tensor] | None = None
        fitted.factor(self.ridge)

    def dual(self) -> Float64[Tensor, "n k"]:
        return self._dual

    @cached_property
    def _dual(self) -> Float64[Tensor, "n k"]:
        return self.fitted.factor(self.ridge).solve(self.fitted.residual)

    def as_fitted(self) -> Float64[Tensor, "n k"]:
        return self._as_fitted

    @cached_property
    def _as_fitted(self) -> Float64[Tensor, "n k"]:
        if self.fitted.rule.shifted(len(self.fitted)) == self.ridge:
            return self._dual
        return self.fitted.dual(math.inf)

    @cached_property
    def _ratios(self) -> Float64[Tensor, "n k"]:
        return self.dual() / self._inverse.diagonal()[:, None]

    @property
    def _inverse(self) -> Float64[Tensor, "n n"]:
        return self.fitted.inverse(self.ridge)

    def singles(self, features: Features, columns: slice, output: int) -> Float64[Tensor, "m b"]:
        change = self._product(features, columns) * -self._ratios[columns, output]  # (m, b)
        if self.shift is not None:
            change += (features.cross @ self.shift[:, output])[:, None]
        return change

    def _product(self, features: Features, columns: slice) -> Float64[Tensor, "m b"]:
        """Return K(queries, X) G for some columns; the last is kept, for all outputs share it."""
        asked = (features, columns.start, columns.stop)
        if self._last is None or self._last[0] != asked:
            self._last = None
            self._last = (asked, features.cross @ self._inverse[:, columns])
        return self._last[1]

    def diagonal(self) -> Float64[Tensor, "n k"]:
        # y_i − f_without_i(x_i) = α_i / G_ii and y_i − f(x_i) = λ α_i.
        change = self.ridge * self.dual() - self._ratios
        return change if self.shift is None else change + self.fitted.gram @ self.shift

    def without(self, rows: Tensor) -> Float64[Tensor, "n k"]:
        block = self._inverse[rows][:, rows]
        ratio = torch.linalg.solve(block, self.dual()[rows])  # (g, k)
        return self.shifted(-self._inverse[:, rows] @ ratio)

    def relabelled(self, rows: Tensor, by: Tensor) -> Float64[Tensor, "b n k"]:
        return self._inverse[:, rows].T[:, :, None] * by[:, None, :]

    def reweighted(self, rows: Tensor, weight: float) -> Float64[Tensor, "b n k"]:
        own = self._inverse.diagonal()[rows]
        # λ(1 − ω) = 0 where nothing is regularised: the data are interpolated whatever they weigh.
        lighter = self.ridge * (1 - weight)
        ratio = (
            self._ratios[rows]
            if weight == 0
            else self.dual()[rows] * (lighter / (lighter * own + weight))[:, None]
        )
        return self.shifted(-self._inverse[:, rows].T[:, :, None] * ratio[:, None, :])

    def added(
        self, to_train: Tensor, to_itself: Tensor, residual: Tensor
    ) -> tuple[Float64[Tensor, "a n k"], Float64[Tensor, "a k"]]:
        spread = self._inverse @ to_train  # G k, (n, a)
        schur = to_itself + self.ridge - (to_train * spread).sum(0)  # (a,)
        # Rounding leaves n·eps·k(x*, x*) where the new row depends on the others.
        noise = len(spread) * torch.finfo(schur.dtype).eps * (to_itself + self.ridge)
        if not bool((schur > noise).all()):
            which = int((schur <= noise).nonzero()[0])
            raise NotPositiveError(
                f"Added example {which} makes the Gram matrix singular: its inputs are those of a "
                "training example, or depend on them. Pass a `ridge` > 0, or a finite `at`."
            )
        own = (residual - to_train.T @ self.dual()) / schur[:, None]  # (a, k)
        return self.shifted(-spread.T[:, :, None] * own[:, None, :]), own
