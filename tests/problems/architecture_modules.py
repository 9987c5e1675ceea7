"""The networks of problems/architectures.py: as kernels of leftout, and as finite modules of torch."""

import math

import torch
from torch import Tensor, nn

from leftout.kernels import residual, serial
from leftout.kernels.layers import (
    Abs,
    AveragePool,
    Conv,
    Cosine,
    Dense,
    Erf,
    Flatten,
    Gelu,
    GlobalAveragePool,
    LayerNorm,
    LeakyRelu,
    Relu,
    Scale,
    Sine,
    Tanh,
)

LAYERS = {
    "dense": Dense,
    "relu": Relu,
    "leaky": LeakyRelu,
    "abs": Abs,
    "gelu": Gelu,
    "erf": Erf,
    "sine": Sine,
    "cosine": Cosine,
    "tanh": Tanh,
    "flatten": Flatten,
    "mean": GlobalAveragePool,
    "norm": LayerNorm,
    "scale": Scale,
}


def kernel_layer(name, *options):
    """Return a layer as leftout has it."""
    match name:
        case "conv":
            size, stride, padding, w, b = options
            circular = padding == "circular" or isinstance(padding, list)
            zeros = "same" if padding == "circular" else padding[1] if circular else padding
            return Conv(
                tuple(size), tuple(stride), zeros, circular=circular, weight_variance=w, bias_variance=b
            )
        case "pool":
            size, stride, padding = options
            return AveragePool(tuple(size), tuple(stride), padding)
        case "residual":
            branch, shortcut = options
            return residual(
                *(kernel_layer(*layer) for layer in branch),
                shortcut=tuple(kernel_layer(*layer) for layer in shortcut),
            )
    return LAYERS[name](*options)


def kernel_of(architecture, kind="ntk"):
    """Return the kernel of an architecture."""
    return serial(*(kernel_layer(*layer) for layer in architecture["layers"]), kind=kind)


class Function(nn.Module):
    """A function of every number."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Times(nn.Module):
    """A number times its input."""

    def __init__(self, factor) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each position."""

    def __init__(self, channels, epsilon) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=epsilon, elementwise_affine=False)

    def forward(self, x):
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Residual(nn.Module):
    """The sum of a branch and a shortcut."""

    def __init__(self, branch, shortcut) -> None:
        super().__init__()
        self.branch, self.shortcut = branch, shortcut

    def forward(self, x):
        return self.branch(x) + self.shortcut(x)


FUNCTIONS = {"abs": torch.abs, "erf": torch.erf, "sine": torch.sin, "cosine": torch.cos}
MODULES = {"relu": nn.ReLU, "leaky": nn.LeakyReLU, "gelu": nn.GELU, "tanh": nn.Tanh}


class Builder:
    """Modules one after the other, and the variance that each of their parameters is drawn with."""

    def __init__(self, shape, width) -> None:
        self.shape, self.width = list(shape), width
        self.variances: list[tuple[Tensor, float]] = []

    def chain(self, layers) -> nn.Sequential:
        return nn.Sequential(*(module for layer in layers for module in self.modules(*layer)))

    def modules(self, name, *options) -> list[nn.Module]:
        match name:
            case "dense":
                return [
                    self.with_variances(nn.Linear(self.shape[0], self.width, bias=options[1] > 0), *options)
                ]
            case "conv":
                return self.convolution(*options)
            case "pool":
                size, stride, padding = options
                self.shape[1:] = [
                    (length + 2 * padding - window) // step + 1
                    for length, window, step in zip(self.shape[1:], size, stride, strict=True)
                ]
                return [nn.AvgPool2d(tuple(size), tuple(stride), padding)]
            case "flatten":
                self.shape = [math.prod(self.shape)]
                return [nn.Flatten()]
            case "mean":
                self.shape = self.shape[:1]
                return [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
            case "norm" if len(self.shape) == 1:
                return [nn.LayerNorm(self.shape[0], eps=options[0], elementwise_affine=False)]
            case "norm" if len(options) == 1:
                return [ChannelNorm(self.shape[0], *options)]
            case "norm":
                return [nn.GroupNorm(1, self.shape[0], eps=options[0], affine=False)]
            case "scale":
                return [Times(*options)]
            case "residual":
                before = list(self.shape)
                shortcut = self.chain(options[1])
                self.shape = before
                return [Residual(self.chain(options[0]), shortcut)]
        return [Function(FUNCTIONS[name])] if name in FUNCTIONS else [MODULES[name](*options)]

    def convolution(self, size, stride, padding, w, b) -> list[nn.Module]:
        channels, *lengths = self.shape
        circular = padding == "circular" or isinstance(padding, list)
        if padding in ("same", "circular"):
            zeros = [self.added(*axis) for axis in zip(lengths, size, stride, strict=True)]
        else:
            places = 0 if padding == "valid" else padding[1] if circular else padding
            zeros = [(places, places)] * 2
        self.shape = [channels]
        for length, both, window, step in zip(lengths, zeros, size, stride, strict=True):
            self.shape.append((length + sum(both) - window) // step + 1)
        (top, bottom), (left, right) = zeros
        alike = (top, left) == (bottom, right)
        convolution = nn.Conv2d(
            channels,
            self.width,
            tuple(size),
            tuple(stride),
            (top, left) if alike else 0,
            bias=b > 0,
            padding_mode="circular" if circular and alike else "zeros",
        )
        pad = nn.CircularPad2d if circular else nn.ZeroPad2d
        added = [] if alike else [pad((left, right, top, bottom))]
        return [*added, self.with_variances(convolution, w, b)]

    @staticmethod
    def added(length, window, step) -> tuple[int, int]:
        """Return how many places "same" adds before and behind an axis."""
        missing = max(0, (-(-length // step) - 1) * step + window - length)
        return missing // 2, missing - missing // 2

    def with_variances(self, module, w, b) -> nn.Module:
        self.variances.append((module.weight, w / module.weight[0].numel()))
        if module.bias is not None:
            self.variances.append((module.bias, b))
        self.shape[0] = self.width
        return module


class Network:
    """A finite module of an architecture, with one output, and how its parameters are drawn."""

    def __init__(self, architecture, width) -> None:
        builder = Builder(architecture["input"], width)
        body = builder.chain(architecture["layers"][:-1])
        builder.width = 1
        self.module = nn.Sequential(*body, *builder.modules(*architecture["layers"][-1])).double()
        named = {id(parameter): name for name, parameter in self.module.named_parameters()}
        self.variances = {named[id(parameter)]: variance for parameter, variance in builder.variances}
        assert set(self.variances) == set(named.values())
        self.readout = [name for name in self.variances if name.startswith(f"{len(self.module) - 1}.")]

    def draw(self, generator) -> None:
        """Give every parameter a new value of its variance."""
        for name, parameter in self.module.named_parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.data *= self.variances[name] ** 0.5

    def kernels(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return products of gradients times the variance of their parameter; of the readout, its NNGP."""
        names, parameters = zip(*self.module.named_parameters(), strict=True)
        rows = [torch.autograd.grad(self.module(row[None])[0, 0], parameters) for row in inputs]
        products = {}
        for name, of_rows in zip(names, zip(*rows, strict=True), strict=True):
            gradients = torch.stack(of_rows).flatten(1)
            products[name] = self.variances[name] * gradients @ gradients.T
        return {"ntk": sum(products.values()), "nngp": sum(products[name] for name in self.readout)}
