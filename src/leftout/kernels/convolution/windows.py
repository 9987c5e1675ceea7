"""Sums over the windows of a convolution, along axes of positions.

Positions come first and pairs of inputs last, so that a shift by one position moves whole runs of numbers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from leftout.kernels.convolution.options import Padding

PADDINGS: tuple[Padding, ...] = ("same", "valid", "circular")


@dataclass(frozen=True)
class Windows:
    """Windows along one axis of an image."""

    length: int
    size: int
    stride: int
    padding: Padding

    @cached_property
    def count(self) -> int:
        """Return the number of windows; 0 or less if the axis is too short."""
        if self.padding == "valid":
            return (self.length - self.size) // self.stride + 1
        return -(-self.length // self.stride)

    @cached_property
    def before(self) -> int:
        """Return by how many places the first begins before the axis does."""
        if self.padding == "valid":
            return 0
        # As JAX pads: the odd one goes to the end.
        return max((self.count - 1) * self.stride + self.size - self.length, 0) // 2

    @cached_property
    def offsets(self) -> list[int]:
        """Return the places of the first window; the middle first, as it always lies inside the axis."""
        middle = (self.size - 1) // 2
        rest = [offset for offset in range(self.size) if offset != middle]
        return [offset - self.before for offset in (middle, *rest)]

    @cached_property
    def trivial(self) -> bool:
        """Return whether windows have one place each, and each place one window."""
        return self.size == 1 and self.stride == 1

    def seen_by(self, numbers: Iterable[int]) -> set[int]:
        """Return the places of the axis that lie in these windows."""
        places = {number * self.stride + offset for number in numbers for offset in self.offsets}
        if self.padding == "circular":
            return {place % self.length for place in places}
        return {place for place in places if 0 <= place < self.length}


def window_sum(values: Tensor, windows: Windows, axes: Sequence[int]) -> Tensor:
    """Return sums over windows, one axis of every image.

    Args:
        axes: shifted together; (0,) sums over windows of one image, (0, 2) over those of two images at
            the same place in both.
    """
    if windows.trivial:
        return values
    if windows.padding == "circular":
        return _circular_sum(values, windows, axes)
    count = windows.count
    middle, *further = windows.offsets
    centre = _places(values, axes, middle, windows.stride, count)
    total: Tensor | None = None
    for offset in further:
        first = max(0, -(offset // windows.stride))  # the first window whose place lies inside
        last = min(count - 1, (values.shape[axes[0]] - 1 - offset) // windows.stride)
        if last < first:
            continue
        shifted = _places(values, axes, first * windows.stride + offset, windows.stride, last - first + 1)
        if total is None:
            total = _first_sum(centre, shifted, axes, first)
        else:
            _places(total, axes, first, 1, last - first + 1).add_(shifted)
    return centre.contiguous() if total is None else total


def _places(values: Tensor, axes: Sequence[int], start: int, stride: int, count: int) -> Tensor:
    """Return `count` places of every axis, a view."""
    for axis in axes:
        values = values.narrow(axis, start, (count - 1) * stride + 1)
        if stride > 1:
            values = values[(slice(None),) * axis + (slice(None, None, stride),)]
    return values


def _first_sum(centre: Tensor, shifted: Tensor, axes: Sequence[int], first: int) -> Tensor:
    """Return centre + shifted, which begins at `first` and may end early, in one pass."""
    total = torch.empty_like(centre, memory_format=torch.contiguous_format)
    target, narrow = total, centre
    for axis in axes:
        count, length = shifted.shape[axis], centre.shape[axis]
        for start, stop in ((0, first), (first + count, length)):
            if stop > start:
                target.narrow(axis, start, stop - start).copy_(narrow.narrow(axis, start, stop - start))
        target, narrow = target.narrow(axis, first, count), narrow.narrow(axis, first, count)
    torch.add(narrow, shifted, out=target)
    return total


def _circular_sum(values: Tensor, windows: Windows, axes: Sequence[int]) -> Tensor:
    """Return sums over windows that wrap around."""
    total: Tensor | None = None
    for offset in windows.offsets:
        first = torch.arange(windows.count, device=values.device) * windows.stride
        shifted = values
        for axis in axes:
            shifted = shifted.index_select(axis, (first + offset) % windows.length)
        total = shifted if total is None else total.add_(shifted)
    assert total is not None
    return total
