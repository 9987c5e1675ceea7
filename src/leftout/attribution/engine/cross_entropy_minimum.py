"""The engine of a minimum of cross-entropy: Newton's method goes on from it, to the data as edited.

Without example i one Newton step from the minimum of all moves the weights by

    δ_i = H_without_i⁻¹ Φ_iᵀ (p_i − y_i),        H_without_i = Σ_{j ≠ i} Φ_jᵀ P_j Φ_j + λ,

the approximate leave-one-out of the literature; more steps, or all until convergence, are `newton_steps`.
Groups, labels, weights and new examples are fitted to convergence. All edits share the kernel matrix, and one
product with it serves many of them (`solvers.logistic`): classes are coupled, and no curvature is dropped.

Source: Rad & Maleki 2020 for the one step, which here is solved in function space.
"""

import math
from collections.abc import Hashable
from functools import cached_property
from typing import final

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from leftout.attribution.engine.base import EditEngine
from leftout.attribution.engine.query_blocks import QueryBlock
from leftout.attribution.engine.refit import refit
from leftout.core.blocks import blocks, check_fits
from leftout.core.checks import check_count
from leftout.core.product_matrix import ProductMatrix
from leftout.core.progress import with_progress
from leftout.dynamics.fit_features import ROOM
from leftout.dynamics.fitted import Fitted
from leftout.solvers.cross_entropy import cross_entropy_gradient, probabilities
from leftout.solvers.feature_logistic import FeaturesOfOutputs, OneStepRemovals, SharedFeatures
from leftout.solvers.logistic import ARRAYS, first_order_logistic, fit_logistic, refit_logistic
from leftout.solvers.newton_equation import LogisticProblem

HESSIANS = 3
"""Matrices of the size of the Hessian in the weights that one step on features takes."""

TOGETHER = 64
"""Most examples whose removal is solved for at a time."""


