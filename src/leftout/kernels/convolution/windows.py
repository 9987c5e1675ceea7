"""What do the windows of a convolution see? Sums over windows, along axes of positions.

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
        """Return how many there are; 0 or less if the axis is too short."""
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
        """Return the places of the first window; the middle first, which lies inside the axis always."""
        middle = (self.size - 1) // 2
        rest = [one for one in range(self.size) if one != middle]
        return [one - self.before for one in (middle, *rest)]

    @cached_property
    def trivial(self) -> bool:
        """Return whether every place is a window of its own."""
        return self.size == 1 and self.stride == 1

    def seen_by(self, numbers: Iterable[int]) -> set[int]:
        """Return the places of the axis that lie in these windows."""
        found = {one * self.stride + offset for one in numbers for offset in self.offsets}
        if self.padding == "circular":
            return {place % self.length for place in found}
        return {place for place in found if 0 <= place < self.length}


def window_sum(values: Tensor, windows: Windows, axes: Sequence[int]) -> Tensor:
    """Return sums over windows, one axis of every image.

    Args:
        axes: shifted together; (0,) sums over windows of one image, (0, 2) over those of two images at
            the same place in both.
    """
    if windows.trivial:
        return values
    if windows.padding == "circular":
        return _around(values, windows, axes)
    count = windows.count
    middle, *others = windows.offsets
    inner = _part(values, axes, middle, windows.stride, count)
    total: Tensor | None = None
    for offset in others:
        first = max(0, -(offset // windows.stride))  # the first window whose place lies inside
        last = min(count - 1, (values.shape[axes[0]] - 1 - offset) // windows.stride)
        if last < first:
            continue
        seen = _part(values, axes, first * windows.stride + offset, windows.stride, last - first + 1)
        if total is None:
            total = _started(inner, seen, axes, first)
        else:
            _part(total, axes, first, 1, last - first + 1).add_(seen)
    return inner.contiguous() if total is None else total


def _part(values: Tensor, axes: Sequence[int], start: int, stride: int, count: int) -> Tensor:
    """Return `count` places of every axis, a view."""
    for axis in axes:
        values = values.narrow(axis, start, (count - 1) * stride + 1)
        if stride > 1:
            values = values[(slice(None),) * axis + (slice(None, None, stride),)]
    return values


def _started(inner: Tensor, seen: Tensor, axes: Sequence[int], first: int) -> Tensor:
    """Return inner + seen, which begins at `first` and may end early: one pass, where a copy takes two."""
    total = torch.empty_like(inner, memory_format=torch.contiguous_format)
    to, one = total, inner
    for axis in axes:
        count, whole = seen.shape[axis], inner.shape[axis]
        for start, stop in ((0, first), (first + count, whole)):
            if stop > start:
                to.narrow(axis, start, stop - start).copy_(one.narrow(axis, start, stop - start))
        to, one = to.narrow(axis, first, count), one.narrow(axis, first, count)
    torch.add(one, seen, out=to)
    return total


def _around(values: Tensor, windows: Windows, axes: Sequence[int]) -> Tensor:
    """Return sums over windows of a circle."""
    total: Tensor | None = None
    for offset in windows.offsets:
        first = torch.arange(windows.count, device=values.device) * windows.stride
        part = values
        for axis in axes:
            part = part.index_select(axis, (first + offset) % windows.length)
        total = part if total is None else total.add_(part)
    assert total is not None
    return total
