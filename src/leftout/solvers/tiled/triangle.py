"""The lower triangle of a symmetric matrix, in square tiles that are replaced one after the other.

A tile goes through four stages, and every stage replaces it once:

    KERNEL      K + λI
    FACTOR      L,  K + λI = L Lᵀ
    ROOT        W = L⁻¹
    INVERSE     G = Wᵀ W = (K + λI)⁻¹

What replaces a tile is computed from other tiles, which are not replaced before. So a computation that was
stopped at any moment goes on from the tiles that there are, to the same numbers.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from enum import IntEnum
from typing import final

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from leftout.core.blocks import blocks

SIDES = (512, 1024, 2048, 4096)
"""Sides of a tile. Calls and threads take their time for each: smaller ones are slower."""

FEWEST = 16
"""Tiles on a side at least: of N a share of about 2 / N of the work is done for the upper triangle."""


SINGLE = 0.5
"""Time of an operation in single precision, over that in double."""


class Stage(IntEnum):
    """What a tile holds."""

    NOTHING = 0
    KERNEL = 1
    FACTOR = 2
    ROOT = 3
    INVERSE = 4


class Triangle(ABC):
    """The tiles (i, j), i ≥ j, of an n × n matrix.

    Attributes:
        n: rows of the matrix.
        side: rows and columns of a tile; the last ones may be smaller.
        dtype: of the numbers.
        device: where tiles are.
    """

    n: int
    side: int
    dtype: torch.dtype
    device: torch.device

    @property
    def spans(self) -> list[slice]:
        """Return the rows of each row of tiles."""
        return list(blocks(self.n, self.side))

    def places(self) -> Iterator[tuple[int, int]]:
        """Yield row and column of every tile."""
        for i in range(len(self.spans)):
            for j in range(i + 1):
                yield i, j

    @abstractmethod
    def tile(self, i: int, j: int) -> Float[Tensor, "r c"]:
        """Return a tile; it is not written to."""

    @abstractmethod
    def stage(self, i: int, j: int) -> Stage:
        """Return what a tile holds."""

    @abstractmethod
    def replace(self, i: int, j: int, stage: Stage, tile: Float[Tensor, "r c"]) -> None:
        """Replace a tile by its next stage: wholly, or not at all."""

    @abstractmethod
    def array(self, name: str) -> Float64[Tensor, "n r"] | None:
        """Return what was kept with the tiles under a name; None where nothing was."""

    @abstractmethod
    def keep_array(self, name: str, numbers: Float64[Tensor, "n r"]) -> None:
        """Keep something with the tiles that cannot be made of them any more."""

    def check_stage(self, i: int, j: int, stage: Stage) -> None:
        """Raise where a tile would not follow what is there."""
        if self.stage(i, j) != stage - 1:
            raise ValueError(f"Tile ({i}, {j}) is {self.stage(i, j).name}, and would become {stage.name}.")


@final
class TriangleInMemory(Triangle):
    """Tiles in memory."""

    def __init__(self, n: int, *, dtype: torch.dtype, device: torch.device, side: int | None = None) -> None:
        self.n, self.dtype, self.device = n, dtype, device
        self.side = tile_side(n) if side is None else side
        self._tiles: dict[tuple[int, int], tuple[Stage, Tensor]] = {}
        self._kept: dict[str, Tensor] = {}

    def tile(self, i: int, j: int) -> Float[Tensor, "r c"]:
        return self._tiles[i, j][1]

    def stage(self, i: int, j: int) -> Stage:
        return self._tiles[i, j][0] if (i, j) in self._tiles else Stage.NOTHING

    def replace(self, i: int, j: int, stage: Stage, tile: Float[Tensor, "r c"]) -> None:
        self.check_stage(i, j, stage)
        self._tiles[i, j] = stage, tile.to(self.device, self.dtype)

    def array(self, name: str) -> Float64[Tensor, "n r"] | None:
        return self._kept.get(name)

    def keep_array(self, name: str, numbers: Float64[Tensor, "n r"]) -> None:
        self._kept[name] = numbers


def tile_side(n: int) -> int:
    """Return the side of a tile: the largest of which there are enough."""
    return max((side for side in SIDES if FEWEST * side <= n), default=SIDES[0])


def triangle_bytes(n: int, itemsize: int) -> int:
    """Return the bytes of the tiles of an n × n matrix."""
    side = tile_side(n)
    rows = -(-n // side)
    return itemsize * (n * n + n * min(side, n)) // 2 if rows > 1 else itemsize * n * n
