"""How the kernel of all pairs of images is cut into pieces that fit a cache, one for each thread.

A piece is a block of pairs of images, in one strip of their positions where displacements stay apart.
Pieces are computed side by side and added up in one order, whatever the number of threads.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from leftout.core.blocks import blocks
from leftout.kernels.convolution import positions, strips
from leftout.kernels.convolution.positions import ConvNetwork
from leftout.kernels.convolution.strips import Side, Strip
from leftout.kernels.threads import one_thread_each, side_by_side

TILE = {"cpu": 2**17, "cuda": 2**25}
"""Numbers in each array of a piece.

1 MB in float64: a cache that cores share holds a piece. Half of it or less was measured to take a fifth
longer, as Python then starts more operations; so does twice of it in float64. A GPU would wait for launches.
"""

SPREAD = 2**23
"""Numbers of images laid out in strips at once, 64 MB: they are made once for many pairs."""

ARRAYS = 9
"""Arrays of a piece at once at the most: K and T, two sums of each over windows, and three of a ReLU."""

Region = tuple[slice, ...]
"""Rows and columns of the kernel matrix, or rows of its diagonal."""


def totals(network: ConvNetwork, queries: Tensor, inputs: Tensor | None) -> Tensor:
    """Return the mean over positions of K, or of K + T.

    Args:
        queries, inputs: (m c h w) and (n c h w), for (m n) numbers; without `inputs` each with itself, (m).
    """
    way = _in_strips if strips.fits(network) else _by_positions
    kernel = queries.new_zeros((len(queries),) if inputs is None else (len(queries), len(inputs)))
    with one_thread_each(queries.device) as threads:
        for region, piece in way(network, queries, inputs, threads):
            kernel[region] += piece
    return kernel


def numbers_held(network: ConvNetwork, images: Tensor, rows: int, threads: int) -> int:
    """Return how many numbers are held at once for a block of so many images on either side."""
    most = _most(images)
    if strips.fits(network):
        groups = list(strips.strips(network, images.device, most))
        per_image = _numbers_per_image(network, groups, images)
        positions = max(most, *(group[0].positions for group in groups))
        return 2 * per_image * max(1, min(rows, SPREAD // (2 * per_image))) + ARRAYS * threads * positions
    pair = (images.shape[-2] * images.shape[-1]) ** (2 if network.twin > 0 else 1)
    return ARRAYS * threads * max(most, pair)


def _in_strips(
    network: ConvNetwork, queries: Tensor, inputs: Tensor | None, threads: int
) -> Iterator[tuple[Region, Tensor]]:
    most = _most(queries)
    groups = list(strips.strips(network, queries.device, most))
    x = _side(network, queries, threads)
    z = x if inputs is None else _side(network, inputs, threads)
    share = 1 / network.readout_positions ** (2 if network.mean else 1)

    def read_piece(task: tuple[Region, Strip, Side, Side]) -> Tensor:
        region, strip, ours, theirs = task
        return strips.read_strip(strip, ours, theirs, outer=len(region) == 2).mul_(share)

    together = max(1, SPREAD // (2 * _numbers_per_image(network, groups, queries)))
    for i in blocks(len(queries), together):
        for j in [i] if inputs is None else blocks(len(inputs), together):
            tasks = []
            for group in groups:
                columns, gap = group[0].columns, group[0].rows.gap
                ours, theirs = (x.at(i).on_columns(columns, gap, 0), z.at(j).on_columns(columns, gap, 1))
                for strip in group:
                    for region in _tiles(most // strip.positions, i, None if inputs is None else j):
                        p, q = _within(region[0], i), _within(region[-1], j)
                        tasks.append((region, strip, ours.at(p), theirs.at(q)))
            for task, sums in zip(tasks, side_by_side(read_piece, tasks, threads), strict=True):
                yield task[0], sums


def _by_positions(
    network: ConvNetwork, queries: Tensor, inputs: Tensor | None, threads: int
) -> Iterator[tuple[Region, Tensor]]:
    x = queries.permute(1, 2, 3, 0).contiguous()  # (c h w m)
    z = x if inputs is None else inputs.permute(1, 2, 3, 0).contiguous()
    ours = _deviations_by_position(network, x, threads)
    theirs = ours if inputs is None else _deviations_by_position(network, z, threads)

    def read_piece(region: Region) -> Tensor:
        i, j = region[0], region[-1]
        sides = [side[..., i] for side in ours], [side[..., j] for side in theirs]
        return positions.read_out(network, x[..., i], None if inputs is None else z[..., j], sides)

    pairs = _pairs(queries, network.twin > 0)
    regions = list(_tiles(pairs, slice(0, len(queries)), None if inputs is None else slice(0, len(inputs))))
    yield from zip(regions, side_by_side(read_piece, regions, threads), strict=True)


def _side(network: ConvNetwork, images: Tensor, threads: int) -> Side:
    strip = strips.unshifted_strip(network, images.device)
    by_channel = images.transpose(0, 1).contiguous()  # (c n h w)
    batches = list(blocks(len(images), max(1, _most(images) // strip.positions)))
    layers = side_by_side(lambda i: strips.strip_deviations(strip, by_channel[:, i]), batches, threads)
    return Side(by_channel, [torch.cat(layer) for layer in zip(*layers, strict=True)])


def _deviations_by_position(network: ConvNetwork, images: Tensor, threads: int) -> Sequence[Tensor]:
    pairs = _pairs(images.permute(3, 0, 1, 2), network.averaged_layers > 0)
    batches = list(blocks(images.shape[-1], max(1, pairs)))
    layers = side_by_side(lambda i: positions.position_deviations(network, images[..., i]), batches, threads)
    return [torch.cat(layer, dim=-1) for layer in zip(*layers, strict=True)]


def _tiles(pairs: int, rows: slice, columns: slice | None) -> Iterator[Region]:
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
    """Return the length of equal parts of at most `most`, as few as possible."""
    count = -(-length // max(1, most))
    return max(1, -(-length // max(1, count)))


def _beyond(inner: slice, outer: slice) -> slice:
    return slice(inner.start + outer.start, inner.stop + outer.start)


def _within(inner: slice, outer: slice) -> slice:
    return slice(inner.start - outer.start, inner.stop - outer.start)


def _pairs(images: Tensor, twin: bool) -> int:
    return int(_most(images) // (images.shape[-2] * images.shape[-1]) ** (2 if twin else 1))


def _most(images: Tensor) -> int:
    return TILE.get(images.device.type, TILE["cpu"])


def _numbers_per_image(network: ConvNetwork, groups: list[list[Strip]], images: Tensor) -> int:
    """Return how many numbers an image takes in all strips, pixels and deviations."""
    stages = len(network.layers) + images.shape[1]
    return stages * sum(group[0].positions for group in groups)
