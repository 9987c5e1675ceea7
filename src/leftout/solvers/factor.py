"""What does a factorisation of K + λI offer, whichever it is?"""

from abc import ABC, abstractmethod

from jaxtyping import Float64
from torch import Tensor


class Factor(ABC):
    """K + λI, ready to be solved with; `ridge` is λ."""

    ridge: float

    @abstractmethod
    def solve(self, rhs: Float64[Tensor, "n k"]) -> Float64[Tensor, "n k"]:
        """Return (K + λI)⁻¹ rhs."""

    @abstractmethod
    def inverse(self) -> Float64[Tensor, "n n"]:
        """Return (K + λI)⁻¹, symmetric."""
