"""K and T of pairs of images by fused.c, block by block and thread by thread.

A task is one group of right images (as many as a vector has numbers) with several left ones, or with one at
some of the displacements: short enough that a program can be stopped in between.
"""

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from leftout.core.blocks import blocks
from leftout.core.errors import MemoryBudgetError
from leftout.kernels.fused.library import LINE, SETS, Code, load_library
from leftout.kernels.fused.program import ImageProgram
from leftout.kernels.threads import one_thread_each, side_by_side

TASK = 3_000_000
"""Vectors of positions of a task: some 50 ms with AVX-512, a fifth of a second without."""

HELD = 2**26
"""Bytes of deviations and pixels of one side that are held at once: they are made once for many pairs."""


@final
@dataclass(frozen=True)
class Group:
    """Images as fused.c reads them, and deviations with their inverses before each rectifier."""

    pixels: Tensor
    roots: Tensor


@dataclass(frozen=True)
class Task:
    """Left images with one group of right ones, at displacements [first, last) and at their opposites."""

    lefts: slice
    group: int
    first: tuple[int, int]
    last: tuple[int, int]


def image_bytes(program: ImageProgram, dtype: torch.dtype) -> int:
    """Return what an image takes while pairs are computed."""
    numbers = program.channels * program.sides[0] * program.sides[1] + 2 * program.rectified
    return 2 * numbers * dtype.itemsize


def held_bytes(program: ImageProgram, images: int, dtype: torch.dtype) -> int:
    """Return the bytes that are held at once for a block of so many images on either side."""
    return 2 * max(
        image_bytes(program, dtype) * LINE // dtype.itemsize, min(HELD, images * image_bytes(program, dtype))
    )


