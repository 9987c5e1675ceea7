"""How alike are two images to an infinitely wide convolutional ReLU network?

    [convolution, ReLU, (averaging)] × depth, then a readout of all positions or of their mean

A network that flattens its last layer never compares different positions of two images; one that
averages compares all pairs of positions (`leftout.kernels.positions` has the recursion).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from leftout.core.blocks import blocks
from leftout.core.checks import check_choice
from leftout.core.errors import DataError, OptionError, ShapeError
from leftout.kernels.base import Kernel
from leftout.kernels.layers import Kind, check_network
from leftout.kernels.positions import Layer, Network, read_out, variances
from leftout.kernels.rows import check_not_zero, check_vectors
from leftout.kernels.windows import PADDINGS, Padding, windows_along

Pooling = Literal["flatten", "mean"]

TILE = {"cpu": 2**17, "cuda": 2**25}
"""Numbers in each array of a tile: 1 MB, which a cache holds; a GPU would wait for launches of so little."""


@final
@dataclass(frozen=True)
class ConvReLU(Kernel):
    """The kernel of a deep convolutional ReLU network, neural-tangents' conventions.

    Args:
        depth: convolutions, each with a ReLU behind it.
        kernel_size, stride: of each convolution; one number for all, or one for each.
        padding: "same" (zeros, the odd one at the end), "valid" or "circular".
        pooling: "flatten", a weight for every position of the last layer; or "mean" over positions.
        weight_variance: of every layer, the readout too, over fan-in.
        bias_variance: of every layer.
        kind: "ntk" (all layers trained) or "nngp" (only the readout).
        average: side of the squares over which a layer's outputs are averaged behind its ReLU.
        last_relu: False for no ReLU behind the last convolution, as in Chen, He & Su's network.

    Images are (n, channels, height, width), or (n, height, width) for one channel.

    Cost:
        Of a pair and a layer, at every position, or at every pair of positions where a mean follows: a
        square root, a division, an arc cosine, a root and some 15 multiplications and additions, and
        2 · size additions for each window sum. Tiles stay in the cache: reading inputs and writing the
        result is next to nothing.

    Accuracy:
        Equal images have no angle in any layer: k(x, x) to rounding. An angle θ between two patches is off by
        about 4 ε / θ, ε the rounding of the dtype, and by √ε at most: the tangent kernel of near
        duplicates is right to some 3e-9 of itself in float64, others to (depth + 1) · 20 ε.

    Raises:
        OptionError: an option that is none, or not one for each layer.

    Source:
        Novak et al. 2019, "Bayesian deep convolutional networks with many channels are Gaussian processes";
        Arora et al. 2019, "On exact computation with an infinitely wide neural net".
    """

    depth: int
    kernel_size: int | Sequence[int] = 3
    stride: int | Sequence[int] = 1
    padding: Padding = "same"
    pooling: Pooling = "flatten"
    weight_variance: float = 2.0
    bias_variance: float = 0.0
    kind: Kind = "ntk"
    average: int | Sequence[int] = 1
    last_relu: bool = True

    normalise = "sphere"

    def __post_init__(self) -> None:
        check_network(self.depth, self.weight_variance, self.bias_variance, self.kind)
        check_choice("padding", self.padding, PADDINGS)
        check_choice("pooling", self.pooling, ("flatten", "mean"))
        check_choice("last_relu", self.last_relu, (True, False))
        for name in ("kernel_size", "stride", "average"):
            value = getattr(self, name)
            if not isinstance(value, Integral):  # hashable, and safe from later changes
                object.__setattr__(self, name, tuple(_each(name, value, self.depth)))
            else:
                _each(name, value, self.depth)

    def block(
        self, queries: Float[Tensor, "m ..."], inputs: Float[Tensor, "n ..."]
    ) -> Float[Tensor, "m n"]:
        """Return the kernel of every pair of images."""
        (left, by), (right, times) = self._scaled(_images(queries)), self._scaled(_images(inputs))
        network, found = self._network, queries.new_empty(len(left), len(right))
        sides = [self._variances(left), self._variances(right)]
        rows, columns = _tile(left, len(left), len(right), twin=network.twin > 0)
        for i in blocks(len(left), rows):
            ours = [one[..., i] for one in sides[0]]
            for j in blocks(len(right), columns):
                theirs = [one[..., j] for one in sides[1]]
                found[i, j] = read_out(network, left[i], right[j], (ours, theirs))
        return found.mul_(by[:, None]).mul_(times)

    def diagonal(self, inputs: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        """Return k(x, x) for every image."""
        (images, by), network = self._scaled(_images(inputs)), self._network
        rows, _ = _tile(images, len(images), 1, twin=network.twin > 0)
        found = [read_out(network, images[i], None, ()) for i in blocks(len(images), rows)]
        return torch.cat([inputs.new_empty(0), *found]).mul_(by.square())

    def _scaled(self, images: Float[Tensor, "n c h w"]) -> tuple[Tensor, Float[Tensor, " n"]]:
        """Return images of size 1 or so, and by which powers of two they were larger.

        Without a bias the kernel is homogeneous, and products of variances leave the range of numbers
        long before the kernel does. Powers of two round nothing.
        """
        if self.bias_variance > 0:
            return images, images.new_ones(len(images))
        largest = images.abs().flatten(1).amax(1)
        by = torch.where(largest > 0, torch.exp2(largest.log2().round()), 1.0)  # black stays black
        return images / by[:, None, None, None], by

    def prior(self) -> "ConvReLU":
        """Return the kernel of the Gaussian process that the networks are before training."""
        return replace(self, kind="nngp")

    def check(self, name: str, inputs: Tensor) -> None:
        """Raise unless every input is an image that the network can look at.

        Raises:
            DataError: not floating-point, NaN or infinity, or black images without a bias.
            ShapeError: no images, or images that are too small for these convolutions.
        """
        check_vectors(name, inputs)
        if inputs.ndim not in (3, 4):
            raise ShapeError(
                f"`{name}` must hold images, (rows, channels, height, width) or (rows, height, width); got "
                f"{tuple(inputs.shape)}."
            )
        for axis, length in (("height", inputs.shape[-2]), ("width", inputs.shape[-1])):
            self._check_side(name, axis, length)
        if self.bias_variance == 0:
            check_not_zero(name, inputs)
            if (
                any(one.stride > one.size for one in self._network.layers)
                or self.padding == "valid"
            ):
                self._check_seen(name, inputs)

    def _check_seen(self, name: str, inputs: Tensor) -> None:
        """Raise where a window that skips positions sees nothing of an image."""
        images, _ = self._scaled(_images(inputs))
        unseen = (self._variances(images)[-1].flatten(0, 1).sum(0) == 0).nonzero().flatten()
        if len(unseen):
            raise DataError(
                f"`{name}` must not be black where these windows look, which skip positions; row "
                f"{int(unseen[0])} is. Take a stride of at most the window, or drop the image."
            )

    def _check_side(self, name: str, axis: str, length: int) -> None:
        """Raise where layers leave nothing of an image."""
        whole = length
        for number, layer in enumerate(self._network.layers, start=1):
            length = windows_along(length, layer.size, layer.stride, self.padding)
            length = max(0, length) // layer.average
            if length < 1:
                raise ShapeError(
                    f"`{name}` must be large enough for {self.depth} layers; a {axis} of {whole} is used up "
                    f'by layer {number}. Take fewer layers, smaller windows, or padding="same".'
                )

    @property
    def record(self) -> dict[str, Any]:
        """Return name and parameters."""
        layers = self._network.layers
        return {
            "name": "conv-relu",
            "depth": int(self.depth),
            "kernel_size": [one.size for one in layers],
            "stride": [one.stride for one in layers],
            "average": [one.average for one in layers],
            "padding": self.padding,
            "pooling": self.pooling,
            "last_relu": bool(self.last_relu),
            "weight_variance": float(self.weight_variance),
            "bias_variance": float(self.bias_variance),
            "kind": self.kind,
        }

    @property
    def _network(self) -> Network:
        each = [
            _each(name, getattr(self, name), self.depth)
            for name in ("kernel_size", "stride", "average")
        ]
        layers = tuple(
            Layer(size, stride, self.last_relu or place < self.depth - 1, average)
            for place, (size, stride, average) in enumerate(zip(*each, strict=True))
        )
        pooled = [place + 1 for place, one in enumerate(layers) if one.average > 1]
        return Network(
            layers=layers, padding=self.padding,
            weight_variance=float(self.weight_variance), bias_variance=float(self.bias_variance),
            # A mean at the end asks for all pairs of positions to the end, and beyond.
            twin=len(layers) + 1 if self.pooling == "mean" else max(pooled, default=0),
            tangent=self.kind == "ntk",
        )  # fmt: skip

    def _variances(self, images: Float[Tensor, "n c h w"]) -> list[Tensor]:
        """Return the variances of images before each ReLU, (h w n) each."""
        network = self._network
        rows, _ = _tile(images, len(images), 1, twin=any(one.average > 1 for one in network.layers))
        found = [variances(network, images[i]) for i in blocks(len(images), rows)]
        return [torch.cat(layer, dim=-1) for layer in zip(*found, strict=True)]


def _each(name: str, value: Any, depth: int) -> list[int]:
    """Return one number for each layer."""
    given = [value] * depth if isinstance(value, Integral) else value
    good = (
        isinstance(given, Sequence)
        and len(given) == depth
        and all(isinstance(one, Integral) and not isinstance(one, bool) for one in given)
        and all(int(one) >= 1 for one in given)
    )
    if not good:
        raise OptionError(
            f"`{name}` must be a whole number ≥ 1, or one for each of the {depth} layers; got {value!r}."
        )
    return [int(one) for one in given]


def _images(inputs: Tensor) -> Float[Tensor, "n c h w"]:
    return inputs[:, None] if inputs.ndim == 3 else inputs


def _tile(images: Tensor, rows: int, columns: int, *, twin: bool) -> tuple[int, int]:
    """Return how many images of either side are taken at once."""
    positions = images.shape[-2] * images.shape[-1]
    most = TILE.get(images.device.type, TILE["cpu"])
    pairs = max(1, most // max(1, positions**2 if twin else positions))
    wide = min(columns, max(1, int(pairs**0.5)))
    tall = min(rows, max(1, pairs // max(1, wide)))
    return max(1, tall), max(1, min(columns, pairs // max(1, tall)))
