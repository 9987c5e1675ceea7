"""How pairs of images are laid out so that a step of the recursion is one pass over a run of numbers.

A convolution moves positions p and q of two images alike, so it keeps their displacement q − p: pairs of
positions at one displacement are an image of their own, as large as the overlap of two images that are
shifted against each other. A strip holds such overlaps, of one vertical displacement and several
horizontal ones, side by side with zeros between them,

    p p p p 0 p p p 0 p p 0 …        one row; below the last row there are rows of zeros

so sums over windows are sums of the strip and of copies of it shifted by places or by rows. Where a network
is flattened only the displacement 0 matters. `convolution.positions` has the formulas, and computes networks
that average between layers or wrap around, as those mix displacements.

Arrays have K and T first, then pairs of images, then rows and columns.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from leftout.kernels.convolution.positions import HALF_TURN, Carried, ConvNetwork, rectify, root_below, weigh
from leftout.kernels.convolution.windows import Windows


def fits(network: ConvNetwork) -> bool:
    """Return whether displacements stay apart, so that strips are possible."""
    return network.padding != "circular" and network.averaged_layers == 0


@dataclass(frozen=True)
class StripAxis:
    """Positions of one axis: windows of every layer, and displacements that lie side by side.

    Stages are numbered from 0, before the first layer.

    Attributes:
        displacements: in positions of the last layer.
    """

    layers: tuple[Windows, ...]
    displacements: tuple[int, ...]

    @cached_property
    def gap(self) -> int:
        """Return how many zeros there are behind an overlap: as many as a window reaches ahead."""
        return max(1, *(windows.size // 2 for windows in self.layers))

    @cached_property
    def sides(self) -> list[int]:
        """Return the length of the axis at every stage."""
        return [self.layers[0].length, *(windows.count for windows in self.layers)]

    @cached_property
    def steps(self) -> list[int]:
        """Return how far apart neighbours behind the last layer are at every stage."""
        strides = [windows.stride for windows in self.layers]
        return [math.prod(strides[stage:]) for stage in range(len(strides) + 1)]

    @cached_property
    def overlaps(self) -> list[list[tuple[int, int, int]]]:
        """Return for every stage where overlaps begin in either image, and their lengths."""
        return [
            [(max(0, -by * step), max(0, by * step), side - abs(by) * step) for by in self.displacements]
            for side, step in zip(self.sides, self.steps, strict=True)
        ]

    @cached_property
    def length(self) -> int:
        """Return how long the first stage is with its zeros; no other is longer."""
        return sum(overlap + self.gap for _, _, overlap in self.overlaps[0])

    def places(self, stage: int, side: int, device: torch.device) -> Tensor:
        """Return the place of an image for each place of a strip; for zeros, the one behind its end."""
        zeros = [self.sides[stage]] * self.gap
        places: list[int] = []
        for overlap in self.overlaps[stage]:
            places += [*range(overlap[side], overlap[side] + overlap[2]), *zeros]
        return torch.tensor(places, device=device)

    def middles(self, layer: int, device: torch.device) -> Tensor | None:
        """Return the places at which a layer's windows have their middles; None if all have one."""
        windows = self.layers[layer]
        if windows.stride == 1 and windows.padding == "same":
            return None
        middles: list[int] = []
        start = 0
        for before, after in zip(self.overlaps[layer], self.overlaps[layer + 1], strict=True):
            first = start + windows.offsets[0]
            middles += [first + window * windows.stride for window in range(after[2])]
            start += before[2] + self.gap
            middles += [start - 1] * self.gap  # zero, or overwritten with it later
        return torch.tensor(middles, device=device)


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
        if len(self.columns.displacements) == 1:
            values[..., self.columns.overlaps[stage][0][2] :].zero_()
        else:
            values.index_fill_(-1, self.zeros[stage], 0)


def strips(network: ConvNetwork, device: torch.device, most: int) -> Iterator[list[Strip]]:
    """Yield lists of strips with the same columns, of at most `most` numbers where that is possible."""
    rows = tuple(layer.rows for layer in network.layers)
    columns = tuple(layer.columns for layer in network.layers)
    vertical = _displacements(network, rows)
    tallest = StripAxis(rows, (0,)).length
    together: list[int] = []
    for by in (*_displacements(network, columns), None):
        full = by is None or tallest * StripAxis(columns, (*together, by)).length > most
        if together and full:
            axis = StripAxis(columns, tuple(together))
            yield [Strip(network, StripAxis(rows, (down,)), axis, device) for down in vertical]
            together = []
        if by is not None:
            together.append(by)


def unshifted_strip(network: ConvNetwork, device: torch.device) -> Strip:
    """Return the strip of displacement 0."""
    rows, columns = zip(*((layer.rows, layer.columns) for layer in network.layers), strict=True)
    return Strip(network, StripAxis(rows, (0,)), StripAxis(columns, (0,)), device)


