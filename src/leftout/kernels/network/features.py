"""What must be kept of an input so that its tangent kernel with others needs no further pass?

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
    """A share of the features of n inputs, e rows of the kernel each. What is kept lies in `tensors`."""

    @property
    @abstractmethod
    def tensors(self) -> tuple[Tensor, ...]:
        """Return what is kept, input by input."""

    @abstractmethod
    def like(self, tensors: tuple[Tensor, ...]) -> "LayerFeatures":
        """Return a part of the same kind with other contents."""

    @property
    @abstractmethod
    def outputs_per_example(self) -> int:
        """Return e, rows of the kernel for each input."""

    @property
    def converted(self) -> int:
        """Return how many numbers of an input are converted to float64 together."""
        return 0

    @property
    def smallest_piece(self) -> int:
        """Return the bytes that a product of one input with one other holds, if beyond its result."""
        return 0

    @abstractmethod
    def add(
        self,
        into: Float64[Tensor, "ae be"],
        mine: slice,
        other: "LayerFeatures",
        theirs: slice,
        *,
        piece: int,
    ) -> None:
        """Add the products of some inputs of this part with some of another of the same kind.

        Args:
            piece: bytes that products between positions may take.
        """

    @abstractmethod
    def squares(self, mine: slice) -> Float64[Tensor, "a e"]:
        """Return the product of every row with itself."""


@final
@dataclass(frozen=True, eq=False)
class JacobianRows(LayerFeatures):
    """Rows of a Jacobian, whole or projected."""

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
        self, into: Float64[Tensor, "ae be"], mine: slice, other: LayerFeatures, theirs: slice, *, piece: int
    ) -> None:
        assert isinstance(other, JacobianRows)
        left, right = self.values[mine].flatten(0, 1), other.values[theirs].flatten(0, 1)
        for part in blocks(left.shape[1], COLUMNS):
            into.addmm_(left[:, part].double(), right[:, part].double().T)

    def squares(self, mine: slice) -> Float64[Tensor, "a e"]:
        values = self.values[mine]
        found = values.new_zeros(values.shape[:2], dtype=torch.float64)
        for part in blocks(values.shape[2], COLUMNS):
            found += values[:, :, part].double().square().sum(2)
        return found


@final
@dataclass(frozen=True, eq=False)
class FactoredGradients(LayerFeatures):
    """What goes into a linear layer at its t positions, and what comes back.

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
    def converted(self) -> int:
        return self.activations[0].numel() + self.signals[0].numel()

    @property
    def smallest_piece(self) -> int:
        positions, each = self.activations.shape[1], self.outputs_per_example
        return 8 * positions**2 * (2 * each**2 + 1) if positions > 1 else 0

    def add(
        self, into: Float64[Tensor, "ae be"], mine: slice, other: LayerFeatures, theirs: slice, *, piece: int
    ) -> None:
        assert isinstance(other, FactoredGradients)
        a, s = self.activations[mine], self.signals[mine]
        b, u = other.activations[theirs], other.signals[theirs]
        each = self.outputs_per_example
        total = into.view(len(a), each, len(b), each)
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

    def squares(self, mine: slice) -> Float64[Tensor, "a e"]:
        start, stop, _ = mine.indices(len(self.activations))
        size = max(1, PIECE // max(1, self.smallest_piece))
        found = []
        for part in blocks(stop - start, size):
            rows = slice(start + part.start, start + part.stop)
            a, s = self.activations[rows].double(), self.signals[rows].double()
            inner = a @ a.mT + float(self.bias)  # (m, t, t)
            found.append(((s @ s.mT) * inner[:, None]).sum((2, 3)))
        empty = self.signals.new_zeros(0, self.outputs_per_example, dtype=torch.float64)
        return torch.cat([empty, *found])


@final
class NetworkFeatures:
    """All that is kept of n inputs, filled chunk by chunk.

    Args:
        first: parts of a few inputs, which say what is kept of each.
        n: how many inputs there is room for.
    """

    def __init__(self, first: Sequence[LayerFeatures], n: int) -> None:
        self.n = n
        self.parts = [
            part.like(tuple(one.new_empty(n, *one.shape[1:]) for one in part.tensors)) for part in first
        ]
        self.outputs_per_example = first[0].outputs_per_example

    def fill(self, rows: slice, parts: Sequence[LayerFeatures]) -> None:
        """Keep the parts of some inputs."""
        for held, part in zip(self.parts, parts, strict=True):
            for to, value in zip(held.tensors, part.tensors, strict=True):
                to[rows] = value

    def products(
        self, mine: slice, other: "NetworkFeatures", theirs: slice, *, piece: int = PIECE
    ) -> Float64[Tensor, "ae be"]:
        """Return the kernel between some inputs here and some of another.

        Args:
            piece: bytes that products between positions of layers may take.
        """
        each = self.outputs_per_example
        like = self.parts[0].tensors[0]
        shape = ((mine.stop - mine.start) * each, (theirs.stop - theirs.start) * each)
        into = like.new_zeros(shape, dtype=torch.float64)
        for part, its in zip(self.parts, other.parts, strict=True):
            part.add(into, mine, its, theirs, piece=piece)
        return into

    @property
    def nbytes(self) -> int:
        """Return the bytes that are held."""
        return bytes_of(self.parts)


def bytes_of(parts: Sequence[LayerFeatures]) -> int:
    """Return the bytes that parts hold."""
    return sum(one.numel() * one.itemsize for part in parts for one in part.tensors)
