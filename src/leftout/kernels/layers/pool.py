"""Averages over positions, of one window or of all: K' is the mean of K(p, q) over p in one and q in the
other.

    average         K'(P, Q) = mean of K(p, q) over p in the window P, q in the window Q
    global average  K' = mean of K(p, q) over all p and q

T' likewise. Places that are added around an image count as zeros.
"""

from dataclasses import dataclass, replace
from typing import final

from leftout.kernels.layers.conv import at_axis, one_or_two
from leftout.kernels.layers.layer import Layer
from leftout.kernels.layers.state import State, Variances
from leftout.kernels.layers.windows import Windows, over_pairs_of_windows, windows_of


@final
@dataclass(frozen=True)
class AveragePool(Layer):
    """The average over windows.

    Args:
        size: side of the window, or height and width.
        stride: of the window; its size where None.
        padding: zeros before and behind, which count in the average.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> from leftout.kernels.layers import AveragePool, Conv, Dense, Flatten
        >>> kernel = lo.kernels.serial(Conv(1, weight_variance=1.0), AveragePool(2), Flatten(), Dense(1.0))
        >>> kernel.block(torch.eye(2)[None, None], torch.eye(2)[None, None])
        tensor([[0.5000]])
    """

    size: int | tuple[int, int]
    stride: int | tuple[int, int] | None = None
    padding: int | tuple[int, int] = 0

    axes = "images"
    mixes_positions = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", one_or_two("size", self.size, 1))
        object.__setattr__(
            self, "stride", self.size if self.stride is None else one_or_two("stride", self.stride, 1)
        )
        object.__setattr__(self, "padding", one_or_two("padding", self.padding, 0))

    def __call__(self, state: State, variances: Variances, *, pairs_later: bool = False) -> State:
        before = state.covariance
        windows = [self.windows(length, axis) for axis, length in enumerate(before.sides)]
        share = 1 / (windows[0].size * windows[1].size) ** 2
        covariance = before.with_value(over_pairs_of_windows(before.k12, windows).mul_(share))
        tangent = state.tangent
        if tangent is not None:
            tangent = over_pairs_of_windows(tangent, windows).mul_(share)
        return replace(state, covariance=covariance, tangent=tangent)

    @property
    def words(self) -> str:
        return f"AveragePool {' x '.join(str(at_axis(self.size, axis)) for axis in (0, 1))}"

    def windows(self, length: int, axis: int) -> Windows:
        """Return the windows along an axis of an image."""
        assert self.stride is not None
        size, stride, padding = (at_axis(option, axis) for option in (self.size, self.stride, self.padding))
        return windows_of(length, size, stride, padding)

    def sides(self, height: int, width: int) -> tuple[int, int]:
        return self.windows(height, 0).count, self.windows(width, 1).count

    def places_seen(self, places: set[int], length: int, axis: int) -> set[int]:
        return self.windows(length, axis).seen_by(places)


@final
@dataclass(frozen=True)
class GlobalAveragePool(Layer):
    """The average over all positions.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> from leftout.kernels.layers import Conv, Dense, GlobalAveragePool
        >>> kernel = lo.kernels.serial(Conv(1, weight_variance=1.0), GlobalAveragePool(), Dense(1.0))
        >>> kernel.block(torch.eye(2)[None, None], torch.eye(2)[None, None])
        tensor([[0.5000]])
    """

    axes = "images"
    mixes_positions = True
    ends_positions = True

    def __call__(self, state: State, variances: Variances, *, pairs_later: bool = False) -> State:
        every = (0, 1, 2, 3)
        covariance = state.covariance.without_positions(state.covariance.k12.mean(every))
        tangent = None if state.tangent is None else state.tangent.mean(every)
        return replace(state, covariance=covariance, tangent=tangent)

    def places_seen(self, places: set[int], length: int, axis: int) -> set[int]:
        return set(range(length))
