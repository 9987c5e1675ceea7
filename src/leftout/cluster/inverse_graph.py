"""The tasks that make W = L⁻¹ of K + λI = L Lᵀ in place, and multiply by G = Wᵀ W.

Step k broadcasts one panel, along the rows and columns of the grid. Its update is that of right-looking
Cholesky and of the triangular inverse at once: the panel is used for both while it is there, so it moves
once, and G itself is never formed. n³/3 flops each; all tiles are updated in parallel.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from leftout.cluster import inverse_tiles, score_tiles
from leftout.cluster.tile_graph import Key, TileGraph
from leftout.cluster.tile_grid import TileGrid
from leftout.kernels.base import Kernel

KERNEL: Key = ("kernel",)

Place = tuple[int, int]


def given(*, value: Any) -> Any:
    """Return what was sent with the task: it is there again if a worker is lost."""
    return value


@final
@dataclass(frozen=True, eq=False)
class InverseGraph:
    """Tasks of one inversion, added to a graph.

    Attributes:
        ridge: λ, added as given.
        dtype: in which pairs are evaluated.
    """

    graph: TileGraph
    grid: TileGrid
    ridge: float
    dtype: torch.dtype

    def add_inputs(self, kernel: Kernel, inputs: Tensor) -> list[Key]:
        """Add the kernel and the training inputs, a block on each diagonal cell, and return the keys."""
        keys = [self.graph.add(KERNEL, given, cell=0, numbers=0, value=kernel)]
        for i in range(self.grid.tiles):
            rows = inputs[self.grid.block(i)].clone()
            cell, numbers = self.grid.cell(i, i), rows.numel()
            key: Key = ("inputs", i)
            keys.append(self.graph.add(key, given, cell=cell, numbers=numbers, value=rows, priority=2))
        return keys

    def add_kernel(self) -> tuple[dict[Place, Key], list[Key]]:
        """Add the tiles of K and their diagonals, and return the keys of tiles and of diagonals."""
        tiles: dict[Place, Key] = {}
        diagonals: list[Key] = []
        for i, j in self._places():
            sides = [KERNEL, ("inputs", i), *([("inputs", j)] if i != j else [])]
            tiles[i, j] = self._tile(("tile", i, j, 0), inverse_tiles.kernel_tile, sides, dtype=self.dtype)
            if i == j:
                key: Key = ("gram_diagonal", i)
                call, numbers = inverse_tiles.diagonal_of, self.grid.size(i)
                cell = self.grid.cell(i, i)
                diagonals.append(self.graph.add(key, call, [tiles[i, j]], cell=cell, numbers=numbers))
        return tiles, diagonals

    def add_residuals(self, targets: Tensor) -> list[Key]:
        """Add Y − f_0 by block, on the cells of `column_sum`, and return the keys."""
        return [
            self.graph.add(
                ("residual", j),
                score_tiles.residual_of,
                [KERNEL, ("inputs", j)],
                cell=self.grid.column_sum(j),
                numbers=self.grid.size(j) * targets.shape[1],
                targets=targets[self.grid.block(j)].clone(),
            )
            for j in range(self.grid.tiles)
        ]

    def add_steps(self, tiles: dict[Place, Key], steps: range) -> dict[Place, Key]:
        """Add some steps of the inversion, and return the keys of the tiles after them."""
        after = dict(tiles)
        for k in steps:
            self._add_step(after, k)
        return after

    def _add_step(self, tiles: dict[Place, Key], k: int) -> None:
        """Add step k, and put the new keys of all tiles in place of those before it."""
        urgent, usual = 4 - 8 * k, -8 * k
        corner = tiles[k, k] = self._tile(
            ("corner", k, k),
            inverse_tiles.inverse_of_corner,
            [tiles[k, k]],
            priority=urgent,
            first=self.grid.block(k).start,
            ridge=self.ridge,
            shift=self.ridge,
        )
        panels: dict[int, Key] = {}
        for i in range(k + 1, self.grid.tiles):
            needs = [tiles[i, k], corner]
            panels[i] = self._tile(("panel", i, k), inverse_tiles.panel_tile, needs, priority=urgent)
        for j in range(k):
            needs = [corner, tiles[k, j]]
            tiles[k, j] = self._tile(("inverse", k, j), inverse_tiles.inverse_tile, needs, priority=urgent)
        for i in range(k + 1, self.grid.tiles):
            for j in range(i + 1):
                call, needs = self._update(tiles, panels, corner, i, j, k)
                # The next step begins as soon as its column is there.
                priority = usual + (2 if j == k + 1 else 0)
                tiles[i, j] = self._tile(("tile", i, j, k + 1), call, needs, priority=priority)

    def _update(
        self, tiles: dict[Place, Key], panels: dict[int, Key], corner: Key, i: int, j: int, k: int
    ) -> tuple[Callable[..., Any], list[Key]]:
        """Return what step k does to a tile below row k, and what it needs."""
        if j > k:
            sides = [panels[i]] if i == j else [panels[i], panels[j]]
            return inverse_tiles.remaining_tile, [tiles[i, j], *sides]
        if j == k:
            return inverse_tiles.first_inverse_part, [panels[i], corner]
        return inverse_tiles.next_inverse_part, [tiles[i, j], panels[i], tiles[k, j]]

    def _tile(self, key: Key, call: Callable[..., Any], needs: list[Key], **options: Any) -> Key:
        """Add a task that makes a tile, on the cell that holds it."""
        i, j = int(str(key[1])), int(str(key[2]))
        numbers = self.grid.size(i) * self.grid.size(j)
        return self.graph.add(key, call, needs, cell=self.grid.cell(i, j), numbers=numbers, **options)

    def _places(self) -> list[Place]:
        return [(i, j) for i in range(self.grid.tiles) for j in range(i + 1)]

    def add_diagonal(self, inverse: dict[Place, Key]) -> list[Key]:
        """Add diag G, the squared columns of W, and return its keys by block."""
        parts = self._by_column_cell(inverse)
        sums = []
        for j, cells in enumerate(parts):
            partial = []
            for cell, rows in cells.items():
                needs = [inverse[i, j] for i in rows]
                key: Key = ("squares", j, cell)
                self.graph.add(
                    key, inverse_tiles.squared_columns, needs, cell=cell, numbers=self.grid.size(j)
                )
                partial.append(key)
            sums.append(self._add_sum(("inverse_diagonal", j), partial, self.grid.column_sum(j)))
        return sums

    def add_product(
        self,
        inverse: dict[Place, Key],
        parts: Sequence[Key],
        name: Hashable,
        *,
        width: int,
        priority: int = 0,
    ) -> list[Key]:
        """Add G B for the blocks of B, on the cells of `column_sum`, and return the keys of its blocks there.

        Args:
            name: of this product among those in the graph.
            width: columns of B.
        """
        middle: list[Key] = []
        for i in range(self.grid.tiles):
            by_cell: defaultdict[int, list[int]] = defaultdict(list)
            for j in range(i + 1):
                by_cell[self.grid.cell(i, j)].append(j)
            partial = []
            for cell, columns in by_cell.items():
                key: Key = ("forward", name, i, cell)
                needs = [*(inverse[i, j] for j in columns), *(parts[j] for j in columns)]
                self._add_products(key, needs, cell, self.grid.size(i) * width, priority, transposed=False)
                partial.append(key)
            middle.append(self._add_sum(("middle", name, i), partial, self.grid.row_sum(i), priority))
        products: list[Key] = []
        for j, cells in enumerate(self._by_column_cell(inverse)):
            partial = []
            for cell, rows in cells.items():
                key = ("backward", name, j, cell)
                needs = [*(inverse[i, j] for i in rows), *(middle[i] for i in rows)]
                self._add_products(key, needs, cell, self.grid.size(j) * width, priority, transposed=True)
                partial.append(key)
            products.append(self._add_sum(("product", name, j), partial, self.grid.column_sum(j), priority))
        return products

    def _add_products(
        self, key: Key, needs: list[Key], cell: int, numbers: int, priority: int, *, transposed: bool
    ) -> None:
        call = inverse_tiles.sum_of_products
        self.graph.add(key, call, needs, cell=cell, numbers=numbers, priority=priority, transposed=transposed)

    def _add_sum(self, key: Key, parts: list[Key], cell: int, priority: int = 0) -> Key:
        numbers = self.graph.tasks[parts[0]].numbers
        return self.graph.add(
            key, inverse_tiles.total_of, parts, cell=cell, numbers=numbers, priority=priority
        )

    def _by_column_cell(self, inverse: dict[Place, Key]) -> list[dict[int, list[int]]]:
        """Return for each column the rows of its tiles, by the cell that holds them."""
        columns: list[dict[int, list[int]]] = [{} for _ in range(self.grid.tiles)]
        for i, j in inverse:
            columns[j].setdefault(self.grid.cell(i, j), []).append(i)
        return columns
