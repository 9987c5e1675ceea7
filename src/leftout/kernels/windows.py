"""What do the windows of a convolution see? Sums over windows, along axes of positions.

Positions come first and pairs of inputs last, so that a shift by one position moves whole runs of numbers.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Padding = Literal["same", "valid", "circular"]
PADDINGS: tuple[Padding, ...] = ("same", "valid", "circular")


def windows_along(length: int, size: int, stride: int, padding: Padding) -> int:
    """Return how many windows there are along an axis; 0 or less if it is too short."""
    if padding == "valid":
        return (length - size) // stride + 1
    return -(-length // stride)


def window_sum(
    values: Tensor, size: int, stride: int, padding: Padding, axes: Sequence[Sequence[int]]
) -> Tensor:
    """Return sums over windows.

    Args:
        axes: groups of axes; the axes of a group are shifted together. [[0], [1]] sums over windows of
            two axes of positions; [[0, 2], [1, 3]] over those of two images, at the same place in both.
    """
    for group in axes:
        if size > 1 or stride > 1:
            values = _along(values, size, stride, padding, group)
    return values


def _along(
    values: Tensor, size: int, stride: int, padding: Padding, group: Sequence[int]
) -> Tensor:
    length = values.shape[group[0]]
    count = windows_along(length, size, stride, padding)
    # As JAX pads: the odd one goes to the end.
    missing = 0 if padding == "valid" else max((count - 1) * stride + size - length, 0)
    shape = list(values.shape)
    for axis in group:
        shape[axis] = count
    total = values.new_zeros(shape)
    for offset in range(-(missing // 2), size - missing // 2):
        if padding == "circular":
            place = (torch.arange(count, device=values.device) * stride + offset) % length
            part = values
            for axis in group:
                part = part.index_select(axis, place)
            total += part
            continue
        first = max(0, -(offset // stride))  # the first window whose place lies inside
        last = min(count - 1, (length - 1 - offset) // stride)
        if last < first:
            continue
        to, part = total, values
        start, stop = first * stride + offset, last * stride + offset + 1
        for axis in group:
            to = to.narrow(axis, first, last - first + 1)
            part = part[(slice(None),) * axis + (slice(start, stop, stride),)]
        to += part
    return total
