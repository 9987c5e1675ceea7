"""Tiles on a disk that all workers reach: a lost worker then costs what was done since, not the result."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from leftout.cluster.tile_graph import Key, TileGraph
from leftout.core.atomic_files import atomic_write
from leftout.core.errors import StoreError
from leftout.core.json_file import read_json, write_json

STATE = "checkpoint.json"

Place = tuple[int, int]


def save_tile(tile: np.ndarray, *, path: Path) -> int:
    """Write a tile, and return its bytes; the file appears when it is whole."""
    with atomic_write(path, shared=True) as part, part.open("wb") as file:
        np.save(file, tile)
    return tile.nbytes


def read_tile(*, path: Path) -> np.ndarray:
    """Return a tile that was written."""
    try:
        return np.load(path)
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{str(path)!r} cannot be read: {error}. Remove the folder and call again."
        ) from None


@final
@dataclass(frozen=True)
class CheckpointFolder:
    """The tiles after some steps of an inversion.

    Attributes:
        path: a folder that client and workers reach under this name.
        identity: fingerprint of what is inverted, and the side of its tiles.
    """

    path: Path
    identity: str

    def steps(self) -> int | None:
        """Return after how many steps its tiles were written; None where there are none.

        Raises:
            StoreError: they are of another matrix, or tiles of another size.
        """
        if not (self.path / STATE).exists():
            return None
        state = read_json(self.path / STATE)
        if not isinstance(state, dict) or state.get("identity") != self.identity:
            raise StoreError(
                f"{str(self.path)!r} holds tiles of another model, or of another size. Take another folder "
                "for `checkpoint`, or remove it."
            )
        return int(state["steps"])

    def add_reads(self, graph: TileGraph, cells: dict[Place, int], steps: int) -> dict[Place, Key]:
        """Add the tasks that read tiles, and return the keys of these."""
        keys: dict[Place, Key] = {}
        for (i, j), cell in cells.items():
            path = self._tile(steps, i, j)
            keys[i, j] = graph.add(("tile", i, j, steps), read_tile, cell=cell, numbers=0, path=path)
        return keys

    def add_writes(self, graph: TileGraph, tiles: dict[Place, Key], steps: int) -> list[Key]:
        """Add the tasks that write tiles, and return their keys."""
        self._tile(steps, 0, 0).parent.mkdir(parents=True, exist_ok=True)
        keys: list[Key] = []
        for (i, j), tile in tiles.items():
            path, cell = self._tile(steps, i, j), graph.tasks[tile].cell
            keys.append(graph.add(("saved", i, j, steps), save_tile, [tile], cell=cell, numbers=0, path=path))
        return keys

    def finish(self, steps: int) -> None:
        """Say that all tiles after so many steps are written; those of fewer steps go."""
        write_json(self.path / STATE, {"identity": self.identity, "steps": steps})
        for folder in self.path.glob("steps-*"):
            if folder != self._tile(steps, 0, 0).parent:
                shutil.rmtree(folder)

    def _tile(self, steps: int, i: int, j: int) -> Path:
        return self.path / f"steps-{steps}" / f"{i}-{j}.npy"
