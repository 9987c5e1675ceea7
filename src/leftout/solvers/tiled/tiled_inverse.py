"""Rows and columns of an inverse in tiles, as a matrix whose numbers are made where they are used."""

from typing import final

import torch
from torch import Tensor

from leftout.core.structured_matrix import Rows, StructuredMatrix, numbers_of
from leftout.solvers.tiled.inverted_tiles import InvertedTiles

FEW = 512
"""Columns that are made in full to be multiplied, in place of a product with all tiles."""


@final
class TiledInverse(StructuredMatrix):
    """Some rows and columns of (K + λI)⁻¹, in float64.

    Args:
        tiles: the whole inverse.
        room: bytes up to which its numbers are made for other operations.
        rows, columns: numbers of the rows and columns of each side; all of them if None.
    """

    tiles: InvertedTiles
    rows: Tensor | None
    columns: Tensor | None

    @staticmethod
    def __new__(
        cls, tiles: InvertedTiles, *, room: int, rows: Tensor | None = None, columns: Tensor | None = None
    ) -> "TiledInverse":
        triangle = tiles.triangle
        sides = [triangle.n if side is None else len(side) for side in (rows, columns)]
        made = cls.wrapper(cls, *sides, dtype=torch.float64, device=triangle.device)
        assert isinstance(made, TiledInverse)
        made.tiles, made.room, made.rows, made.columns = tiles, room, rows, columns
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"TiledInverse({self.shape[0]} × {self.shape[1]}, {self.tiles.triangle.dtype})"

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
            wide = other.new_zeros(len(other), self.tiles.triangle.n).index_add_(1, self.rows, other)
        if self.columns is not None and len(self.columns) <= FEW:
            return self.tiles.times_columns(wide, self.columns)
        product = self.tiles.times(wide)
        return product if self.columns is None else product[:, self.columns]

    def part(self, rows: Rows, columns: Rows) -> "TiledInverse":
        return TiledInverse(
            self.tiles,
            room=self.room,
            rows=self._numbers_of(rows, self.rows),
            columns=self._numbers_of(columns, self.columns),
        )

    def transpose_of_it(self) -> "TiledInverse":
        return TiledInverse(self.tiles, room=self.room, rows=self.columns, columns=self.rows)

    def leading_diagonal(self) -> Tensor:
        if self.rows is None and self.columns is None:
            return self.tiles.diagonal()
        return self.numbers.diagonal()

    def make_numbers(self) -> Tensor:
        every = torch.arange(self.tiles.triangle.n, device=self.device)
        rows, columns = (every if side is None else side for side in (self.rows, self.columns))
        return self.tiles.numbers(rows, columns)

    def _numbers_of(self, index: Rows, among: Tensor | None) -> Tensor | None:
        return numbers_of(index, among, length=self.tiles.triangle.n, device=self.device)
