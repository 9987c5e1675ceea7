"""The kernels of infinitely wide convolutional ReLU networks.

    [convolution, ReLU, (averaging)] × depth, then a readout of all positions or of their mean

A network that flattens its last layer never compares different positions of two images; one that
averages compares all pairs of positions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, Literal, final, get_args

from jaxtyping import Float
from torch import Tensor

from leftout.core.checks import check_choice
from leftout.core.errors import OptionError
from leftout.kernels.base import Kernel
from leftout.kernels.layers.conv import Conv
from leftout.kernels.layers.dense import Dense
from leftout.kernels.layers.flatten import Flatten
from leftout.kernels.layers.layer import Layer
from leftout.kernels.layers.pool import AveragePool, GlobalAveragePool
from leftout.kernels.layers.relu import Relu
from leftout.kernels.tiles import Tile, TileWork
from leftout.kernels.wide.architecture import Architecture
from leftout.kernels.wide.checks import check_network
from leftout.kernels.wide.options import Kind, Padding, Pooling


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
        about 10 ε / θ, ε the rounding of the dtype, and by 4√ε at most: the tangent kernel of near
        duplicates is right to some 2e-8 of itself in float64, others to (depth + 1) · 20 ε. In float32,
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
        check_choice("padding", self.padding, get_args(Padding))
        check_choice("pooling", self.pooling, get_args(Pooling))
        check_choice("last_relu", self.last_relu, (True, False))
        for name in ("kernel_size", "stride", "average"):
            option = getattr(self, name)
            numbers = _numbers(name, option, self.depth)
            if not isinstance(option, Integral):  # hashable, and safe from later changes
                object.__setattr__(self, name, tuple(numbers))

    @property
    def architecture(self) -> Architecture:
        """Return it as a composition of layers."""
        w, b = self.weight_variance, self.bias_variance
        circular = self.padding == "circular"
        padding: Literal["same", "valid"] = "valid" if self.padding == "valid" else "same"
        layers: list[Layer] = []
        for place, (size, stride, average) in enumerate(self._each, start=1):
            layers.append(Conv(size, stride, padding, circular, w, b))
            if self.last_relu or place < self.depth:
                layers.append(Relu())
            if average > 1:
                layers.append(AveragePool(average))
        layers += [GlobalAveragePool() if self.pooling == "mean" else Flatten(), Dense(w, b)]
        return Architecture(layers, self.kind)

    def block(self, queries: Float[Tensor, "m ..."], inputs: Float[Tensor, "n ..."]) -> Float[Tensor, "m n"]:
        """Return the kernel of every pair of images."""
        return self.architecture.block(queries, inputs)

    def diagonal(self, inputs: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        """Return k(x, x) for every image."""
        return self.architecture.diagonal(inputs)

    def tiles(self, queries: Tensor, inputs: Tensor | None, work: TileWork) -> Iterator[Tile]:
        """Return tiles, smaller than those of other kernels: each pair of images is much work."""
        return self.architecture.tiles(queries, inputs, work)

    def prior(self) -> "ConvReLU":
        """Return the kernel of the Gaussian process that the networks are before training."""
        return replace(self, kind="nngp")

    def check(self, name: str, inputs: Tensor) -> None:
        """Raise unless every input is an image that the network is defined on.

        Raises:
            DataError: not floating-point, NaN or infinity, or black images without a bias.
            ShapeError: no images, or images that are too small for these convolutions.
        """
        self.architecture.check(name, inputs)

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
