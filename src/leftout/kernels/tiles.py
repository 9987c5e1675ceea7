"""How is a kernel matrix cut into tiles that are computed one after the other?

A tile is a rectangle of the matrix. Kernels of pairs evaluate tile by tile; half of them suffice where
both sides are the same inputs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from leftout.core.blocks import blocks, check_fits
from leftout.core.progress import with_progress

Tile = tuple[slice, slice, Tensor]
"""Rows and columns of the matrix, and its values there."""

BLOCK = {"cpu": 512, "cuda": 4096}
"""Rows and columns of a block.

512² numbers in float64 are 2 MB, which a cache holds; a GPU would wait for launches of so little.
"""

SMALLEST_BLOCK = 32
"""Below this, calls cost more than arithmetic: a budget that allows only smaller tiles is refused."""

TEMPORARIES = 14
"""Blocks held at once at the most: 10 in a deep kernel with bias, 13 in float32 if all pairs are near."""


@dataclass(frozen=True, kw_only=True)
class TileWork:
    """What a kernel may use while it computes a matrix.

    Attributes:
        dtype: in which pairs are evaluated.
        device: where they are evaluated and where tiles are wanted.
        budget: bytes, the result included.
        result: bytes of the result.
        block: rows and columns of a tile; what fits if None.
        temporaries: blocks held at once at the most.
    """

    dtype: torch.dtype
    device: torch.device
    budget: int
    result: int
    block: int | None
    temporaries: int = TEMPORARIES


FEATURES = 2
"""What a kernel makes of single inputs takes at most this fraction, a half, of the budget of a model."""


@dataclass(frozen=True)
class FeatureBytes:
    """Bytes that a kernel takes for what it makes of single inputs, such as gradients of a network.

    Attributes:
        kept: of one input.
        passing: of one input while it is made.
        tiles: of products of the largest tiles, which are of `most_beside` inputs.
        pieces: of products between positions.
        least: with which inputs can be taken one at a time.
        most_passing: of inputs that are passed together, however many there are.
        most_beside: inputs of the side that is not held, whose features are multiplied at a time.
    """

    kept: int
    passing: int
    tiles: int
    pieces: int
    least: int
    most_passing: int
    most_beside: int

    def share(self, budget: int) -> int:
        """Return the bytes that may be taken of the budget of a model."""
        return max(self.least, budget // FEATURES)

    def held(self, n: int, m: int, budget: int) -> int:
        """Return the bytes taken between n inputs and m queries, one of whose sides is held."""
        passing = self.passing + min(self.most_passing, max(n, m) * self.passing)
        inputs = min(max(n, m), self.most_beside)
        # Smaller tiles take less than their share of the largest: their bytes grow with the side squared.
        tiles = self.pieces + -(-self.tiles * inputs // self.most_beside)
        return min(self.share(budget), tiles + n * self.kept + passing + inputs * self.kept)


def pair_tiles(
    block: Callable[[Tensor, Tensor], Tensor], queries: Tensor, inputs: Tensor | None, work: TileWork
) -> Iterator[Tile]:
    """Return tiles of block(queries, inputs), or of one triangle where `inputs` is None.

    Raises:
        MemoryBudgetError: the result and its smallest tiles do not fit; nothing was allocated.
    """
    row_inputs, column_inputs, side = _inputs_and_side(queries, queries if inputs is None else inputs, work)
    if inputs is None:
        pairs = upper_blocks(len(row_inputs), side)
    else:
        pairs = list(product(blocks(len(row_inputs), side), blocks(len(column_inputs), side)))
    return ((i, j, block(row_inputs[i], column_inputs[j])) for i, j in with_progress(pairs, what="kernel"))


def upper_blocks(n: int, side: int) -> list[tuple[slice, slice]]:
    """Return rows and columns of tiles that cover the diagonal and one triangle of an n × n matrix."""
    slices = list(blocks(n, side))
    return [(rows, columns) for rows, columns in product(slices, slices) if columns.start >= rows.start]


def _inputs_and_side(queries: Tensor, inputs: Tensor, work: TileWork) -> tuple[Tensor, Tensor, int]:
    """Return both sides in the dtype and on the device of `work`, and the side of a tile, checked to fit."""
    fixed = work.result
    for tensor in (queries,) if queries is inputs else (queries, inputs):
        if tensor.dtype != work.dtype or tensor.device != work.device:
            fixed += tensor.numel() * work.dtype.itemsize
    bytes_per_pair = work.temporaries * work.dtype.itemsize
    side = work.block
    if side is None:
        fitting = int((max(work.budget - fixed, 0) / bytes_per_pair) ** 0.5)
        side = max(SMALLEST_BLOCK, min(BLOCK.get(work.device.type, BLOCK["cpu"]), fitting))
    check_matrix_fits(
        len(queries),
        len(inputs),
        fixed + bytes_per_pair * min(side, len(queries)) * min(side, len(inputs)),
        work.budget,
    )
    # `.to` returns the tensor itself where nothing changes, and kernels never write to their rows.
    column_inputs = inputs.to(work.device, work.dtype)
    row_inputs = column_inputs if queries is inputs else queries.to(work.device, work.dtype)
    return row_inputs, column_inputs, side


def check_matrix_fits(rows: int, columns: int, needed: int, budget: int) -> None:
    """Raise when a kernel matrix and what computing it takes do not fit."""
    check_fits(
        f"A kernel matrix of {rows} × {columns}",
        needed,
        budget,
        advice="Use fewer examples, or raise `memory`.",
    )
