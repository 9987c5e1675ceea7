"""A fixed number by which every unit is multiplied: K' = a² K, T' = a² T."""

import math
from dataclasses import dataclass
from typing import final

from leftout.core.checks import is_real
from leftout.core.errors import OptionError
from leftout.kernels.layers.layer import Layer
from leftout.kernels.layers.state import State, Variances


@final
@dataclass(frozen=True)
class Scale(Layer):
    """Multiplication of every unit by one number, not trained.

    Args:
        factor: a, not 0.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> from leftout.kernels.layers import Dense, Scale
        >>> lo.kernels.serial(Dense(1.0), Scale(0.5)).block(torch.eye(2), torch.eye(2))
        tensor([[0.1250, 0.0000],
                [0.0000, 0.1250]])
    """

    factor: float

    def __post_init__(self) -> None:
        if not is_real(self.factor) or not math.isfinite(self.factor) or self.factor == 0:
            raise OptionError(f"`factor` must be a finite number other than 0; got {self.factor!r}.")

    @property
    def words(self) -> str:
        return f"Scale {self.factor:.3g}"

    def __call__(self, state: State, variances: Variances, *, pairs_later: bool = False) -> State:
        square = float(self.factor) ** 2
        return state.after(state.covariance.times(square), square)
