"""How is the kernel of all pairs of images cut into pieces that a cache holds, for every thread its own?

A piece is some pairs of images, in one strip of their positions where displacements stay apart. Pieces are
computed side by side and added up in one order, so results do not depend on how many threads there are.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from leftout.core.blocks import blocks
from leftout.kernels.convolution import positions, strips
from leftout.kernels.convolution.positions import ConvNetwork
from leftout.kernels.convolution.strips import Side, Strip
from leftout.kernels.convolution.threads import one_thread_each, side_by_side

TILE = {"cpu": 2**17, "cuda": 2**25}
"""Numbers in each array of a piece.

1 MB in float64: a cache that cores share holds a piece. Half of it or less was measured to take a fifth
longer, as Python then starts more operations; so does twice of it in float64. A GPU would wait for launches.
"""

SPREAD = 2**23
"""Numbers of images laid out in strips at once, 64 MB: they are made once for many pairs."""

ARRAYS = 9
"""Arrays of a piece at once at the most: K and T, two sums of each over windows, and three of a ReLU."""

Where = tuple[slice, ...]
"""Rows and columns of the result, or rows of a diagonal."""


def totals(network: ConvNetwork, left: Tensor, right: Tensor | None) -> Tensor:
    """Return the mean over positions of K, or of K + T.

    Args:
        left, right: (m c h w) and (n c h w), for (m n) numbers; without `right` each with itself, (m).
    """
    way = _in_strips if strips.fits(network) else _by_positions
    found = left.new_zeros((len(left),) if right is None else (len(left), len(right)))
    with one_thread_each(left.device) as threads:
        for where, value in way(network, left, right, threads):
            found[where] += value
    return found


def numbers_held(network: ConvNetwork, images: Tensor, rows: int, threads: int) -> int:
    """Return how many numbers are held at once for a block of so many images on either side."""
    most = _most(images)
    if strips.fits(network):
        groups = list(strips.strips(network, images.device, most))
        each = _spread(network, groups, images)
        piece = max(most, *(group[0].positions for group in groups))
        return 2 * each * max(1, min(rows, SPREAD // (2 * each))) + ARRAYS * threads * piece
    pair = (images.shape[-2] * images.shape[-1]) ** (2 if network.twin > 0 else 1)
    return ARRAYS * threads * max(most, pair)


def _in_strips(
    network: ConvNetwork, left: Tensor, right: Tensor | None, threads: int
) -> Iterator[tuple[Where, Tensor]]:
    most = _most(left)
    groups = list(strips.strips(network, left.device, most))
    one = _side(network, left, threads)
    other = one if right is None else _side(network, right, threads)
    share = 1 / network.left_over ** (2 if network.mean else 1)

    def value(piece: tuple[Where, Strip, Side, Side]) -> Tensor:
        where, strip, ours, theirs = piece
        return strips.read_strip(strip, ours, theirs, outer=len(where) == 2).mul_(share)

    together = max(1, SPREAD // (2 * _spread(network, groups, left)))
    for i in blocks(len(left), together):
        for j in [i] if right is None else blocks(len(right), together):
            pieces = []
            for group in groups:
                columns, gap = group[0].columns, group[0].rows.gap
                ours, theirs = (one.at(i).spread(columns, gap, 0), other.at(j).spread(columns, gap, 1))
                for strip in group:
                    for where in _tiles(most // strip.positions, i, None if right is None else j):
                        p, q = _within(where[0], i), _within(where[-1], j)
                        pieces.append((where, strip, ours.at(p), theirs.at(q)))
            for piece, found in zip(pieces, side_by_side(value, pieces, threads), strict=True):
                yield piece[0], found


def _by_positions(
    network: ConvNetwork, left: Tensor, right: Tensor | None, threads: int
) -> Iterator[tuple[Where, Tensor]]:
    one = left.permute(1, 2, 3, 0).contiguous()  # (c h w m)
    other = one if right is None else right.permute(1, 2, 3, 0).contiguous()
    ours = _deviations_by_position(network, one, threads)
    theirs = ours if right is None else _deviations_by_position(network, other, threads)

    def value(where: Where) -> Tensor:
        i, j = where[0], where[-1]
        sides = [side[..., i] for side in ours], [side[..., j] for side in theirs]
        z = None if right is None else other[..., j]
        return positions.read_out(network, one[..., i], z, sides)

    pairs = _pairs(left, network.twin > 0)
    pieces = list(_tiles(pairs, slice(0, len(left)), None if right is None else slice(0, len(right))))
    yield from zip(pieces, side_by_side(value, pieces, threads), strict=True)


def _side(network: ConvNetwork, images: Tensor, threads: int) -> Side:
    strip = strips.still(network, images.device)
    moved = images.transpose(0, 1).contiguous()  # (c n h w)
    parts = list(blocks(len(images), max(1, _most(images) // strip.positions)))
    found = side_by_side(lambda i: strips.strip_deviations(strip, moved[:, i]), parts, threads)
    return Side(moved, [torch.cat(layer) for layer in zip(*found, strict=True)])


def _deviations_by_position(network: ConvNetwork, images: Tensor, threads: int) -> Sequence[Tensor]:
    pairs = _pairs(images.permute(3, 0, 1, 2), network.averaged > 0)
    parts = list(blocks(images.shape[-1], max(1, pairs)))
    found = side_by_side(lambda i: positions.position_deviations(network, images[..., i]), parts, threads)
    return [torch.cat(layer, dim=-1) for layer in zip(*found, strict=True)]


def _tiles(pairs: int, rows: slice, columns: slice | None) -> Iterator[Where]:
    """Yield tiles of so many pairs, or one at least; runs of rows without columns."""
    if columns is None:
        yield from ((_beyond(i, rows),) for i in blocks(rows.stop - rows.start, max(1, pairs)))
        return
    height, width = rows.stop - rows.start, columns.stop - columns.start
    wide = _even(width, pairs)
    tall = _even(height, pairs // wide)
    for i in blocks(height, tall):
        for j in blocks(width, wide):
            yield _beyond(i, rows), _beyond(j, columns)


def _even(length: int, most: int) -> int:
    """Return the length of as few parts as there can be, none shorter than it must."""
    parts = -(-length // max(1, most))
    return max(1, -(-length // max(1, parts)))


def _beyond(part: slice, whole: slice) -> slice:
    return slice(part.start + whole.start, part.stop + whole.start)


def _within(part: slice, whole: slice) -> slice:
    return slice(part.start - whole.start, part.stop - whole.start)


def _pairs(images: Tensor, twin: bool) -> int:
    return int(_most(images) // (images.shape[-2] * images.shape[-1]) ** (2 if twin else 1))


def _most(images: Tensor) -> int:
    return TILE.get(images.device.type, TILE["cpu"])


def _spread(network: ConvNetwork, groups: list[list[Strip]], images: Tensor) -> int:
    """Return how many numbers an image takes in all strips, pixels and deviations."""
    stages = len(network.layers) + images.shape[1]
    return stages * sum(group[0].positions for group in groups)
