"""A convolution with a weight for every place of its window and channel, and one bias for a channel.

    K'(p, q) = w / size Σ_δ K(p + δ, q + δ) + b        T'(p, q) = w / size Σ_δ T(p + δ, q + δ) + K'(p, q)

over the places δ of the window, `size` of them. Outside an image both are 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

from leftout.core.checks import check_choice, is_whole
from leftout.core.errors import OptionError
from leftout.kernels.layers.dense import behind_weights, check_variances_given
from leftout.kernels.layers.layer import WeightedLayer
from leftout.kernels.layers.state import State, Variances
from leftout.kernels.layers.windows import Windows, over_windows, windows_of

Padding = Literal["same", "valid"] | int | tuple[int, int]


@final
@dataclass(frozen=True)
class Conv(WeightedLayer):
    """A convolution of random weights with infinitely many channels.

    Args:
        size: side of the window, or height and width.
        stride: of the window, or along rows and along columns.
        padding: "same" (as many places as the stride leaves, the odd zero at the end), "valid" (none), or how
            many places before and behind each axis, as PyTorch counts them: one number, or two.
        circular: whether images go on at the other side, instead of zeros.
        weight_variance: times fan-in, places of the window times channels.
        bias_variance: 0 for no biases.

    Raises:
        OptionError: sizes, strides or padding that are not whole numbers, a negative variance.

    Source:
        Novak et al. 2019, "Bayesian deep convolutional networks with many channels are Gaussian processes";
        Arora et al. 2019, "On exact computation with an infinitely wide neural net".

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> from leftout.kernels.layers import Conv, Dense, GlobalAveragePool, Relu
        >>> kernel = lo.kernels.serial(Conv((1, 3), padding=(0, 1)), Relu(), GlobalAveragePool(), Dense())
        >>> kernel.block(torch.eye(4)[None, None], torch.ones(1, 1, 4, 4))
        tensor([[0.6771]])
    """

    size: int | tuple[int, int]
    stride: int | tuple[int, int] = 1
    padding: Padding = "same"
    circular: bool = False
    weight_variance: float = 2.0
    bias_variance: float = 0.0

    axes = "images"

    def __post_init__(self) -> None:
        for name, low in (("size", 1), ("stride", 1)):
            object.__setattr__(self, name, one_or_two(name, getattr(self, name), low))
        if not isinstance(self.padding, str):
            object.__setattr__(self, "padding", one_or_two("padding", self.padding, 0))
        else:
            check_choice("padding", self.padding, ("same", "valid"))
        check_choice("circular", self.circular, (True, False))
        check_variances_given(self.weight_variance, self.bias_variance)

    def __call__(self, state: State, variances: Variances, *, pairs_later: bool = False) -> State:
        before = state.covariance
        windows = tuple(self.windows(length, axis) for axis, length in enumerate(before.sides))
        share = self.weight_variance / (windows[0].size * windows[1].size)
        sums = over_windows(before, before.k12, windows).mul_(share)
        if self.bias_variance > 0:
            sums.add_(self.bias_variance)
        tangent = None if state.tangent is None else over_windows(before, state.tangent, windows)
        return behind_weights(state, before.with_value(sums), tangent, share)

    @property
    def words(self) -> str:
        sides = " x ".join(str(at_axis(self.size, axis)) for axis in (0, 1))
        return f"Conv {sides}" + ("" if self.stride == 1 else f" at stride {self.stride}")

    def windows(self, length: int, axis: int) -> Windows:
        """Return the windows along an axis of an image."""
        size, stride = at_axis(self.size, axis), at_axis(self.stride, axis)
        padding = self.padding if isinstance(self.padding, str) else at_axis(self.padding, axis)
        return windows_of(length, size, stride, padding, circular=self.circular)

    def sides(self, height: int, width: int) -> tuple[int, int]:
        return self.windows(height, 0).count, self.windows(width, 1).count

    def places_seen(self, places: set[int], length: int, axis: int) -> set[int]:
        return self.windows(length, axis).seen_by(places)


def one_or_two(name: str, option: Any, low: int) -> int | tuple[int, int]:
    """Return one whole number for both axes, or one for each; raise if it is neither."""
    if is_whole(option) and int(option) >= low:
        return int(option)
    numbers = list(option) if isinstance(option, Sequence) and not isinstance(option, str) else []
    if len(numbers) != 2 or not all(is_whole(number) and int(number) >= low for number in numbers):
        raise OptionError(
            f"`{name}` must be a whole number ≥ {low}, or two, for height and width; got {option!r}."
        )
    first, second = map(int, numbers)
    return first if first == second else (first, second)


def at_axis(option: int | tuple[int, int], axis: int) -> int:
    """Return the number for the height (axis 0) or the width (1)."""
    return option if isinstance(option, int) else option[axis]
