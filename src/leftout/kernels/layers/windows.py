"""Windows of a convolution or an average along axes of positions, and sums over them.

Positions come first and pairs of inputs last, so that a shift by one position moves whole runs of numbers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from leftout.kernels.layers.covariance import Covariance


@dataclass(frozen=True)
class Windows:
    """Windows along one axis of an image.

    Attributes:
        before: by how many places the first begins before the axis does.
        count: how many there are; 0 or less if the axis is too short.
        circular: whether the axis goes on at its other end, instead of zeros.
    """

    length: int
    size: int
    stride: int
    before: int
    count: int
    circular: bool = False

    @cached_property
    def offsets(self) -> list[int]:
        """Return the places of the first window; the middle first, as it mostly lies inside the axis."""
        middle = (self.size - 1) // 2
        rest = [offset for offset in range(self.size) if offset != middle]
        return [offset - self.before for offset in (middle, *rest)]

    def seen_by(self, numbers: Iterable[int]) -> set[int]:
        """Return the places of the axis that lie in these windows."""
        places = {number * self.stride + offset for number in numbers for offset in self.offsets}
        if self.circular:
            return {place % self.length for place in places}
        return {place for place in places if 0 <= place < self.length}


def windows_of(length: int, size: int, stride: int, padding: str | int, *, circular: bool = False) -> Windows:
    """Return windows with "same", "valid" or so many places of padding before and behind."""
    if padding == "same":
        count = -(-length // stride)
        # As JAX pads: the odd one goes to the end.
        before = max((count - 1) * stride + size - length, 0) // 2
    else:
        before = 0 if padding == "valid" else int(padding)
        count = (length + 2 * before - size) // stride + 1
    return Windows(length, size, stride, before, count, circular)


def over_windows(covariance: Covariance, values: Tensor, windows: Sequence[Windows]) -> Tensor:
    """Return sums of numbers of pairs over windows that move together at both positions, new numbers."""
    axes = ((0, 2), (1, 3)) if covariance.positions == "pairs" else ((0,), (1,))
    for together, along in zip(axes, windows, strict=True):
        values = window_sum(values, along, together)
    return values


def over_pairs_of_windows(values: Tensor, windows: Sequence[Windows]) -> Tensor:
    """Return sums over a window at one position and a window at the other, of (h w h w …), new numbers."""
    for axis, along in zip((0, 1, 2, 3), (*windows, *windows), strict=True):
        values = window_sum(values, along, (axis,))
    return values


def window_sum(values: Tensor, windows: Windows, axes: Sequence[int]) -> Tensor:
    """Return sums over windows, new numbers.

    Args:
        axes: shifted together; (0,) sums over windows of one image, (0, 2) over those of two images at
            the same place in both.
    """
    shape = list(values.shape)
    for axis in axes:
        shape[axis] = windows.count
    total = values.new_zeros(shape)
    for offset in windows.offsets:
        if windows.circular:
            starts = torch.arange(windows.count, device=values.device) * windows.stride
            shifted = values
            for axis in axes:
                shifted = shifted.index_select(axis, (starts + offset) % windows.length)
            total.add_(shifted)
            continue
        first = max(0, -(offset // windows.stride))  # the first window whose place lies inside
        last = min(windows.count - 1, (windows.length - 1 - offset) // windows.stride)
        if last >= first:
            inside = last - first + 1
            places = _places(values, axes, first * windows.stride + offset, windows.stride, inside)
            _places(total, axes, first, 1, inside).add_(places)
    return total


def _places(values: Tensor, axes: Sequence[int], start: int, stride: int, count: int) -> Tensor:
    """Return `count` places of every axis, a view."""
    for axis in axes:
        values = values.narrow(axis, start, (count - 1) * stride + 1)
        if stride > 1:
            values = values[(slice(None),) * axis + (slice(None, None, stride),)]
    return values
