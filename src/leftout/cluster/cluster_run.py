"""One run on a cluster: the inverse, then the queries; again from the last checkpoint if a worker is lost."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, final

import numpy as np
import torch
from torch import Tensor

from leftout.cluster.checkpoint import CheckpointFolder
from leftout.cluster.dask_pool import DaskPool, WorkerLostError
from leftout.cluster.inverse_graph import InverseGraph, Place
from leftout.cluster.score_graph import Kept, QueryProducts, ScoreGraph, TiledProducts
from leftout.cluster.tile_graph import Key, TileGraph
from leftout.cluster.tile_grid import TileGrid
from leftout.core.blocks import blocks
from leftout.core.errors import NotPositiveError
from leftout.core.progress import with_progress
from leftout.data.examples import Examples
from leftout.dynamics.scales import check_kernel_scale
from leftout.kernels.base import Kernel
from leftout.storage.score_store import BLOCK, finished_blocks, record_blocks

TASKS = 20_000
"""Tasks that a scheduler is given at once, some seconds of its time."""

CHECKPOINTS = 4
"""Times that tiles are written to disk during an inversion, where a folder is given."""

IN_FLIGHT = 16
"""Queries are compared together up to 1 / IN_FLIGHT of the training examples: most memory is for tiles."""

EPS = torch.finfo(torch.float64).eps

T = TypeVar("T")


@final
@dataclass(frozen=True, eq=False)
class ModelOnCluster:
    """What is asked: a model, its queries, and what is kept of the scores.

    Attributes:
        ridge: λ as it is added to K.
        dtype: in which the kernel is evaluated.
        top: how many are kept of each query, where `kept` is "top".
        folder: where scores go, where `kept` is "store".
    """

    kernel: Kernel
    train: Examples
    query: Examples
    ridge: float
    dtype: torch.dtype
    kept: Kept
    top: int = 1
    folder: Path = Path()


@dataclass(eq=False)
class ClusterRun(ABC):
    """A model on the workers of a pool, and the blocks of queries that are done."""

    model: ModelOnCluster
    pool: DaskPool
    grid: TileGrid
    done: dict[int, list[np.ndarray]] = field(default_factory=dict)

    @property
    @abstractmethod
    def held_bytes(self) -> int:
        """Return the bytes that the fullest worker holds of the model."""

    @abstractmethod
    def prepare(self, graph: TileGraph) -> tuple[ScoreGraph, QueryProducts, list[Key]]:
        """Make all that does not depend on queries; return what adds those, and the keys that must stay."""

    def finish(self) -> dict[int, list[np.ndarray]]:
        """Return what is kept of each group of queries, by its first one.

        Raises:
            MemoryBudgetError: the model does not fit; nothing was computed.
            NotPositiveError: it has no Cholesky factor, or a ridge that rounding hides.
            SolveError: workers are lost again and again.
        """
        rows = self._group_rows()
        in_flight = 8 * 4 * rows * -(-self.grid.n // self.pool.cells)
        self.pool.check_memory(
            self.held_bytes + in_flight,
            what=f"A model of {self.grid.n} examples in tiles of {self.grid.side}",
        )
        with self.pool.counting():
            while True:
                try:
                    self._attempt()
                    return self.done
                except WorkerLostError:
                    self.pool.replace_lost()

    def _group_rows(self) -> int:
        """Return how many queries are in flight together, a multiple of a block."""
        return BLOCK * max(1, self.grid.n // (IN_FLIGHT * BLOCK))

    def _attempt(self) -> None:
        groups = [group for group in self._groups() if group.start not in self.done]
        if not groups:
            return
        graph = TileGraph()
        scores, products, stay = self.prepare(graph)
        for group in with_progress(groups, what="leaving one out on the cluster"):
            parts = [
                slice(group.start + part.start, group.start + part.stop)
                for part in blocks(group.stop - group.start, BLOCK)
            ]
            kept = [scores.add_block(self.model.query, part, products) for part in parts]
            keys = (
                scores.add_sums(kept, group.start)
                if scores.kept == "mean"
                else [key for of_part in kept for key in of_part]
            )
            self.pool.run(graph, [*stay, *keys])
            results = self.pool.fetch(keys)
            self.pool.progress_is_kept()
            self.done[group.start] = results if scores.kept != "store" else []
            if scores.kept == "store":
                each = len(results) // len(parts)
                written = [results[place : place + each] for place in range(0, len(results), each)]
                checksums = {
                    part.start: {name: checksum for file in files for name, checksum in file.items()}
                    for part, files in zip(parts, written, strict=True)
                }
                record_blocks(self.model.folder, checksums)

    def _groups(self) -> list[slice]:
        """Return the groups of queries that are still to be asked of the model."""
        groups = list(blocks(len(self.model.query), self._group_rows()))
        if self.model.kept != "store":
            return groups
        there = finished_blocks(self.model.folder)
        return [group for group in groups if not set(range(group.start, group.stop, BLOCK)) <= there]


@final
@dataclass(eq=False)
class TiledRun(ClusterRun):
    """A kernel between all pairs: its matrix in tiles, inverted in place.

    Attributes:
        checkpoint: where tiles are written now and then; None for nowhere.
    """

    checkpoint: CheckpointFolder | None = None

    @property
    def held_bytes(self) -> int:
        return self.grid.held_bytes()

    def prepare(self, graph: TileGraph) -> tuple[ScoreGraph, QueryProducts, list[Key]]:
        model = self.model
        builder = InverseGraph(graph, self.grid, model.ridge, model.dtype)
        inputs = builder.add_inputs(model.kernel, model.train.inputs)
        tiles = self._inverse(builder, inputs)
        diagonal = builder.add_diagonal(tiles)
        residuals = builder.add_residuals(model.train.targets)
        duals = builder.add_product(tiles, residuals, "dual", width=model.train.targets.shape[1])
        stay = [*inputs, *tiles.values(), *diagonal, *duals]
        self.pool.run(graph, stay)
        scores = ScoreGraph(graph, self.grid, duals, diagonal, model.kept, model.top, model.folder)
        return scores, TiledProducts(builder, tiles, duals), stay

    def _inverse(self, builder: InverseGraph, inputs: list[Key]) -> dict[Place, Key]:
        """Return the keys of W, made step by step from the last checkpoint or from the kernel."""
        begun = None if self.checkpoint is None else self.checkpoint.steps()
        if self.checkpoint is None or begun is None:
            tiles, diagonals = builder.add_kernel()
            self.pool.run(builder.graph, [*inputs, *tiles.values(), *diagonals])
            self._check_ridge(torch.from_numpy(np.concatenate(self.pool.fetch(diagonals))))
        else:
            cells = {(i, j): self.grid.cell(i, j) for i in range(self.grid.tiles) for j in range(i + 1)}
            tiles = self.checkpoint.add_reads(builder.graph, cells, begun)
        for steps in self._stages(begun or 0):
            tiles = builder.add_steps(tiles, steps)
            keep = [*inputs, *tiles.values()]
            if self.checkpoint is not None:
                keep += self.checkpoint.add_writes(builder.graph, tiles, steps.stop)
            self.pool.run(builder.graph, keep)
            if self.checkpoint is not None:
                self.checkpoint.finish(steps.stop)
                self.pool.progress_is_kept()
        return tiles

    def _stages(self, first: int) -> list[range]:
        """Return the steps from `first` on, in parts that a scheduler is given at once."""
        tiles = self.grid.tiles
        most = max(1, TASKS // (tiles * (tiles + 1) // 2 + tiles))
        if self.checkpoint is not None:
            most = min(most, -(-tiles // CHECKPOINTS))
        return [range(first + part.start, first + part.stop) for part in blocks(tiles - first, most)]

    def _check_ridge(self, diagonal: Tensor) -> None:
        """Raise unless the kernel is of a size that can be computed with, and the ridge above rounding."""
        check_kernel_scale(diagonal)
        rounding = len(diagonal) * EPS * float(diagonal.sum())
        if self.model.ridge <= rounding:
            raise NotPositiveError(
                f"`rule` must have a ridge above n · eps · tr K = {rounding:.2g} on a cluster; got "
                f"{self.model.ridge:g}. Below it `leave_one_out` on one machine looks how singular the "
                "matrix is, which is not done in tiles. No jitter was added."
            )
