"""What changes at the end of training? With G = (K + λI)⁻¹ and α = G (Y − f_0):

    without i            f_without_i(x) − f(x) = −(K(x, X) G)_i α_i / G_ii
    without a group I    −(K(x, X) G)_I (G_II)⁻¹ α_I
    relabelled           (K(x, X) G)_i (y' − y_i)
    weight ω             −(K(x, X) G)_i α_i λ(1 − ω) / (λ(1 − ω) G_ii + ω)
    with (x*, y*) added  (k(x, x*) − K(x, X) G k) (y* − kᵀα) / (k(x*, x*) + λ − kᵀGk)

Where the kernel tells outputs apart, example i is a group of rows, and divisions are solves.

Source: rethinking influence functions, eq. 9; Rifkin & Lippert 2007 for the diagonal.
"""

import math
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.attribution.engine.base import Features, Instant, combined
from leftout.core.errors import NotPositiveError
from leftout.dynamics.fitted import Fitted
from leftout.solvers.diagonal_blocks import diagonal_blocks, solve_blocks


@final
class Converged(Instant):
    """The end of training, from one Cholesky factorisation and its inverse: n³ flops."""

    def __init__(self, fitted: Fitted, *, total: float) -> None:
        self.fitted = fitted
        self.time = math.inf
        self.total = total
        self.ridge = fitted.rule.effective_ridge(total)
        self._last: tuple[tuple[Features | None, int, int], Tensor] | None = None
        fitted.factor(self.ridge)

    def dual(self) -> Float64[Tensor, "rows c"]:
        return self._dual

    @cached_property
    def _dual(self) -> Float64[Tensor, "rows c"]:
        return self.fitted.factor(self.ridge).solve(self.fitted.residual)

    @cached_property
    def _as_fitted(self) -> Float64[Tensor, "rows c"]:
        if self.fitted.rule.effective_ridge(len(self.fitted)) == self.ridge:
            return self._dual
        return self.fitted.dual(math.inf)

    @cached_property
    def _own(self) -> Float64[Tensor, "n b b"]:
        """Return the diagonal of G, a block for each example."""
        return diagonal_blocks(self._inverse, self.fitted.outputs_per_example)

    @cached_property
    def _ratios(self) -> Float64[Tensor, "rows c"]:
        """Return (G_ii)⁻¹ α_i for every example."""
        return solve_blocks(self._own, self._by_example(self.dual())).flatten(0, 1)

    @property
    def _inverse(self) -> Float64[Tensor, "rows rows"]:
        return self.fitted.inverse(self.ridge)

    def _by_example(self, dual: Float64[Tensor, "rows c"]) -> Float64[Tensor, "n b c"]:
        return torch.unflatten(dual, 0, (-1, self.fitted.outputs_per_example))

    def singles(self, features: Features, columns: slice, output: int) -> Float64[Tensor, "m e"]:
        if self.fitted.outputs_per_example > 1:
            return features.of(output, features.cross) @ self._kept(None, columns)
        change = self._kept(features, columns) * -self._ratios[columns, output]  # (m, e)
        if self.shift is not None:
            change += (features.cross @ self.shift[:, output])[:, None]
        return change

    def _kept(self, features: Features | None, columns: slice) -> Float64[Tensor, "x e"]:
        """Return K(queries, X) G for some columns, or without queries the changes of the dual.

        The last is kept, for all outputs share it.
        """
        asked = (features, columns.start, columns.stop)
        if self._last is None or self._last[0] != asked:
            self._last = None
            made = (
                self.left_out(columns)[:, :, 0]
                if features is None
                else features.cross @ self._inverse[:, columns]
            )
            self._last = (asked, made)
        return self._last[1]

    def left_out(self, columns: slice) -> Float64[Tensor, "rows e c"]:
        rows = self.fitted.kernel_rows(columns)
        change = combined(self._inverse[:, rows], -self._ratios[rows], self.fitted.outputs_per_example)
        return self.with_shift(change).transpose(0, 1)

    def diagonal(self) -> Float64[Tensor, "n k"]:
        # y_i − f_without_i(x_i) = (G_ii)⁻¹ α_i and y_i − f(x_i) = λ α_i.
        change = self.ridge * self.dual() - self._ratios
        if self.shift is not None:
            change = change + self.fitted.gram @ self.shift
        return self.fitted.by_example(change)

    def without(self, group: Tensor) -> Float64[Tensor, "rows c"]:
        rows = self.fitted.kernel_rows(group)
        block = self._inverse[rows][:, rows]
        ratio = torch.linalg.solve(block, self.dual()[rows])  # (g, c)
        return self.with_shift(-self._inverse[:, rows] @ ratio)

    def relabelled(self, examples: Tensor, by: Tensor) -> Float64[Tensor, "e rows c"]:
        rows = self.fitted.kernel_rows(examples)
        return combined(self._inverse[:, rows], self.fitted.by_row(by), self.fitted.outputs_per_example)

    def reweighted(self, examples: Tensor, weight: float) -> Float64[Tensor, "e rows c"]:
        rows, each = self.fitted.kernel_rows(examples), self.fitted.outputs_per_example
        # λ(1 − ω) = 0 where nothing is regularised: the data are interpolated whatever they weigh.
        lighter = self.ridge * (1 - weight)
        if weight == 0:
            ratio = self._ratios[rows]
        else:
            own = self._own[examples]
            below = lighter * own + weight * torch.eye(each).to(own)
            ratio = solve_blocks(below, lighter * self._by_example(self.dual())[examples])
            ratio = ratio.flatten(0, 1)
        return self.with_shift(combined(self._inverse[:, rows], -ratio, each))

    def added(
        self, to_train: Tensor, to_itself: Tensor, residual: Tensor
    ) -> tuple[Float64[Tensor, "a rows c"], Float64[Tensor, "arows c"]]:
        each = self.fitted.outputs_per_example
        spread = self._inverse @ to_train  # G k, (rows, a·b)
        above = to_itself + self.ridge * torch.eye(each).to(spread)  # (a, b, b)
        parts = [torch.unflatten(x.T, 0, (-1, each)) for x in (to_train, spread)]  # (a, b, rows)
        schur = above - parts[0] @ parts[1].mT
        # Rounding leaves n·eps·k(x*, x*) where a new row depends on the others.
        size = above.diagonal(dim1=1, dim2=2).abs().amax(1)
        noise = len(spread) * torch.finfo(schur.dtype).eps * size
        left = torch.linalg.eigvalsh(schur)
        # A kernel that sees labels may have negative ones; only those next to 0 say nothing new.
        left = left[:, 0] if self.fitted.kernel.definite else left.abs().amin(1)
        if not bool((left > noise).all()):
            which = int((left <= noise).nonzero()[0])
            raise NotPositiveError(
                f"Added example {which} makes the Gram matrix singular: its inputs are those of a "
                "training example, or depend on them. Pass a `ridge` > 0, or a finite `at`."
            )
        missed = self._by_example(residual - to_train.T @ self.dual())
        own = solve_blocks(schur, missed).flatten(0, 1)  # (a·b, c)
        return self.with_shift(combined(spread, -own, each)), own
