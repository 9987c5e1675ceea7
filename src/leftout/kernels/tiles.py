"""How is a matrix of pairs cut into pieces that are computed one after the other?

A tile is a rectangle of the matrix. Kernels of pairs evaluate tile by tile; half of them suffice where
both sides are the same inputs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

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
"""Below this, calls cost more than arithmetic: a budget that allows no more is refused instead."""

TEMPORARIES = 14
"""Blocks held at once at the most: 10 in a deep kernel with bias, 13 in float32 if all pairs are near."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a kernel may use while it computes a matrix.

    Attributes:
        dtype: in which pairs are evaluated.
        device: where they are evaluated and where tiles are wanted.
        budget: bytes, the result included.
        result: bytes of the result.
        block: rows and columns of a tile; what fits if None.
    """

    dtype: torch.dtype
    device: torch.device
    budget: int
    result: int
    block: int | None


def pair_tiles(
    block: Callable[[Tensor, Tensor], Tensor], queries: Tensor, inputs: Tensor | None, work: Work
) -> Iterator[Tile]:
    """Return tiles of block(queries, inputs), or of one triangle where `inputs` is None.

    Raises:
        MemoryBudgetError: the result and its smallest tiles do not fit; nothing was allocated.
    """
    left, right, side = _prepared(queries, queries if inputs is None else inputs, work)
    parts = list(blocks(len(right), side))
    if inputs is None:
        pairs = [(i, j) for i in parts for j in parts if j.start >= i.start]
    else:
        pairs = [(i, j) for i in blocks(len(left), side) for j in parts]
    return ((i, j, block(left[i], right[j])) for i, j in with_progress(pairs, what="kernel"))


def _prepared(queries: Tensor, inputs: Tensor, work: Work) -> tuple[Tensor, Tensor, int]:
    """Return both in the dtype and on the device, and the side of a tile, once all is sure to fit."""
    fixed = work.result
    for value in {id(tensor): tensor for tensor in (queries, inputs)}.values():
        if value.dtype != work.dtype or value.device != work.device:
            fixed += value.numel() * work.dtype.itemsize
    one = TEMPORARIES * work.dtype.itemsize
    side = work.block
    if side is None:
        fitting = int((max(work.budget - fixed, 0) / one) ** 0.5)
        side = max(SMALLEST_BLOCK, min(BLOCK.get(work.device.type, BLOCK["cpu"]), fitting))
    check_matrix_fits(
        len(queries), len(inputs), fixed + one * min(side, len(queries)) * min(side, len(inputs)), work.budget
    )
    # `.to` returns the tensor itself where nothing changes, and kernels never write to their rows.
    right = inputs.to(work.device, work.dtype)
    left = right if queries is inputs else queries.to(work.device, work.dtype)
    return left, right, side


def check_matrix_fits(rows: int, columns: int, needed: int, budget: int) -> None:
    """Raise when a kernel matrix and what computing it takes do not fit."""
    check_fits(
        f"A kernel matrix of {rows} × {columns}",
        needed,
        budget,
        advice="Use fewer examples, or raise `memory`.",
    )
