"""The covariance of two images through a convolutional ReLU network, position by position.

With K(p, q) the covariance of the pre-activations of two images at positions p and q,

    convolution    K'(p, q) = w / size² Σ_δ K(p + δ, q + δ) + b        T' = w / size² Σ_δ T(p + δ, q + δ) + K'
    ReLU           K' = (√(k11 k22 − K²) + (π − θ) K) / 2π             T' = T (π − θ) / 2π
    averaging      K'(P, Q) = mean of K(p, q) over p in P, q in Q      T' likewise
    readout        w · mean of K + b,    w · mean of T + that

with θ = atan2(√(k11 k22 − K²), K). Where only flattening follows, q = p is all that matters; where a mean
over positions follows, every q is. This module is for any network; most are faster with
`leftout.kernels.convolution.strips`.

Arrays have K and T first, then positions, (h w) or (h w h w), and pairs of images last.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from leftout.kernels.convolution.options import Padding
from leftout.kernels.convolution.windows import Windows, window_sum

SINGLE, TWIN = ((1,), (2,)), ((1, 3), (2, 4))
"""Axes that a convolution shifts together, of one position and of two."""

HALF_TURN = (1 / (2 * math.pi), -1 / (2 * math.pi))
"""What K and T must be multiplied by behind a ReLU: T was by θ − π."""


@dataclass(frozen=True)
class ConvLayer:
    """A convolution, whether a ReLU follows, and over which windows its outputs are averaged."""

    rows: Windows
    columns: Windows
    relu: bool
    average: int

    @property
    def area(self) -> int:
        """Return how many positions a window sees."""
        return self.rows.size * self.columns.size


@dataclass(frozen=True)
class ConvNetwork:
    """The layers between images of one size and the readout.

    Attributes:
        mean: whether the readout is of the mean over positions.
    """

    layers: tuple[ConvLayer, ...]
    padding: Padding
    weight_variance: float
    bias_variance: float
    mean: bool
    tangent: bool

    @property
    def twin(self) -> int:
        """Return the layer from which on one position is enough; beyond the last for a mean."""
        return len(self.layers) + 1 if self.mean else self.averaged_layers

    @cached_property
    def averaged_layers(self) -> int:
        """Return the number of layers up to the last that is averaged."""
        return max((place + 1 for place, layer in enumerate(self.layers) if layer.average > 1), default=0)

    @cached_property
    def readout_positions(self) -> int:
        """Return how many positions the readout has."""
        last = self.layers[-1]
        return math.prod(windows.count // last.average for windows in (last.rows, last.columns))

    @property
    def visible_pixels(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the rows and columns of an image that the readout depends on.

        A pixel does so if both its row and its column do, in a window of every layer.
        """
        rows = tuple((layer.rows, layer.average) for layer in self.layers)
        columns = tuple((layer.columns, layer.average) for layer in self.layers)
        return _visible_places(rows), _visible_places(columns)


