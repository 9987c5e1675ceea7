"""What changes at time 0? Nothing: the network has seen nothing that could be missing."""

from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.attribution.instant import Features, Instant
from leftout.dynamics.fitted import Fitted


@final
class Untrained(Instant):
    """Time 0."""

    def __init__(self, fitted: Fitted, *, total: float) -> None:
        self.fitted = fitted
        self.total = total

    def dual(self) -> Float64[Tensor, "n k"]:
        return torch.zeros_like(self.fitted.residual)

    def as_fitted(self) -> Float64[Tensor, "n k"]:
        return self.dual()

    def singles(self, features: Features, columns: slice, output: int) -> Float64[Tensor, "m b"]:
        return torch.zeros_like(features.cross[:, columns])

    def diagonal(self) -> Float64[Tensor, "n k"]:
        return self.dual()

    def without(self, rows: Tensor) -> Float64[Tensor, "n k"]:
        return self.dual()

    def relabelled(self, rows: Tensor, by: Tensor) -> Float64[Tensor, "b n k"]:
        return self._nothing(len(rows))

    def reweighted(self, rows: Tensor, weight: float) -> Float64[Tensor, "b n k"]:
        return self._nothing(len(rows))

    def added(
        self, to_train: Tensor, to_itself: Tensor, residual: Tensor
    ) -> tuple[Float64[Tensor, "a n k"], Float64[Tensor, "a k"]]:
        return self._nothing(len(residual)), torch.zeros_like(residual)

    def _nothing(self, edits: int) -> Float64[Tensor, "b n k"]:
        return self.dual().expand(edits, *self.dual().shape).clone()
