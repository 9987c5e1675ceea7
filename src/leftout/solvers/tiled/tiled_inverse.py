"""The inverse of K + λI as a matrix: the lower triangle of its tiles, multiplied where they stand."""

from functools import cached_property
from typing import final

import torch
from torch import Tensor

from leftout.core.structured_matrix import Rows, StructuredMatrix, numbers_of
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
        inverted: what the tiles make of its images; computed if None.
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
        inverted: Tensor | None = None,
    ) -> "TiledInverse":
        del inverted
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
        inverted: Tensor | None = None,
    ) -> None:
        self.triangle, self.deflation, self.room = triangle, deflation, room
        self.rows, self.columns = rows, columns
        if inverted is None:
            inverted = multiply_by_triangle(deflation.images.T, triangle).T
        self.inverted = inverted

    def __repr__(self) -> str:  # type: ignore[override]
        return f"TiledInverse({self.shape[0]} × {self.shape[1]}, {self.triangle.dtype})"

    @cached_property
    def beside(self) -> tuple[Tensor, Tensor]:
        """Return two factors of what the inverse has beside the tiles."""
        return self.deflation.beside(self.inverted)

    @property
    def kept_as(self) -> str:
        return "kept as one triangle of its inverse"

    def times(self, other: Tensor) -> Tensor:
        if self.columns is not None and len(self.columns) <= FEW:
            return self.make_numbers() @ other
        return self.transpose_of_it().times_from_left(other.T).T

    def times_from_left(self, other: Tensor) -> Tensor:
        wide = other
        if self.rows is not None:
            wide = other.new_zeros(len(other), self.triangle.n).index_add_(1, self.rows, other)
        if self.columns is not None and len(self.columns) <= FEW:
            return self.deflation.times_columns(
                wide, self._tile_numbers(None, self.columns), self.columns, self.inverted
            )
        product = self.deflation.times(wide, self._times_tiles)
        return product if self.columns is None else product[:, self.columns]

    def _times_tiles(self, rows_over: Tensor) -> Tensor:
        return multiply_by_triangle(rows_over.to(self.triangle.dtype), self.triangle).double()

    def part(self, rows: Rows, columns: Rows) -> "TiledInverse":
        n, device = self.triangle.n, self.triangle.device
        return self._of(
            numbers_of(rows, self.rows, length=n, device=device),
            numbers_of(columns, self.columns, length=n, device=device),
        )

    def transpose_of_it(self) -> "TiledInverse":
        return self._of(self.columns, self.rows)

    def _of(self, rows: Tensor | None, columns: Tensor | None) -> "TiledInverse":
        return TiledInverse(
            self.triangle, self.deflation, room=self.room, rows=rows, columns=columns, inverted=self.inverted
        )

    def leading_diagonal(self) -> Tensor:
        if self.rows is None and self.columns is None:
            spans = range(len(self.triangle.spans))
            tiles = torch.cat([self.triangle.tile(i, i).diagonal() for i in spans]).double()
            return tiles + torch.linalg.vecdot(*self.beside)
        return self.numbers.diagonal()

    def make_numbers(self) -> Tensor:
        if self.columns is None and self.rows is not None:
            return self.transpose_of_it().make_numbers().T
        tall, wide = self.beside
        tall = tall if self.rows is None else tall[self.rows]
        wide = wide if self.columns is None else wide[self.columns]
        return (tall @ wide.T).add_(self._tile_numbers(self.rows, self.columns))

    def _tile_numbers(self, rows: Tensor | None, columns: Tensor | None) -> Tensor:
        """Return what tiles hold at some rows and columns."""
        triangle = self.triangle
        every = torch.arange(triangle.n, device=triangle.device)
        rows, columns = (every if side is None else side for side in (rows, columns))
        numbers = torch.empty(len(rows), len(columns), dtype=torch.float64, device=triangle.device)
        for j, across in enumerate(triangle.spans):
            places = _places_within(columns, across)
            for i, down in enumerate(triangle.spans) if len(places) else ():
                here = _places_within(rows, down)
                of_rows, of_columns = rows[here] - down.start, columns[places] - across.start
                if i >= j:
                    tile = triangle.tile(i, j)[of_rows[:, None], of_columns]
                else:
                    tile = triangle.tile(j, i)[of_columns[:, None], of_rows].T
                numbers[here[:, None], places] = tile.double()
        return numbers


def _places_within(numbers: Tensor, span: slice) -> Tensor:
    """Return the places of the row numbers that lie in a span."""
    return ((numbers >= span.start) & (numbers < span.stop)).nonzero().flatten()


def multiply_by_triangle(rows_over: Tensor, triangle: Triangle) -> Tensor:
    """Return a matrix (b × n) times the symmetric one, in the matrix's own precision; 2bn² operations."""
    rows_over = rows_over.contiguous()
    product = torch.zeros_like(rows_over)
    for i, rows in enumerate(triangle.spans):
        for j, columns in enumerate(triangle.spans[: i + 1]):
            tile = triangle.tile(i, j).to(rows_over.dtype)
            product[:, columns].addmm_(rows_over[:, rows], tile)
            if i != j:
                product[:, rows].addmm_(rows_over[:, columns], tile.T)
    return product


def tiled_product_work(rows: int, n: int, *, single: bool) -> WorkCount:
    """Return the work of a matrix of so many rows times one in tiles, which are read once."""
    return product(rows, n, n) * (SINGLE if single else 1.0) + passes(n * n / 2, 0.5 if single else 1.0)
