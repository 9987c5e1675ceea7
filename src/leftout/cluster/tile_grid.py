"""Which worker holds which tile of a symmetric matrix? Block-cyclic: tile (i, j) is on cell (i mod p, j mod
q).

A cell is one worker of a p × q grid, numbered row by row. In the inversion, the panel tile of row i goes to
the cells of row i and of column i, p + q − 2 of them besides its own, however many workers there are; a tile
placed anywhere would go to all p q − 1 others.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import final

from leftout.core.checks import check_whole


@final
@dataclass(frozen=True)
class TileGrid:
    """The lower triangle of an n × n matrix in tiles, on a p × q grid of cells.

    Args:
        n: rows of the matrix.
        side: rows and columns of a tile; the last ones are smaller.
        cells: p q, the workers.

    Example:
        >>> grid = TileGrid(n=100, side=30, cells=4)
        >>> grid.tiles, grid.rows, grid.columns, grid.cell(3, 0)
        (4, 2, 2, 2)
    """

    n: int
    side: int
    cells: int

    def __post_init__(self) -> None:
        check_whole("side", self.side, 1)

    @property
    def tiles(self) -> int:
        """Return the tiles along one side of the matrix."""
        return -(-self.n // self.side)

    @cached_property
    def rows(self) -> int:
        """Return p, the largest divisor of the number of cells that is not above its root."""
        return next(p for p in range(math.isqrt(self.cells), 0, -1) if self.cells % p == 0)

    @property
    def columns(self) -> int:
        """Return q."""
        return self.cells // self.rows

    def block(self, i: int) -> slice:
        """Return the rows of the matrix in tile row i."""
        return slice(i * self.side, min((i + 1) * self.side, self.n))

    def size(self, i: int) -> int:
        """Return how many rows those are."""
        rows = self.block(i)
        return rows.stop - rows.start

    def cell(self, i: int, j: int) -> int:
        """Return where tile (i, j) is."""
        return (i % self.rows) * self.columns + j % self.columns

    def row_cells(self, i: int) -> int:
        """Return on how many cells the tiles (i, 0) … (i, i) are."""
        return min(i + 1, self.columns)

    def column_cells(self, j: int) -> int:
        """Return on how many cells the tiles (j, j), (j + 1, j), … are."""
        return min(self.tiles - j, self.rows)

    def row_sum(self, i: int) -> int:
        """Return the cell where sums over row i come together, another one for each of the next rows."""
        return self.cell(i, (i // self.rows) % self.row_cells(i))

    def column_sum(self, j: int) -> int:
        """Return the cell where sums over column j come together, another for each of the next columns."""
        return self.cell(j + (j // self.columns) % self.column_cells(j), j)

    def inversion_bytes(self) -> int:
        """Return the bytes that move between cells in the inversion of the matrix, in closed form.

        Panel tiles L_ik and the diagonal W_kk go along row i and column i, tiles W_kj down column j:

            8 Σ_{i ≥ k} |i| |k| (r_i + c_i − 2) + 8 Σ_{k > j} |k| |j| (c_k' − 1)

        with |i| the rows of tile row i, r_i = min(i + 1, q) and c_i = min(tiles − i, p) the cells of its row
        and column; c_k' = c_k as tiles below row k take W_kj. For n ≫ side p this is 4n² (2p + q − 3).
        """
        total = 0
        for i in range(self.tiles):
            above = self.block(i).start
            along = self.row_cells(i) + self.column_cells(i) - 2
            total += self.size(i) * ((above + self.size(i)) * along + above * (self.column_cells(i) - 1))
        return 8 * total

    def product_bytes(self, width: int) -> int:
        """Return the bytes that move in G B = Wᵀ W B with B of so many columns, in closed form.

        B goes down the columns, partial sums W_ij B_j come together along the rows, go out again, and those
        of Wᵀ come together along the columns: 16 n · width · (p + q − 2) for n ≫ side p.
        """
        along = (self.size(i) * (self.row_cells(i) + self.column_cells(i) - 2) for i in range(self.tiles))
        return 16 * width * sum(along)

    def scattered_bytes(self) -> int:
        """Return what `inversion_bytes` would be with tiles placed anywhere: each goes to all other cells."""
        return 2 * 8 * (self.cells - 1) * (self.n * (self.n + 1) // 2)

    def held_bytes(self) -> int:
        """Return the bytes that the fullest cell holds at once: its tiles, one panel, and one row of W."""
        of_cell = [0] * self.cells
        for i in range(self.tiles):
            for j in range(i + 1):
                of_cell[self.cell(i, j)] += 8 * self.size(i) * self.size(j)
        panel = 8 * self.side * self.n * (1 / self.rows + 2 / self.columns)
        return max(of_cell) + int(panel) + 8 * 4 * self.side**2
