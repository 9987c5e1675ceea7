"""Gradient features of inputs: their products are the tangent kernel, without another pass.

Rows of its Jacobian, ∂f_o/∂w, or for a linear layer z_t = W a_t + b the pairs they are made of: inputs
a_t and signals s_ot = ∂f_o/∂z_t at every position t. Then ∂f_o/∂W = Σ_t s_ot a_tᵀ, and

    ⟨∂f_o/∂W, ∂f'_o'/∂W⟩ = Σ_tt' (s_ot · s'_o't') (a_t · a'_t'),      + 1 in the last factor for b,

which never forms a matrix of the shape of W. Products are accumulated in float64, whatever the dtype
of what is kept, and converted piece by piece.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from leftout.core.blocks import blocks

COLUMNS = 4096
"""Parameters converted to float64 at a time: 512 rows of them are 17 MB."""

PIECE = 2**25
"""Bytes of products between positions that are held at a time, unless a single pair takes more."""


class LayerFeatures(ABC):
    """Gradients of n inputs in some parameters, often one layer's: e rows of the kernel for each input."""

    @property
    @abstractmethod
    def tensors(self) -> tuple[Tensor, ...]:
        """Return the arrays that are kept; their first axis is that of the inputs."""

    @abstractmethod
    def like(self, tensors: tuple[Tensor, ...]) -> "LayerFeatures":
        """Return features of the same kind with these arrays."""

    @property
    @abstractmethod
    def outputs_per_example(self) -> int:
        """Return e, rows of the kernel for each input."""

    @property
    def numbers_converted(self) -> int:
        """Return how many numbers of each input are converted to float64 at once."""
        return 0

    @property
    def smallest_piece(self) -> int:
        """Return the bytes of temporaries in the product of one input with one other."""
        return 0

    @abstractmethod
    def add(
        self,
        into: Float64[Tensor, "ae be"],
        rows: slice,
        right: "LayerFeatures",
        columns: slice,
        *,
        piece: int,
    ) -> None:
        """Add the products of some inputs with some of `right`, features of the same kind.

        Args:
            piece: bytes that products between positions may take.
        """

    @abstractmethod
    def squares(self, rows: slice) -> Float64[Tensor, "a e"]:
        """Return the product of every row with itself."""


@final
@dataclass(frozen=True, eq=False)
class JacobianRows(LayerFeatures):
    """Rows of a Jacobian, all numbers of them or projected."""

    values: Float[Tensor, "n e q"]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.values,)

    def like(self, tensors: tuple[Tensor, ...]) -> LayerFeatures:
        return JacobianRows(*tensors)

    @property
    def outputs_per_example(self) -> int:
        return self.values.shape[1]

    def add(
        self, into: Float64[Tensor, "ae be"], rows: slice, right: LayerFeatures, columns: slice, *, piece: int
    ) -> None:
        assert isinstance(right, JacobianRows)
        row_values, column_values = self.values[rows].flatten(0, 1), right.values[columns].flatten(0, 1)
        for parameters in blocks(row_values.shape[1], COLUMNS):
            into.addmm_(row_values[:, parameters].double(), column_values[:, parameters].double().T)

    def squares(self, rows: slice) -> Float64[Tensor, "a e"]:
        values = self.values[rows]
        squares = values.new_zeros(values.shape[:2], dtype=torch.float64)
        for parameters in blocks(values.shape[2], COLUMNS):
            squares += values[:, :, parameters].double().square().sum(2)
        return squares