def image_means(
    program: ImageProgram,
    queries: Float[Tensor, "m c h w"],
    inputs: Float[Tensor, "n c h w"] | None,
    code: Code,
) -> Float64[Tensor, "2 ..."]:
    """Return the means over positions of K and of T, (2, m, n); (2, m) of each image alone if no inputs.

    T is 0 where it is not wanted.

    Cost:
        some 55 operations in float64 and 40 in float32 of a vector, at each position and layer.

    Raises:
        MemoryBudgetError: there is no memory for a tile.
    """
    if inputs is None:
        return _of_each_image(program, queries, code)
    # Right images fill the lanes of vectors: those of which fewer lanes stay empty.
    lanes = LINE // queries.dtype.itemsize
    swapped = len(inputs) * -(-len(queries) // lanes) < len(queries) * -(-len(inputs) // lanes)
    left, right = (inputs, queries) if swapped else (queries, inputs)
    means = torch.zeros(2, len(left), len(right), dtype=torch.float64, device="cpu")
    held = max(1, HELD // image_bytes(program, queries.dtype))
    with one_thread_each(queries.device) as threads:
        for j in blocks(len(right), -(-held // lanes) * lanes):
            theirs = _group(program, right[j], code, threads)
            for i in blocks(len(left), held):
                same = left is right and i == j
                ours = _single_images(
                    program, left[i], theirs if same else _group(program, left[i], code, threads)
                )
                _add_pairs(program, means[:, i, j], ours, theirs, code, threads)
    means /= program.readout_pairs
    return means.transpose(1, 2) if swapped else means


def _add_pairs(
    program: ImageProgram, sums: Tensor, left: Group, right: Group, code: Code, threads: int
) -> None:
    """Add sums over positions of all pairs, (2, left, right)."""
    lanes = right.pixels.shape[-1]
    tasks = list(_tasks(program, sums.shape[1], len(right.pixels)))

    def sums_of(task: Task) -> Tensor:
        lefts = Group(left.pixels[task.lefts], left.roots[task.lefts])
        rights = Group(right.pixels[task.group], right.roots[task.group])
        return _sum_positions(program, lefts, rights, task, code, paired=False)

    for task, made in zip(tasks, side_by_side(sums_of, tasks, threads), strict=True):
        columns = slice(task.group * lanes, min((task.group + 1) * lanes, sums.shape[2]))
        sums[:, task.lefts, columns] += made.transpose(0, 1)[..., : columns.stop - columns.start]


def _of_each_image(
    program: ImageProgram, images: Float[Tensor, "n c h w"], code: Code
) -> Float64[Tensor, "2 n"]:
    means = torch.zeros(2, len(images), dtype=torch.float64, device="cpu")
    lanes = LINE // images.dtype.itemsize
    held = max(1, HELD // image_bytes(program, images.dtype) // lanes) * lanes
    with one_thread_each(images.device) as threads:
        for batch in blocks(len(images), held):
            group = _group(program, images[batch], code, threads)
            tasks = list(_tasks(program, 1, len(group.pixels)))

            def sums_of(task: Task, group: Group = group) -> Tensor:
                one = slice(task.group, task.group + 1)
                lefts = Group(group.pixels[one], group.roots[one])
                return _sum_positions(program, lefts, lefts, task, code, paired=True)

            for task, made in zip(tasks, side_by_side(sums_of, tasks, threads), strict=True):
                start = batch.start + task.group * lanes
                stop = min(start + lanes, batch.stop)
                means[:, start:stop] += made[0, :, : stop - start]
    return means.div_(program.readout_pairs)


def _tasks(program: ImageProgram, lefts: int, groups: int) -> Iterator[Task]:
    """Yield tasks of about the same work, whatever the number of threads."""
    rows, columns = program.displacements
    together = max(1, TASK // max(1, program.positions))
    # One left image, at some rows of displacements, and at some columns if a row is much work.
    rows = range(rows.stop)  # opposites come with them
    pieces = max(1, -(-program.positions // TASK))
    down = -(-len(rows) // pieces)
    across = -(-len(columns) // max(1, -(-pieces // len(rows))))
    for group in range(groups):
        for images in blocks(lefts, together):
            for i in blocks(len(rows), down):
                for j in blocks(len(columns), across):
                    first = rows.start + i.start, columns.start + j.start
                    yield Task(images, group, first, (rows.start + i.stop, columns.start + j.stop))


def _sum_positions(
    program: ImageProgram, left: Group, right: Group, task: Task, code: Code, *, paired: bool
) -> Float64[Tensor, "left 2 lanes"]:
    """Return sums over positions of K and T of one task."""
    lanes, library = right.pixels.shape[-1], load_library()
    assert library is not None, "`compiled_set` returns None without one"
    sums = torch.zeros(len(left.pixels), 2, lanes, dtype=torch.float64, device="cpu")
    failed = library.leftout_pairs(
        SETS.index(code),
        right.pixels.dtype == torch.float64,
        program.record,
        paired,
        (ctypes.c_int32 * 2)(*task.first),
        (ctypes.c_int32 * 2)(*task.last),
        len(left.pixels),
        left.pixels.data_ptr(),
        left.roots.data_ptr(),
        right.pixels.data_ptr(),
        right.roots.data_ptr(),
        sums.data_ptr(),
    )
    _check_memory(failed)
    return sums


def _group(program: ImageProgram, images: Float[Tensor, "n c h w"], code: Code, threads: int) -> Group:
    """Return images in groups, (groups, numbers, lanes), black ones behind the last."""
    n, lanes, library = len(images), LINE // images.dtype.itemsize, load_library()
    assert library is not None, "`compiled_set` returns None without one"
    padded = torch.nn.functional.pad(images.flatten(1), (0, 0, 0, -n % lanes))
    pixels = padded.view(-1, lanes, padded.shape[1]).transpose(1, 2).contiguous()
    roots = pixels.new_empty(len(pixels), 2 * program.rectified, lanes)

    def deviations(group: slice) -> int:
        failed: int = library.leftout_deviations(
            SETS.index(code),
            pixels.dtype == torch.float64,
            program.record,
            group.stop - group.start,
            pixels[group].data_ptr(),
            roots[group].data_ptr(),
        )
        return failed

    batches = list(blocks(len(pixels), max(1, TASK // max(1, 4 * program.rectified))))
    for failed in side_by_side(deviations, batches, threads):
        _check_memory(failed)
    return Group(pixels, roots)


def _single_images(program: ImageProgram, images: Float[Tensor, "n c h w"], group: Group) -> Group:
    """Return images one by one, (n, numbers)."""
    library = load_library()
    assert library is not None, "`compiled_set` returns None without one"
    lanes = group.roots.shape[-1]
    roots = group.roots.new_empty(len(group.roots) * lanes, 2 * program.rectified)
    library.leftout_spread(
        roots.dtype == torch.float64,
        len(group.roots),
        2 * program.rectified,
        group.roots.data_ptr(),
        roots.data_ptr(),
    )
    return Group(images.flatten(1).contiguous(), roots[: len(images)])


def _check_memory(failed: int) -> None:
    if failed:
        raise MemoryBudgetError(
            "There is no memory for the positions of a pair of images. Use smaller images."
        )
