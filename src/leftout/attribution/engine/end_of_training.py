"""The engine at the end of training. With G = (K + λI)⁻¹ and α = G (Y − f_0), the changes are

    without i            f_without_i(x) − f(x) = −(K(x, X) G)_i α_i / G_ii
    without a group I    −(K(x, X) G)_I (G_II)⁻¹ α_I
    relabelled           (K(x, X) G)_i (y' − y_i)
    weight ω             −(K(x, X) G)_i α_i λ(1 − ω) / (λ(1 − ω) G_ii + ω)
    with (x*, y*) added  (k(x, x*) − K(x, X) G k) (y* − kᵀα) / (k(x*, x*) + λ − kᵀGk)

Where the kernel has several outputs, example i is a group of rows, and divisions are solves.

Source: rethinking influence functions, eq. 9; Rifkin & Lippert 2007 for the diagonal.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from functools import cached_property, partial
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.attribution.engine.base import SpectralEngine, columns_times_rows
from leftout.attribution.engine.query_blocks import COLUMNS, QueryBlock
from leftout.core.errors import NotPositiveError
from leftout.core.structured_matrix import to_numbers
from leftout.core.work import WorkCount, passes, product
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.nystrom import left_out_residuals
from leftout.kernels.nystrom import NystromKernel
from leftout.solvers.diagonal_blocks import diagonal_blocks, solve_blocks
from leftout.solvers.tiled.tiled_factor import TiledFactor
from leftout.solvers.tiled.tiled_inverse import TiledInverse


@final
class EndOfTraining(SpectralEngine):
    """The end of training, from one factorisation and its inverse: n³ flops."""

    def __init__(self, fitted: Fitted, *, total: float) -> None:
        self.fitted = fitted
        self.time = math.inf
        self.total = total
        self.ridge = fitted.rule.effective_ridge(total)
        self._last: tuple[tuple[QueryBlock | None, int, int], Tensor] | None = None
        fitted.factor(self.ridge)

    @property
    def key(self) -> tuple[Hashable, ...]:
        return math.inf, self.ridge

    def filter(self, values: Float64[Tensor, " r"]) -> Float64[Tensor, " r"]:
        return 1 / (values + self.ridge)

    @cached_property
    def dual(self) -> Float64[Tensor, "rows c"]:
        return self.fitted.dual(math.inf, total=self.total)

    @cached_property
    def dual_as_fitted(self) -> Float64[Tensor, "rows c"]:
        if self.fitted.rule.effective_ridge(len(self.fitted)) == self.ridge:
            return self.dual
        return self.fitted.dual(math.inf)

    @cached_property
    def _diagonal_blocks(self) -> Float64[Tensor, "n b b"]:
        """Return the diagonal of G, a block for each example."""
        return diagonal_blocks(self._inverse, self.fitted.outputs_per_example)

    @cached_property
    def _ratios(self) -> Float64[Tensor, "rows c"]:
        """Return (G_ii)⁻¹ α_i for every example."""
        return solve_blocks(self._diagonal_blocks, self._by_example(self.dual)).flatten(0, 1)

    @property
    def _inverse(self) -> Float64[Tensor, "rows rows"]:
        return self.fitted.inverse(self.ridge)

    def _by_example(self, dual: Float64[Tensor, "rows c"]) -> Float64[Tensor, "n b c"]:
        return torch.unflatten(dual, 0, (-1, self.fitted.outputs_per_example))

    def singles(self, queries: QueryBlock, columns: slice, output: int) -> Float64[Tensor, "m e"]:
        if self.fitted.outputs_per_example > 1:
            return queries.of_output(output, queries.cross) @ self._shared_by_outputs(None, columns)
        change = self._shared_by_outputs(queries, columns) * -self._ratios[columns, output]  # (m, e)
        if self.shift is not None:
            change += (queries.cross @ self.shift[:, output])[:, None]
        return change

    def _shared_by_outputs(self, queries: QueryBlock | None, columns: slice) -> Float64[Tensor, "x e"]:
        """Return K(queries, X) G for some columns, or without queries the changes of the dual.

        The last is kept, for all outputs share it.
        """
        if queries is not None and self._takes_all_columns(queries, columns):
            return self._of_all_columns(queries)[:, columns]
        key = (queries, columns.start, columns.stop)
        if self._last is None or self._last[0] != key:
            self._last = None
            shared = (
                self.single_duals(columns)[:, :, 0]
                if queries is None
                else to_numbers(queries.cross @ self._inverse[:, columns])
            )
            self._last = (key, shared)
        return self._last[1]

    def _takes_all_columns(self, queries: QueryBlock, columns: slice) -> bool:
        """Return whether a block of queries is multiplied by the whole inverse at once."""
        if not isinstance(self._inverse, TiledInverse):
            return False
        is_there = self._last is not None and self._last[0] == (queries, 0, len(self.fitted))
        return is_there or columns.stop - columns.start >= COLUMNS

    def movement(self, queries: QueryBlock) -> Float64[Tensor, " n"] | None:
        if self.shift is not None:
            return None
        if self._last is None or self._last[0] != (queries, 0, len(self.fitted)):
            return None
        return self._last[1].square().sum(0) * self._ratios.square().sum(1)

    def _of_all_columns(self, queries: QueryBlock) -> Float64[Tensor, "m n"]:
        """Return K(queries, X) G at once: each tile is read once for a block of queries."""
        if self._last is None or self._last[0] != (queries, 0, len(self.fitted)):
            self._last = None
            self._last = (queries, 0, len(self.fitted)), queries.cross @ self._inverse
        return self._last[1]

    def single_duals(self, columns: slice) -> Float64[Tensor, "rows e c"]:
        rows, outputs = self.fitted.rows.of_examples(columns), self.fitted.outputs_per_example
        change = columns_times_rows(self._inverse[:, rows], -self._ratios[rows], outputs)
        return self.with_shift(change).transpose(0, 1)

    def diagonal(self) -> Float64[Tensor, "n k"]:
        # y_i − f_without_i(x_i) = (G_ii)⁻¹ α_i and y_i − f(x_i) = λ α_i.
        change = self.ridge * self.dual - self._ratios
        if self.shift is not None:
            change = change + self.fitted.gram @ self.shift
        return self.fitted.by_example(change)

    def _out_of_sample(self) -> Float64[Tensor, "n k"]:
        if isinstance(self.fitted.kernel, NystromKernel):
            return self.fitted.targets - left_out_residuals(self.fitted, self.ridge)
        return super()._out_of_sample()

    def group_dual(self, group: Tensor) -> Float64[Tensor, "rows c"]:
        rows = self.fitted.rows.of_examples(group)
        block = self._inverse[rows][:, rows]
        ratio = torch.linalg.solve(block, self.dual[rows])  # (g, c)
        return self.with_shift(-self._inverse[:, rows] @ ratio)

    def refits(self, pairs: Sequence[tuple[int, int]]) -> list[Callable[[QueryBlock], Float64[Tensor, " m"]]]:
        factor = self.fitted.factor(self.ridge)
        if not isinstance(factor, TiledFactor) or not pairs:
            return super().refits(pairs)
        # Evaluating the kernel is what a product costs: all are solved for together, in float64.
        rows, outputs = (
            torch.tensor(numbers, device=self.fitted.device) for numbers in zip(*pairs, strict=True)
        )
        duals = factor.solve(self.fitted.residual[:, outputs], without=rows)
        change = self.dual_as_fitted[:, outputs] - duals
        return [partial(_at_queries, change=of_one) for of_one in change.T]

    def relabel_duals(self, examples: Tensor, by: Tensor) -> Float64[Tensor, "e rows c"]:
        rows = self.fitted.rows.of_examples(examples)
        return columns_times_rows(
            self._inverse[:, rows], self.fitted.by_row(by), self.fitted.outputs_per_example
        )

    def reweight_duals(self, examples: Tensor, weight: float) -> Float64[Tensor, "e rows c"]:
        rows, outputs = self.fitted.rows.of_examples(examples), self.fitted.outputs_per_example
        # λ(1 − ω) = 0 where nothing is regularised: the data are interpolated whatever they weigh.
        lighter = self.ridge * (1 - weight)
        if weight == 0:
            ratio = self._ratios[rows]
        else:
            diagonal = self._diagonal_blocks[examples]
            below = lighter * diagonal + weight * torch.eye(outputs, device="cpu").to(diagonal)
            ratio = solve_blocks(below, lighter * self._by_example(self.dual)[examples]).flatten(0, 1)
        return self.with_shift(columns_times_rows(self._inverse[:, rows], -ratio, outputs))

    def add_duals(
        self, to_train: Tensor, to_itself: Tensor, targets: Tensor, start: Tensor
    ) -> tuple[Float64[Tensor, "a rows c"], Float64[Tensor, "arows c"]]:
        outputs = self.fitted.outputs_per_example
        solved = self._inverse @ to_train  # G k, (rows, a·b)
        above = to_itself + self.ridge * torch.eye(outputs, device="cpu").to(solved)  # (a, b, b)
        k, gk = (torch.unflatten(x.T, 0, (-1, outputs)) for x in (to_train, solved))  # (a, b, rows)
        schur = above - k @ gk.mT
        # Rounding leaves n·eps·k(x*, x*) where a new row depends on the others.
        size = above.diagonal(dim1=1, dim2=2).abs().amax(1)
        noise = len(solved) * torch.finfo(schur.dtype).eps * size
        eigenvalues = torch.linalg.eigvalsh(schur)
        # A kernel that sees labels may have negative ones; only those next to 0 say nothing new.
        definite = self.fitted.kernel.definite
        nearest = eigenvalues[:, 0] if definite else eigenvalues.abs().amin(1)
        if not bool((nearest > noise).all()):
            which = int((nearest <= noise).nonzero()[0])
            raise NotPositiveError(
                f"Added example {which} makes the Gram matrix singular: its inputs are those of a "
                "training example, or depend on them. Pass a `ridge` > 0, or a finite `at`."
            )
        residual = self.fitted.by_row(targets - start)
        unexplained = self._by_example(residual - to_train.T @ self.dual)
        new = solve_blocks(schur, unexplained).flatten(0, 1)  # (a·b, c)
        return self.with_shift(columns_times_rows(solved, -new, outputs)), new


def _at_queries(queries: QueryBlock, change: Float64[Tensor, " rows"]) -> Float64[Tensor, " m"]:
    """Return how predictions change by a change of one column of the dual."""
    return queries.cross @ change


def singles_at_end_work(m: int, n: int, k: int) -> WorkCount:
    """Return the work of `EndOfTraining.singles` for all queries and examples; outputs share a product."""
    return product(m, n, n) + k * passes(m * n)
