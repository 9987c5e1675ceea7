"""The tangent kernel of a wide two-layer network, both of whose layers are trained.

    f(x) = m^-1/2 Σ_r a_r σ(w_r·x),    a_r ~ N(0, 1),  w_r ~ N(0, I)

As m grows, the product of two gradients becomes, with u = w·x and v = w·z,

    k(x, z) = E[σ(u) σ(v)] + x·z E[σ'(u) σ'(v)].

That is the deep kernel of one hidden layer at inputs √d times as long.
"""

import math
from dataclasses import dataclass
from typing import Any, final, get_args

from jaxtyping import Float
from torch import Tensor

from leftout.core.checks import check_choice
from leftout.kernels.base import Kernel
from leftout.kernels.layers.dense import Dense
from leftout.kernels.layers.erf import Erf
from leftout.kernels.layers.gelu import Gelu
from leftout.kernels.layers.layer import ActivationLayer
from leftout.kernels.layers.relu import Relu
from leftout.kernels.layers.tanh import Tanh, check_tanh_variances
from leftout.kernels.rows import check_not_zero, check_vectors, flat_rows, lengths
from leftout.kernels.wide.architecture import Architecture
from leftout.kernels.wide.options import Activation

ACTIVATIONS: dict[str, ActivationLayer] = {"relu": Relu(), "erf": Erf(), "tanh": Tanh(), "gelu": Gelu()}


@final
@dataclass(frozen=True)
class TwoLayer(Kernel):
    """The neural tangent kernel of a two-layer network whose two layers are trained.

    Inputs of more than one axis are flattened. There is no bias: append a constant feature for one.

    Args:
        activation: "relu", "tanh", "erf" or "gelu".

    Cost, accuracy:
        those of the deep kernel of one hidden layer; for GELU one product, one arctangent and some
        thirty-five passes over each block. There 4 ε on the diagonal and 8 ε + 5 δ in units of
        sqrt(k(x, x) k(z, z)), δ the error of a cosine (at most d roundings, typically √d), however
        long inputs are.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> x = torch.tensor([[0.6, 0.8], [0.8, -0.6]])
        >>> lo.kernels.TwoLayer("gelu").block(x, x)
        tensor([[0.8811, 0.0796],
                [0.0796, 0.8811]])
    """

    activation: Activation

    normalise = "unit"

    def __post_init__(self) -> None:
        check_choice("activation", self.activation, get_args(Activation))

    @property
    def architecture(self) -> Architecture:
        """Return it as a composition of layers, of inputs √d times as long."""
        return Architecture((Dense(1.0), ACTIVATIONS[self.activation], Dense(1.0)))

    def block(self, queries: Float[Tensor, "m ..."], inputs: Float[Tensor, "n ..."]) -> Float[Tensor, "m n"]:
        """Return the kernel of every pair."""
        return self.architecture.block(_longer(queries), _longer(inputs))

    def diagonal(self, inputs: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        """Return E[σ²] + |x|² E[σ'²]."""
        return self.architecture.diagonal(_longer(inputs))

    def check(self, name: str, inputs: Tensor) -> None:
        """Raise unless every input is a vector of finite numbers, not zero.

        Raises:
            DataError: not floating-point, NaN or infinity, a zero vector; for tanh, |x|² > 32.
            ShapeError: no axis of features.
        """
        check_vectors(name, inputs)
        check_not_zero(name, inputs, why="Without a bias every network maps it to 0: drop it.")
        if self.activation == "tanh":
            check_tanh_variances(name, lengths(flat_rows(inputs)).square(), 0, what="|x|²", normalise="unit")

    @property
    def record(self) -> dict[str, Any]:
        """Return name and activation."""
        return {"name": "two-layer", "activation": self.activation}


def _longer(inputs: Tensor) -> Float[Tensor, "n d"]:
    """Return rows √d times as long: the first layer divides by d."""
    rows = flat_rows(inputs)
    return math.sqrt(rows.shape[1]) * rows
