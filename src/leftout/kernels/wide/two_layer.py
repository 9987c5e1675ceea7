"""How alike are two inputs to a wide two-layer network, both of whose layers are trained?

    f(x) = m^-1/2 Σ_r a_r σ(w_r·x),    a_r ~ N(0, 1),  w_r ~ N(0, I)

As m grows, the product of two gradients becomes, with u = w·x and v = w·z,

    k(x, z) = E[σ(u) σ(v)] + x·z E[σ'(u) σ'(v)].

For ReLU, erf and tanh that is the deep kernel of one hidden layer at inputs √d times as long. For
GELU, σ(u) = u Φ(u), with a = |x|², b = |z|², c = x·z, Δ = (1 + a)(1 + b) − c² and P = ¼ + atan2(c, √Δ) / 2π
(the chance that u and v both exceed an independent normal number of their own), by parts:

    E[σ σ]   = c P + N / 2π√Δ,      N = a b + c² κ,  κ = 1/(1 + a) + 1/(1 + b) − 1,
    E[σ' σ'] = P + (c + 2 c κ + N c / Δ) / 2π√Δ,        its derivative in c.
"""

import math
from dataclasses import dataclass
from typing import Any, final, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from leftout.core.checks import check_choice
from leftout.core.errors import DataError
from leftout.kernels.base import Kernel
from leftout.kernels.rows import check_not_zero, check_vectors, flat, lengths
from leftout.kernels.wide.activations import Activation
from leftout.kernels.wide.deep import Deep
from leftout.kernels.wide.erf import Erf
from leftout.kernels.wide.relu import ReLU
from leftout.kernels.wide.tanh import LARGEST, Tanh

DEEP: dict[str, type[Deep]] = {"relu": ReLU, "erf": Erf, "tanh": Tanh}


@final
@dataclass(frozen=True)
class TwoLayer(Kernel):
    """The neural tangent kernel of a two-layer network whose two layers are trained.

    Inputs of more than one axis are flattened. There is no bias: append a constant feature for one.

    Cost, accuracy:
        those of the deep kernel of one hidden layer; for GELU one product, one arctangent and about
        fifteen passes over each block, and 10 ε in units of sqrt(k(x, x) k(z, z)).
    """

    activation: Activation

    normalise = "unit"

    def __post_init__(self) -> None:
        check_choice("activation", self.activation, get_args(Activation))

    def block(
        self, queries: Float[Tensor, "m ..."], inputs: Float[Tensor, "n ..."]
    ) -> Float[Tensor, "m n"]:
        """Return the kernel of every pair."""
        x, z = flat(queries), flat(inputs)
        if self.activation == "gelu":
            a, b = lengths(x).square(), lengths(z).square()
            return _gelu(a[:, None], b[None], x @ z.T)
        longer = math.sqrt(x.shape[1])
        return self._deep().block(longer * x, longer * z)

    def diagonal(self, inputs: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        """Return E[σ²] + |x|² E[σ'²]."""
        x = flat(inputs)
        if self.activation == "gelu":
            a = lengths(x).square()
            return _gelu(a, a, a)
        return self._deep().diagonal(math.sqrt(x.shape[1]) * x)

    def check(self, name: str, inputs: Tensor) -> None:
        """Raise unless every input is a vector of finite numbers, not zero.

        Raises:
            DataError: not floating-point, NaN or infinity, a zero vector; for tanh, |x|² > 32.
            ShapeError: no axis of features.
        """
        check_vectors(name, inputs)
        check_not_zero(name, inputs, why="Without a bias it is 0 to every network: drop it.")
        squares = lengths(flat(inputs)).square()
        if self.activation == "tanh" and bool((squares > LARGEST).any()):
            row = int((squares > LARGEST).nonzero()[0])
            raise DataError(
                f"`{name}` must have |x|² ≤ {LARGEST:g} for tanh, which is a step beyond; row {row} has "
                f'{float(squares[row]):.3g}. Load them with normalise="unit".'
            )

    @property
    def record(self) -> dict[str, Any]:
        """Return name and activation."""
        return {"name": "two-layer", "activation": self.activation}

    def _deep(self) -> Deep:
        """Return the deep kernel that this is at longer inputs: its first layer divides by d."""
        return DEEP[self.activation](1, 1.0)


def _gelu(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Return k from |x|², |z|² and x·z."""
    determinant = (1 + a) * (1 + b) - c.square()
    root = determinant.sqrt()
    both = torch.atan2(c, root).div_(2 * math.pi).add_(0.25)
    kappa = 1 / (1 + a) + 1 / (1 + b) - 1
    numerator = a * b + c.square() * kappa
    slope = both + (c + 2 * c * kappa + numerator * c / determinant) / (2 * math.pi * root)
    value: Tensor = c * both + numerator / (2 * math.pi * root)
    return value + c * slope
