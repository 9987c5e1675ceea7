"""A model whose predictions are linear in the targets: what editing them, or their weights, makes of it.

With the weights ω = s² of the examples, predictions are f(x) = Σ_i h_i(x) s_i y_i, and a positive matrix P
and its duals α = P S y say what leaving out does:

    without i            f_without_i(x) − f(x) = −h_i(x) α_i / P_ii
    without a group I    −h_I(x) (P_II)⁻¹ α_I
    relabelled           h_i(x) s_i (y' − y_i)
    weight ω' ω_i        −h_i(x) e_i α_i (1 − ω') / (ω' + (1 − ω') e_i P_ii),       S (y − f) = e α

Two forms: `GramSmoother`, from a kernel matrix, and `FeatureSmoother`, from features, with an unpenalised
intercept if wanted.

Source: rethinking influence functions, eq. 9; Allen 1974 (PRESS) for the diagonal of a linear model.
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.core.errors import NotPositiveError

EPS = torch.finfo(torch.float64).eps


class Smoother(ABC):
    """Predictions linear in the targets of n weighted examples.

    What is compared of a query (`queries` below) is its kernel to the n examples, or its features.

    Attributes:
        scale: s, the square root of each example's weight.
        noise: e, so that S (y − f) = e α.
        condition: largest over smallest eigenvalue of what was inverted, or a bound on it.
    """

    scale: Float64[Tensor, " n"]
    noise: Float64[Tensor, " n"]
    condition: float

    @property
    @abstractmethod
    def diagonal(self) -> Float64[Tensor, " n"]:
        """Return P_ii."""

    @abstractmethod
    def block(self, rows: Int64[Tensor, " g"]) -> Float64[Tensor, "g g"]:
        """Return P_II."""

    @abstractmethod
    def duals(self, targets: Float64[Tensor, "n k"]) -> Float64[Tensor, "n k"]:
        """Return α = P S y."""

    @abstractmethod
    def shares(self, queries: Float64[Tensor, "m _"]) -> Float64[Tensor, "m n"]:
        """Return h_i(x), what the target of each example, times s_i, adds to the prediction at each query."""

    @abstractmethod
    def predict(
        self, queries: Float64[Tensor, "m _"], targets: Float64[Tensor, "n k"]
    ) -> Float64[Tensor, "m k"]:
        """Return f at the queries, for these targets."""

    def checked_diagonal(self) -> Float64[Tensor, " n"]:
        """Return P_ii.

        Raises:
            NotPositiveError: what remains without an example does not determine a model.
        """
        bare = (self.diagonal <= self._zero).nonzero().flatten()
        if len(bare):
            raise _undetermined(f"Without example {int(bare[0])}")
        return self.diagonal

    def solve_block(self, rows: Int64[Tensor, " g"], duals: Float64[Tensor, "n k"]) -> Float64[Tensor, "g k"]:
        """Return (P_II)⁻¹ α_I.

        Raises:
            NotPositiveError: what remains without the group does not determine a model.

        Cost:
            10g³.
        """
        block = self.block(rows)
        if float(torch.linalg.eigvalsh(block)[0]) <= self._zero:
            raise _undetermined(
                f"Without the {len(rows)} examples of a group, the first of them {int(rows[0])},"
            )
        return torch.linalg.solve(block, duals[rows])

    @property
    def _zero(self) -> float:
        """Return the size to which rounding makes a zero eigenvalue of a block of P."""
        return 10 * len(self.scale) * EPS * float(self.diagonal.max())


def _undetermined(without: str) -> NotPositiveError:
    return NotPositiveError(
        f"{without} what remains does not determine a model to rounding: the fit is not unique there. Fit "
        "with a larger `alpha`, or drop features that depend on others."
    )
