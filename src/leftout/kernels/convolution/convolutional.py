"""The kernels of infinitely wide convolutional ReLU networks.

    [convolution, ReLU, (averaging)] × depth, then a readout of all positions or of their mean

A network that flattens its last layer never compares different positions of two images; one that
averages compares all pairs of positions (`leftout.kernels.convolution.positions` has the recursion).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from leftout.core.blocks import blocks, check_fits
from leftout.core.checks import check_choice
from leftout.core.errors import DataError, OptionError, ShapeError
from leftout.kernels.base import Kernel
from leftout.kernels.convolution import strips
from leftout.kernels.convolution.options import Padding, Pooling
from leftout.kernels.convolution.pieces import numbers_held, totals
from leftout.kernels.convolution.positions import ConvLayer, ConvNetwork
from leftout.kernels.convolution.windows import PADDINGS, Windows
from leftout.kernels.fused.images import held_bytes, image_means
from leftout.kernels.fused.library import Code, compiled_set
from leftout.kernels.fused.program import Convolution, ImageProgram, Rectifier, Step
from leftout.kernels.rows import check_network_inputs
from leftout.kernels.tiles import Tile, TileWork
from leftout.kernels.wide.layers import check_network
from leftout.kernels.wide.options import Kind

BLOCK = 64
"""Rows and columns of a block: enough pairs to fill tiles, and few computed twice on the diagonal."""

COMPILED_BLOCK = 256
"""The same for compiled code, which makes what it needs of either side once for a block."""


@final
@dataclass(frozen=True)
class ConvReLU(Kernel):
    """The kernel of an infinitely wide convolutional ReLU network, in neural-tangents' conventions.

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
        Of a pair and a layer, at every position, or at every pair of positions where a mean follows: an arc
        tangent, an inverse root and some 20 multiplications and additions, 2 (size − 1) of them for either
        sum over windows; of pairs of positions only those that strides leave to the readout. 8 bytes a pair
        are written, and nothing else leaves the cache. Averages on the way and circles take more.

    Accuracy:
        Equal images have no angle in any layer: k(x, x) to rounding. An angle θ between two patches is off by
        about 6 ε / θ, ε the rounding of the dtype, and by 2√ε at most: the tangent kernel of near
        duplicates is right to some 4e-9 of itself in float64, others to (depth + 1) · 20 ε. In float32,
        8 layers on CIFAR-10 are right to 1e-6 of each value.

    Raises:
        OptionError: an option that is not allowed, or a sequence whose length is not the depth.

    Source:
        Novak et al. 2019, "Bayesian deep convolutional networks with many channels are Gaussian processes";
        Arora et al. 2019, "On exact computation with an infinitely wide neural net".

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> images = torch.stack([torch.eye(4), torch.eye(4).roll(1, 1)])
        >>> lo.kernels.ConvReLU(depth=2, padding="circular", pooling="mean").block(images, images)
        tensor([[0.6304, 0.6304],
                [0.6304, 0.6304]])
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
            option = getattr(self, name)
            numbers = _numbers(name, option, self.depth)
            if not isinstance(option, Integral):  # hashable, and safe from later changes
                object.__setattr__(self, name, tuple(numbers))

    def block(self, queries: Float[Tensor, "m ..."], inputs: Float[Tensor, "n ..."]) -> Float[Tensor, "m n"]:
        """Return the kernel of every pair of images."""
        x, x_scales = self._rescale(_images(queries))
        z, z_scales = self._rescale(_images(inputs))
        return self._totals(x, z).mul_(x_scales[:, None]).mul_(z_scales)

    def diagonal(self, inputs: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        """Return k(x, x) for every image."""
        images, scales = self._rescale(_images(inputs))
        return self._totals(images, None).mul_(scales.square())

    def _totals(self, x: Tensor, z: Tensor | None) -> Tensor:
        """Return the kernel of all pairs, or of each image with itself."""
        network = self._network(x)
        code = _code(network, x, x if z is None else z)
        if code is not None:
            covariance, tangent = image_means(_program(network, x), x, z, code)
            means: Tensor = covariance.add_(tangent).mul_(self.weight_variance).add_(self.bias_variance)
            return means.to(x.dtype)
        return totals(network, x, z).mul_(self.weight_variance).add_(self.bias_variance)

    def tiles(self, queries: Tensor, inputs: Tensor | None, work: TileWork) -> Iterator[Tile]:
        """Return tiles, smaller than those of other kernels: each pair of images is much work."""
        images = _images(queries)
        network = self._network(images)
        code = _code(network, queries.new_empty(0, dtype=work.dtype, device=work.device))
        block = work.block or (BLOCK if code is None else COMPILED_BLOCK)
        if code is None:
            threads = torch.get_num_threads() if work.device.type == "cpu" else 1
            held = numbers_held(network, images, block, threads) * work.dtype.itemsize
        else:
            held = held_bytes(_program(network, images), block, work.dtype)
        check_fits(
            "One piece of a convolutional kernel",
            held,
            work.budget,
            advice="Raise `memory`; it does not depend on the number of images.",
        )
        return super().tiles(queries, inputs, replace(work, block=block, result=work.result + held))

    def _rescale(self, images: Float[Tensor, "n c h w"]) -> tuple[Tensor, Float[Tensor, " n"]]:
        """Return images whose largest number is about 1, and the powers of two they were divided by.

        Without a bias the kernel is homogeneous, and products of variances overflow long
        before the kernel does. Dividing by a power of two is exact.
        """
        if self.bias_variance > 0:
            return images, images.new_ones(len(images))
        largest = images.abs().flatten(1).amax(1)
        scales = torch.where(largest > 0, torch.exp2(largest.log2().round()), 1.0)  # black stays black
        return images / scales[:, None, None, None], scales

    def prior(self) -> "ConvReLU":
        """Return the kernel of the Gaussian process that the networks are before training."""
        return replace(self, kind="nngp")

    def check(self, name: str, inputs: Tensor) -> None:
        """Raise unless every input is an image that the network is defined on.

        Raises:
            DataError: not floating-point, NaN or infinity, or black images without a bias.
            ShapeError: no images, or images that are too small for these convolutions.
        """
        check_network_inputs(name, inputs, bias_variance=self.bias_variance)
        if inputs.ndim not in (3, 4):
            raise ShapeError(
                f"`{name}` must hold images, (rows, channels, height, width) or (rows, height, width); got "
                f"{tuple(inputs.shape)}."
            )
        for axis, length in (("height", inputs.shape[-2]), ("width", inputs.shape[-1])):
            self._check_side(name, axis, length)
        if self.bias_variance == 0:
            self._check_seen(name, _images(inputs))

    def _check_seen(self, name: str, images: Float[Tensor, "n c h w"]) -> None:
        """Raise if an image is 0 at all positions that windows cover: every network maps it to 0."""
        rows, columns = self._network(images).visible_pixels
        if len(rows) * len(columns) == images.shape[-2] * images.shape[-1]:
            return
        visible = torch.zeros(images.shape[-2:], dtype=torch.bool, device=images.device)
        visible[torch.tensor(rows, device="cpu")[:, None], torch.tensor(columns, device="cpu")] = True
        for batch in blocks(len(images), BLOCK):  # masking makes a copy
            unseen = (~(images[batch] * visible).flatten(1).any(1)).nonzero().flatten()
            if len(unseen):
                raise DataError(
                    f"`{name}` must not be black where these windows look, which skip positions; row "
                    f"{batch.start + int(unseen[0])} is. Take a stride of at most the window, or drop the "
                    "image."
                )

    def _check_side(self, name: str, axis: str, length: int) -> None:
        """Raise if an axis is shorter than the layers need."""
        full = length
        for number, (size, stride, average) in enumerate(self._each, start=1):
            length = max(0, Windows(length, size, stride, self.padding).count) // average
            if length < 1:
                raise ShapeError(
                    f"`{name}` must be large enough for {self.depth} layers; a {axis} of {full} is used up "
                    f'by layer {number}. Take fewer layers, smaller windows, or padding="same".'
                )

    @property
    def record(self) -> dict[str, Any]:
        """Return name and parameters."""
        sizes, strides, averages = (list(numbers) for numbers in zip(*self._each, strict=True))
        return {
            "name": "conv-relu",
            "depth": int(self.depth),
            "kernel_size": sizes,
            "stride": strides,
            "average": averages,
            "padding": self.padding,
            "pooling": self.pooling,
            "last_relu": bool(self.last_relu),
            "weight_variance": float(self.weight_variance),
            "bias_variance": float(self.bias_variance),
            "kind": self.kind,
        }

    @property
    def _each(self) -> list[tuple[int, int, int]]:
        """Return size, stride and average of each layer."""
        names = ("kernel_size", "stride", "average")
        options = [_numbers(name, getattr(self, name), self.depth) for name in names]
        return list(zip(*options, strict=True))

    def _network(self, images: Float[Tensor, "n c h w"]) -> ConvNetwork:
        """Return the layers between such images and the readout."""
        height, width = images.shape[-2:]
        layers = []
        for place, (size, stride, average) in enumerate(self._each):
            rows, columns = (Windows(side, size, stride, self.padding) for side in (height, width))
            relu = self.last_relu or place < self.depth - 1
            layers.append(ConvLayer(rows, columns, relu, average))
            height, width = rows.count // average, columns.count // average
        return ConvNetwork(
            layers=tuple(layers),
            padding=self.padding,
            weight_variance=float(self.weight_variance),
            bias_variance=float(self.bias_variance),
            mean=self.pooling == "mean",
            tangent=self.kind == "ntk",
        )


def _code(network: ConvNetwork, *images: Tensor) -> Code | None:
    """Return what C computes it with; None where torch does."""
    return compiled_set(*images) if strips.fits(network) else None


def _program(network: ConvNetwork, images: Float[Tensor, "n c h w"]) -> ImageProgram:
    """Return the network as a program of compiled code."""
    steps: list[Step] = []
    for layer in network.layers:
        sides = layer.rows, layer.columns
        steps.append(
            Convolution(
                size=(sides[0].size, sides[1].size),
                stride=(sides[0].stride, sides[1].stride),
                before=(sides[0].before, sides[1].before),
                counts=(sides[0].count, sides[1].count),
                weight_variance=network.weight_variance,
                bias_variance=network.bias_variance,
            )
        )
        steps += [Rectifier()] if layer.relu else []
    height, width = images.shape[-2:]
    return ImageProgram(tuple(steps), images.shape[1], (height, width), network.mean, network.tangent)


def _numbers(name: str, option: Any, depth: int) -> list[int]:
    """Return one number for each layer."""
    numbers = [option] * depth if isinstance(option, Integral) else option
    good = (
        isinstance(numbers, Sequence)
        and len(numbers) == depth
        and all(isinstance(number, Integral) and not isinstance(number, bool) for number in numbers)
        and all(int(number) >= 1 for number in numbers)
    )
    if not good:
        raise OptionError(
            f"`{name}` must be a whole number ≥ 1, or one for each of the {depth} layers; got {option!r}."
        )
    return [int(number) for number in numbers]


def _images(inputs: Tensor) -> Float[Tensor, "n c h w"]:
    return inputs[:, None] if inputs.ndim == 3 else inputs
