"""What is a kernel? A function of two batches of inputs, and of one batch with itself.

A kernel says how alike two inputs are to the network it stands for. Subclasses give `block`, the
values between two small batches, and `diagonal`; `assemble` cuts large matrices into tiles.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from leftout.kernels.distortion import Distortion
from leftout.kernels.tiles import Tile, TileWork, pair_tiles

Normalise = Literal["unit", "sphere", "standard"]


class Kernel(ABC):
    """k(x, z), symmetric and, unless it says otherwise, positive semi-definite."""

    normalise: Normalise | None = None
    """How loading should scale inputs for this kernel when the user does not say."""

    definite: bool = True
    """Whether its matrices are positive semi-definite; those of kernels that see labels need not be."""

    @property
    def outputs(self) -> int | None:
        """Return k where the kernel tells outputs apart, None where one value serves all of them.

        Its matrices then have k rows an input, input by input: row i·k + o is output o of input i.
        """
        return None

    @property
    def dtype(self) -> torch.dtype | None:
        """Return the dtype that it is evaluated in whatever was asked; None where it follows."""
        return None

    @abstractmethod
    def block(self, queries: Float[Tensor, "m ..."], inputs: Float[Tensor, "n ..."]) -> Float[Tensor, "m n"]:
        """Return k(queries, inputs), in the dtype and on the device of the inputs.

        A kernel that tells outputs apart returns (m k, n k).
        """

    @abstractmethod
    def diagonal(self, inputs: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        """Return k(x, x) for every input; (n k) where outputs are told apart."""

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

    def prior(self) -> "Kernel | None":
        """Return the kernel of the Gaussian process that its networks are before training, or None.

        None where it is not known from the kernel how a network's weights are drawn: of a matrix, a
        function or a network as it is, and of `TwoLayerReLU`, which does not depend on their scale
        (`ArcCosine(scale)` is its prior).
        """
        return None

    def distortion(self, inputs: Tensor) -> Distortion | None:
        """Return how far it is from the kernel that it approximates, on a sample; None if it is exact."""
        return None

    def tiles(self, queries: Tensor, inputs: Tensor | None, work: TileWork) -> Iterator[Tile]:
        """Return tiles that cover K(queries, inputs), or a triangle of K(queries) if `inputs` is None.

        In a triangle, tiles on the diagonal are square. Values are on the device of `work`.

        Raises:
            MemoryBudgetError: it does not fit; nothing was allocated.
        """
        return pair_tiles(self.block, queries, inputs, work)
