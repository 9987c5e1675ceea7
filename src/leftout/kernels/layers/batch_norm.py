"""Batch normalisation as it is in eval mode before training: running mean 0, running variance 1.

    K' = K / (1 + ε),        T' = T / (1 + ε)

What it does to a batch in training depends on the whole batch, and is no kernel of two inputs.
"""

from dataclasses import dataclass
from typing import final

from leftout.core.checks import check_at_least
from leftout.kernels.layers.layer import Layer
from leftout.kernels.layers.state import State, Variances


@final
@dataclass(frozen=True)
class BatchNorm(Layer):
    """Batch normalisation in eval mode with the statistics that it has before training.

    Args:
        epsilon: added to the variance.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> from leftout.kernels.layers import BatchNorm, Dense
        >>> lo.kernels.serial(Dense(1.0), BatchNorm(1.0)).block(torch.eye(2), torch.eye(2))
        tensor([[0.2500, 0.0000],
                [0.0000, 0.2500]])
    """

    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        check_at_least("epsilon", self.epsilon, 0)

    @property
    def words(self) -> str:
        return "BatchNorm as before training"

    def __call__(self, state: State, variances: Variances, *, pairs_later: bool = False) -> State:
        share = 1 / (1 + self.epsilon)
        return state.after(state.covariance.times(share), share)
