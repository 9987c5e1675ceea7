"""How does a deep convolutional ReLU network carry the covariance of two images, position by position?

With K(p, q) the covariance of the pre-activations of two images at positions p and q,

    convolution    K'(p, q) = w / size² Σ_δ K(p + δ, q + δ) + b        T' = w / size² Σ_δ T(p + δ, q + δ) + K'
    ReLU           K' = (√(k11 k22 − K²) + (π − θ) K) / 2π             T' = T (π − θ) / 2π
    averaging      K'(P, Q) = mean of K(p, q) over p in P, q in Q      T' likewise
    readout        w · mean of K + b,    w · mean of T + that

with θ = atan2(√(k11 k22 − K²), K). Where only flattening follows, q = p is all that matters; where a mean
over positions follows, every q is. This is any network, one step after the other; most go faster by
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
class Layer:
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
class Network:
    """What is between images of one size and the readout.

    Attributes:
        mean: whether the readout is of the mean over positions.
    """

    layers: tuple[Layer, ...]
    padding: Padding
    weight_variance: float
    bias_variance: float
    mean: bool
    tangent: bool

    @property
    def twin(self) -> int:
        """Return from which layer on one position is carried and not two; beyond all of them for a mean."""
        return len(self.layers) + 1 if self.mean else self.averaged

    @cached_property
    def averaged(self) -> int:
        """Return behind how many layers nothing is averaged any more."""
        return max((place + 1 for place, one in enumerate(self.layers) if one.average > 1), default=0)

    @cached_property
    def left_over(self) -> int:
        """Return how many positions the readout sees."""
        last = self.layers[-1]
        return math.prod(one.count // last.average for one in (last.rows, last.columns))

    @property
    def seen(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the rows and columns of an image from which something reaches the readout.

        A pixel does so if both its row and its column do, in a window of every layer.
        """
        rows = tuple((one.rows, one.average) for one in self.layers)
        columns = tuple((one.columns, one.average) for one in self.layers)
        return _seen(rows), _seen(columns)


@lru_cache(maxsize=64)
def _seen(layers: tuple[tuple[Windows, int], ...]) -> tuple[int, ...]:
    """Return the places of an axis that reach the readout, from windows and averages of each layer."""
    last, average = layers[-1]
    places = set(range(last.count // average))
    for windows, average in reversed(layers):
        averaged = {one * average + by for one in places for by in range(average)}
        places = windows.seen_by(averaged)
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
        found = self.values[0].sum(axes).mul_(self.factors[0])
        if len(self.values) == 2:
            found.add_(self.values[1].sum(axes), alpha=self.factors[1])
        return found


def read_out(
    network: Network, left: Tensor, right: Tensor | None, sides: Sequence[Sequence[Tensor]]
) -> Tensor:
    """Return the mean over positions of K, or of K + T: (m n), or (n) of each image with itself.

    Args:
        left, right: (c h w m) and (c h w n); without `right` each of left with itself.
        sides: of left and right, what `deviations` returns.
    """
    outer = right is not None
    twin = network.twin > 0
    pixels = _products(left, left if right is None else right, twin, outer=outer)
    at = Carried(pixels[None], twin, outer)
    for place, layer in enumerate(network.layers):
        _convolve(network, at, layer, tangent=network.tangent)
        if layer.relu:
            one, two = (side[place] for side in sides)
            rectify(at, _product(one, two, at.twin, outer=outer))
        _average(at, layer.average)
        if at.twin and place + 1 >= network.twin:
            _drop_pairs_of_positions(at)
    return at.total(tuple(range(4 if at.twin else 2))).div_(network.left_over ** (2 if at.twin else 1))


def deviations(network: Network, images: Tensor) -> list[Tensor]:
    """Return √k(x, x) at every position before the ReLU of each layer, (h w n) each, for images (c h w n)."""
    # Pairs of positions are needed only where an average follows, not for the readout.
    twin = network.averaged > 0
    at = Carried(_products(images, images, twin, outer=False)[None], twin, outer=False)
    found = []
    for place, layer in enumerate(network.layers):
        _convolve(network, at, layer, tangent=False)
        root = root_below(_same_position(at.values)[0] if at.twin else at.values[0])
        found.append(root)
        if layer.relu:
            rectify(at, _product(root, root, at.twin, outer=False))
        _average(at, layer.average)
        if at.twin and place + 1 >= network.averaged:
            _drop_pairs_of_positions(at)
    return found


def root_below(own: Tensor) -> Tensor:
    """Return roots whose squares do not exceed the numbers, rounding included.

    K then is at least the product of deviations for equal images, so that they have no angle.
    """
    root = own.sqrt()
    return torch.where(root * root > own, torch.nextafter(root, torch.zeros_like(root)), root)


def take_up(network: Network, at: Carried, seen: Tensor, share: float, *, tangent: bool) -> None:
    """Go on with sums over windows of K and of T, `share` times the variance of weights of them."""
    share *= network.weight_variance
    covariance = seen[0].mul_(share * at.factors[0])
    if network.bias_variance > 0:
        covariance.add_(network.bias_variance)
    if len(seen) == 2:
        torch.add(covariance, seen[1], alpha=share * at.factors[1], out=seen[1])
    elif tangent:
        seen = torch.cat([seen, seen])
    at.values, at.factors = seen, (1.0, 1.0)


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


def _products(left: Tensor, right: Tensor, twin: bool, *, outer: bool) -> Tensor:
    """Return the covariance of two images' pixels, the mean over channels."""
    # Each product is rounded by itself, as it is for an image with itself: equal images are then equal to
    # the last bit in every layer. A matrix product would not promise that.
    total: Tensor | None = None
    for x, z in zip(left, right, strict=True):
        one = _product(x, z, twin, outer=outer)
        total = one if total is None else total.add_(one)
    assert total is not None
    return total.div_(len(left))


def _product(left: Tensor, right: Tensor, twin: bool, *, outer: bool) -> Tensor:
    """Return products of what two images have at p, and at q or p: left (h w m), right (h w n)."""
    if outer:
        left, right = left[..., :, None], right[..., None, :]
    if twin:
        left, right = left[:, :, None, None], right[None, None]
    return left * right


def _convolve(network: Network, at: Carried, layer: Layer, *, tangent: bool) -> None:
    axes = TWIN if at.twin else SINGLE
    seen = window_sum(at.values, layer.rows, axes[0])
    seen = window_sum(seen, layer.columns, axes[1])
    take_up(network, at, seen, 1 / layer.area, tangent=tangent)


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
    """Return (k h w …) of (k h w h w …): what both images have at the same place."""
    return values.diagonal(0, 1, 3).diagonal(0, 1, 2).movedim((-2, -1), (1, 2)).contiguous()
