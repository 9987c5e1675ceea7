"""The tasks that compare queries with the training examples and make scores where those are."""

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from leftout.cluster import inverse_tiles, score_tiles
from leftout.cluster.inverse_graph import KERNEL, InverseGraph, Place, given
from leftout.cluster.tile_graph import Key, TileGraph
from leftout.cluster.tile_grid import TileGrid
from leftout.core.blocks import blocks
from leftout.data.examples import Examples
from leftout.storage.score_store import BLOCK, COLUMNS

Kept = Literal["all", "top", "mean", "store"]
"""What is kept of the scores of a block of queries."""


@final
@dataclass(frozen=True, eq=False)
class ScoreGraph:
    """Tasks of all queries, added to a graph block by block.

    Attributes:
        duals, diagonal: keys of alpha and diag G, by block of training examples.
        kept: what becomes of scores.
        top: how many are kept of each query, where `kept` is "top".
        folder: where scores go, where `kept` is "store".
    """

    graph: TileGraph
    grid: TileGrid
    duals: list[Key]
    diagonal: list[Key]
    kept: Kept
    top: int = 1
    folder: Path = Path()

    def add_block(self, query: Examples, rows: slice, products: "QueryProducts") -> list[Key]:
        """Add the tasks of one block of queries, and return the keys of what is kept of it.

        Where `kept` is "mean" these are the scores, to be passed to `add_sums`.
        """
        number, m = rows.start, rows.stop - rows.start
        inputs, targets = query.inputs[rows].clone(), query.targets[rows].clone()
        home = (number // BLOCK) % self.grid.cells
        points = self.graph.add(
            ("query", number), given, cell=home, numbers=inputs.numel(), value=inputs, priority=1
        )
        by_block, learned = products.add(points, number, m, targets.shape[1])
        error = self.graph.add(
            ("error", number),
            score_tiles.error_of,
            [KERNEL, points, *learned],
            cell=home,
            numbers=targets.numel(),
            targets=targets,
        )
        scores = [self._add_scores(j, by_block[j], error, number, m) for j in range(self.grid.tiles)]
        return scores if self.kept == "mean" else self._add_kept(scores, number, m, home)

    def _add_scores(self, j: int, product: Key, error: Key, number: int, m: int) -> Key:
        return self.graph.add(
            ("scores", number, j),
            score_tiles.influence_block,
            [product, self.duals[j], self.diagonal[j], error],
            cell=self.grid.column_sum(j),
            numbers=m * self.grid.size(j),
        )

    def _add_kept(self, scores: list[Key], number: int, m: int, home: int) -> list[Key]:
        if self.kept == "all":
            return scores
        if self.kept == "top":
            candidates = [self._add_extremes(j, key, number, m) for j, key in enumerate(scores)]
            numbers = m * 4 * min(self.top, self.grid.n)
            best: Key = ("best", number)
            call = score_tiles.extremes_among
            return [self.graph.add(best, call, candidates, cell=home, numbers=numbers, top=self.top)]
        return [self._add_written(part, scores, number) for part in self._written_together()]

    def _add_extremes(self, j: int, scores: Key, number: int, m: int) -> Key:
        return self.graph.add(
            ("extremes", number, j),
            score_tiles.extremes_of,
            [scores],
            cell=self.grid.column_sum(j),
            numbers=m * 4 * min(self.top, self.grid.size(j)),
            first=self.grid.block(j).start,
            top=self.top,
        )

    def _written_together(self) -> list[range]:
        """Return blocks of training examples that whole chunks of the store are made of."""
        chunk = min(COLUMNS, self.grid.n)
        together = math.lcm(self.grid.side, chunk) // self.grid.side
        return [range(part.start, part.stop) for part in blocks(self.grid.tiles, together)]

    def _add_written(self, part: range, scores: list[Key], number: int) -> Key:
        return self.graph.add(
            ("written", number, part.start),
            score_tiles.written,
            [scores[j] for j in part],
            cell=self.grid.column_sum(part.start),
            numbers=0,
            folder=self.folder,
            queries=number,
            train=self.grid.block(part.start).start,
        )

    def add_sums(self, scores: list[list[Key]], number: int) -> list[Key]:
        """Add the sums over the queries of several blocks, and return their keys by training examples."""
        return [
            self.graph.add(
                ("sums", number, j),
                score_tiles.sum_over_queries,
                [block[j] for block in scores],
                cell=self.grid.column_sum(j),
                numbers=self.grid.size(j),
            )
            for j in range(self.grid.tiles)
        ]


class QueryProducts(ABC):
    """What a model makes of a block of queries before scores are made of it."""

    @abstractmethod
    def add(self, points: Key, number: int, m: int, outputs: int) -> tuple[list[Key], list[Key]]:
        """Add its tasks, and return the keys of two results.

        Args:
            points: the key of the queries.
            number: of the first query.
            m, outputs: how many queries and outputs.

        Returns:
            Aᵀ = G K(X, queries) by block of training examples, on the cells of `column_sum`, and parts of
            K(queries, X) α, to be added up.
        """


@final
@dataclass(frozen=True, eq=False)
class TiledProducts(QueryProducts):
    """Of a kernel between all pairs, from the tiles of the inverse factor.

    Attributes:
        inverse: keys of W by place.
        duals: keys of α by block.
    """

    builder: InverseGraph
    inverse: dict[Place, Key]
    duals: list[Key]

    def add(self, points: Key, number: int, m: int, outputs: int) -> tuple[list[Key], list[Key]]:
        graph, grid = self.builder.graph, self.builder.grid
        cross: list[Key] = []
        by_cell: defaultdict[int, list[int]] = defaultdict(list)
        for j in range(grid.tiles):
            cell, needs = grid.column_sum(j), [KERNEL, ("inputs", j), points]
            by_cell[cell].append(j)
            call, numbers = inverse_tiles.kernel_tile, grid.size(j) * m
            key: Key = ("cross", number, j)
            cross.append(graph.add(key, call, needs, cell=cell, numbers=numbers, dtype=self.builder.dtype))
        learned: list[Key] = []
        for cell, columns in by_cell.items():
            needs = [*(cross[j] for j in columns), *(self.duals[j] for j in columns)]
            key = ("learned", number, cell)
            learned.append(graph.add(key, score_tiles.learned_part, needs, cell=cell, numbers=m * outputs))
        return self.builder.add_product(self.inverse, cross, number, width=m), learned
