"""The inverse of K + λI as what is kept of it: a triangle of tiles, and the directions that were taken out.

Products with tiles are made in their precision, and completed along the directions in float64.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.core.work import WorkCount, passes, product
from leftout.solvers.tiled.deflation import Deflation
from leftout.solvers.tiled.triangle import SINGLE, Triangle


@final
@dataclass(frozen=True, eq=False)
class InvertedTiles:
    """(K + λI)⁻¹.

    Attributes:
        triangle: G, the inverse without the directions.
        deflation: the directions.
    """

    triangle: Triangle
    deflation: Deflation

    @cached_property
    def images_inverted(self) -> Float64[Tensor, "n r"]:
        """Return G U, U the images, in float64."""
        return multiply_by_triangle(self.deflation.images.T, self.triangle).T

    @cached_property
    def beside(self) -> tuple[Float64[Tensor, "n s"], Float64[Tensor, "n s"]]:
        """Return two factors of what the inverse has beside G."""
        return self.deflation.beside(self.images_inverted)

    def times(self, rows_over: Float64[Tensor, "b n"]) -> Float64[Tensor, "b n"]:
        """Return a matrix times the inverse, in 2bn² operations."""
        dtype = self.triangle.dtype

        def multiply(rows: Tensor) -> Tensor:
            return multiply_by_triangle(rows.to(dtype), self.triangle).double()

        return self.deflation.times(rows_over, multiply)

    def times_columns(
        self, rows_over: Float64[Tensor, "b n"], columns: Int64[Tensor, " e"]
    ) -> Float64[Tensor, "b e"]:
        """Return the same at some columns only, in 2bne operations."""
        every = torch.arange(self.triangle.n, device=self.triangle.device)
        tiles = self._of_tiles(every, columns)
        return self.deflation.times_columns(rows_over, tiles, columns, self.images_inverted)

    def diagonal(self) -> Float64[Tensor, " n"]:
        """Return the diagonal of the inverse."""
        spans = range(len(self.triangle.spans))
        of_tiles = torch.cat([self.triangle.tile(i, i).diagonal() for i in spans]).double()
        return of_tiles + torch.linalg.vecdot(*self.beside)

    def numbers(self, rows: Int64[Tensor, " a"], columns: Int64[Tensor, " e"]) -> Float64[Tensor, "a e"]:
        """Return the inverse at some rows and columns."""
        tall, wide = self.beside
        return self._of_tiles(rows, columns).addmm_(tall[rows], wide[columns].T)

    def _of_tiles(self, rows: Int64[Tensor, " a"], columns: Int64[Tensor, " e"]) -> Float64[Tensor, "a e"]:
        """Return G at some rows and columns."""
        triangle = self.triangle
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
