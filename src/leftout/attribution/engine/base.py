"""The contract of the engine: what changes at the queries, at one training time, when the data are edited.

Two small interfaces, both of a fitted model at one time:

- `EngineAtTime` leaves single examples out: `singles`, `diagonal`, `contributions`.
- `EditEngine` also edits: it removes groups, and relabels, reweights and adds examples.

`EndOfTraining` (from the inverse), `FiniteTime` (from the spectrum) and `BeforeTraining` (time 0, where
nothing that is left out has been seen) do both. `RefitEach`, of a kernel that is fitted to labels, leaves
examples out by fitting a model without each. `at_times` chooses; callers do not ask.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from functools import cached_property

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.attribution.engine.query_blocks import QueryBlock
from leftout.core.progress import with_progress
from leftout.dynamics.fitted import Fitted
from leftout.solvers.krylov import filtered_vector


class EngineAtTime(ABC):
    """A fitted model at one training time; changes are the model without an example minus the model.

    `total`, the sum of the examples' weights after the edit, is given when an engine is made: under
    `loss="mean"` it sets the filter.

    Duals go by rows of the kernel matrix: n·outputs_per_example rows, in c columns (see `Fitted`).
    """

    fitted: Fitted
    time: float
    total: float

    @abstractmethod
    def singles(self, queries: QueryBlock, columns: slice, output: int) -> Float64[Tensor, "m e"]:
        """Return how one output changes at the queries without each example of `columns`."""

    @abstractmethod
    def diagonal(self) -> Float64[Tensor, "n k"]:
        """Return how the prediction at each training example changes without that very example."""

    @abstractmethod
    def contributions(self, row: int, direction: Float64[Tensor, " k"]) -> Float64[Tensor, " n"]:
        """Return what each example adds, along a direction of outputs, to the prediction at one of them.

        That is the prediction of the model without it.
        """

    @abstractmethod
    def refit(self, row: int, output: int) -> Callable[[QueryBlock], Float64[Tensor, " m"]]:
        """Fit a model without an example, and return what that changes at queries: with minus without.

        It shares as little as possible with `singles`, which it checks.
        """

    def refits(self, pairs: Sequence[tuple[int, int]]) -> list[Callable[[QueryBlock], Float64[Tensor, " m"]]]:
        """Return `refit` of each row and output."""
        return [self.refit(row, output) for row, output in with_progress(pairs, what="refits")]

    def movement(self, queries: QueryBlock) -> Float64[Tensor, " n"] | None:
        """Return Σ ‖Δf‖² over a block of queries and outputs without each example.

        None where it does not come with the changes at the block, which were asked for just before.
        """
        del queries
        return None

    @property
    @abstractmethod
    def key(self) -> tuple[Hashable, ...]:
        """Return what tells this engine from the others of its model."""

    @cached_property
    def dual_as_fitted(self) -> Float64[Tensor, "rows c"]:
        """Return g(K) (Y − f_0) of all n examples."""
        return self.fitted.dual(self.time)

    def predictions(self, queries: QueryBlock) -> Float64[Tensor, "m k"]:
        """Return f at the queries, as fitted."""
        return queries.initial + self.fitted.learned(queries.cross, self.dual_as_fitted)

    def out_of_sample(self) -> Float64[Tensor, "n k"]:
        """Return the prediction of every training example without itself; it is made once for a model."""
        return self.fitted.memo(("out of sample", *self.key), self._out_of_sample)

    def _out_of_sample(self) -> Float64[Tensor, "n k"]:
        fitted = self.fitted
        return fitted.initial_at_train + fitted.learned(fitted.gram, self.dual_as_fitted) + self.diagonal()


class EditEngine(EngineAtTime):
    """An engine whose edits are changes of the dual, with the kernel as it is."""

    @cached_property
    def dual(self) -> Float64[Tensor, "rows c"]:
        """Return g(K) (Y − f_0) under `total`."""
        return self.fitted.dual(self.time, total=self.total)

    @abstractmethod
    def single_duals(self, columns: slice) -> Float64[Tensor, "rows e c"]:
        """Return how the dual changes without each example of `columns`."""

    @abstractmethod
    def group_dual(self, group: Int64[Tensor, " g"]) -> Float64[Tensor, "rows c"]:
        """Return how the dual changes without a group, removed together; its own rows reach −dual."""

    @abstractmethod
    def relabel_duals(
        self, examples: Int64[Tensor, " e"], by: Float64[Tensor, "e k"]
    ) -> Float64[Tensor, "e rows c"]:
        """Return how the dual changes when each target moves by `by`, each alone."""

    @abstractmethod
    def reweight_duals(self, examples: Int64[Tensor, " e"], weight: float) -> Float64[Tensor, "e rows c"]:
        """Return how the dual changes when each example gets this weight in the loss, each alone."""

    @abstractmethod
    def add_duals(
        self,
        to_train: Float64[Tensor, "rows arows"],
        to_itself: Float64[Tensor, "a b b"],
        targets: Float64[Tensor, "a k"],
        start: Float64[Tensor, "a k"],
    ) -> tuple[Float64[Tensor, "a rows c"], Float64[Tensor, "arows c"]]:
        """Return how the dual changes when each new example joins, alone, and its own dual entries.

        Args:
            to_train: k(x_i, x*).
            to_itself: k(x*, x*).
            targets: y*.
            start: f_0(x*), tilted if the network is trained.
        """

    @abstractmethod
    def refit_dual(self, row: int, column: int) -> Float64[Tensor, " rows"]:
        """Return a column of the dual of the model fitted without an example; its entries are zero.

        Nothing is shared with what the engine says of it.
        """

    def contributions(self, row: int, direction: Float64[Tensor, " k"]) -> Float64[Tensor, " n"]:
        rows = self.fitted.rows
        group = torch.tensor([row], device=self.fitted.device)
        dual = self.dual_as_fitted + self.group_dual(group)
        # They are zero up to rounding; the model without them does not have them.
        dual[rows.of_examples(group)] = 0
        if self.fitted.tilt is not None:
            dual = dual + self.fitted.tilt
        outputs = rows.outputs_per_example
        if outputs == 1:
            return rows.gram[row] * (dual @ direction)
        along = direction @ rows.gram[rows.of_examples(slice(row, row + 1))]  # (rows,)
        return torch.unflatten(along * dual[:, 0], 0, (-1, outputs)).sum(1)

    def refit(self, row: int, output: int) -> Callable[[QueryBlock], Float64[Tensor, " m"]]:
        column = output % self.dual_as_fitted.shape[1]
        change = self.dual_as_fitted[:, column] - self.refit_dual(row, column)
        return lambda queries: queries.of_output(output, queries.cross) @ change

    @cached_property
    def shift(self) -> Float64[Tensor, "rows c"] | None:
        """Return how the dual changes by the filter of `total` alone; None where it does not."""
        if self.fitted.rule.loss == "sum" or self.total == len(self.fitted):
            return None
        return self.dual - self.dual_as_fitted

    def with_shift(self, change: Float64[Tensor, "*e rows c"]) -> Float64[Tensor, "*e rows c"]:
        """Return a change of the dual with that of the filter added."""
        return change if self.shift is None else change + self.shift


class SpectralEngine(EditEngine):
    """An engine of squared loss: duals are a function of the kernel matrix, applied to the residual."""

    @abstractmethod
    def filter(self, values: Float64[Tensor, " r"]) -> Float64[Tensor, " r"]:
        """Return g of eigenvalues under `total`."""

    def refit_dual(self, row: int, column: int) -> Float64[Tensor, " rows"]:
        """Return the same by Lanczos on the matrix without the example.

        Nothing is shared with factor, downdate or quadrature.
        """
        fitted = self.fitted
        keep = torch.ones_like(fitted.residual[:, column])
        keep[fitted.rows.of_examples(slice(row, row + 1))] = 0
        return filtered_vector(
            lambda x: keep * (fitted.gram @ x), fitted.residual[:, column] * keep, self.filter
        )


def columns_times_rows(
    columns: Float64[Tensor, "rows erows"], by: Float64[Tensor, "erows c"], outputs: int
) -> Float64[Tensor, "e rows c"]:
    """Return, for each example, its columns of a matrix times its rows of `by`, added up."""
    by_example = torch.unflatten(columns.T, 0, (-1, outputs))  # (e, b, rows)
    return torch.einsum("ebr,ebc->erc", by_example, torch.unflatten(by, 0, (-1, outputs)))
