"""The tangent kernel of a wide two-layer ReLU network whose first layer is trained.

f(x) = m^-1/2 Σ_r a_r relu(w_r·x), a_r = ±1 kept, w_r ~ N(0, I) trained. As m grows, the product of
two gradients in W becomes

    k(x, z) = E[x·z 1{w·x > 0} 1{w·z > 0}] = x·z (π − θ) / 2π,        cos θ = x·z / (|x| |z|),

which on unit inputs, x·z = u, is u (π − arccos u) / 2π, and k(x, x) = 1/2.
"""

import math
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from leftout.kernels.base import Kernel
from leftout.kernels.fused.library import compiled_set
from leftout.kernels.fused.stack import Stack, stack_diagonal, stack_kernel
from leftout.kernels.rows import check_not_zero, check_unit, check_vectors, flat_rows, lengths
from leftout.kernels.wide.angles import angle, near_gaps, near_pairs, unit_rows

STACK = Stack(variances=((1.0, 0.0),), slopes=(0.0,), tangent=True)
"""The network for compiled code."""


@final
@dataclass(frozen=True)
class TwoLayerReLU(Kernel):
    """The neural tangent kernel of a two-layer ReLU network with a fixed readout, on unit inputs.

    Inputs of more than one axis are flattened. Norms are not rounded to one: a row whose norm is
    off by a rounding gets the kernel of that very row, |x|² / 2 on the diagonal.

    Cost:
        One product, one arccos and four passes over each block, in place.

    Accuracy:
        With δ the error of a product x·z and ε the rounding of the dtype: 4.2 δ + 4ε for
        1 − |u| ≥ 2^-10 (δ/2 from the factor, 3.65 δ from the angle), 4ε closer to collinear; equal
        inputs have an angle of exactly 0. See `leftout.kernels.wide.angles`.

    Source:
        Zhang & Zhang 2022, "Rethinking influence functions of neural networks in the
        over-parameterized regime", equation 4.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> x = torch.tensor([[0.6, 0.8], [0.8, 0.6]])
        >>> lo.kernels.TwoLayerReLU().block(x, x)
        tensor([[0.5000, 0.4366],
                [0.4366, 0.5000]])
    """

    normalise = "unit"

    def block(self, queries: Float[Tensor, "m ..."], inputs: Float[Tensor, "n ..."]) -> Float[Tensor, "m n"]:
        """Return x·z (π − θ) / 2π for every pair."""
        x, z = flat_rows(queries), flat_rows(inputs)
        x_norms, z_norms = lengths(x), lengths(z)
        code = compiled_set(x, z)
        if code is not None:
            return stack_kernel(STACK, unit_rows(x), unit_rows(z), x_norms, z_norms, code)
        dot = x @ z.T
        cosine = (dot / x_norms[:, None]).div_(z_norms)
        i, j, sign = near_pairs(cosine)
        # The arccos of a near pair may be NaN (a cosine of 1 + 2^-52): it is replaced just below.
        kernel = cosine.acos_().mul_(-1 / (2 * math.pi)).add_(0.5).mul_(dot)
        if len(i):
            gap = near_gaps(unit_rows(x), unit_rows(z), i, j, sign)
            share = angle(gap, 2 - gap).div_(2 * math.pi)  # of a turn, from x to s z
            share = torch.where(sign > 0, 0.5 - share, share)
            kernel[i, j] = (x_norms[i] * z_norms[j]).mul_(sign).mul_(1 - gap).mul_(share)
        return kernel

    def diagonal(self, inputs: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        """Return |x|² / 2."""
        x = flat_rows(inputs)
        code = compiled_set(x)
        if code is not None:
            return stack_diagonal(STACK, unit_rows(x), lengths(x), code)
        return lengths(x).square() / 2

    def check(self, name: str, inputs: Tensor) -> None:
        """Raise unless every input has norm 1.

        Raises:
            DataError: not floating-point, NaN or infinity, a zero vector, a norm off by more than
                1e-6: the rounding that rows normalised in float32 carry.
            ShapeError: no axis of features.
        """
        check_vectors(name, inputs)
        check_not_zero(
            name,
            inputs,
            why="It has no direction and cannot be scaled to norm 1: drop it, or append a "
            "constant feature to every row before normalising.",
        )
        check_unit(name, inputs)

    @property
    def record(self) -> dict[str, Any]:
        """Return the name."""
        return {"name": "two-layer-relu"}
