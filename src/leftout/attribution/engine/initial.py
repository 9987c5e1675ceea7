"""What changes at time 0? Nothing: the network has seen nothing that could be missing."""

from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.attribution.engine.base import Features, Instant
from leftout.dynamics.fitted import Fitted


@final
class Untrained(Instant):
    """Time 0."""

    def __init__(self, fitted: Fitted, *, total: float) -> None:
        self.fitted = fitted
        self.time = 0.0
        self.total = total

    def singles(self, features: Features, columns: slice, output: int) -> Float64[Tensor, "m e"]:
        return features.initial.new_zeros(len(features.initial), columns.stop - columns.start)

    def left_out(self, columns: slice) -> Float64[Tensor, "rows e c"]:
        return self._nothing(columns.stop - columns.start).transpose(0, 1)

    def diagonal(self) -> Float64[Tensor, "n k"]:
        return self.fitted.by_example(self.dual())

    def without(self, group: Tensor) -> Float64[Tensor, "rows c"]:
        return self.dual()

    def relabelled(self, examples: Tensor, by: Tensor) -> Float64[Tensor, "e rows c"]:
        return self._nothing(len(examples))

    def reweighted(self, examples: Tensor, weight: float) -> Float64[Tensor, "e rows c"]:
        return self._nothing(len(examples))

    def added(
        self, to_train: Tensor, to_itself: Tensor, residual: Tensor
    ) -> tuple[Float64[Tensor, "a rows c"], Float64[Tensor, "arows c"]]:
        return self._nothing(len(to_itself)), torch.zeros_like(residual)

    def _nothing(self, edits: int) -> Float64[Tensor, "e rows c"]:
        return self.dual().expand(edits, *self.dual().shape).clone()
