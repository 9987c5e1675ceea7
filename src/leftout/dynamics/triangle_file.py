"""Tiles of a triangle in a folder, where a factorisation that was stopped goes on.

    FOLDER/tiles.bin      places for all tiles, and one more
    FOLDER/tiles.json     which place holds which tile, its stage; replaced whole
    FOLDER/NAME.npy       what is kept beside the tiles

A tile is written to a place that no tile has, and flushed to the disk, before tiles.json names it. So at any
moment every tile that is named is whole, and of its stage, whatever is killed or loses power.
"""

import os
import warnings
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from leftout.core.atomic_files import atomic_write, sync
from leftout.core.errors import StoreError
from leftout.core.json_file import read_json, write_json
from leftout.core.wording import dtype_name
from leftout.solvers.tiled.triangle import Stage, Triangle, tile_side

TILES, INDEX = "tiles.bin", "tiles.json"


@final
class TriangleFile(Triangle):
    """Tiles on a disk, mapped into memory: what is used often stays there, as far as there is room.

    Args:
        folder: made if it does not exist.
        identity: of what is factored; tiles of another are refused.

    Raises:
        StoreError: tiles of another matrix, or a file that is damaged.
    """

    def __init__(
        self, folder: Path, n: int, *, dtype: torch.dtype, identity: dict[str, Any], side: int | None = None
    ) -> None:
        self.folder, self.n, self.dtype = folder, n, dtype
        self.device = torch.device("cpu")
        self.side = tile_side(n) if side is None else side
        self._identity = {**identity, "n": n, "side": self.side, "dtype": str(dtype)}
        self._bytes = self.side * self.side * dtype.itemsize
        self._placed: dict[tuple[int, int], tuple[Stage, int]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        tiles = len(list(self.places()))
        if (folder / INDEX).exists():
            self._read_index(tiles + 1)
        self._free = sorted(set(range(tiles + 1)) - {place for _, place in self._placed.values()})
        with (folder / TILES).open("ab") as file:
            os.truncate(file.fileno(), (tiles + 1) * self._bytes)
        self._map = np.memmap(folder / TILES, mode="r", dtype=_numpy(dtype))

    def tile(self, i: int, j: int) -> Float[Tensor, "r c"]:
        shape = tuple(span.stop - span.start for span in (self.spans[i], self.spans[j]))
        start = self._placed[i, j][1] * self.side * self.side
        numbers = self._map[start : start + shape[0] * shape[1]].reshape(shape)
        return _as_tensor(numbers)

    def stage(self, i: int, j: int) -> Stage:
        return self._placed[i, j][0] if (i, j) in self._placed else Stage.NOTHING

    def replace(self, i: int, j: int, stage: Stage, tile: Float[Tensor, "r c"]) -> None:
        self.check_stage(i, j, stage)
        place = self._free.pop()
        with (self.folder / TILES).open("r+b") as file:
            file.seek(place * self._bytes)
            file.write(tile.to("cpu", self.dtype).contiguous().numpy().data)
        sync(self.folder / TILES)
        if (i, j) in self._placed:
            self._free.append(self._placed[i, j][1])
        self._placed[i, j] = stage, place
        self._write_index()

    def array(self, name: str) -> Float64[Tensor, "n r"] | None:
        path = self.folder / f"{name}.npy"
        return torch.from_numpy(np.load(path, allow_pickle=False)) if path.exists() else None

    def keep_array(self, name: str, numbers: Float64[Tensor, "n r"]) -> None:
        with atomic_write(self.folder / f"{name}.npy") as unfinished, unfinished.open("wb") as file:
            np.save(file, numbers.cpu().numpy())

    def _write_index(self) -> None:
        placed = [[i, j, int(stage), place] for (i, j), (stage, place) in self._placed.items()]
        write_json(self.folder / INDEX, {"of": self._identity, "tiles": placed})

    def _read_index(self, places: int) -> None:
        content = read_json(self.folder / INDEX)
        where = str(self.folder / INDEX)
        try:
            of, tiles = content["of"], content["tiles"]
            placed = {(int(i), int(j)): (Stage(stage), int(place)) for i, j, stage, place in tiles}
        except (KeyError, TypeError, ValueError):
            raise StoreError(f"{where!r} is damaged. Remove its folder, and run again.") from None
        if of != self._identity:
            raise StoreError(f"{where!r} belongs to another model. Remove its folder, or name another.")
        used = [place for _, place in placed.values()]
        size = (self.folder / TILES).stat().st_size if (self.folder / TILES).exists() else 0
        if len(set(used)) != len(used) or size != places * self._bytes or not all(p < places for p in used):
            raise StoreError(f"{where!r} is damaged. Remove its folder, and run again.")
        self._placed = placed


def _as_tensor(numbers: np.ndarray) -> Tensor:
    """Return a tensor over a read-only map; nothing writes to a tile."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(numbers)


def _numpy(dtype: torch.dtype) -> np.dtype[Any]:
    return np.dtype(dtype_name(dtype))
