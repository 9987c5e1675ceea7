"""Which finite networks do the deep kernels stand for? Fully connected ones, in the tangent parametrisation.

    h_l = sqrt(w / fan-in) W_l x_{l−1} + sqrt(b) b_l,    x_l = σ(h_l),    f = h_{depth + 1}

with every entry of W_l and b_l drawn from N(0, 1) and trained: gradients, and with them rates, stay of
the same size at any width.
"""

import math
from itertools import pairwise
from typing import Literal, final, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from leftout.core.checks import check_at_least, check_choice, check_count, check_kind, check_positive
from leftout.core.errors import ShapeError
from leftout.core.modules import REAL

Activation = Literal["relu", "erf", "tanh"]
ACTIVATIONS = {"relu": torch.relu, "erf": torch.erf, "tanh": torch.tanh}


@final
class WideNetwork(nn.Module):
    """A fully connected network whose limit of infinite width is `kernels.ReLU`, `Erf` or `Tanh`.

    Args:
        width: of every hidden layer.
        inputs: d, the number of features; inputs of more axes are flattened.
        outputs: k.
        depth: hidden layers.
        activation: "relu", "erf" or "tanh".
        weight_variance: w, of every layer, the readout too.
        bias_variance: b; 0 leaves biases out.
        generator: of the weights; they lie on its device.
        dtype: the float32 network is the float64 network of the same generator, rounded.

    Raises:
        OptionError: an option that is none of these.

    Source:
        Jacot, Gabriel & Hongler 2018, "Neural tangent kernel"; Lee et al. 2019, "Wide neural networks
        of any depth evolve as linear models under gradient descent", section 2.1.
    """

    def __init__(
        self,
        width: int,
        inputs: int,
        outputs: int = 1,
        *,
        depth: int = 1,
        activation: Activation = "relu",
        weight_variance: float = 2.0,
        bias_variance: float = 0.0,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        counts = {"width": width, "inputs": inputs, "outputs": outputs, "depth": depth}
        for name, value in counts.items():
            check_count(name, value)
        check_choice("activation", activation, get_args(Activation))
        check_positive("weight_variance", weight_variance)
        check_at_least("bias_variance", bias_variance, 0)
        check_kind("generator", generator, torch.Generator, what="a torch.Generator")
        check_choice("dtype", dtype, REAL)
        self.activation: Activation = activation
        self.weight_variance = float(weight_variance)
        self.bias_variance = float(bias_variance)
        sizes = (inputs, *(width,) * depth, outputs)

        def draw_parameter(*shape: int) -> nn.Parameter:
            normal = torch.randn(shape, generator=generator, dtype=torch.float64, device=generator.device)
            return nn.Parameter(normal.to(dtype))

        self.weights = nn.ParameterList(draw_parameter(after, before) for before, after in pairwise(sizes))
        self.biases = nn.ParameterList(draw_parameter(size) for size in sizes[1:] if bias_variance)

    def forward(self, inputs: Float[Tensor, "n ..."]) -> Float[Tensor, "n k"]:
        """Return the outputs.

        Raises:
            ShapeError: inputs of another number of features.
        """
        outputs = inputs.flatten(1)
        features = self.weights[0].shape[1]
        if outputs.shape[1] != features:
            raise ShapeError(
                f"`inputs` must have {features} features, as the network has; got {outputs.shape[1]}."
            )
        for place, weights in enumerate(self.weights):
            if place:
                outputs = ACTIVATIONS[self.activation](outputs)
            outputs = outputs @ weights.T * math.sqrt(self.weight_variance / weights.shape[1])
            if self.biases:
                outputs = outputs + math.sqrt(self.bias_variance) * self.biases[place]
        return outputs
