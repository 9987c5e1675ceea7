"""Layers one behind the other: what they do together, and whether they may follow each other."""

from collections.abc import Iterator, Sequence

from leftout.core.checks import shown
from leftout.core.errors import OptionError
from leftout.kernels.layers.layer import ActivationLayer, Axes, Layer, Signal
from leftout.kernels.layers.state import State, Variances

NOT_GAUSSIAN: dict[Signal, str] = {
    "data": "the data themselves",
    "flattened": "units of one row that lie at different positions and differ in variance. Put Flatten "
    "behind it: what acts on every unit by itself may be done before as well",
    "activated": "units that went through an activation",
    "mixed": "the sum of a branch and of units that went through an activation before it. Put the activation "
    "into the branches, as in residual networks with pre-activation, or a convolution into the shortcut",
}


def run_layers(
    layers: Sequence[Layer], state: State, variances: Variances, *, pairs_later: bool = False
) -> State:
    """Return the state behind all layers, without pairs of different positions once no layer needs them."""
    for place, layer in enumerate(layers):
        needed = pairs_later or any(later.mixes_positions for later in layers[place + 1 :])
        if not (needed or layer.mixes_positions):
            state = state.at_same_position()
        state = layer(state, variances, pairs_later=needed)
    return state if pairs_later else state.at_same_position()


def signal_behind(layers: Sequence[Layer], before: Signal, axes: Axes) -> Signal:
    """Return what comes out of layers; raise where a layer cannot be given what comes before it.

    Args:
        axes: whether the first is given images or rows.

    Raises:
        OptionError: an activation or a normalisation that is not behind sums over random weights.
    """
    for place, layer in enumerate(layers, start=1):
        suits = before == "gaussian" or (before == "flattened" and layer.linear)
        if layer.needs_gaussian and not suits:
            raise OptionError(
                f"`layers` must have a Dense or Conv layer before {layer.words}, layer {place}: in the limit "
                "of many units it is known for sums over random weights only, and would be given "
                f"{NOT_GAUSSIAN[before]}."
            )
        before = layer.signal(before, axes)
        axes = layer.axes_behind(axes)
    return before


def ends_fresh(layers: Sequence[Layer], fresh: bool = False) -> bool:
    """Return whether units behind layers are sums over weights of these layers: of mean 0, whatever came in.

    Args:
        fresh: whether the units that come in are such sums already.
    """
    for layer in layers:
        fresh = layer.ends_fresh(fresh)
    return fresh


def layers_given(name: str, layers: object) -> tuple[Layer, ...]:
    """Return layers as a tuple; raise if one of them is none."""
    given = tuple(layers) if isinstance(layers, Sequence) and not isinstance(layers, str) else (layers,)
    for layer in given:
        if not isinstance(layer, Layer):
            missing = f", a class: write {layer.__name__}(…)" if isinstance(layer, type) else ""
            raise OptionError(
                f"`{name}` must be layers of `leftout.kernels.layers`, such as Dense() or Relu(); got "
                f"{shown(layer)}{missing}."
            )
    return given


def input_axes(layers: Sequence[Layer]) -> Axes:
    """Return what the layers are given: images, rows of numbers, or either."""
    for layer in layers:
        if layer.axes != "any" or layer.ends_positions:
            return layer.axes
    return "any"


def every_layer(layers: Sequence[Layer]) -> Iterator[Layer]:
    """Yield layers, and in the place of residual blocks those of their branches."""
    for layer in layers:
        if layer.parts == (layer,):
            yield layer
        else:
            yield from every_layer(layer.parts)


def numbers_of_a_row(layers: Sequence[Layer]) -> int:
    """Return how many numbers activations hold of an input on either side, and while they make them."""
    asking = [layer for layer in every_layer(layers) if isinstance(layer, ActivationLayer)]
    kept = sum(2 * layer.numbers_kept for layer in asking)
    return kept + max((layer.numbers_passing for layer in asking), default=0)


def sides_behind(layers: Sequence[Layer], height: int, width: int) -> tuple[int, int]:
    """Return the sides of an image behind all layers."""
    for layer in layers:
        height, width = layer.sides(height, width)
    return height, width


def largest_behind(layers: Sequence[Layer], height: int, width: int) -> int:
    """Return the largest number of positions of an image before and behind each of the layers."""
    most = height * width
    for layer in layers:
        most = max(most, layer.largest(height, width))
        height, width = layer.sides(height, width)
    return most


def seen_through(layers: Sequence[Layer], places: set[int], length: int, axis: int) -> set[int]:
    """Return the rows (axis 0) or columns that places behind all layers depend on."""
    lengths = [length]
    for layer in layers:
        lengths.append(layer.sides(lengths[-1], lengths[-1])[axis])
    for layer, before in zip(reversed(layers), reversed(lengths[:-1]), strict=True):
        places = layer.places_seen(places, before, axis)
    return places


def axes_behind(layers: Sequence[Layer], now: Axes) -> Axes:
    """Return whether images or rows come out; raise where a layer is given what it cannot take.

    Raises:
        OptionError: a Dense layer on images, or a layer of images on rows of numbers.
    """
    for layer in layers:
        now = layer.axes_behind(now)
    return now
