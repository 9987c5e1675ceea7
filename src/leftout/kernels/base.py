"""What is a kernel? A function of two batches of inputs, and of one batch with itself.

A kernel says how alike two inputs are to the network it stands for. Subclasses give `block`, the
values between two small batches, and `diagonal`; `assemble` cuts large matrices into blocks.
"""

from abc import ABC, abstractmethod
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

Normalise = Literal["unit", "sphere", "standard"]


class Kernel(ABC):
    """k(x, z), symmetric and positive semi-definite."""

    normalise: Normalise | None = None
    """How loading should scale inputs for this kernel when the user does not say."""

    @abstractmethod
    def block(
        self, queries: Float[Tensor, "m ..."], inputs: Float[Tensor, "n ..."]
    ) -> Float[Tensor, "m n"]:
        """Return k(queries, inputs), in the dtype and on the device of the inputs."""

    @abstractmethod
    def diagonal(self, inputs: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        """Return k(x, x) for every input."""

    @abstractmethod
    def check(self, name: str, inputs: Tensor) -> None:
        """Raise unless `inputs`, called `name` in messages, are what this kernel is defined on."""

    @property
    @abstractmethod
    def record(self) -> dict[str, Any]:
        """Return name and parameters, JSON-like: enough to say which kernel this was."""

    def initial(self, inputs: Float[Tensor, "n ..."]) -> Tensor | None:
        """Return f_0 at the inputs, (n, k), or None where f_0 = 0 (infinitely wide networks)."""
        return None
