"""How the kernel of all pairs of images is cut into pieces that fit a cache, one for each thread.

A piece is a block of pairs of images, at all positions or pairs of positions. Pieces are computed side by
side and put together in one order, whatever the number of threads.

Arrays have positions first, (h w) or (h w h w), and pairs of images last, so that what moves by a position
are whole runs of numbers.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from leftout.core.blocks import blocks
from leftout.kernels.layers.chain import every_layer, largest_behind, run_layers
from leftout.kernels.layers.covariance import Covariance
from leftout.kernels.layers.layer import ActivationLayer, Layer
from leftout.kernels.layers.state import Expand, KeptVariances, OwnVariances, State
from leftout.kernels.threads import one_thread_each, side_by_side

TILE = {"cpu": 2**17, "cuda": 2**25}
"""Numbers in each array of a piece.

1 MB in float64: a cache that cores share holds a piece. Half of it or less was measured to take a fifth
longer, as Python then starts more operations; so does twice of it in float64. A GPU would wait for launches.
"""

ARRAYS = 9
"""Arrays of a piece at once at the most: K and T, two sums of each over windows, three of an activation."""

Region = tuple[slice, ...]
"""Rows and columns of the kernel matrix, or rows of its diagonal."""


def image_totals(layers: Sequence[Layer], queries: Tensor, inputs: Tensor | None, *, trained: bool) -> Tensor:
    """Return the kernel of images.

    Args:
        queries, inputs: (m c h w) and (n c h w), for (m n) numbers; without `inputs` each with itself, (m).
        trained: T, or else K.
    """
    kernel = queries.new_zeros((len(queries),) if inputs is None else (len(queries), len(inputs)))
    with one_thread_each(queries.device) as threads:
        x = _by_position(queries)
        z = x if inputs is None or inputs is queries else _by_position(inputs)
        ours = own_variances(layers, queries, threads)
        theirs = ours if inputs is None or inputs is queries else own_variances(layers, inputs, threads)
        mixes = any(layer.mixes_positions for layer in layers)

        def piece(region: Region) -> Tensor:
            i, j = region[0], region[-1]
            pairs = _products(x[..., i], None if inputs is None else z[..., j], pairs=mixes)
            variances = KeptVariances([layer[..., i] for layer in ours], [layer[..., j] for layer in theirs])
            return run_layers(layers, State(pairs, None, trained), variances).total()

        regions = list(
            _tiles(_together(layers, queries), len(queries), None if inputs is None else len(inputs))
        )
        for region, values in zip(regions, side_by_side(piece, regions, threads), strict=True):
            kernel[region] = values
    return kernel


def own_variances(layers: Sequence[Layer], images: Tensor, threads: int) -> list[Tensor]:
    """Return the variances of images that layers ask for, (h w n) each or (n), in the order of the layers."""

    def of_batch(batch: slice) -> OwnVariances:
        variances = OwnVariances()
        run_own_images(layers, images[batch], variances)
        return variances

    batches = list(side_by_side(of_batch, list(blocks(len(images), _together(layers, images))), threads))
    expansions = batches[0].expansions if batches else []
    kept = zip(*(batch.kept for batch in batches), strict=True)
    return [_join(layer, expand) for layer, expand in zip(kept, expansions, strict=True)]


def _join(batches: Sequence[Tensor], expand: Expand | None) -> Tensor:
    """Return what was kept of batches of images as one, with as many terms of a series as any needs."""
    if expand is not None:
        most = max(map(len, batches))
        batches = [batch if len(batch) == most else expand(batch[0], most) for batch in batches]
    return torch.cat(list(batches), dim=-1)


def run_own_images(layers: Sequence[Layer], images: Tensor, variances: OwnVariances) -> None:
    """Let `variances` keep those of images that layers ask for."""
    # What is behind the last layer that asks is not run: mostly an average that compares pairs of positions.
    asking = [place for place, layer in enumerate(layers) if layer.asks_variances]
    first = layers[: asking[-1] + 1] if asking else ()
    mixes = any(layer.mixes_positions for layer in first)
    run_layers(first, State(_products(_by_position(images), None, pairs=mixes), None, False), variances)


def numbers_held(layers: Sequence[Layer], images: Tensor, rows: int, threads: int) -> int:
    """Return how many numbers are held at once for a block of so many images on either side."""
    positions = largest_behind(layers, *images.shape[-2:])
    kept = sum(layer.numbers_kept for layer in every_layer(layers) if isinstance(layer, ActivationLayer))
    piece = max(_most(images), positions ** (2 if any(layer.mixes_positions for layer in layers) else 1))
    arrays = ARRAYS + max(layer.arrays for layer in layers)
    return arrays * threads * piece + 2 * rows * (images.shape[1] + 2 * kept) * positions


def _products(queries: Tensor, inputs: Tensor | None, *, pairs: bool) -> Covariance:
    """Return the covariance of pixels, the mean over channels; without inputs of each image with itself."""
    # Each product is rounded by itself, as it is for an image with itself: equal images are then equal to
    # the last bit in every layer. A matrix product would not promise that.
    layout = Covariance(queries[0], positions="pairs" if pairs else "same", outer=inputs is not None)
    total: Tensor | None = None
    for x, z in zip(queries, queries if inputs is None else inputs, strict=True):
        ours, theirs = layout.over_pairs(x, z)
        product = ours * theirs
        total = product if total is None else total.add_(product)
    assert total is not None
    return layout.with_value(total.div_(len(queries)))


def _by_position(images: Tensor) -> Tensor:
    return images.permute(1, 2, 3, 0).contiguous()  # (c h w n)


def _tiles(pairs: int, rows: int, columns: int | None) -> Iterator[Region]:
    """Yield tiles of so many pairs, or one at least; runs of rows without columns."""
    if columns is None:
        yield from ((i,) for i in blocks(rows, pairs))
        return
    wide = _even(columns, pairs)
    tall = _even(rows, pairs // wide)
    for i in blocks(rows, tall):
        for j in blocks(columns, wide):
            yield i, j


def _even(length: int, most: int) -> int:
    """Return the length of equal parts of at most `most`, as few as possible."""
    count = -(-length // max(1, most))
    return max(1, -(-length // max(1, count)))


def _together(layers: Sequence[Layer], images: Tensor) -> int:
    """Return how many pairs of images a piece has."""
    positions = largest_behind(layers, *images.shape[-2:])
    mixes = any(layer.mixes_positions for layer in layers)
    return max(1, int(_most(images) // positions ** (2 if mixes else 1)))


def _most(images: Tensor) -> int:
    return TILE.get(images.device.type, TILE["cpu"])
