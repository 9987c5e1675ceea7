"""What kernels of deep fully connected networks have in common: their parameters, in one convention."""

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from leftout.kernels.base import Kernel
from leftout.kernels.rows import check_network_inputs, flat_rows
from leftout.kernels.wide.layers import check_network, input_scales
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
    normalise = "sphere"

    def __post_init__(self) -> None:
        check_network(self.depth, self.weight_variance, self.bias_variance, self.kind)

    @abstractmethod
    def moments(
        self, variance: Float[Tensor, " n"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"] | float]:
        """Return E[σ(u)²] and E[σ'(u)²] for pre-activations of these variances."""

    def diagonal(self, inputs: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        """Return k(x, x)."""
        w, b = self.weight_variance, self.bias_variance
        variance = input_scales(flat_rows(inputs)).square() * w + b
        tangent = variance
        for _ in range(self.depth):
            second_moment, slope = self.moments(variance)
            variance = second_moment * w + b
            tangent = tangent * slope * w + variance
        return tangent if self.kind == "ntk" else variance

    def check(self, name: str, inputs: Tensor) -> None:
        """Raise unless every input is a vector that the network does not map to 0.

        Raises:
            DataError: not floating-point, NaN or infinity, or a zero vector without a bias.
            ShapeError: no axis of features.
        """
        check_network_inputs(name, inputs, bias_variance=self.bias_variance)

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
