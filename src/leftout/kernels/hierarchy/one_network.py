"""The kernel of *one* network after training by the hierarchy, and not the mean over networks.

    K̂_t = K₂ + Σ_i α_i K₃(·, ·, x_i) + Σ_ij C_ij K₄(·, ·, x_i, x_j)

with the kernels of a network f(x) = m^-1/2 Σ_r a_r σ(w_r·x) before training (Proposition A.2): no
expectation, so K₃ does not drop out; of a random network it is as large as K₄, O(1/m). Theorem 2.1 is about
this kernel.
"""

import math
from dataclasses import dataclass

from jaxtyping import Float64
from torch import Tensor

from leftout.kernels.hierarchy.fourth_order import WeightedExamples, between, first_factors, second_factors
from leftout.kernels.hierarchy.pull import pull
from leftout.kernels.wide.activations import Response, response
from leftout.kernels.wide.options import Activation


@dataclass(frozen=True, eq=False)
class NetworkHierarchy:
    """The kernel of a network between its training inputs, and the changes of it by training.

    Attributes:
        start: K₂ before training.
        first: Σ α K₃.
        second: Σ C K₄.
    """

    start: Float64[Tensor, "n n"]
    first: Float64[Tensor, "n n"]
    second: Float64[Tensor, "n n"]

    @property
    def after_training(self) -> Float64[Tensor, "n n"]:
        """Return K̂_t."""
        return self.start + self.first + self.second


def network_hierarchy(
    activation: Activation,
    weights: Float64[Tensor, "r d"],
    readout: Float64[Tensor, " r"],
    inputs: Float64[Tensor, "n d"],
    residual: Float64[Tensor, " n"],
    *,
    time: float = math.inf,
) -> NetworkHierarchy:
    """Return the kernel of a network after training, by the hierarchy.

    Args:
        weights, readout: w and a before training.
        residual: y − f_0; of a network whose start is subtracted, y.
        time: in 1/eigenvalue of the kernel, for the loss ½ Σ (f − y)².

    Cost:
        As the floor of `fourth_order`, of m neurons.

    Example:
        >>> import torch
        >>> weights, readout = torch.ones(3, 2, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
        >>> inputs, residual = torch.eye(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
        >>> network_hierarchy("tanh", weights, readout, inputs, residual, time=1.0).after_training.shape
        torch.Size([2, 2])
    """
    start = tangent_gram(activation, weights, readout, inputs)
    examples = WeightedExamples(inputs, pull(start, residual, time=time))
    sums, responses = examples.sums(activation, weights)
    links, width = examples.gram, len(readout)
    first = first_factors(responses, links, sums, readout)
    second = second_factors(responses, links, sums, readout.square(), readout.pow(4))
    return NetworkHierarchy(
        start=start,
        first=between(first, first, links) / width**1.5,
        second=between(second, second, links) / width**2,
    )


def tangent_gram(
    activation: Activation,
    weights: Float64[Tensor, "r d"],
    readout: Float64[Tensor, " r"],
    inputs: Float64[Tensor, "n d"],
) -> Float64[Tensor, "n n"]:
    """Return K₂ of a network: the products of its gradients at the inputs."""
    responses: Response = response(activation, inputs @ weights.T)
    steep = responses.first * readout
    total: Tensor = responses.value @ responses.value.T + (inputs @ inputs.T) * (steep @ steep.T)
    return total / len(readout)
