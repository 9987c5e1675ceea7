"""The Gaussian process that a wide two-layer ReLU network is before it is trained.

f_0(x) = m^-1/2 Σ_r a_r relu(w_r·x), a_r = ±1, w_r ~ N(0, scale² I): as m grows, a Gaussian process of

    k(x, z) = scale² E[relu(u·x) relu(u·z)] = scale² |x| |z| (sin θ + (π − θ) cos θ) / 2π,   u ~ N(0, I).

Its tangent kernel, `TwoLayerReLU`, does not depend on the scale, so this has to be said.
"""

from dataclasses import dataclass
from typing import Any, final

from jaxtyping import Float
from torch import Tensor

from leftout.core.checks import check_positive
from leftout.kernels.base import Kernel
from leftout.kernels.layers.dense import Dense
from leftout.kernels.layers.relu import Relu
from leftout.kernels.rows import check_vectors, flat_rows, lengths
from leftout.kernels.wide.architecture import Architecture


@final
@dataclass(frozen=True)
class ArcCosine(Kernel):
    """The arc-cosine kernel of order one times scale²: what a two-layer ReLU network starts as.

    The prior of `TwoLayerReLU` for a `TwoLayerNetwork(…, scale=scale)` that is not antisymmetric; one
    that is starts at 0 exactly.

    Args:
        scale: standard deviation of the initial weights of the first layer.

    Cost, accuracy:
        those of `ReLU` of depth 1.

    Source:
        Cho & Saul 2009, "Kernel methods for deep learning".

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> x = torch.tensor([[0.6, 0.8], [0.8, -0.6]])
        >>> lo.kernels.ArcCosine(scale=2.0).block(x, x)
        tensor([[2.0000, 0.6366],
                [0.6366, 2.0000]])
    """

    scale: float

    normalise = "unit"

    def __post_init__(self) -> None:
        check_positive("scale", self.scale)

    def block(self, queries: Float[Tensor, "m ..."], inputs: Float[Tensor, "n ..."]) -> Float[Tensor, "m n"]:
        """Return the kernel of every pair."""
        return self._architecture(inputs).block(queries, inputs)

    def diagonal(self, inputs: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        """Return scale² |x|² / 2."""
        return lengths(flat_rows(inputs)).square() * (self.scale**2 / 2)

    def check(self, name: str, inputs: Tensor) -> None:
        """Raise unless every input is a vector of finite numbers, not zero.

        Raises:
            DataError: not floating-point, NaN or infinity, or a zero vector.
            ShapeError: no axis of features.
        """
        check_vectors(name, inputs)
        self._architecture(inputs).check(name, inputs)

    def prior(self) -> Kernel:
        """Return the kernel itself: of a network whose readout alone is trained."""
        return self

    @property
    def record(self) -> dict[str, Any]:
        """Return name and scale."""
        return {"name": "arc-cosine", "scale": float(self.scale)}

    def _architecture(self, inputs: Float[Tensor, "n ..."]) -> Architecture:
        """Return the equal composition of layers: the first divides by d, the last takes the mean."""
        features = flat_rows(inputs[:1]).shape[1] if len(inputs) else 1
        return Architecture((Dense(self.scale**2 * features), Relu(), Dense(1.0)), "nngp")
