"""The inverse of K + λI as a matrix: the lower triangle of its tiles, multiplied where they stand."""

from typing import final

import torch
from torch import Tensor

from leftout.core.structured_matrix import Rows, StructuredMatrix
from leftout.solvers.tiled.triangle import Triangle


@final
class TiledInverse(StructuredMatrix):
    """Some rows and columns of a symmetric matrix whose lower triangle is in tiles.

    Products are made in the precision of the tiles; what comes out is in float64.

    Args:
        triangle: of the whole matrix.
        room: bytes up to which its numbers are made for other operations.
        rows, columns: numbers of the rows and columns of each side; all of them if None.
    """

    @staticmethod
    def __new__(
        cls, triangle: Triangle, *, room: int, rows: Tensor | None = None, columns: Tensor | None = None
    ) -> "TiledInverse":
        sides = [triangle.n if side is None else len(side) for side in (rows, columns)]
        made = cls.wrapper(cls, *sides, dtype=torch.float64, device=triangle.device)
        assert isinstance(made, TiledInverse)
        return made

    def __init__(
        self, triangle: Triangle, *, room: int, rows: Tensor | None = None, columns: Tensor | None = None
    ) -> None:
        self.triangle, self.room, self.rows, self.columns = triangle, room, rows, columns

    def __repr__(self) -> str:  # type: ignore[override]
        return f"TiledInverse({self.shape[0]} × {self.shape[1]}, {self.triangle.dtype})"

    @property
    def kept_as(self) -> str:
        return "kept as one triangle of its inverse"

    def multiply(self, other: Tensor) -> Tensor:
        return self.transposed().multiply_from_left(other.T).T

    def multiply_from_left(self, other: Tensor) -> Tensor:
        triangle = self.triangle
        if self.rows is not None:
            wide = other.new_zeros(len(other), triangle.n, dtype=triangle.dtype)
            wide.index_add_(1, self.rows, other.to(triangle.dtype))
        else:
            wide = other.to(triangle.dtype)
        if self.columns is not None and len(self.columns) < len(other):
            return (wide @ self._columns_in_full()).double()
        product = multiply_by_triangle(wide.contiguous(), triangle)
        return (product if self.columns is None else product[:, self.columns]).double()

    def part(self, rows: Rows, columns: Rows) -> "TiledInverse":
        return TiledInverse(
            self.triangle,
            room=self.room,
            rows=self._some(self.rows, rows),
            columns=self._some(self.columns, columns),
        )

    def transposed(self) -> "TiledInverse":
        return TiledInverse(self.triangle, room=self.room, rows=self.columns, columns=self.rows)

    def leading_diagonal(self) -> Tensor:
        if self.rows is None and self.columns is None:
            spans = range(len(self.triangle.spans))
            return torch.cat([self.triangle.tile(i, i).diagonal() for i in spans]).double()
        return self.numbers.diagonal()

    def make_numbers(self) -> Tensor:
        if self.columns is None and self.rows is not None:
            return self.transposed().make_numbers().T
        full = self._columns_in_full()
        return (full if self.rows is None else full[self.rows]).double()

    def _columns_in_full(self) -> Tensor:
        """Return all rows of the columns, in the precision of the tiles."""
        triangle = self.triangle
        every = torch.arange(triangle.n, device=triangle.device)
        columns = every if self.columns is None else self.columns
        full = torch.empty(triangle.n, len(columns), dtype=triangle.dtype, device=triangle.device)
        for j, span in enumerate(triangle.spans):
            here = ((columns >= span.start) & (columns < span.stop)).nonzero().flatten()
            if not len(here):
                continue
            within = columns[here] - span.start
            for i, rows in enumerate(triangle.spans):
                tile = triangle.tile(i, j)[:, within] if i >= j else triangle.tile(j, i)[within].T
                full[rows, here] = tile
        return full

    def _some(self, numbers: Tensor | None, some: Rows) -> Tensor | None:
        if isinstance(some, slice) and some == slice(None):
            return numbers
        some = some if isinstance(some, slice) else some.to(self.triangle.device)
        every = torch.arange(self.triangle.n, device=self.triangle.device) if numbers is None else numbers
        return every[some]


def multiply_by_triangle(left: Tensor, triangle: Triangle) -> Tensor:
    """Return a matrix (b × n) times the symmetric one, in the precision of its tiles; 2bn² operations."""
    product = torch.zeros_like(left)
    for i, rows in enumerate(triangle.spans):
        for j, columns in enumerate(triangle.spans[: i + 1]):
            tile = triangle.tile(i, j)
            product[:, columns].addmm_(left[:, rows], tile)
            if i != j:
                product[:, rows].addmm_(left[:, columns], tile.T)
    return product
