"""The difference of classical and exact influence, by propositions 1 and 2.

With G = (K + λI)⁻¹, α = K(x, X) G, the leverage A_i = 1 − λ G_ii, and the error at x_i of the model without
i, r_i = f_without_i(x_i) − y_i, which with i is f(x_i) − y_i = (1 − A_i) r_i:

    exact        I = α_i (f(x) − y)·r_i + ½ α_i² |r_i|²             terms 1 and 2
    classical    Î = (1 − A_i) × term 1
    difference   I − Î = A_i I + (1 − A_i) × term 2

Products are summed over outputs; α and A are those of the kernel, the same for every output, so theorems 3
and 4, proved for one output, hold for several.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.attribution.engine.at_times import engine_at
from leftout.attribution.engine.single_changes import blocks_at_times, loss_changes
from leftout.core.errors import OptionError
from leftout.data.examples import Examples
from leftout.dynamics.fitted import Fitted


@dataclass(frozen=True, eq=False)
class InfluenceTerms:
    """Terms of the influence of every training example on a block of queries.

    Attributes:
        rows: the queries.
        influence: I, computed without the terms.
        first_order: Î.
        term_1: α_i (f(x) − y)·r_i.
        term_2: ½ α_i² |r_i|².
    """

    rows: slice
    influence: Float64[Tensor, "b n"]
    first_order: Float64[Tensor, "b n"]
    term_1: Float64[Tensor, "b n"]
    term_2: Float64[Tensor, "b n"]

    @property
    def error(self) -> Float64[Tensor, "b n"]:
        """Return |I − Î|, from the two influences, not by the identity behind the bounds."""
        return (self.influence - self.first_order).abs()


@final
class InfluenceDecomposition:
    """Exact and classical influence of a model at the end of training, term by term.

    Raises:
        OptionError: a mean of losses under a ridge, which changes without one example.
        NotPositiveError, DivergenceError: no end of training.

    Cost:
        n³ for factor and inverse; then two products, 4mn², for m queries.
    """

    def __init__(self, fitted: Fitted) -> None:
        rule, n = fitted.rule, len(fitted)
        if fitted.outputs_per_example > 1:
            raise OptionError(
                "`fitted` must have one kernel for all outputs: the theorems split influence by a "
                f"number α for each pair, and {fitted.kernel!r} tells {fitted.outputs} outputs apart. "
                "Take Empirical(…, outputs='trace') or 'sum'."
            )
        if rule.record["loss"] == "mean" and rule.ridge:
            raise OptionError(
                f"`fitted` must be trained on a sum of losses: under a mean, {rule!r}, leaving one "
                "out also changes the ridge, and the theorem is not about that. Fit with "
                f"loss='sum' and ridge={rule.effective_ridge(n):g}, the same model."
            )
        self.fitted = fitted
        self.ridge = rule.effective_ridge(n)
        self.engine = engine_at(fitted, None)
        dual = self.engine.dual_as_fitted
        inverse = fitted.inverse(self.ridge)
        diagonal = inverse.diagonal()
        self.leverage = leverages(fitted.gram, inverse, self.ridge)  # A, (n,)
        self.left_out = -dual / diagonal[:, None]  # r, (n, k)
        # f(X) − Y = −λ(K + λI)⁻¹ (Y − f_0), without a difference.
        self.training = -self.ridge * dual

    def blocks(self, query: Examples, *, room: int = 8) -> Iterator[InfluenceTerms]:
        """Yield the queries in blocks.

        Args:
            room: number of (b, n) arrays that a block and its caller hold within the memory budget.
        """
        fitted = self.fitted
        factor = fitted.factor(self.ridge)
        squared = self.left_out.square().sum(1) / 2  # (n,)
        size = max(1, min(len(query), fitted.memory // (room * 8 * len(fitted))))
        for block, _, engine in blocks_at_times(query, [self.engine], size=size):
            influence = loss_changes(engine, block)
            # A solve, not the inverse of the engine: their agreement is a test of both.
            alpha = factor.solve(block.cross.T).T  # (b, n)
            error = engine.predictions(block) - block.targets  # (b, k)
            yield InfluenceTerms(
                block.rows,
                influence,
                first_order=alpha * (error @ self.training.T),
                term_1=alpha * (error @ self.left_out.T),
                term_2=alpha.square() * squared,
            )


def leverages(
    gram: Float64[Tensor, "n n"], inverse: Float64[Tensor, "n n"], ridge: float
) -> Float64[Tensor, " n"]:
    """Return A = diag(K G), G = (K + λI)⁻¹, to full relative accuracy near 0 and near 1.

    Near 1 it is 1 − λ G_ii. Under a large ridge that is a difference of numbers near 1, so where it
    is below a half the product is summed: row i of K times column i of G.
    """
    rest = 1 - ridge * inverse.diagonal()
    product: Tensor = torch.einsum("ij,ij->i", gram, inverse)
    return torch.where(rest < 0.5, product, rest)