@final
class CrossEntropyMinimum(EditEngine):
    """The end of training under Logistic.

    Args:
        newton_steps: to the model without an example; None is to convergence, 0 the derivative: without i the
            curvature is that of all examples.
    """

    def __init__(self, fitted: Fitted, *, total: float, newton_steps: int | None) -> None:
        self.fitted = fitted
        self.time = math.inf
        self.total = total
        self.newton_steps = newton_steps
        self.ridge = fitted.rule.effective_ridge(total)
        self._last: tuple[tuple[QueryBlock, int, int], Tensor] | None = None

    @property
    def key(self) -> tuple[Hashable, ...]:
        return math.inf, self.ridge, self.newton_steps

    def singles(self, queries: QueryBlock, columns: slice, output: int) -> Float64[Tensor, "m e"]:
        key = (queries, columns.start, columns.stop)
        if self._last is None or self._last[0] != key:
            self._last = None
            removals = self._one_step
            if removals is not None and isinstance(queries.cross, ProductMatrix):
                self._last = (key, removals.changes(queries.cross.left, columns))
                return self._last[1][:, :, output]
            duals = self.single_duals(columns)  # (rows, e, c)
            change = torch.unflatten(queries.cross @ duals.flatten(1), 1, duals.shape[1:])
            if self.fitted.outputs_per_example > 1:
                change = torch.unflatten(change[:, :, 0], 0, (-1, self.fitted.outputs)).transpose(1, 2)
            self._last = (key, change)  # (m, e, k)
        return self._last[1][:, :, output]

    def single_duals(self, columns: slice) -> Float64[Tensor, "rows e c"]:
        return self._rows(self._without_each(columns))

    @cached_property
    def _one_step(self) -> OneStepRemovals | None:
        """Return what leaves examples out on features, where that is what was asked for and the Hessian fits.

        That is one step, from the minimum at this very ridge.
        """
        fitted, gram = self.fitted, self.fitted.gram
        if not isinstance(gram, ProductMatrix) or self.newton_steps != 1:
            return None
        shared = fitted.outputs_per_example == 1
        side = gram.left.shape[1] * (fitted.outputs if shared else 1)
        if self.ridge != fitted.rule.effective_ridge(len(fitted)) or side > len(fitted) * fitted.outputs:
            return None
        if HESSIANS * 8 * side**2 > fitted.memory:
            return None
        fit = fitted.logistic
        slope = cross_entropy_gradient(fit.logits, fitted.targets)
        form = SharedFeatures if shared else FeaturesOfOutputs
        return form(gram.left, probabilities(fit.logits), slope, self.ridge)

    def diagonal(self) -> Float64[Tensor, "n k"]:
        if self._one_step is not None:
            return self._one_step.own_changes()
        change = torch.empty_like(self.fitted.targets)
        for columns in blocks(len(self.fitted), self._size):
            duals = self.single_duals(columns)
            for part in blocks(duals.shape[1], self._rows_together):
                examples = slice(columns.start + part.start, columns.start + part.stop)
                change[examples] = self._at_examples(examples, duals[:, part])
        return change

    def _at_examples(self, examples: slice, duals: Float64[Tensor, "rows e c"]) -> Float64[Tensor, "e k"]:
        """Return what the dual of each example changes at that example."""
        rows = self.fitted.gram[self.fitted.rows.of_examples(examples)]
        if self.fitted.outputs_per_example > 1:
            by_output = torch.unflatten(rows, 0, (-1, self.fitted.outputs))  # (e, k, rows)
            return torch.einsum("ekr,re->ek", by_output, duals[:, :, 0])
        return torch.einsum("er,rec->ec", rows, duals)

    @property
    def _rows_together(self) -> int:
        """Return of how many examples the rows of the kernel matrix are held at a time."""
        row_bytes = 8 * len(self.fitted.gram) * self.fitted.outputs_per_example
        return max(1, self.fitted.memory // (ROOM * row_bytes))

    def group_dual(self, group: Tensor) -> Float64[Tensor, "rows c"]:
        return self.group_duals([group])[0]

    def subset_changes(self, kept: Bool[Tensor, "s n"]) -> Float64[Tensor, "s rows c"]:
        """Return how the dual changes where only a subset is fitted, until convergence."""
        weights = kept.T.to(self.fitted.targets)
        return self._rows(self._change(weights=weights, newton_steps=None)).transpose(0, 1)

    def group_duals(self, groups: list[Int64[Tensor, " _"]]) -> Float64[Tensor, "g rows c"]:
        """Return how the dual changes without each group, fitted to convergence, many at a time."""
        kept = torch.ones(len(groups), len(self.fitted), dtype=torch.bool, device=self.fitted.device)
        for row, group in zip(kept, groups, strict=True):
            row[group] = False
        return self.subset_changes(kept)

    def relabel_duals(self, examples: Tensor, by: Tensor) -> Float64[Tensor, "e rows c"]:
        n, k = self.fitted.targets.shape
        targets = self.fitted.targets[:, None].expand(n, len(examples), k).clone()
        targets[examples, torch.arange(len(examples), device=targets.device)] += by
        return self._rows(self._change(targets=targets, newton_steps=None)).transpose(0, 1)

    def reweight_duals(self, examples: Tensor, weight: float) -> Float64[Tensor, "e rows c"]:
        weights = self._ones_but(examples, weight)
        return self._rows(self._change(weights=weights, newton_steps=None)).transpose(0, 1)

    def add_duals(
        self, to_train: Tensor, to_itself: Tensor, targets: Tensor, start: Tensor
    ) -> tuple[Float64[Tensor, "a rows c"], Float64[Tensor, "arows c"]]:
        fitted, b = self.fitted, self.fitted.outputs_per_example
        changes, new = [], []
        for a in with_progress(range(len(targets)), what="adding examples"):
            border = to_train[:, a * b : (a + 1) * b]
            gram = torch.cat([torch.cat([fitted.gram, border], 1), torch.cat([border.T, to_itself[a]], 1)])
            offset = torch.cat([fitted.start, start[a : a + 1]])
            wanted = torch.cat([fitted.targets, targets[a : a + 1]])
            dual = fitted.by_row(fit_logistic(LogisticProblem(gram, offset, wanted, self.ridge, b)).dual)
            changes.append(dual[: len(fitted.gram)] - self.dual_as_fitted)
            new.append(dual[len(fitted.gram) :])
        return torch.stack(changes), torch.cat(new)

    def refit_dual(self, row: int, column: int) -> Float64[Tensor, " rows"]:
        """Return the same from a fit to the other examples alone, with their own sub-matrix."""
        everyone = torch.arange(len(self.fitted), device=self.fitted.device)
        model = refit(self.fitted, [math.inf], everyone[everyone != row])
        dual = torch.zeros_like(self.dual_as_fitted[:, column])
        dual[self.fitted.rows.of_examples(model.keep)] = model.duals[0, :, column]
        return dual

    @property
    def _size(self) -> int:
        return _examples_together(8 * self.fitted.targets.numel(), len(self.fitted), self.fitted.memory)

    @cached_property
    def _duals(self) -> dict[int, Float64[Tensor, "n e k"]]:
        """Return the changes of the dual without each example that were made, by first example of a block."""
        n, k = self.fitted.targets.shape
        check_fits(
            f"What changes without each of {n} examples ({n} × {n} × {k})",
            8 * n * n * k,
            self.fitted.memory // 2,
            advice="Take fewer examples (`n_train`), or raise `memory`.",
        )
        made: dict[int, Tensor] = self.fitted.memo(("without each", *self.key), dict)
        return made

    def _without_each(self, columns: slice) -> Float64[Tensor, "n e k"]:
        """Return how the dual changes without each example; blocks of them are made once, and kept."""
        size = self._size
        starts = range(columns.start // size * size, columns.stop, size)
        if columns.stop - columns.start == 1 and starts[0] not in self._duals:
            return self._leave_out(columns)
        for start in starts:
            if start not in self._duals:
                self._duals[start] = self._leave_out(slice(start, min(start + size, len(self.fitted))))
        first = starts[0]
        together = [self._duals[start] for start in starts]
        whole = together[0] if len(together) == 1 else torch.cat(together, dim=1)
        return whole[:, columns.start - first : columns.stop - first]

    def _leave_out(self, columns: slice) -> Float64[Tensor, "n e k"]:
        examples = torch.arange(columns.start, columns.stop, device=self.fitted.device)
        if self.newton_steps == 0:
            return first_order_logistic(self.fitted.logistic, examples, memory=self.fitted.memory // 3)
        return self._change(weights=self._ones_but(examples, 0.0), newton_steps=self.newton_steps)

    def _ones_but(self, examples: Int64[Tensor, " e"], weight: float) -> Float64[Tensor, "n e"]:
        weights = self.fitted.targets.new_ones(len(self.fitted), len(examples))
        weights[examples, torch.arange(len(examples), device=weights.device)] = weight
        return weights

    def _change(
        self,
        *,
        weights: Float64[Tensor, "n e"] | None = None,
        targets: Float64[Tensor, "n e k"] | None = None,
        newton_steps: int | None,
    ) -> Float64[Tensor, "n e k"]:
        duals = refit_logistic(
            self.fitted.logistic,
            weights=weights,
            targets=targets,
            ridge=self.ridge,
            newton_steps=newton_steps,
            memory=self.fitted.memory // 3,
        )
        return duals - self.fitted.logistic.dual[:, None]

    def _rows(self, duals: Float64[Tensor, "n e k"]) -> Float64[Tensor, "rows e c"]:
        """Return duals by rows of the kernel matrix."""
        if self.fitted.outputs_per_example == 1:
            return duals
        return duals.transpose(1, 2).flatten(0, 1)[:, :, None]


def left_out_bytes(n: int, k: int, examples: int, *, memory: int) -> int:
    """Return the bytes of the models without each example, and of solving for some of them at a time.

    Args:
        n, k: rows of the kernel matrix, and columns of a dual.
        memory: budget in bytes.
    """
    one = 8 * n * k
    return one * examples + one * (ARRAYS + 4) * _examples_together(one, examples, memory)


def _examples_together(one: int, examples: int, memory: int) -> int:
    """Return how many examples are left out at a time, within a third of the budget.

    Args:
        one: bytes of a dual.
    """
    return max(1, min(TOGETHER, examples, memory // (3 * one * (ARRAYS + 4))))


def subset_duals(fitted: Fitted, kept: Bool[Tensor, "s n"]) -> Float64[Tensor, "s rows c"]:
    """Return the duals of the models fitted to subsets, until convergence; other rows are zero.

    Cost:
        some 100 products with K, which the subsets share: 2 n² k flops each for every subset.
    """
    totals = kept.sum(1)
    every = fitted.dual(math.inf)
    duals = every.new_empty(len(kept), *every.shape)
    # Under a mean of losses the ridge depends on how many there are.
    sizes = [None] if fitted.rule.loss == "sum" else sorted(set(totals.tolist()))
    for size in sizes:
        of_size = torch.ones_like(totals, dtype=torch.bool) if size is None else totals == size
        engine = CrossEntropyMinimum(fitted, total=size or len(fitted), newton_steps=None)
        duals[of_size] = every + engine.subset_changes(kept[of_size])
    return duals


def check_newton_steps(newton_steps: object) -> None:
    """Raise unless it is a number of steps, or None for all of them."""
    if newton_steps is not None:
        check_count("newton_steps", newton_steps)
