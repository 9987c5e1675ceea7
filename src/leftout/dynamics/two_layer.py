"""Which finite network does the two-layer kernel stand for? The paper's, with its first layer trained.

    f(x) = m^-1/2 Σ_r a_r relu(w_r·x),    w_r ~ N(0, scale²),  a_r = ±1 kept

Antisymmetric: neuron r and neuron r + m/2 start with the same w and opposite a, so f_0 = 0 exactly
and training starts from where the kernel's prediction does.
"""

import math
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from leftout.core.blocks import blocks
from leftout.core.checks import check_choice, check_count, check_kind, check_positive
from leftout.core.errors import OptionError, ShapeError
from leftout.core.modules import REAL

DRAWN = 4096
"""Neurons drawn at a time, in float64: a fixed number, so that a seed means the same network."""


@final
class TwoLayerNetwork(nn.Module):
    """The paper's two-layer ReLU network: `weights` (width, inputs) trained, `signs` ±1 kept.

    Args:
        width: m, the number of neurons.
        inputs: d, the number of features; inputs of more axes are flattened.
        outputs: k; each neuron has independent signs for every output.
        scale: standard deviation of the initial weights. The kernel limit does not depend on it; at
            a feasible width the paper's 0.01 lets gates switch, 0.1 to 1 hardly.
        antisymmetric: start in pairs of opposite sign, with f_0 = 0; the width is then even.
        generator: of weights and signs; they lie on its device.
        dtype: the float32 network is the float64 network of the same generator, rounded.

    Raises:
        OptionError: a width, scale, generator or dtype that is none; an odd width of pairs.

    Source:
        Zhang & Zhang 2022, "Rethinking influence functions of neural networks in the
        over-parameterized regime", equation 1; the pairs are Chizat, Oyallon & Bach 2019's.
    """

    weights: nn.Parameter
    signs: Tensor

    def __init__(
        self,
        width: int,
        inputs: int,
        outputs: int = 1,
        *,
        scale: float = 0.01,
        antisymmetric: bool = False,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        for name, value in (("width", width), ("inputs", inputs), ("outputs", outputs)):
            check_count(name, value)
        check_positive("scale", scale)
        check_kind("generator", generator, torch.Generator, what="a torch.Generator")
        check_choice("dtype", dtype, REAL)
        if antisymmetric and width % 2:
            raise OptionError(f"`width` must be even for antisymmetric pairs; got {width}. Take {width + 1}.")
        self.scale = float(scale)
        self.antisymmetric = antisymmetric
        drawn = width // 2 if antisymmetric else width
        weights = torch.empty(width, inputs, dtype=dtype, device=generator.device)
        for rows in blocks(drawn, DRAWN):
            normal = torch.randn(
                rows.stop - rows.start,
                inputs,
                generator=generator,
                dtype=torch.float64,
                device=generator.device,
            )
            weights[rows] = normal.mul_(scale)
        bits = torch.randint(0, 2, (drawn, outputs), generator=generator, device=generator.device)
        signs = bits.to(dtype).mul_(2).sub_(1)
        if antisymmetric:
            weights[drawn:] = weights[:drawn]
            signs = torch.cat([signs, -signs])
        self.weights = nn.Parameter(weights)
        self.register_buffer("signs", signs)

    @property
    def width(self) -> int:
        """Return m."""
        return len(self.weights)

    def forward(self, inputs: Float[Tensor, "n ..."]) -> Float[Tensor, "n k"]:
        """Return f at the inputs."""
        rows = inputs.flatten(1) if inputs.ndim > 1 else inputs
        if rows.ndim != 2 or rows.shape[1] != self.weights.shape[1]:
            # Numbers of features alone: a caller may have passed some of its rows, and says of all.
            came = f"{rows.shape[1]} in each" if rows.ndim == 2 else "no axis of rows"
            raise ShapeError(
                f"`inputs` must have {self.weights.shape[1]} features in each row, as the network; "
                f"got {came}."
            )
        # Halves alike in shape: the two products of antisymmetric pairs are then the same to the
        # last bit, and cancel exactly.
        halves = zip(self.weights.chunk(2), self.signs.chunk(2), strict=True)
        parts = [(rows @ weights.T).relu() @ signs for weights, signs in halves]
        return sum(parts[1:], start=parts[0]) / math.sqrt(self.width)

    def extra_repr(self) -> str:
        """Return what torch shows between the brackets."""
        width, inputs = self.weights.shape
        return (
            f"width={width}, inputs={inputs}, outputs={self.signs.shape[1]}, "
            f"scale={self.scale:g}, antisymmetric={self.antisymmetric}"
        )
