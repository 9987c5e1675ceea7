"""The inverse of K + λI as a matrix: the lower triangle of its tiles, multiplied where they stand."""

from typing import final

import torch
from torch import Tensor

from leftout.core.structured_matrix import Rows, StructuredMatrix
from leftout.core.work import WorkCount, passes, product
from leftout.solvers.tiled.deflation import Deflation
from leftout.solvers.tiled.triangle import SINGLE, Triangle

FEW = 512
"""Columns that are made in full to be multiplied, in place of a product with all tiles."""


@final
class TiledInverse(StructuredMatrix):
    """Some rows and columns of a symmetric matrix whose lower triangle is in tiles.

    Products are made in the precision of the tiles, and corrected along the leading directions of K. What
    comes out is in float64.

    Args:
        triangle: of the whole matrix.
        deflation: what was taken out of the whole matrix before it was inverted.
        beside: two factors of what the inverse has beside the tiles; made of them if None.
        room: bytes up to which its numbers are made for other operations.
        rows, columns: numbers of the rows and columns of each side; all of them if None.
    """

    @staticmethod
    def __new__(
        cls,
        triangle: Triangle,
        deflation: Deflation,
        *,
        room: int,
        rows: Tensor | None = None,
        columns: Tensor | None = None,
        beside: tuple[Tensor, Tensor] | None = None,
    ) -> "TiledInverse":
        del beside
        sides = [triangle.n if side is None else len(side) for side in (rows, columns)]
        made = cls.wrapper(cls, *sides, dtype=torch.float64, device=triangle.device)
        assert isinstance(made, TiledInverse)
        return made

    def __init__(
        self,
        triangle: Triangle,
        deflation: Deflation,
        *,
        room: int,
        rows: Tensor | None = None,
        columns: Tensor | None = None,
        beside: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        self.triangle, self.deflation, self.room = triangle, deflation, room
        self.rows, self.columns = rows, columns
        if beside is None:
            beside = deflation.beside(multiply_by_triangle(deflation.images.T, triangle).T)
        self.beside = beside

    def __repr__(self) -> str:  # type: ignore[override]
        return f"TiledInverse({self.shape[0]} × {self.shape[1]}, {self.triangle.dtype})"

    @property
    def kept_as(self) -> str:
        return "kept as one triangle of its inverse"

    def times(self, other: Tensor) -> Tensor:
        if self.columns is not None and len(self.columns) <= FEW:
            return self.make_numbers() @ other
        return self.transposed().times_from_left(other.T).T

    def times_from_left(self, other: Tensor) -> Tensor:
        wide = other
        if self.rows is not None:
            wide = other.new_zeros(len(other), self.triangle.n).index_add_(1, self.rows, other)
        product = self.deflation.times(wide, self._times_tiles)
        return product if self.columns is None else product[:, self.columns]

    def _times_tiles(self, left: Tensor) -> Tensor:
        return multiply_by_triangle(left.to(self.triangle.dtype), self.triangle).double()

    def part(self, rows: Rows, columns: Rows) -> "TiledInverse":
        return self._of(self._some(self.rows, rows), self._some(self.columns, columns))

    def transposed(self) -> "TiledInverse":
        return self._of(self.columns, self.rows)

    def _of(self, rows: Tensor | None, columns: Tensor | None) -> "TiledInverse":
        return TiledInverse(
            self.triangle, self.deflation, room=self.room, rows=rows, columns=columns, beside=self.beside
        )

    def leading_diagonal(self) -> Tensor:
        if self.rows is None and self.columns is None:
            spans = range(len(self.triangle.spans))
            tiles = torch.cat([self.triangle.tile(i, i).diagonal() for i in spans]).double()
            return tiles + torch.linalg.vecdot(*self.beside)
        return self.numbers.diagonal()

    def make_numbers(self) -> Tensor:
        if self.columns is None and self.rows is not None:
            return self.transposed().make_numbers().T
        full = self._columns_in_full()
        return full if self.rows is None else full[self.rows]

    def _columns_in_full(self) -> Tensor:
        """Return all rows of the columns."""
        triangle, (left, right) = self.triangle, self.beside
        full = left @ (right if self.columns is None else right[self.columns]).T
        columns = torch.arange(triangle.n, device=triangle.device) if self.columns is None else self.columns
        for j, span in enumerate(triangle.spans):
            here = ((columns >= span.start) & (columns < span.stop)).nonzero().flatten()
            if not len(here):
                continue
            within = columns[here] - span.start
            for i, rows in enumerate(triangle.spans):
                full[rows, here] += (
                    triangle.tile(i, j)[:, within] if i >= j else triangle.tile(j, i)[within].T
                )
        return full

    def _some(self, numbers: Tensor | None, some: Rows) -> Tensor | None:
        if isinstance(some, slice) and some == slice(None):
            return numbers
        some = some if isinstance(some, slice) else some.to(self.triangle.device)
        every = torch.arange(self.triangle.n, device=self.triangle.device) if numbers is None else numbers
        return every[some]


def multiply_by_triangle(left: Tensor, triangle: Triangle) -> Tensor:
    """Return a matrix (b × n) times the symmetric one, in the matrix's own precision; 2bn² operations."""
    left = left.contiguous()
    product = torch.zeros_like(left)
    for i, rows in enumerate(triangle.spans):
        for j, columns in enumerate(triangle.spans[: i + 1]):
            tile = triangle.tile(i, j).to(left.dtype)
            product[:, columns].addmm_(left[:, rows], tile)
            if i != j:
                product[:, rows].addmm_(left[:, columns], tile.T)
    return product


def tiled_product_work(rows: int, n: int, *, single: bool) -> WorkCount:
    """Return the work of a matrix of so many rows times one in tiles, which are read once."""
    return product(rows, n, n) * (SINGLE if single else 1.0) + passes(n * n / 2, 0.5 if single else 1.0)
