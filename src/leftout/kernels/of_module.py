"""Which kernel of an infinitely wide network stands for a module? That of its architecture, if there is one.

The module is traced (torch.fx) into a chain of layers:

    [Linear, ReLU] × depth, Linear                                                       ReLU(depth)
    [Conv2d, ReLU, (AvgPool2d)] × depth, (mean over positions), flatten, Linear          ConvReLU(depth, …)

with Dropout, as it is in eval mode, and Identity left out. Trained weights do not tell from which variances
they were drawn: the kernels keep their defaults, He's variance 2 over fan-in and no biases.
"""

import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn

from leftout.core.checks import check_kind
from leftout.core.errors import LeftoutError, OptionError
from leftout.core.wording import exception_text
from leftout.kernels.base import Kernel
from leftout.kernels.wide.conv_relu import ConvReLU
from leftout.kernels.wide.options import Padding, Pooling
from leftout.kernels.wide.relu import ReLU

FLATTEN, RELU, MEAN = "flatten", "ReLU", "mean over positions"
"""Steps without parameters, however a forward writes them."""

Step = nn.Module | str

IDENTITIES = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout, nn.Unflatten)
"""Modules that change no number in eval mode."""

FUNCTIONS = {torch.relu: RELU, nn.functional.relu: RELU, torch.flatten: FLATTEN}
METHODS = {"relu": RELU, "flatten": FLATTEN}
UNCHANGED = ("contiguous", "float", "double")


def of(module: nn.Module) -> Kernel:
    """Return the tangent kernel of the infinitely wide network of a module's architecture.

    Args:
        module: Linear and ReLU layers, or Conv2d, ReLU and AvgPool2d layers and one Linear layer behind them,
            in any forward that torch.fx traces as a chain. Its weights are not looked at.

    Returns:
        `ReLU` or `ConvReLU`, in their default variances: weights 2 over fan-in, no biases.

    Raises:
        OptionError: a layer, a forward or an order of layers that these kernels do not have; names it.

    Cost:
        tracing of the forward, without numbers.

    Source:
        Jacot, Gabriel and Hongler 2018, "Neural tangent kernel"; Novak et al. 2019 for convolutions.

    Example:
        >>> import leftout as lo
        >>> from torch import nn
        >>> lo.kernels.of(nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)))
        ReLU(depth=1, weight_variance=2.0, bias_variance=0.0, kind='ntk')
        >>> lo.kernels.of(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))).padding
        'valid'
    """
    check_kind("module", module, nn.Module, what="an nn.Module")
    steps = list(_steps(module))
    if not steps or not isinstance(steps[-1], nn.Linear):
        raise OptionError(
            "`module` must end with a Linear layer, the readout of its outputs; it "
            f"{f'ends with {_name(steps[-1])}' if steps else 'has no layers'}."
        )
    if any(isinstance(step, nn.Conv2d) for step in steps):
        return _convolutional(steps[:-1])
    return _fully_connected(steps[:-1])


def _fully_connected(steps: list[Step]) -> Kernel:
    """Return the kernel of hidden layers: what comes before the readout."""
    layers = [step for step in steps if step != FLATTEN]
    depth, odd = divmod(len(layers), 2)
    alternates = all(
        isinstance(layer, nn.Linear) if place % 2 == 0 else layer == RELU
        for place, layer in enumerate(layers)
    )
    if odd or not alternates or not depth:
        raise OptionError(
            "`module` must have hidden layers of one Linear and one ReLU each; before its readout it has "
            f"{_names(layers)}."
        )
    return ReLU(depth)


def _convolutional(steps: list[Step]) -> Kernel:
    """Return the kernel of convolutions: what comes before the readout."""
    layers: list[tuple[nn.Conv2d, int]] = []
    rest = list(steps)
    while rest and isinstance(convolution := rest[0], nn.Conv2d):
        rest.pop(0)
        if not rest or rest.pop(0) != RELU:
            raise OptionError(f"`module` must have a ReLU behind every convolution; {_names(steps)} has not.")
        average = 1
        if rest and isinstance(pool := rest[0], nn.AvgPool2d):
            average = _average(pool)
            rest.pop(0)
        layers.append((convolution, average))
    pooling: Pooling = "mean" if rest and rest[0] == MEAN else "flatten"
    rest = rest[pooling == "mean" :]
    if not layers or rest not in ([FLATTEN], [] if pooling == "mean" else [FLATTEN]):
        raise OptionError(
            "`module` must have convolutions, each with a ReLU and perhaps an AvgPool2d, and then one Linear "
            f"layer; before that it has {_names(steps)}."
        )
    named = [_padding_name(convolution) for convolution, _ in layers]
    paddings: set[Padding] = {padding for padding in named if padding is not None} or {"valid"}
    if len(paddings) > 1:
        raise OptionError(
            f"`module` must pad all convolutions alike; these are {', '.join(sorted(paddings))}."
        )
    return ConvReLU(
        len(layers),
        kernel_size=_one_or_each([_side("kernel_size", convolution) for convolution, _ in layers]),
        stride=_one_or_each([_side("stride", convolution) for convolution, _ in layers]),
        padding=paddings.pop(),
        pooling=pooling,
        average=_one_or_each([average for _, average in layers]),
    )


