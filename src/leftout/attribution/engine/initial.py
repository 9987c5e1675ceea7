"""The engine at time 0: nothing changes, as the network has seen nothing that could be missing."""

from collections.abc import Hashable
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.attribution.engine.base import SpectralEngine
from leftout.attribution.engine.query_blocks import QueryBlock
from leftout.dynamics.fitted import Fitted


@final
class BeforeTraining(SpectralEngine):
    """Time 0."""

    def __init__(self, fitted: Fitted, *, total: float) -> None:
        self.fitted = fitted
        self.time = 0.0
        self.total = total

    @property
    def key(self) -> tuple[Hashable, ...]:
        return (self.time,)

    def filter(self, values: Float64[Tensor, " r"]) -> Float64[Tensor, " r"]:
        return torch.zeros_like(values)

    def refit_dual(self, row: int, column: int) -> Float64[Tensor, " rows"]:
        return self.dual[:, column]

    def singles(self, queries: QueryBlock, columns: slice, output: int) -> Float64[Tensor, "m e"]:
        return queries.initial.new_zeros(len(queries.initial), columns.stop - columns.start)

    def single_duals(self, columns: slice) -> Float64[Tensor, "rows e c"]:
        return self._no_changes(columns.stop - columns.start).transpose(0, 1)

    def diagonal(self) -> Float64[Tensor, "n k"]:
        return self.fitted.by_example(self.dual)

    def group_dual(self, group: Tensor) -> Float64[Tensor, "rows c"]:
        return self.dual

    def relabel_duals(self, examples: Tensor, by: Tensor) -> Float64[Tensor, "e rows c"]:
        return self._no_changes(len(examples))

    def reweight_duals(self, examples: Tensor, weight: float) -> Float64[Tensor, "e rows c"]:
        return self._no_changes(len(examples))

    def add_duals(
        self, to_train: Tensor, to_itself: Tensor, targets: Tensor, start: Tensor
    ) -> tuple[Float64[Tensor, "a rows c"], Float64[Tensor, "arows c"]]:
        return self._no_changes(len(to_itself)), torch.zeros_like(self.fitted.by_row(targets))

    def _no_changes(self, edits: int) -> Float64[Tensor, "e rows c"]:
        return self.dual.expand(edits, *self.dual.shape).clone()
