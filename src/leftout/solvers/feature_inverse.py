"""(K + λI)⁻¹ of K = Φ Φᵀ with few features, as a matrix whose numbers are made where they are used.

    (K + λI)⁻¹ = (I − Φ M⁻¹ Φᵀ) / λ,    M⁻¹ = W diag(1 / (σ² + λ)) Wᵀ = (ΦᵀΦ + λI)⁻¹ where Φ has any length
    Φ(x) Φᵀ (K + λI)⁻¹ = Φ(x) M⁻¹ Φᵀ

The second line is what leaving one out asks of queries: no λ divides, and nothing cancels.
"""

from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.core.blocks import blocks
from leftout.core.product_matrix import ProductMatrix
from leftout.core.structured_matrix import Rows, StructuredMatrix

Places = range | Tensor
"""Which rows of Φ: a range, or row numbers."""

PIECE = 8192
"""Rows of Φ whose products are made at a time."""


@final
class ShiftedRows:
    """Φ, and what (Φ Φᵀ + λI)⁻¹ makes of it.

    Args:
        rows: Φ, (n, d).
        right: W, (d, r).
        weights: 1 / (σ² + λ).
        ridge: λ > 0.
        room: bytes up to which numbers are made for operations that need them all.
    """

    def __init__(
        self,
        rows: Float64[Tensor, "n d"],
        right: Float64[Tensor, "d r"],
        weights: Float64[Tensor, " r"],
        ridge: float,
        room: int,
    ) -> None:
        self.rows, self.right, self.weights, self.ridge, self.room = rows, right, weights, ridge, room
        self._last: tuple[Tensor, Tensor] | None = None

    def __getitem__(self, places: Places) -> Tensor:
        """Return some rows of Φ; all of them are not copied."""
        if isinstance(places, range):
            return self.rows if self.is_all(places) else self.rows[_as_slice(places)]
        return self.rows[places]

    def is_all(self, places: Places) -> bool:
        """Return whether these are all rows, in their order."""
        return isinstance(places, range) and places == range(len(self.rows))

    def times_inverse(self, rows: Float64[Tensor, "m d"]) -> Float64[Tensor, "m d"]:
        """Return rows M⁻¹; those of the last rows are kept, as blocks of examples share their queries."""
        if self._last is None or self._last[0] is not rows:
            self._last = (rows, (rows @ self.right * self.weights) @ self.right.T)
        return self._last[1]


@final
class FeatureInverse(StructuredMatrix):
    """Rows and columns of (Φ Φᵀ + λI)⁻¹.

    Args:
        source: Φ with λ.
        rows: which rows of Φ rows of the matrix belong to; all of them if None.
        columns: the same for columns.

    Raises:
        MemoryBudgetError: an operation that needs more of its numbers than there is room for.

    Example:
        >>> import torch
        >>> rows = torch.tensor([[1.0], [1.0]], dtype=torch.float64)
        >>> weights = torch.tensor([1 / 3], dtype=torch.float64)
        >>> FeatureInverse(ShiftedRows(rows, torch.ones_like(rows[:1]), weights, 1.0, 1000)).diagonal()
        tensor([0.6667, 0.6667], dtype=torch.float64)
    """

    source: ShiftedRows
    rows: Places
    columns: Places

    @staticmethod
    def __new__(
        cls, source: ShiftedRows, rows: Places | None = None, columns: Places | None = None
    ) -> "FeatureInverse":
        everything = range(len(source.rows))
        rows, columns = (everything if side is None else side for side in (rows, columns))
        made = cls.wrapper(cls, len(rows), len(columns), dtype=source.rows.dtype, device=source.rows.device)
        assert isinstance(made, FeatureInverse)
        made.source, made.room, made.rows, made.columns = source, source.room, rows, columns
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        rows, columns = self.shape
        return f"FeatureInverse({rows} × {columns}, {self.source.rows.shape[1]} features)"

    @property
    def kept_as(self) -> str:
        return "kept as features of its rows"

    def make_numbers(self) -> Tensor:
        source = self.source
        numbers = source.times_inverse(source[self.rows]) @ source[self.columns].T
        return (self._identity() - numbers).div_(source.ridge)

    def times(self, other: Tensor) -> Tensor:
        source = self.source
        inside = source.right.T @ (source[self.columns].T @ other)
        in_span = source[self.rows] @ (source.right @ (source.weights[:, None] * inside))
        return (self._times_identity(other) - in_span).div_(source.ridge)

    def times_from_left(self, other: Tensor) -> Tensor:
        return self.transpose_of_it().times(other.T).T

    def product_after(self, first: StructuredMatrix) -> Tensor | None:
        """Return Φ(x) M⁻¹ Φᵀ, where the first is the kernel Φ(x) Φᵀ of any x."""
        source = self.source
        if isinstance(first, ProductMatrix) and first.right is source.rows and source.is_all(self.rows):
            return ProductMatrix(source.times_inverse(first.left), source[self.columns], room=self.room)
        return None

    def part(self, rows: Rows, columns: Rows) -> "FeatureInverse":
        return FeatureInverse(self.source, _part(self.rows, rows), _part(self.columns, columns))

    def transpose_of_it(self) -> "FeatureInverse":
        return FeatureInverse(self.source, self.columns, self.rows)

    def leading_diagonal(self) -> Tensor:
        source = self.source
        if source.is_all(self.rows) and source.is_all(self.columns):
            return self.diagonal_blocks(1).flatten()
        return self.numbers.diagonal()

    def diagonal_blocks(self, rows_per_example: int) -> Float64[Tensor, "n b b"]:
        """Return the blocks of b rows on the diagonal of the whole inverse.

        Cost:
            2ndr flops, a piece of Φ at a time.
        """
        b, source = rows_per_example, self.source
        n, root = len(source.rows) // b, source.right * source.weights.sqrt()
        unit = torch.eye(b, dtype=root.dtype, device=root.device)
        made = root.new_empty(n, b, b)
        for examples in blocks(n, max(1, PIECE // b)):
            whitened = source.rows[examples.start * b : examples.stop * b] @ root
            whitened = torch.unflatten(whitened, 0, (-1, b))
            made[examples] = (unit - whitened @ whitened.mT) / source.ridge
        return made

    def _identity(self) -> Tensor:
        """Return the rows and columns of the identity, as numbers."""
        rows, columns = (_numbers(side, self.source.rows) for side in (self.rows, self.columns))
        return (rows[:, None] == columns).to(self.source.rows)

    def _times_identity(self, values: Tensor) -> Tensor:
        """Return those rows and columns of the identity, times values."""
        if self.source.is_all(self.columns):
            return values[_as_slice(self.rows) if isinstance(self.rows, range) else self.rows]
        if self.source.is_all(self.rows):
            made = values.new_zeros(len(self.rows), values.shape[1])
            return made.index_add_(0, _numbers(self.columns, values), values)
        return self._identity() @ values


def _as_slice(places: range) -> slice:
    return slice(places.start, places.stop, places.step)


def _numbers(places: Places, like: Tensor) -> Tensor:
    if isinstance(places, range):
        return torch.arange(places.start, places.stop, places.step, device=like.device)
    return places


def _part(places: Places, chosen: Rows) -> Places:
    """Return some of the places."""
    if isinstance(chosen, slice):
        return places[chosen]
    return _numbers(places, chosen)[chosen]
