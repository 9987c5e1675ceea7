"""What changes at the queries, at one training time, when the data are edited?

An `Instant` is a fitted model at one time, ready to be asked. Four kinds, one file each: `Converged`
(the end of training, from the inverse), `Training` (a finite time, from the spectrum), `Untrained`
(time 0, where nothing that is left out has been seen) and `Relearning` (any time of a kernel that saw
labels, from a model afresh for each example).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.dynamics.fitted import Fitted


@dataclass(frozen=True, eq=False)
class Features:
    """A block of queries as the model sees them.

    Attributes:
        cross: K(queries, training inputs), `outputs_per_example` rows a query.
        initial: f_0 at the queries.
        pairs: what a kernel that saw labels has to know to be taught again; None of others.
    """

    fitted: Fitted
    cross: Float64[Tensor, "mrows rows"]
    initial: Float64[Tensor, "m k"]
    pairs: Any = None

    @cached_property
    def spectral(self) -> Float64[Tensor, "mrows r"]:
        """Return K(queries, X) V."""
        return self.cross @ self.fitted.spectrum.vectors

    def of(self, output: int, matrix: Float64[Tensor, "mrows x"]) -> Float64[Tensor, "m x"]:
        """Return the rows of `cross` or `spectral` that one output is predicted from."""
        each = self.fitted.outputs_per_example
        return matrix if each == 1 else matrix[output::each]


class Instant(ABC):
    """A fitted model at one training time; changes are edited minus as fitted.

    `total`, the sum of the examples' weights after the edit, is given when an instant is made: under
    `loss="mean"` it sets the filter, and `shift` is what that alone changes.

    Duals go by rows of the kernel matrix: n·outputs_per_example rows, in c columns (see `Fitted`).
    """

    fitted: Fitted
    time: float
    total: float

    def dual(self) -> Float64[Tensor, "rows c"]:
        """Return g(K) (Y − f_0) under `total`."""
        return self.fitted.dual(self.time, total=self.total)

    def as_fitted(self) -> Float64[Tensor, "rows c"]:
        """Return g(K) (Y − f_0) of all n examples."""
        return self._as_fitted

    @cached_property
    def _as_fitted(self) -> Float64[Tensor, "rows c"]:
        return self.fitted.dual(self.time)

    @abstractmethod
    def singles(self, features: Features, columns: slice, output: int) -> Float64[Tensor, "m e"]:
        """Return how one output changes at the queries without each example of `columns`."""

    @abstractmethod
    def left_out(self, columns: slice) -> Float64[Tensor, "rows e c"]:
        """Return how the dual changes without each example of `columns`."""

    @abstractmethod
    def diagonal(self) -> Float64[Tensor, "n k"]:
        """Return how the prediction at each training example changes without that very example."""

    @abstractmethod
    def without(self, group: Int64[Tensor, " g"]) -> Float64[Tensor, "rows c"]:
        """Return how the dual changes without a group, removed together; its own rows reach −dual."""

    @abstractmethod
    def relabelled(
        self, examples: Int64[Tensor, " e"], by: Float64[Tensor, "e k"]
    ) -> Float64[Tensor, "e rows c"]:
        """Return how the dual changes when each target moves by `by`, each alone."""

    @abstractmethod
    def reweighted(self, examples: Int64[Tensor, " e"], weight: float) -> Float64[Tensor, "e rows c"]:
        """Return how the dual changes when each example gets this weight in the loss, each alone."""

    @abstractmethod
    def added(
        self,
        to_train: Float64[Tensor, "rows arows"],
        to_itself: Float64[Tensor, "a b b"],
        residual: Float64[Tensor, "arows c"],
    ) -> tuple[Float64[Tensor, "a rows c"], Float64[Tensor, "arows c"]]:
        """Return how the dual changes when each new example joins, alone, and its own dual entries.

        Args:
            to_train: k(x_i, x*).
            to_itself: k(x*, x*).
            residual: y* − f_0(x*), by row.
        """

    def pulls(self, row: int, direction: Float64[Tensor, " k"]) -> Float64[Tensor, " n"]:
        """Return what each example adds, along a direction of outputs, to the prediction at one of them.

        That is the prediction of the model without it.
        """
        fitted, each = self.fitted, self.fitted.outputs_per_example
        group = torch.tensor([row], device=fitted.device)
        dual = self.as_fitted() + self.without(group)
        # They are zero up to rounding; the model without them does not have them.
        dual[fitted.kernel_rows(group)] = 0
        if each == 1:
            return fitted.gram[row] * (dual @ direction)
        along = direction @ fitted.gram[row * each : (row + 1) * each]  # (rows,)
        return torch.unflatten(along * dual[:, 0], 0, (-1, each)).sum(1)

    def predictions(self, features: Features) -> Float64[Tensor, "m k"]:
        """Return f at the queries, as fitted."""
        return features.initial + self.fitted.by_example(features.cross @ self.as_fitted())

    @cached_property
    def shift(self) -> Float64[Tensor, "rows c"] | None:
        """Return how the dual changes by the filter of `total` alone; None where it does not."""
        if self.fitted.rule.record["loss"] == "sum" or self.total == len(self.fitted):
            return None
        return self.dual() - self.as_fitted()

    def with_shift(self, change: Float64[Tensor, "*e rows c"]) -> Float64[Tensor, "*e rows c"]:
        """Return a change of the dual with that of the filter added."""
        return change if self.shift is None else change + self.shift


def combined(
    columns: Float64[Tensor, "rows erows"], by: Float64[Tensor, "erows c"], each: int
) -> Float64[Tensor, "e rows c"]:
    """Return, for each example, its columns of a matrix times its rows of `by`, added up."""
    parts = torch.unflatten(columns.T, 0, (-1, each))  # (e, b, rows)
    return torch.einsum("ebr,ebc->erc", parts, torch.unflatten(by, 0, (-1, each)))