def _displacements(network: ConvNetwork, windows: tuple[Windows, ...]) -> range:
    last = windows[-1].count if network.mean else 1
    return range(1 - last, last)


@dataclass(frozen=True)
class Side:
    """Images (c n h w) and their deviations (n h w) before the ReLU of each layer."""

    images: Tensor
    deviations: Sequence[Tensor]

    def at(self, images: slice) -> "Side":
        return Side(self.images[:, images], [layer[images] for layer in self.deviations])

    def on_columns(self, columns: StripAxis, gap: int, side: int) -> "Side":
        """Return them on the columns of a strip, as its queries (side 0) or inputs (1)."""
        stages = [self.images, *self.deviations]
        wide = [
            torch.nn.functional.pad(values, (0, 1, 0, gap)).index_select(
                -1, columns.places(stage, side, values.device)
            )
            for stage, values in enumerate(stages)
        ]
        return Side(wide[0], wide[1:])


def read_strip(strip: Strip, queries: Side, inputs: Side, *, outer: bool) -> Tensor:
    """Return the sum over a strip of K, or of K + T.

    Args:
        queries, inputs: spread over the columns of the strip.
        outer: of all m with all n images, (m n), and not of each with itself, (n).
    """
    pixels = _products(strip, queries.images, inputs.images, outer=outer)
    at = Carried(pixels[None], False, outer)
    for place, layer in enumerate(strip.network.layers):
        _convolve(strip, at, place, tangent=strip.network.tangent)
        if layer.relu:
            x = strip.crop(queries.deviations[place], place + 1, 0)
            z = strip.crop(inputs.deviations[place], place + 1, 1)
            rectify(at, _product(x, z, outer=outer))
        strip.clear(at.values, place + 1)
    return at.total((-2, -1))


def strip_deviations(strip: Strip, images: Tensor) -> list[Tensor]:
    """Return √k(x, x) at every position before the ReLU of each layer, (n h w) each.

    Args:
        strip: of no displacement.
    """
    pixels = Side(images, []).on_columns(strip.columns, strip.rows.gap, 0).images
    at = Carried(_products(strip, pixels, pixels, outer=False)[None], False, outer=False)
    roots = []
    for place, layer in enumerate(strip.network.layers):
        _convolve(strip, at, place, tangent=False)
        strip.clear(at.values, place + 1)
        roots.append(root_below(at.values[0, :, : layer.rows.count, : layer.columns.count]))
        if layer.relu:
            at.values.mul_(math.pi)  # no angle, to the last bit what `rectify` makes of it
            at.factors = HALF_TURN
    return roots


def _products(strip: Strip, queries: Tensor, inputs: Tensor, *, outer: bool) -> Tensor:
    """Return the covariance of two images' pixels, the mean over channels."""
    # Each product is rounded by itself, as in `positions`.
    total: Tensor | None = None
    for x, z in zip(strip.crop(queries, 0, 0), strip.crop(inputs, 0, 1), strict=True):
        product = _product(x, z, outer=outer)
        total = product if total is None else total.add_(product)
    assert total is not None
    return total.div_(len(queries))


def _product(queries: Tensor, inputs: Tensor, *, outer: bool) -> Tensor:
    return queries[:, None] * inputs[None] if outer else queries * inputs


def _convolve(strip: Strip, at: Carried, place: int, *, tangent: bool) -> None:
    layer = strip.network.layers[place]
    sums = at.values
    both = zip((-2, -1), (layer.rows, layer.columns), strip.middles[place], strict=True)
    for axis, windows, middles in both:
        if windows.size > 1:
            middle, *further = windows.offsets
            sums = _sum_of_shifts(sums, [offset - middle for offset in further], sums.stride(axis))
        if middles is not None:
            sums = sums.index_select(axis, middles)
    weigh(strip.network, at, sums, 1 / layer.area, tangent=tangent)


def _sum_of_shifts(values: Tensor, offsets: Sequence[int], step: int) -> Tensor:
    """Return values + values shifted by each offset times `step` numbers; zeros lie between overlaps."""
    numbers, total = values.view(-1), torch.empty_like(values)
    size, flat = numbers.shape[0], total.view(-1)
    for number, offset in enumerate(offsets):
        by = abs(offset) * step
        behind, ahead = numbers.narrow(0, 0, size - by), numbers.narrow(0, by, size - by)
        if offset < 0:
            to, edge, first, second = flat.narrow(0, by, size - by), 0, ahead, behind
        else:
            to, edge, first, second = flat.narrow(0, 0, size - by), size - by, behind, ahead
        if number == 0:  # one pass, where a copy and a sum take two
            torch.add(first, second, out=to)
            flat.narrow(0, edge, by).copy_(numbers.narrow(0, edge, by))
        else:
            to.add_(second)
    return total