@lru_cache(maxsize=64)
def _visible_places(layers: tuple[tuple[Windows, int], ...]) -> tuple[int, ...]:
    """Return the places of an axis that the readout depends on, from windows and averages of each layer."""
    last, average = layers[-1]
    places = set(range(last.count // average))
    for windows, average in reversed(layers):
        before_average = {place * average + by for place in places for by in range(average)}
        places = windows.seen_by(before_average)
    return tuple(sorted(places))


@dataclass
class Carried:
    """Covariance K and tangent kernel T of pairs of images at one layer.

    Attributes:
        values: K and T, or K alone, each still to be multiplied by its factor.
        outer: whether pairs are all of m with all of n images, (… m n), or each with itself, (… n).
    """

    values: Tensor
    twin: bool
    outer: bool
    factors: tuple[float, float] = (1.0, 1.0)

    def total(self, axes: tuple[int, ...]) -> Tensor:
        """Return sums of K, or of K + T, over axes of one of them."""
        sums = self.values[0].sum(axes).mul_(self.factors[0])
        if len(self.values) == 2:
            sums.add_(self.values[1].sum(axes), alpha=self.factors[1])
        return sums


def read_out(
    network: ConvNetwork, queries: Tensor, inputs: Tensor | None, sides: Sequence[Sequence[Tensor]]
) -> Tensor:
    """Return the mean over positions of K, or of K + T: (m n), or (n) of each image with itself.

    Args:
        queries, inputs: (c h w m) and (c h w n); without `inputs` each query with itself.
        sides: of queries and inputs, what `position_deviations` returns.
    """
    outer = inputs is not None
    twin = network.twin > 0
    pixels = _products(queries, queries if inputs is None else inputs, twin, outer=outer)
    at = Carried(pixels[None], twin, outer)
    for place, layer in enumerate(network.layers):
        _convolve(network, at, layer, tangent=network.tangent)
        if layer.relu:
            x, z = (side[place] for side in sides)
            rectify(at, _product(x, z, at.twin, outer=outer))
        _average(at, layer.average)
        if at.twin and place + 1 >= network.twin:
            _drop_pairs_of_positions(at)
    return at.total(tuple(range(4 if at.twin else 2))).div_(
        network.readout_positions ** (2 if at.twin else 1)
    )


def position_deviations(network: ConvNetwork, images: Tensor) -> list[Tensor]:
    """Return √k(x, x) at every position before the ReLU of each layer, (h w n) each, for images (c h w n)."""
    # Pairs of positions are needed only where an average follows, not for the readout.
    twin = network.averaged_layers > 0
    at = Carried(_products(images, images, twin, outer=False)[None], twin, outer=False)
    roots = []
    for place, layer in enumerate(network.layers):
        _convolve(network, at, layer, tangent=False)
        root = root_below(_same_position(at.values)[0] if at.twin else at.values[0])
        roots.append(root)
        if layer.relu:
            rectify(at, _product(root, root, at.twin, outer=False))
        _average(at, layer.average)
        if at.twin and place + 1 >= network.averaged_layers:
            _drop_pairs_of_positions(at)
    return roots


def root_below(variances: Tensor) -> Tensor:
    """Return square roots rounded down, so that their squares do not exceed the numbers.

    K then is at least the product of deviations for equal images, so that they have no angle.
    """
    root = variances.sqrt()
    return torch.where(root * root > variances, torch.nextafter(root, torch.zeros_like(root)), root)


def weigh(network: ConvNetwork, at: Carried, sums: Tensor, share: float, *, tangent: bool) -> None:
    """Set K and T after a convolution: its sums over windows, times `share` and the variance of weights."""
    share *= network.weight_variance
    covariance = sums[0].mul_(share * at.factors[0])
    if network.bias_variance > 0:
        covariance.add_(network.bias_variance)
    if len(sums) == 2:
        torch.add(covariance, sums[1], alpha=share * at.factors[1], out=sums[1])
    elif tangent:
        sums = torch.cat([sums, sums])
    at.values, at.factors = sums, (1.0, 1.0)


def rectify(at: Carried, scale: Tensor) -> None:
    """Take both kernels through a ReLU, in place; `scale` is √(k11 k22), and is written over."""
    covariance = at.values[0]
    root = scale - covariance
    # (s − K)(s + K) has no cancellation but that of s − K, which is 0 for equal images, or below.
    root.mul_(scale.add_(covariance)).clamp_min_(0)
    # x rsqrt(x) takes half as long as sqrt(x), which torch leaves to a library; and 0 stays 0.
    root.mul_(torch.clamp_min(root, torch.finfo(root.dtype).tiny, out=scale).rsqrt_())
    turn = torch.atan2(root, covariance, out=scale).sub_(math.pi)  # θ − π
    torch.addcmul(root, covariance, turn, value=-1, out=covariance)
    if len(at.values) == 2:
        at.values[1].mul_(turn)
    at.factors = HALF_TURN


def _products(queries: Tensor, inputs: Tensor, twin: bool, *, outer: bool) -> Tensor:
    """Return the covariance of two images' pixels, the mean over channels."""
    # Each product is rounded by itself, as it is for an image with itself: equal images are then equal to
    # the last bit in every layer. A matrix product would not promise that.
    total: Tensor | None = None
    for x, z in zip(queries, inputs, strict=True):
        product = _product(x, z, twin, outer=outer)
        total = product if total is None else total.add_(product)
    assert total is not None
    return total.div_(len(queries))


def _product(queries: Tensor, inputs: Tensor, twin: bool, *, outer: bool) -> Tensor:
    """Return products of the numbers of two images at p, and at q or p: (h w m) and (h w n)."""
    if outer:
        queries, inputs = queries[..., :, None], inputs[..., None, :]
    if twin:
        queries, inputs = queries[:, :, None, None], inputs[None, None]
    return queries * inputs


def _convolve(network: ConvNetwork, at: Carried, layer: ConvLayer, *, tangent: bool) -> None:
    axes = TWIN if at.twin else SINGLE
    sums = window_sum(at.values, layer.rows, axes[0])
    sums = window_sum(sums, layer.columns, axes[1])
    weigh(network, at, sums, 1 / layer.area, tangent=tangent)


def _average(at: Carried, size: int) -> None:
    if size == 1:
        return
    for axis in range(1, 5):
        windows = Windows(at.values.shape[axis], size, size, "valid")
        at.values = window_sum(at.values, windows, (axis,))
    at.factors = (at.factors[0] / size**4, at.factors[1] / size**4)


def _drop_pairs_of_positions(at: Carried) -> None:
    at.twin = False
    at.values = _same_position(at.values)


def _same_position(values: Tensor) -> Tensor:
    """Return (k h w …) of (k h w h w …): the entries with both images at the same position."""
    return values.diagonal(0, 1, 3).diagonal(0, 1, 2).movedim((-2, -1), (1, 2)).contiguous()
