"""How does a deep convolutional ReLU network carry the covariance of two images, position by position?

With K(p, q) the covariance of the pre-activations of two images at positions p and q,

    convolution    K'(p, q) = w / size² Σ_δ K(p + δ, q + δ) + b        T' = w / size² Σ_δ T(p + δ, q + δ) + K'
    ReLU           K' = √(k11 k22) (sin θ + (π − θ) cos θ) / 2π        T' = T (π − θ) / 2π
    averaging      K'(P, Q) = mean of K(p, q) over p in P, q in Q      T' likewise
    readout        w · mean of K + b,    w · mean of T + that

Where only flattening follows, q = p is all that matters; where a mean over positions follows, every q is.
Arrays have positions first, (h w) or (h w h w), and pairs of images last.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from leftout.kernels.windows import Padding, window_sum

SINGLE, TWIN = ((0,), (1,)), ((0, 2), (1, 3))
"""Axes that a convolution shifts together, of one position and of two."""

EACH = ((0,), (1,), (2,), (3,))


@dataclass(frozen=True)
class Layer:
    """A convolution, whether a ReLU follows, and over which windows its outputs are averaged."""

    size: int
    stride: int
    relu: bool
    average: int


@dataclass(frozen=True)
class Network:
    """What is between the image and the readout.

    Attributes:
        twin: layers from this one on carry p and q = p alone; as many as there are for none.
    """

    layers: tuple[Layer, ...]
    padding: Padding
    weight_variance: float
    bias_variance: float
    twin: int
    tangent: bool


@dataclass
class Carried:
    """Covariance K and tangent kernel T of pairs of images at one layer.

    Attributes:
        outer: whether pairs are all of m with all of n images, (… m n), or each with itself, (… n).
    """

    covariance: Tensor
    tangent: Tensor | None
    twin: bool
    outer: bool


def read_out(
    network: Network, left: Tensor, right: Tensor | None, variances: tuple[Sequence[Tensor], ...]
) -> Tensor:
    """Return the kernel of m with n images, (m n); of each with itself, (n), where `right` is None.

    Args:
        left, right: (m c h w) and (n c h w).
        variances: of each side, from `variances`; of the diagonal they are its own.
    """
    at = _start(left, left if right is None else right, network.twin > 0, outer=right is not None)
    for place, layer in enumerate(network.layers):
        _convolve(network, at, layer)
        if layer.relu:
            sides = [one[place] for one in variances] or [_own(at)] * 2
            _rectify(at, *sides)
        _average(at, layer.average)
        if at.twin and place + 1 >= network.twin:
            _drop_pairs_of_positions(at)
    positions = tuple(range(4 if at.twin else 2))
    w, b = network.weight_variance, network.bias_variance
    found = at.covariance.mean(positions).mul_(w).add_(b)
    return found if at.tangent is None else at.tangent.mean(positions).mul_(w).add_(found)


def variances(network: Network, images: Tensor) -> list[Tensor]:
    """Return k(x, x) at every position before the ReLU of each layer: (h w n) each."""
    # They need pairs of positions only where an average follows, not for the readout.
    pooled = [place for place, layer in enumerate(network.layers) if layer.average > 1]
    twin = pooled[-1] + 1 if pooled else 0
    at = _start(images, images, twin > 0, outer=False)
    found = []
    for place, layer in enumerate(network.layers):
        _convolve(network, at, layer)
        own = _own(at)
        found.append(own)
        if layer.relu:
            _rectify(at, own, own)
        _average(at, layer.average)
        if at.twin and place + 1 >= twin:
            _drop_pairs_of_positions(at)
    return found


def _start(left: Tensor, right: Tensor, twin: bool, *, outer: bool) -> Carried:
    """Return the covariance of two images' pixels, the mean over channels."""
    # Each product is rounded by itself, as it is for an image with itself: equal images are then equal to
    # the last bit in every layer. A matrix product would not promise that.
    total: Tensor | None = None
    for x, z in zip(left.permute(1, 2, 3, 0), right.permute(1, 2, 3, 0), strict=True):
        one = _products(x, z, twin, outer=outer)
        total = one if total is None else total.add_(one)
    assert total is not None
    return Carried(total.div_(left.shape[1]), None, twin, outer)


def _products(left: Tensor, right: Tensor, twin: bool, *, outer: bool) -> Tensor:
    """Return products of what two images have at p, and at q or p: left (h w m), right (h w n)."""
    if outer:
        left, right = left[..., :, None], right[..., None, :]
    if twin:
        left, right = left[:, :, None, None], right[None, None]
    return left * right


def _convolve(network: Network, at: Carried, layer: Layer) -> None:
    axes = TWIN if at.twin else SINGLE
    share = network.weight_variance / layer.size**2

    def seen(values: Tensor) -> Tensor:
        return window_sum(values, layer.size, layer.stride, network.padding, axes).mul_(share)

    at.covariance = seen(at.covariance).add_(network.bias_variance)
    if at.tangent is not None:
        at.tangent = seen(at.tangent).add_(at.covariance)
    elif network.tangent:
        at.tangent = at.covariance.clone()


def _rectify(at: Carried, left: Tensor, right: Tensor) -> None:
    """Take both kernels through a ReLU, in place."""
    scale = _products(left, right, at.twin, outer=at.outer).sqrt_()
    cosine = at.covariance.div_(scale)
    if bool((left == 0).any()) or bool((right == 0).any()):
        cosine.masked_fill_(
            scale == 0, 1.0
        )  # black where it looks: 0 to any network, as its scale is
    cosine.clamp_(-1, 1)
    open_share = torch.acos(cosine).mul_(-1 / (2 * math.pi)).add_(0.5)
    if at.tangent is not None:
        at.tangent.mul_(open_share)
    sine = (1 - cosine).mul_(1 + cosine).sqrt_()
    cosine.mul_(open_share).add_(sine, alpha=1 / (2 * math.pi)).mul_(scale)


def _average(at: Carried, size: int) -> None:
    if size == 1:
        return
    share = 1 / size**4
    at.covariance = window_sum(at.covariance, size, size, "valid", EACH).mul_(share)
    if at.tangent is not None:
        at.tangent = window_sum(at.tangent, size, size, "valid", EACH).mul_(share)


def _own(at: Carried) -> Tensor:
    """Return the variance at every position, of images with themselves."""
    return _same_position(at.covariance) if at.twin else at.covariance.clone()


def _drop_pairs_of_positions(at: Carried) -> None:
    at.twin = False
    at.covariance = _same_position(at.covariance)
    if at.tangent is not None:
        at.tangent = _same_position(at.tangent)


def _same_position(values: Tensor) -> Tensor:
    """Return (h w …) of (h w h w …): what both images have at the same place."""
    return values.diagonal(0, 0, 2).diagonal(0, 0, 1).movedim((-2, -1), (0, 1)).clone()
