"""What kernels of deep fully connected networks have in common: their parameters, in one convention."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from leftout.kernels.base import Kernel
from leftout.kernels.layers.dense import Dense
from leftout.kernels.layers.layer import ActivationLayer
from leftout.kernels.wide.architecture import Architecture
from leftout.kernels.wide.checks import check_network
from leftout.kernels.wide.options import Kind


@dataclass(frozen=True)
class Deep(Kernel):
    """The kernel of a fully connected network, neural-tangents' conventions.

    Args:
        depth: hidden layers.
        weight_variance: of every layer, the readout too, over fan-in: the first layer's kernel is
            weight_variance · x·z / d + bias_variance.
        bias_variance: of every layer.
        kind: "ntk" (all layers trained) or "nngp" (only the readout, or what the network starts as).

    Raises:
        OptionError: no positive depth, a variance that is negative, an unknown kind.
    """

    depth: int
    weight_variance: float = 2.0
    bias_variance: float = 0.0
    kind: Kind = "ntk"

    name: ClassVar[str]
    activation: ClassVar[ActivationLayer]
    normalise = "sphere"

    def __post_init__(self) -> None:
        check_network(self.depth, self.weight_variance, self.bias_variance, self.kind)

    @property
    def architecture(self) -> Architecture:
        """Return it as a composition of layers: [Dense, activation] × depth, Dense."""
        dense = Dense(self.weight_variance, self.bias_variance)
        return Architecture((*(dense, self.activation) * int(self.depth), dense), self.kind)

    def block(self, queries: Float[Tensor, "m ..."], inputs: Float[Tensor, "n ..."]) -> Float[Tensor, "m n"]:
        """Return the kernel of every pair."""
        return self.architecture.block(queries, inputs)

    def diagonal(self, inputs: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        """Return k(x, x)."""
        return self.architecture.diagonal(inputs)

    def check(self, name: str, inputs: Tensor) -> None:
        """Raise unless every input is a vector that the network does not map to 0.

        Raises:
            DataError: not floating-point, NaN or infinity, or a zero vector without a bias; of tanh, a norm
                that the series is not made for.
            ShapeError: no axis of features.
        """
        self.architecture.check(name, inputs)

    def prior(self) -> "Deep":
        """Return the Gaussian process that its networks are before training."""
        return replace(self, kind="nngp")

    @property
    def record(self) -> dict[str, Any]:
        """Return name and parameters."""
        return {
            "name": self.name,
            "depth": int(self.depth),
            "weight_variance": float(self.weight_variance),
            "bias_variance": float(self.bias_variance),
            "kind": self.kind,
        }
