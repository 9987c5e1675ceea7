"""The interface of every factorisation of K + λI."""

from abc import ABC, abstractmethod

from jaxtyping import Float64
from torch import Tensor


class Factor(ABC):
    """K + λI in a form whose inverse is cheap to apply; `ridge` is λ."""

    ridge: float

    @abstractmethod
    def solve(self, rhs: Float64[Tensor, "n k"]) -> Float64[Tensor, "n k"]:
        """Return (K + λI)⁻¹ rhs."""

    @abstractmethod
    def inverse(self) -> Float64[Tensor, "n n"]:
        """Return (K + λI)⁻¹, symmetric."""
