"""Which layer of a wide network is a module, a function or a method of PyTorch?

A layer that is none is refused by its name, with what to do.
"""

from collections.abc import Callable, Mapping
from copy import copy
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from leftout.core.errors import OptionError
from leftout.kernels.layers.activation import Activation
from leftout.kernels.layers.batch_norm import BatchNorm
from leftout.kernels.layers.conv import Conv
from leftout.kernels.layers.dense import Dense
from leftout.kernels.layers.erf import Erf
from leftout.kernels.layers.flatten import Flatten
from leftout.kernels.layers.gelu import Gelu
from leftout.kernels.layers.layer import Axes, Layer
from leftout.kernels.layers.layer_norm import LayerNorm
from leftout.kernels.layers.pool import AveragePool, GlobalAveragePool
from leftout.kernels.layers.relu import Abs, LeakyRelu, Relu
from leftout.kernels.layers.sine import Cosine, Sine
from leftout.kernels.layers.tanh import Tanh
from leftout.kernels.module.initialisation import Variances

UNCHANGED_MODULES = (
    nn.Identity,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)
"""Modules that change no number in eval mode."""

SERIES = {
    nn.SiLU: functional.silu,
    nn.Sigmoid: torch.sigmoid,
    nn.Softplus: None,
    nn.ELU: None,
    nn.CELU: None,
    nn.SELU: functional.selu,
    nn.Mish: functional.mish,
    nn.Softsign: functional.softsign,
    nn.LogSigmoid: functional.logsigmoid,
    nn.Tanhshrink: functional.tanhshrink,
    nn.Hardtanh: None,
    nn.ReLU6: functional.relu6,
    nn.Hardswish: functional.hardswish,
    nn.Hardsigmoid: functional.hardsigmoid,
    nn.Softshrink: None,
}
"""Activations without a closed form here; None where the module itself is the function, with its options."""

CLOSED: dict[Any, Layer] = {
    torch.relu: Relu(),
    functional.relu: Relu(),
    torch.tanh: Tanh(),
    functional.tanh: Tanh(),
    torch.erf: Erf(),
    torch.special.erf: Erf(),
    torch.sin: Sine(),
    torch.cos: Cosine(),
    torch.abs: Abs(),
    "relu": Relu(),
    "relu_": Relu(),
    "tanh": Tanh(),
    "erf": Erf(),
    "sin": Sine(),
    "cos": Cosine(),
    "abs": Abs(),
}
"""Functions, and methods by name, with a closed form or a series of their own."""

SERIES_FUNCTIONS = {function for function in SERIES.values() if function is not None} | {
    functional.elu,
    functional.celu,
    functional.softplus,
    functional.hardtanh,
    functional.sigmoid,
}

ADVICE = {
    nn.MaxPool2d: "Take AvgPool2d, of which the kernel is known.",
    nn.Softmax: "Take it off: leftout works with logits.",
    nn.LogSoftmax: "Take it off: leftout works with logits.",
    nn.PReLU: "Take one slope for all channels, PReLU(), or LeakyReLU.",
    nn.InstanceNorm2d: "Take GroupNorm or LayerNorm.",
    nn.AdaptiveAvgPool2d: "Take AvgPool2d with the sizes of the windows, or an output size of 1.",
}
FLATTEN_ADVICE = "Flatten all axes but the first, x.flatten(1); a mean over positions is x.mean((2, 3))."
ANY_ADVICE = "Leave it out, or take Empirical(module), which takes any network as it is."


def layer_of_module(
    layer: nn.Module, name: str, axes: Axes, variances: Variances, tolerance: float
) -> Layer | None:
    """Return the layer that a module is; None where it changes no number.

    Args:
        name: where it is in the network, in messages.
        axes: what it is given.

    Raises:
        OptionError: it is none of which a kernel is known.
    """
    if isinstance(layer, UNCHANGED_MODULES):
        return None
    variances.check_normalisation(layer, name)
    if isinstance(layer, nn.Linear):
        return Dense(*variances.of(layer, name))
    if isinstance(layer, nn.Conv2d):
        if axes == "rows" and layer.kernel_size == (1, 1) and layer.padding == (0, 0) and layer.groups == 1:
            return Dense(*variances.of(layer, name))  # of images of one position, behind their mean
        return _conv(layer, name, variances)
    if isinstance(layer, nn.Flatten):
        return flatten(name, layer.start_dim, layer.end_dim)
    if isinstance(layer, nn.LeakyReLU):
        return LeakyRelu(float(layer.negative_slope))
    if isinstance(layer, nn.PReLU) and layer.weight.numel() == 1:
        return LeakyRelu(float(layer.weight.detach()))
    if type(layer) in (nn.ReLU, nn.Tanh):
        return Relu() if type(layer) is nn.ReLU else Tanh()
    if isinstance(layer, nn.GELU):
        return gelu(layer.approximate, tolerance)
    if isinstance(layer, nn.AvgPool2d):
        return average_pool(name, **{key: getattr(layer, key) for key in AVERAGE})
    if isinstance(layer, nn.AdaptiveAvgPool2d) and layer.output_size in (1, (1, 1)):
        return GlobalAveragePool()
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) and layer.track_running_stats:
        return BatchNorm(layer.eps)
    if isinstance(layer, nn.GroupNorm) and layer.num_groups < layer.num_channels:
        return LayerNorm(layer.eps, "all")
    if isinstance(layer, nn.LayerNorm):
        return _layer_norm(layer, name, axes)
    if type(layer) in SERIES:
        return Activation(SERIES[type(layer)] or _not_in_place(layer), _activation_name(layer), tolerance)
    advice = next((text for kind, text in ADVICE.items() if isinstance(layer, kind)), ANY_ADVICE)
    raise unknown(f"{name} ({type(layer).__name__})", advice)


