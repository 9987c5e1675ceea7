"""How are pairs of images laid out so that a step of the recursion is one pass over a run of numbers?

A convolution moves positions p and q of two images alike, so it keeps their displacement q − p: pairs of
positions at one displacement are an image of their own, as large as the overlap of two images that are
shifted against each other. A strip holds such overlaps, of one vertical displacement and several
horizontal ones, side by side with zeros between them,

    p p p p 0 p p p 0 p p 0 …        one row; below the last row there are rows of zeros

so a window is a sum of the whole strip and of itself moved by some places, or by some rows. Where a network
is flattened only the displacement 0 matters. `convolution.positions` has the formulas, and is what
networks go through that average on their way or wrap around: those mix displacements.

Arrays have K and T first, then pairs of images, then rows and columns.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from leftout.kernels.convolution.positions import (
    HALF_TURN,
    Carried,
    ConvNetwork,
    rectify,
    root_below,
    take_up,
)
from leftout.kernels.convolution.windows import Windows


def fits(network: ConvNetwork) -> bool:
    """Return whether displacements stay apart, so that strips are possible."""
    return network.padding != "circular" and network.averaged == 0


@dataclass(frozen=True)
class StripAxis:
    """Positions of one axis: windows of every layer, and displacements that lie side by side.

    Stages are numbered from 0, before the first layer.

    Attributes:
        moved: displacements, in positions of the last layer.
    """

    layers: tuple[Windows, ...]
    moved: tuple[int, ...]

    @cached_property
    def gap(self) -> int:
        """Return how many zeros there are behind an overlap: as many as a window looks ahead."""
        return max(1, *(one.size // 2 for one in self.layers))

    @cached_property
    def sides(self) -> list[int]:
        """Return the lengths of the axis."""
        return [self.layers[0].length, *(one.count for one in self.layers)]

    @cached_property
    def steps(self) -> list[int]:
        """Return how far apart are what is neighbours behind the last layer."""
        strides = [one.stride for one in self.layers]
        return [math.prod(strides[stage:]) for stage in range(len(strides) + 1)]

    @cached_property
    def overlaps(self) -> list[list[tuple[int, int, int]]]:
        """Return for every stage where overlaps begin in either image, and their lengths."""
        return [
            [(max(0, -one * step), max(0, one * step), side - abs(one) * step) for one in self.moved]
            for side, step in zip(self.sides, self.steps, strict=True)
        ]

    @cached_property
    def length(self) -> int:
        """Return how long the first stage is with its zeros; no other is longer."""
        return sum(one + self.gap for _, _, one in self.overlaps[0])

    def places(self, stage: int, side: int, device: torch.device) -> Tensor:
        """Return which place of an image each of a strip holds, the one behind the end for a zero."""
        zeros = [self.sides[stage]] * self.gap
        found: list[int] = []
        for one in self.overlaps[stage]:
            found += [*range(one[side], one[side] + one[2]), *zeros]
        return torch.tensor(found, device=device)

    def middles(self, layer: int, device: torch.device) -> Tensor | None:
        """Return where the middles of a layer's windows lie; None if every place is one."""
        windows = self.layers[layer]
        if windows.stride == 1 and windows.padding == "same":
            return None
        found: list[int] = []
        start = 0
        for before, after in zip(self.overlaps[layer], self.overlaps[layer + 1], strict=True):
            first = start + windows.offsets[0]
            found += [first + one * windows.stride for one in range(after[2])]
            start += before[2] + self.gap
            found += [start - 1] * self.gap  # a zero, or what will be written over
        return torch.tensor(found, device=device)


@dataclass(frozen=True)
class Strip:
    """One vertical displacement and several horizontal ones."""

    network: ConvNetwork
    rows: StripAxis
    columns: StripAxis
    device: torch.device

    @cached_property
    def middles(self) -> list[tuple[Tensor | None, Tensor | None]]:
        """Return for every layer in which rows and columns its windows have their middles."""
        return [
            (self.rows.middles(place, self.device), self.columns.middles(place, self.device))
            for place in range(len(self.network.layers))
        ]

    @cached_property
    def zeros(self) -> list[Tensor]:
        """Return the columns between overlaps at every stage."""
        sides = enumerate(self.columns.sides)
        return [
            (self.columns.places(stage, 0, self.device) == side).nonzero().flatten() for stage, side in sides
        ]

    @property
    def positions(self) -> int:
        """Return how many numbers a pair of images takes."""
        return self.rows.length * self.columns.length

    def crop(self, values: Tensor, stage: int, side: int) -> Tensor:
        """Return the rows of one side where both overlap, and zeros below."""
        overlap = self.rows.overlaps[stage][0]
        return values.narrow(-2, overlap[side], overlap[2] + self.rows.gap)

    def clear(self, values: Tensor, stage: int) -> None:
        """Write zeros around the overlaps."""
        values.narrow(-2, self.rows.overlaps[stage][0][2], self.rows.gap).zero_()
        if len(self.columns.moved) == 1:
            values[..., self.columns.overlaps[stage][0][2] :].zero_()
        else:
            values.index_fill_(-1, self.zeros[stage], 0)


