"""The model after rounds of removal, and how far it moves without each of the remaining examples.

At the end of training no model is fitted again: with G = (K + λI)⁻¹ and the rows I of a round,

    G without I = G − G_I (G_II)⁻¹ G_Iᵀ

and the dual G (Y − f_0), the queries' C G and the weights' K G follow by the same product: g of n examples
cost 2n²g for each of them. At finite times the filter is no inverse, and a downdate would need the resolvent
at every node, forty complex n × n matrices: fitting the remaining examples again, some 9n³, is cheaper. So it
is under a mean loss, where λ in K + λI changes with every removal.

A round removes the share s of the remaining examples, so that all rounds together cost 1/(1 − (1 − s)³) times
the first: 7 times for s = 0.05.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.attribution.engine.edit_engines import edit_engines
from leftout.attribution.engine.query_blocks import block_of_kernel_rows
from leftout.attribution.information import query_root
from leftout.core.blocks import check_fits
from leftout.core.progress import with_progress
from leftout.core.structured_matrix import to_numbers
from leftout.curation.model_change import By, prediction_change_without_each, weight_change_without_each
from leftout.data.examples import Examples
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.rules import SpectralRule
from leftout.solvers.diagonal_blocks import diagonal_blocks, solve_blocks

SQUARES = 8
"""Matrices as large as the Gram matrix held at a time: it, its factor and inverse, and those of a round."""


class ReducedModel(ABC):
    """The model of the remaining examples, each with `outputs_per_example` rows of the kernel matrix."""

    @abstractmethod
    def changes_without_each(self) -> Float64[Tensor, " n"]:
        """Return how far the model moves without each of the remaining examples."""

    @abstractmethod
    def without(self, gone: Int64[Tensor, " g"]) -> "ReducedModel":
        """Return the model without some of them, given by their positions among the remaining examples."""


def removal_rounds(
    fitted: Fitted, query: Examples, time: float, by: By, *, step: float, until: int
) -> tuple[list[int], list[float]]:
    """Return an order of removal, sorted again after each round, and the change at each example's removal.

    Args:
        step: share of the remaining examples that goes in a round, at least one example.
        until: how many are to go; the rest follow in the order of the last round.

    Cost:
        at the end of training 0.7n³ and as much for the queries, after the inverse; at finite times,
        or under a mean loss, 7 times that of one round, factorisation included.

    Accuracy:
        of a downdated inverse: cond(K + λI)·eps of the full matrix, however few examples remain.
    """
    rows = torch.arange(len(fitted), device=fitted.device)
    model = reduced_model(fitted, query, time, by)
    order: list[int] = []
    order_changes: list[float] = []
    for count in with_progress(_counts(len(fitted), step, until), what="rounds of removal"):
        changes = model.changes_without_each()
        gone = smallest_first(changes)[:count]
        order += rows[gone].tolist()
        order_changes += changes[gone].tolist()
        if len(order) < len(fitted):
            model = model.without(gone)
            keep = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
            keep[gone] = False
            rows = rows[keep]
    return order, order_changes


def _counts(n: int, step: float, until: int) -> list[int]:
    """Return the number of examples removed in each round; the last round takes the rest."""
    counts = []
    enough = n - until
    while n > 0:
        counts.append(max(1, int(step * n)) if n - max(1, int(step * n)) > enough else n)
        n -= counts[-1]
    return counts


def smallest_first(values: Float64[Tensor, " n"]) -> Int64[Tensor, " n"]:
    """Return row numbers sorted by value, the smallest first."""
    # In float32 exact copies tie, and keep their order, however their sums were rounded.
    return values.float().argsort(stable=True)


def reduced_model(fitted: Fitted, query: Examples, time: float, by: By) -> ReducedModel:
    """Return the model before any removal, downdated later where that is exact and refitted elsewhere.

    Raises:
        MemoryBudgetError: the matrices of a round would not fit.
    """
    n, ridge = len(fitted), fitted.rule.effective_ridge(len(fitted))
    root = query_root(fitted, query) if by == "function" else None
    side, rows = len(fitted.gram), 0 if root is None else len(root)
    squares = SQUARES if by == "function" else SQUARES + 3
    check_fits(
        f"An order of {n} examples in rounds, {side} rows,",
        8 * (squares * side + 3 * rows) * side,
        fitted.memory,
        advice="Take fewer examples (`n_train`), or raise `memory`.",
    )
    fitted.check_trainable([time], total=n)
    spectral = isinstance(fitted.rule, SpectralRule)
    if spectral and time == math.inf and fitted.rule.effective_ridge(n - 1) == ridge:
        inverse = to_numbers(fitted.inverse(ridge))
        left_factor, right_factor = (
            (inverse, fitted.gram @ inverse) if root is None else (None, root @ inverse)
        )
        return DowndatedModel(
            inverse,
            fitted.dual(time),
            left_factor,
            right_factor,
            fitted.outputs_per_example,
            len(query) if left_factor is None else 1,
        )
    return RefittedModel(fitted, root, time, len(query))


@final
@dataclass(frozen=True, eq=False)
class DowndatedModel(ReducedModel):
    """The model at the end of training: changes are quadratic forms in columns of the downdated inverse.

    Attributes:
        inverse: G of the remaining examples.
        dual: G (Y − f_0).
        left: G for weights; None for queries, where it is `right`.
        right: K G for weights, C G for queries, CᵀC their squared cross kernel.
        queries: number of queries in C; 1 for weights.
    """

    inverse: Float64[Tensor, "rows rows"]
    dual: Float64[Tensor, "rows c"]
    left: Float64[Tensor, "rows rows"] | None
    right: Float64[Tensor, "a rows"]
    outputs_per_example: int
    queries: int

    def changes_without_each(self) -> Float64[Tensor, " n"]:
        diagonal = diagonal_blocks(self.inverse, self.outputs_per_example)
        ratios = solve_blocks(
            diagonal, torch.unflatten(self.dual, 0, (-1, self.outputs_per_example))
        )  # (n, b, c)
        left_factor, right_factor = (
            torch.unflatten(factor, 1, (-1, self.outputs_per_example))
            for factor in (self.right if self.left is None else self.left, self.right)
        )
        forms = torch.einsum("anb,and->nbd", left_factor, right_factor)
        changes = torch.einsum("nbc,nbd,ndc->n", ratios, forms, ratios)
        return changes / (2 * self.queries)

    def without(self, gone: Int64[Tensor, " g"]) -> "DowndatedModel":
        removed, keep = _split_rows(gone, len(self.inverse), self.outputs_per_example)
        block = self.inverse[removed][:, removed]
        # (G_II)⁻¹ G_IJ, J the examples that stay.
        towards = torch.linalg.solve(block, self.inverse[removed][:, keep])
        inverse = self.inverse[keep][:, keep] - self.inverse[keep][:, removed] @ towards
        solved = torch.linalg.solve(block, self.dual[removed])
        dual = self.dual[keep] - self.inverse[keep][:, removed] @ solved
        right_factor = self.right if self.left is None else self.right[keep]
        right_factor = right_factor[:, keep] - right_factor[:, removed] @ towards
        left_factor = None if self.left is None else inverse
        return DowndatedModel(
            inverse, dual, left_factor, right_factor, self.outputs_per_example, self.queries
        )


@final
@dataclass(frozen=True, eq=False)
class RefittedModel(ReducedModel):
    """The remaining examples fitted again: at finite times, or where the ridge depends on their number."""

    fitted: Fitted
    root: Float64[Tensor, "a rows"] | None
    time: float
    queries: int

    def changes_without_each(self) -> Float64[Tensor, " n"]:
        (engine,) = edit_engines(self.fitted, [self.time], total=len(self.fitted) - 1)
        if self.root is None:
            return weight_change_without_each(engine, self.time)
        # Rows of the root are no queries, but their squares add up to the same.
        block = block_of_kernel_rows(self.fitted, self.root)
        return prediction_change_without_each(engine, [block], queries=self.queries)

    def without(self, gone: Int64[Tensor, " g"]) -> "RefittedModel":
        _, rows = _split_rows(gone, len(self.fitted.gram), self.fitted.outputs_per_example)
        _, examples = _split_rows(gone, len(self.fitted), 1)
        root = None if self.root is None else self.root[:, rows]
        return RefittedModel(self.fitted.subset(examples), root, self.time, self.queries)


def _split_rows(
    gone: Int64[Tensor, " g"], rows: int, outputs_per_example: int
) -> tuple[Int64[Tensor, " out"], Int64[Tensor, " kept"]]:
    """Return the rows of a kernel matrix that go, and those that stay."""
    removed = torch.zeros(rows // outputs_per_example, dtype=torch.bool, device=gone.device)
    removed[gone] = True
    removed = removed.repeat_interleave(outputs_per_example)
    return removed.nonzero().flatten(), (~removed).nonzero().flatten()