@final
@dataclass(frozen=True, eq=False)
class FactoredGradients(LayerFeatures):
    """Gradients in a linear layer as factors: activations at its t positions, and signals that come back.

    Args:
        bias: whether the layer's bias is among the parameters as well.
    """

    activations: Float[Tensor, "n t d"]
    signals: Float[Tensor, "n e t c"]
    bias: bool

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.activations, self.signals

    def like(self, tensors: tuple[Tensor, ...]) -> LayerFeatures:
        activations, signals = tensors
        return FactoredGradients(activations, signals, bias=self.bias)

    @property
    def outputs_per_example(self) -> int:
        return self.signals.shape[1]

    @property
    def numbers_converted(self) -> int:
        return self.activations[0].numel() + self.signals[0].numel()

    @property
    def smallest_piece(self) -> int:
        positions, outputs = self.activations.shape[1], self.outputs_per_example
        return 8 * positions**2 * (2 * outputs**2 + 1) if positions > 1 else 0

    def add(
        self, into: Float64[Tensor, "ae be"], rows: slice, right: LayerFeatures, columns: slice, *, piece: int
    ) -> None:
        assert isinstance(right, FactoredGradients)
        a, s = self.activations[rows], self.signals[rows]
        b, u = right.activations[columns], right.signals[columns]
        outputs = self.outputs_per_example
        total = into.view(len(a), outputs, len(b), outputs)
        smallest = self.smallest_piece
        side = int((piece / smallest) ** 0.5) if smallest else max(len(a), len(b))
        side = max(1, side)
        for i in blocks(len(a), side):
            for j in blocks(len(b), side):
                self._add(total[i, :, j], a[i].double(), s[i].double(), b[j].double(), u[j].double())

    def _add(self, total: Tensor, a: Tensor, s: Tensor, b: Tensor, u: Tensor) -> None:
        (m, e, t, c), (n, d) = s.shape, (len(b), a.shape[2])
        inner = a.reshape(m * t, d) @ b.reshape(n * t, d).T
        if self.bias:
            inner += 1
        outer = s.reshape(m * e * t, c) @ u.reshape(n * e * t, c).T
        if t == 1:
            total.addcmul_(outer.view(m, e, n, e), inner.view(m, 1, n, 1))
            return
        outer = outer.view(m, e, t, n, e, t).mul_(inner.view(m, 1, t, n, 1, t))
        total += outer.sum((2, 5))

    def squares(self, rows: slice) -> Float64[Tensor, "a e"]:
        start, stop, _ = rows.indices(len(self.activations))
        size = max(1, PIECE // max(1, self.smallest_piece))
        squares = []
        for chunk in blocks(stop - start, size):
            inputs = slice(start + chunk.start, start + chunk.stop)
            a, s = self.activations[inputs].double(), self.signals[inputs].double()
            inner = a @ a.mT + float(self.bias)  # (m, t, t)
            squares.append(((s @ s.mT) * inner[:, None]).sum((2, 3)))
        empty = self.signals.new_zeros(0, self.outputs_per_example, dtype=torch.float64)
        return torch.cat([empty, *squares])


@final
class NetworkFeatures:
    """The gradient features of n inputs, filled chunk by chunk.

    Args:
        first: features of a few inputs, whose kinds and shapes are those of all.
        n: how many inputs there is room for.
    """

    def __init__(self, first: Sequence[LayerFeatures], n: int) -> None:
        self.n = n
        self.layers = [
            layer.like(tuple(x.new_empty(n, *x.shape[1:]) for x in layer.tensors)) for layer in first
        ]
        self.outputs_per_example = first[0].outputs_per_example

    def take(self, rows: Tensor) -> "NetworkFeatures":
        """Return the features of some of the inputs, in this order."""
        taken = NetworkFeatures(self.layers, len(rows))
        of_rows = [layer.like(tuple(x[rows] for x in layer.tensors)) for layer in self.layers]
        taken.fill(slice(0, len(rows)), of_rows)
        return taken

    def fill(self, rows: slice, layers: Sequence[LayerFeatures]) -> None:
        """Write the features of some inputs."""
        for held, layer in zip(self.layers, layers, strict=True):
            for target, tensor in zip(held.tensors, layer.tensors, strict=True):
                target[rows] = tensor

    def products(
        self, rows: slice, right: "NetworkFeatures", columns: slice, *, piece: int = PIECE
    ) -> Float64[Tensor, "ae be"]:
        """Return the kernel between some inputs here and some of `right`.

        Args:
            piece: bytes that products between positions of layers may take.
        """
        outputs = self.outputs_per_example
        like = self.layers[0].tensors[0]
        shape = ((rows.stop - rows.start) * outputs, (columns.stop - columns.start) * outputs)
        into = like.new_zeros(shape, dtype=torch.float64)
        for layer, column_layer in zip(self.layers, right.layers, strict=True):
            layer.add(into, rows, column_layer, columns, piece=piece)
        return into

    @property
    def nbytes(self) -> int:
        """Return the bytes that are held."""
        return bytes_of(self.layers)


def bytes_of(layers: Sequence[LayerFeatures]) -> int:
    """Return the bytes of all arrays."""
    return sum(tensor.numel() * tensor.itemsize for layer in layers for tensor in layer.tensors)