def layer_of_function(
    function: Any, name: str, args: tuple[Any, ...], options: Mapping[str, Any], tolerance: float
) -> Layer:
    """Return the layer that a call of a function or a method, given by its name, is.

    Args:
        args, options: of the call, without the numbers that go through.

    Raises:
        OptionError: it is none of which a kernel is known.
    """
    if function in CLOSED and args in ((), (True,), (False,)) and set(options) <= {"inplace"}:
        return CLOSED[function]  # what may be given besides is whether it works in place
    if function in (functional.leaky_relu,):
        return LeakyRelu(float(_argument(args, options, 0, "negative_slope", 0.01)))
    if function is functional.gelu:
        return gelu(_argument(args, options, 0, "approximate", "none"), tolerance)
    if function in SERIES_FUNCTIONS or function in ("sigmoid",):
        of = torch.sigmoid if function == "sigmoid" else function
        bound = _bind(of, args, options)
        words = [repr(value) for value in args]
        words += [f"{key}={value!r}" for key, value in options.items() if key != "inplace"]
        return Activation(bound, of.__name__ + (f"({', '.join(words)})" if words else ""), tolerance)
    if function in (torch.flatten, "flatten"):
        start = _argument(args, options, 0, "start_dim", 0)
        return flatten(name, start, _argument(args, options, 1, "end_dim", -1))
    if function in (functional.avg_pool2d, torch._C._nn.avg_pool2d):
        given = dict(zip(AVERAGE, args, strict=False)) | dict(options)
        return average_pool(name, **given)
    if function is functional.adaptive_avg_pool2d and _argument(args, options, 0, "output_size", None) in (
        1,
        (1, 1),
        [1, 1],
    ):
        return GlobalAveragePool()
    if function in (torch.mean, "mean") and _axes(_argument(args, options, 0, "dim", None)) in (
        {2, 3},
        {-2, -1},
    ):
        return GlobalAveragePool()
    text = function if isinstance(function, str) else getattr(function, "__name__", str(function))
    advice = (
        ADVICE[nn.MaxPool2d]
        if "max_pool" in text
        else ADVICE[nn.Softmax]
        if "softmax" in text
        else ANY_ADVICE
    )
    raise unknown(f"a call of {text}", advice)


def flatten(name: str, start: int, end: int) -> Layer:
    """Return the layer that makes rows of numbers of images."""
    if start != 1 or end not in (-1, 3):
        raise unknown(f"{name}, which flattens axes {start} to {end}", FLATTEN_ADVICE)
    return Flatten()


AVERAGE = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
"""Options of an average over windows, in the order of the function's arguments."""


def average_pool(
    name: str,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Layer:
    """Return the average over windows."""
    padded = padding not in (0, (0, 0), [0, 0])
    if ceil_mode or divisor_override is not None or (padded and not count_include_pad):
        raise unknown(
            f"{name}, an average with ceil_mode, divisor_override or padding that is not counted",
            "Average whole windows, each over all its places.",
        )
    return AveragePool(kernel_size, stride or None, padding)


def gelu(approximate: str, tolerance: float) -> Layer:
    """Return GELU, or its approximation by tanh."""
    if approximate == "none":
        return Gelu()
    return Activation(partial(functional.gelu, approximate="tanh"), "GELU by tanh", tolerance)


def unknown(what: str, advice: str) -> OptionError:
    """Return the refusal of a layer."""
    return OptionError(
        f"`module` must consist of layers of which the kernel of wide networks is known; it has {what}. "
        f"{advice}"
    )


def _activation_name(activation: nn.Module) -> str:
    """Return the name of an activation, with its options where they are not PyTorch's own."""
    plain = _not_in_place(activation)
    return type(activation).__name__ if repr(plain) == repr(type(activation)()) else repr(plain)


def _not_in_place(activation: nn.Module) -> nn.Module:
    """Return an activation with its options that leaves alone what it is given."""
    twin: Any = copy(activation)
    if hasattr(twin, "inplace"):
        twin.inplace = False
    return cast(nn.Module, twin)


def _conv(layer: nn.Conv2d, name: str, variances: Variances) -> Layer:
    if layer.groups != 1 or layer.dilation != (1, 1) or layer.padding_mode not in ("zeros", "circular"):
        raise unknown(
            f"{name}, a convolution with groups, dilation or padding by {layer.padding_mode}",
            "Take a plain one, padded by zeros or around a circle.",
        )
    size, stride, padding = cast(tuple[Any, Any, Any], (layer.kernel_size, layer.stride, layer.padding))
    return Conv(size, stride, padding, layer.padding_mode == "circular", *variances.of(layer, name))


def _layer_norm(layer: nn.LayerNorm, name: str, axes: Axes) -> Layer:
    if len(layer.normalized_shape) == 3 and axes == "images":
        return LayerNorm(layer.eps, "all")
    if len(layer.normalized_shape) == 1 and axes != "images":
        return LayerNorm(layer.eps, "channels")
    raise unknown(
        f"{name}, a LayerNorm over some axes of images",
        "Take GroupNorm, or a LayerNorm over all axes but the first.",
    )


def _argument(args: tuple[Any, ...], options: Mapping[str, Any], place: int, name: str, default: Any) -> Any:
    return args[place] if len(args) > place else options.get(name, default)


def _bind(
    function: Callable[..., Tensor], args: tuple[Any, ...], options: Mapping[str, Any]
) -> Callable[[Tensor], Tensor]:
    """Return a function of its first argument alone."""
    if not args and not options:
        return function
    kept = {name: value for name, value in options.items() if name != "inplace"}
    return lambda numbers: function(numbers, *args, **kept)


def _axes(given: Any) -> set[int]:
    return set(given) if isinstance(given, list | tuple) else set()