def strips(network: ConvNetwork, device: torch.device, most: int) -> Iterator[list[Strip]]:
    """Yield lists of strips that have their columns in common, of at most that many numbers if possible."""
    rows = tuple(one.rows for one in network.layers)
    columns = tuple(one.columns for one in network.layers)
    vertical = _displacements(network, rows)
    tallest = StripAxis(rows, (0,)).length
    together: list[int] = []
    for by in (*_displacements(network, columns), None):
        full = by is None or tallest * StripAxis(columns, (*together, by)).length > most
        if together and full:
            axis = StripAxis(columns, tuple(together))
            yield [Strip(network, StripAxis(rows, (one,)), axis, device) for one in vertical]
            together = []
        if by is not None:
            together.append(by)


def still(network: ConvNetwork, device: torch.device) -> Strip:
    """Return the strip of no displacement."""
    rows, columns = (
        StripAxis(tuple(getattr(one, axis) for one in network.layers), (0,)) for axis in ("rows", "columns")
    )
    return Strip(network, rows, columns, device)


def _displacements(network: ConvNetwork, windows: tuple[Windows, ...]) -> range:
    last = windows[-1].count if network.mean else 1
    return range(1 - last, last)


@dataclass(frozen=True)
class Side:
    """Images (c n h w) and their deviations (n h w) before the ReLU of each layer."""

    images: Tensor
    deviations: Sequence[Tensor]

    def at(self, images: slice) -> "Side":
        return Side(self.images[:, images], [one[images] for one in self.deviations])

    def spread(self, columns: StripAxis, gap: int, side: int) -> "Side":
        """Return them with the columns that a strip has, of its left (0) or right (1) images."""
        stages = [self.images, *self.deviations]
        wide = [
            torch.nn.functional.pad(one, (0, 1, 0, gap)).index_select(
                -1, columns.places(stage, side, one.device)
            )
            for stage, one in enumerate(stages)
        ]
        return Side(wide[0], wide[1:])


def read_strip(strip: Strip, left: Side, right: Side, *, outer: bool) -> Tensor:
    """Return the sum over a strip of K, or of K + T.

    Args:
        left, right: spread over the columns of the strip.
        outer: of all m with all n images, (m n), and not of each with itself, (n).
    """
    pixels = _products(strip, left.images, right.images, outer=outer)
    at = Carried(pixels[None], False, outer)
    for place, layer in enumerate(strip.network.layers):
        _convolve(strip, at, place, tangent=strip.network.tangent)
        if layer.relu:
            one, two = left.deviations[place], right.deviations[place]
            one, two = strip.crop(one, place + 1, 0), strip.crop(two, place + 1, 1)
            rectify(at, _product(one, two, outer=outer))
        strip.clear(at.values, place + 1)
    return at.total((-2, -1))


def strip_deviations(strip: Strip, images: Tensor) -> list[Tensor]:
    """Return √k(x, x) at every position before the ReLU of each layer, (n h w) each.

    Args:
        strip: of no displacement.
    """
    spread = Side(images, []).spread(strip.columns, strip.rows.gap, 0).images
    at = Carried(_products(strip, spread, spread, outer=False)[None], False, outer=False)
    found = []
    for place, layer in enumerate(strip.network.layers):
        _convolve(strip, at, place, tangent=False)
        strip.clear(at.values, place + 1)
        found.append(root_below(at.values[0, :, : layer.rows.count, : layer.columns.count]))
        if layer.relu:
            at.values.mul_(math.pi)  # no angle, to the last bit what `rectify` makes of it
            at.factors = HALF_TURN
    return found


def _products(strip: Strip, left: Tensor, right: Tensor, *, outer: bool) -> Tensor:
    """Return the covariance of two images' pixels, the mean over channels."""
    # Each product is rounded by itself, as in `positions`.
    total: Tensor | None = None
    for x, z in zip(strip.crop(left, 0, 0), strip.crop(right, 0, 1), strict=True):
        one = _product(x, z, outer=outer)
        total = one if total is None else total.add_(one)
    assert total is not None
    return total.div_(len(left))


def _product(left: Tensor, right: Tensor, *, outer: bool) -> Tensor:
    return left[:, None] * right[None] if outer else left * right


def _convolve(strip: Strip, at: Carried, place: int, *, tangent: bool) -> None:
    layer = strip.network.layers[place]
    seen = at.values
    both = zip((-2, -1), (layer.rows, layer.columns), strip.middles[place], strict=True)
    for axis, windows, middles in both:
        if windows.size > 1:
            middle, *others = windows.offsets
            seen = _moved(seen, [one - middle for one in others], seen.stride(axis))
        if middles is not None:
            seen = seen.index_select(axis, middles)
    take_up(strip.network, at, seen, 1 / layer.area, tangent=tangent)


def _moved(values: Tensor, offsets: Sequence[int], step: int) -> Tensor:
    """Return values + values moved by each offset, in steps of so many numbers; zeros lie between all."""
    moved, total = values.view(-1), torch.empty_like(values)
    size, flat = moved.shape[0], total.view(-1)
    for number, offset in enumerate(offsets):
        by = abs(offset) * step
        behind, ahead = moved.narrow(0, 0, size - by), moved.narrow(0, by, size - by)
        if offset < 0:
            to, edge, here, there = flat.narrow(0, by, size - by), 0, ahead, behind
        else:
            to, edge, here, there = flat.narrow(0, 0, size - by), size - by, behind, ahead
        if number == 0:  # one pass, where a copy and a sum take two
            torch.add(here, there, out=to)
            flat.narrow(0, edge, by).copy_(moved.narrow(0, edge, by))
        else:
            to.add_(there)
    return total
