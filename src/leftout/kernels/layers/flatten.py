"""All positions as units of one row: K' is the mean of K(p, p) over positions p, T' likewise.

The layer behind it has a weight for every position and channel, and divides by their number.
"""

from dataclasses import dataclass, replace
from typing import final

from leftout.kernels.layers.layer import Axes, Layer, Signal
from leftout.kernels.layers.state import State, Variances


@final
@dataclass(frozen=True)
class Flatten(Layer):
    """Images as rows of numbers; rows stay as they are.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> from leftout.kernels.layers import Conv, Dense, Flatten
        >>> kernel = lo.kernels.serial(Conv(1, weight_variance=1.0), Flatten(), Dense(1.0))
        >>> kernel.block(torch.eye(2)[None, None], torch.eye(2)[None, None])
        tensor([[1.]])
    """

    ends_positions = True

    def __call__(self, state: State, variances: Variances, *, pairs_later: bool = False) -> State:
        state = state.at_same_position()
        before = state.covariance
        if before.positions == "none":
            return state
        tangent = None if state.tangent is None else state.tangent.mean((0, 1))
        return replace(state, covariance=before.without_positions(before.k12.mean((0, 1))), tangent=tangent)

    def signal(self, before: Signal, axes: Axes) -> Signal:
        return "flattened" if before == "gaussian" and axes == "images" else before

    def places_seen(self, places: set[int], length: int, axis: int) -> set[int]:
        return set(range(length))
