"""In which coordinates does a two-layer network take its steps: its weights, or the examples' span?

With Z = W Xᵀ (m × n) and P (m × n) what each example pulls at each neuron, the gradient is P X plus
the ridge's. `WeightSpace` moves D = W − W_0, Z = Z_0 + D Xᵀ: 4 n d m flops a step. The gradient never leaves
the row space of X, so D = C X, and `RowSpace` moves C (m × n): with G = X Xᵀ, Z = Z_0 + C G, a step is
2 n² m flops, without d: cheaper for n < 2d, and the same weights but for rounding.
"""

from abc import ABC, abstractmethod
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor


class Space(ABC):
    """Coordinates of W − W_0; neurons are rows, and never mix.

    Only the difference is kept, so that single precision resolves the ridge's small pull on it.
    """

    point: Float[Tensor, "m e"]

    def __init__(self, inputs: Float[Tensor, "n d"], initial: Float[Tensor, "m d"]) -> None:
        self.inputs = inputs
        self.initial = initial
        self.before = initial @ inputs.T  # Z_0, (m, n)

    @abstractmethod
    def preactivations(self, rows: slice) -> Float[Tensor, "b n"]:
        """Return Z of some neurons at the point."""

    @abstractmethod
    def slope(self, pull: Float[Tensor, "b n"]) -> Float[Tensor, "b e"]:
        """Return the coordinates of P X; they may share the memory of P."""

    @abstractmethod
    def times_gram(self, pull: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        """Return P G, by how much Z moves along P X."""

    @abstractmethod
    def squared_norm(self, change: Float[Tensor, "b e"]) -> float:
        """Return the squared norm of a change of the weights, given in coordinates."""

    @abstractmethod
    def weights(self) -> Float[Tensor, "m d"]:
        """Return W at the point."""

    @abstractmethod
    def rewind(self) -> None:
        """Go back to the start."""


@final
class WeightSpace(Space):
    """W − W_0 itself, which may start anywhere."""

    def __init__(
        self,
        inputs: Float[Tensor, "n d"],
        initial: Float[Tensor, "m d"],
        start: Float[Tensor, "m d"] | None = None,
    ) -> None:
        super().__init__(inputs, initial)
        self.start = start
        self.point = torch.zeros_like(initial)
        self.rewind()

    def preactivations(self, rows: slice) -> Float[Tensor, "b n"]:
        return torch.addmm(self.before[rows], self.point[rows], self.inputs.T)

    def slope(self, pull: Float[Tensor, "b n"]) -> Float[Tensor, "b e"]:
        return pull @ self.inputs

    def times_gram(self, pull: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        return (pull @ self.inputs) @ self.inputs.T

    def squared_norm(self, change: Float[Tensor, "b e"]) -> float:
        return float(change.square().sum(dtype=torch.float64))

    def weights(self) -> Float[Tensor, "m d"]:
        return self.initial + self.point

    def rewind(self) -> None:
        if self.start is None:
            self.point.zero_()
        else:
            torch.sub(self.start, self.initial, out=self.point)


@final
class RowSpace(Space):
    """C with W = W_0 + C X, starting at zero."""

    def __init__(self, inputs: Float[Tensor, "n d"], initial: Float[Tensor, "m d"]) -> None:
        super().__init__(inputs, initial)
        wide = inputs.double()
        self.gram = (wide @ wide.T).to(inputs)
        self.point = torch.zeros_like(self.before)

    def preactivations(self, rows: slice) -> Float[Tensor, "b n"]:
        # G is symmetric: its rows are its columns.
        return torch.addmm(self.before[rows], self.point[rows], self.gram)

    def slope(self, pull: Float[Tensor, "b n"]) -> Float[Tensor, "b e"]:
        return pull

    def times_gram(self, pull: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        return pull @ self.gram

    def squared_norm(self, change: Float[Tensor, "b e"]) -> float:
        inside = (change @ self.gram).mul_(change).sum(dtype=torch.float64)
        # A norm, and G positive semi-definite: below zero is rounding alone.
        return max(0.0, float(inside))

    def weights(self) -> Float[Tensor, "m d"]:
        return torch.addmm(self.initial, self.point, self.inputs)

    def rewind(self) -> None:
        self.point.zero_()
