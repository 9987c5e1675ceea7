"""What moves the model least now that others are gone? Asked again of what remains, after every round.

At the end of training nothing is fitted again: with G = (K + λI)⁻¹ and the rows I of a round,

    G without I = G − G_I (G_II)⁻¹ G_Iᵀ

and the dual G (Y − f_0), the queries' C G and the weights' K G follow by the same product: g of n examples
cost 2n²g for each of them. At finite times the filter is no inverse, and what a downdate would need is
the whole resolvent at every node, forty complex n × n matrices: a fit of what remains, some 9n³, is
cheaper. So it is under a mean loss, where λ in K + λI changes with every removal.

A round takes the share s of what remains, so that all rounds together cost 1/(1 − (1 − s)³) times the
first: 7 times for s = 0.05.
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
from leftout.curation.moved import By, moved_function, moved_weights
from leftout.data.examples import Examples
from leftout.dynamics.fitted import Fitted
from leftout.solvers.diagonal_blocks import diagonal_blocks, solve_blocks

SQUARES = 8
"""Matrices as large as the Gram matrix at a time: it, factor and inverse, and what a round makes of them."""


class Remaining(ABC):
    """The model of what remains, one row or `outputs_per_example` rows an example."""

    @abstractmethod
    def moved(self) -> Float64[Tensor, " n"]:
        """Return how far the model moves without each of the remaining examples."""

    @abstractmethod
    def without(self, gone: Int64[Tensor, " g"]) -> "Remaining":
        """Return the model without some of them, given by their places among what remains."""


def rounds(
    fitted: Fitted, query: Examples, time: float, by: By, *, step: float, until: int
) -> tuple[list[int], list[float]]:
    """Return an order of removal, asked again after each round, and what moved when it was asked.

    Args:
        step: share of what remains that goes in a round, at least one example.
        until: how many are to go; the others follow in the order of the last round.

    Cost:
        at the end of training 0.7n³ and as much for the queries, after the inverse; at finite times,
        or under a mean loss, 7 times that of asking once, with its factorisation.

    Accuracy:
        of a downdated inverse: cond(K + λI)·eps of the whole, however little remains.
    """
    left = torch.arange(len(fitted), device=fitted.device)
    model = remaining(fitted, query, time, by)
    order: list[int] = []
    values: list[float] = []
    for count in with_progress(_counts(len(fitted), step, until), what="rounds of removal"):
        found = model.moved()
        gone = ascending(found)[:count]
        order += left[gone].tolist()
        values += found[gone].tolist()
        if len(order) < len(fitted):
            model = model.without(gone)
            keep = torch.ones(len(left), dtype=torch.bool, device=left.device)
            keep[gone] = False
            left = left[keep]
    return order, values


def _counts(n: int, step: float, until: int) -> list[int]:
    """Return how many go in each round; in the last, all that remain."""
    counts = []
    enough = n - until
    while n > 0:
        counts.append(max(1, int(step * n)) if n - max(1, int(step * n)) > enough else n)
        n -= counts[-1]
    return counts


def ascending(values: Float64[Tensor, " n"]) -> Int64[Tensor, " n"]:
    """Return rows, the smallest first."""
    # In float32 exact copies tie, and keep their order, however their sums were rounded.
    return values.float().argsort(stable=True)


def remaining(fitted: Fitted, query: Examples, time: float, by: By) -> Remaining:
    """Return everything as what remains, by the cheaper way.

    Raises:
        MemoryBudgetError: what a round makes, or what the queries see, would not fit.
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
    if time == math.inf and fitted.rule.effective_ridge(n - 1) == ridge:
        inverse = fitted.inverse(ridge)
        left, right = (inverse, fitted.gram @ inverse) if root is None else (None, root @ inverse)
        return Downdated(
            inverse,
            fitted.dual(time),
            left,
            right,
            fitted.outputs_per_example,
            len(query) if left is None else 1,
        )
    return Refitted(fitted, root, time, len(query))


@final
@dataclass(frozen=True, eq=False)
class Downdated(Remaining):
    """The end of training: everything asked is a quadratic form in columns of the inverse.

    Attributes:
        inverse: G of what remains.
        dual: G (Y − f_0).
        left: G where weights are asked about; None where it is `right`.
        right: K G for weights, C G for queries, CᵀC what they see.
        queries: that `right` stands for; 1 for weights.
    """

    inverse: Float64[Tensor, "rows rows"]
    dual: Float64[Tensor, "rows c"]
    left: Float64[Tensor, "rows rows"] | None
    right: Float64[Tensor, "a rows"]
    each: int
    queries: int

    def moved(self) -> Float64[Tensor, " n"]:
        own = diagonal_blocks(self.inverse, self.each)
        ratios = solve_blocks(own, torch.unflatten(self.dual, 0, (-1, self.each)))  # (n, b, c)
        left, right = (
            torch.unflatten(one, 1, (-1, self.each))
            for one in (self.right if self.left is None else self.left, self.right)
        )
        forms = torch.einsum("anb,and->nbd", left, right)
        found = torch.einsum("nbc,nbd,ndc->n", ratios, forms, ratios)
        return found / (2 * self.queries)

    def without(self, gone: Int64[Tensor, " g"]) -> "Downdated":
        out, keep = _split(gone, len(self.inverse), self.each)
        block = self.inverse[out][:, out]
        # (G_II)⁻¹ times what the others see of I.
        towards = torch.linalg.solve(block, self.inverse[out][:, keep])
        inverse = self.inverse[keep][:, keep] - self.inverse[keep][:, out] @ towards
        taken = torch.linalg.solve(block, self.dual[out])
        dual = self.dual[keep] - self.inverse[keep][:, out] @ taken
        right = self.right if self.left is None else self.right[keep]
        right = right[:, keep] - right[:, out] @ towards
        left = None if self.left is None else inverse
        return Downdated(inverse, dual, left, right, self.each, self.queries)


@final
@dataclass(frozen=True, eq=False)
class Refitted(Remaining):
    """A finite time, or a filter that changes with the number of examples: a fit of what remains."""

    fitted: Fitted
    root: Float64[Tensor, "a rows"] | None
    time: float
    queries: int

    def moved(self) -> Float64[Tensor, " n"]:
        (moment,) = edit_engines(self.fitted, [self.time], total=len(self.fitted) - 1)
        if self.root is None:
            return moved_weights(moment, self.time)
        # Rows of the root are no queries, but their squares add up to the same.
        seen = block_of_kernel_rows(self.fitted, self.root)
        return moved_function(moment, [seen], queries=self.queries)

    def without(self, gone: Int64[Tensor, " g"]) -> "Refitted":
        whole = self.fitted
        _, rows = _split(gone, len(whole.gram), whole.outputs_per_example)
        _, examples = _split(gone, len(whole), 1)
        left = whole.subset(examples)
        root = None if self.root is None else self.root[:, rows]
        return Refitted(left, root, self.time, self.queries)


def _split(
    gone: Int64[Tensor, " g"], rows: int, each: int
) -> tuple[Int64[Tensor, " out"], Int64[Tensor, " kept"]]:
    """Return the rows of a kernel matrix that go, and those that stay."""
    out = torch.zeros(rows // each, dtype=torch.bool, device=gone.device)
    out[gone] = True
    out = out.repeat_interleave(each)
    return out.nonzero().flatten(), (~out).nonzero().flatten()