def _one_or_each(numbers: list[int]) -> int | tuple[int, ...]:
    """Return the number of all layers, or one for each where they differ."""
    return numbers[0] if len(set(numbers)) == 1 else tuple(numbers)


def _side(option: str, layer: nn.Module) -> int:
    """Return the side of a square."""
    sides = getattr(layer, option)
    first, second = sides if isinstance(sides, tuple) else (sides, sides)
    if first != second:
        raise OptionError(f"`module` must have square windows and strides; {layer} has not.")
    return int(first)


def _average(layer: nn.Module) -> int:
    """Return the side of the squares that are averaged, each position once."""
    side = _side("kernel_size", layer)
    if side != _side("stride", layer) or layer.padding not in (0, (0, 0)) or layer.ceil_mode:
        raise OptionError(
            f"`module` must average squares that touch and do not overlap; {layer} does otherwise."
        )
    return side


def _padding_name(convolution: nn.Conv2d) -> Padding | None:
    """Return which padding this is, in the kernels' names; None of windows of one pixel, which need none."""
    if convolution.groups != 1 or convolution.dilation != (1, 1) or convolution.padding_mode not in PADDED:
        raise OptionError(
            f"`module` must have plain convolutions, without groups or dilation; got {convolution}."
        )
    size, stride = _side("kernel_size", convolution), _side("stride", convolution)
    padding = convolution.padding
    if padding in ("valid", (0, 0)) or (padding == "same" and size == 1):
        return "valid" if size > 1 else None
    if padding in ("same", (size // 2, size // 2)) and size % 2 and stride == 1:
        return PADDED[convolution.padding_mode]
    raise OptionError(
        f"`module` must pad convolutions so that pictures keep their size, at stride 1, or not at all; got "
        f"{convolution}."
    )


PADDED: dict[str, Padding] = {"zeros": "same", "circular": "circular"}


def _steps(module: nn.Module) -> Iterator[Step]:
    """Yield the layers of a chain, in the order of the forward.

    Raises:
        OptionError: the forward is no chain, or cannot be traced.
    """
    try:
        graph = fx.symbolic_trace(module).graph
    except LeftoutError:
        raise
    except Exception as error:
        raise OptionError(
            f"`module` must have a forward that torch.fx can trace; it raised {exception_text(error)}"
        ) from error
    shapes = {node for node in graph.nodes if _is_shape(node)}
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    previous = inputs[0]
    for node in graph.nodes:
        if node.op in ("placeholder", "output") or node in shapes:
            continue
        sources = set(node.all_input_nodes) - shapes
        if len(inputs) > 1 or sources != {previous} or len(set(previous.users) - shapes) > 1:
            raise OptionError(f"`module` must be a chain of layers; at {node.name!r} its forward branches.")
        previous = node
        layer = module.get_submodule(node.target) if node.op == "call_module" else None
        step = _step(node, layer)
        if step is not None:
            yield step


def _is_shape(node: Any) -> bool:
    """Return whether a call asks for a shape, or takes a number of one."""
    if node.op == "call_method":
        return bool(node.target == "size")
    if node.op != "call_function":
        return False
    return (node.target is getattr and node.args[1] == "shape") or (
        node.target is operator.getitem and _is_shape(node.args[0])
    )


def _step(node: Any, layer: nn.Module | None) -> Step | None:
    """Return what one call does; None where it changes no number."""
    if layer is None:
        known = FUNCTIONS if node.op == "call_function" else METHODS if node.op == "call_method" else {}
        if node.target in known:
            return known[node.target]
        if node.op == "call_method" and node.target in ("view", "reshape") and node.args[-1] == -1:
            return FLATTEN
        if node.target in ("mean", torch.mean) and _dimensions(node) in ({2, 3}, {-2, -1}):
            return MEAN
        if node.op == "call_method" and node.target in UNCHANGED:
            return None
        raise _unknown(str(node.target) if node.op != "call_function" else node.name)
    if isinstance(layer, IDENTITIES):
        return None
    if isinstance(layer, nn.Flatten):
        return FLATTEN
    if isinstance(layer, nn.ReLU):
        return RELU
    if isinstance(layer, nn.AdaptiveAvgPool2d) and layer.output_size in (1, (1, 1)):
        return MEAN
    if isinstance(layer, nn.Linear | nn.Conv2d | nn.AvgPool2d):
        return layer
    raise _unknown(type(layer).__name__)


def _dimensions(node: Any) -> set[int]:
    """Return the axes over which a mean goes, where nothing else is asked of it."""
    given = [*node.args[1:], *node.kwargs.values()]
    return set(given[0]) if len(given) == 1 and isinstance(given[0], list | tuple) else set()


def _unknown(layer: str) -> OptionError:
    return OptionError(
        "`module` must consist of Linear, Conv2d, ReLU, AvgPool2d and a mean over positions, layers of which "
        f"there are kernels of wide networks here; it has {layer}."
    )


def _names(steps: list[Step]) -> str:
    return ", ".join(map(_name, steps)) or "nothing"


def _name(step: Step) -> str:
    return step if isinstance(step, str) else type(step).__name__
