"""The kernels of infinitely wide ReLU networks with several hidden layers.

With K the kernel of the pre-activations and θ the angle it gives a pair, a ReLU turns K into

    E[relu(u) relu(v)] = sqrt(K11 K22) (sin θ + (π − θ) cos θ) / 2π,  E[relu' relu'] = (π − θ) / 2π,

and a fully connected layer of weight variance w and bias variance b turns it into wK + b. The
tangent kernel T starts at K; a ReLU multiplies it by E[relu' relu'], a layer makes it K' + wT.

Instead of the cosine, gap and total D = sqrt(K11 K22) − K12 and S = sqrt(K11 K22) + K12 are carried
(`leftout.kernels.wide.layers`). As √(DS) = c sin θ, (S − D) / 2 = c cos θ, c = (S + D) / 2, a ReLU gives

    D' = ½ [D − (√(DS) − θ (S − D) / 2) / π],        S' = c − D',        K11' = K11 / 2.
"""

import math
from dataclasses import dataclass
from typing import final

from jaxtyping import Float
from torch import Tensor

from leftout.kernels.fused.library import compiled_set
from leftout.kernels.fused.stack import Stack, stack_diagonal, stack_kernel
from leftout.kernels.rows import flat_rows
from leftout.kernels.wide.angles import angle, unit_rows
from leftout.kernels.wide.deep import Deep
from leftout.kernels.wide.layers import dense_gap_and_total, input_gap_and_total, input_scales


@final
@dataclass(frozen=True)
class ReLU(Deep):
    """The kernel of an infinitely wide fully connected ReLU network, in neural-tangents' conventions.

    Without bias the kernel is homogeneous, k(ax, bz) = ab k(x, z) for a, b > 0.

    Args, errors:
        as of `Deep`.

    Cost:
        One product, and for each hidden layer an arctangent, three square roots and twenty passes
        over each block.

    Accuracy:
        In units of sqrt(k(x, x) k(z, z)), with δ the error of a cosine and ε the rounding of the
        dtype: about 4 (depth + 1) ε for pairs with 1 − |cos θ| < 2^-10 at the input, 7.3 δ for each
        layer more for others. Angles shrink from layer to layer, and their errors with them: the
        relative error of D does not grow, as D E[relu' relu'] ≤ D'. Equal inputs have D = 0
        in every layer, exactly, and K11 on the diagonal to the last bit.

    Source:
        Cho & Saul 2009, "Kernel methods for deep learning" (arc-cosine kernels); Jacot, Gabriel &
        Hongler 2018, "Neural tangent kernel". The gap recursion is derived here.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> x = torch.tensor([[3.0, 4.0], [4.0, -3.0]])
        >>> lo.kernels.ReLU(depth=2).block(x, x)
        tensor([[75.0000, 17.1427],
                [17.1427, 75.0000]])
    """

    name = "relu"

    def block(self, queries: Float[Tensor, "m ..."], inputs: Float[Tensor, "n ..."]) -> Float[Tensor, "m n"]:
        """Return the kernel of every pair."""
        x, z = flat_rows(queries), flat_rows(inputs)
        code = compiled_set(x, z)
        if code is not None:
            return stack_kernel(
                self._stack, unit_rows(x), unit_rows(z), input_scales(x), input_scales(z), code
            )
        w, b = self.weight_variance, self.bias_variance
        gap, total = input_gap_and_total(x, z)
        k11, k22 = input_scales(x).square(), input_scales(z).square()
        tangent = None
        for layer in range(self.depth + 1):
            dense_gap_and_total(gap, total, k11, k22, weight_variance=w, bias_variance=b)
            k11, k22 = w * k11 + b, w * k22 + b
            if self.kind == "ntk":
                covariance = (total - gap).div_(2)
                tangent = covariance if tangent is None else tangent.mul_(w).add_(covariance)
            if layer < self.depth:
                gap, total, open_share = _after_relu(gap, total)
                k11, k22 = k11 / 2, k22 / 2
                if tangent is not None:
                    tangent.mul_(open_share)
        return (total - gap).div_(2) if tangent is None else tangent

    def diagonal(self, inputs: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        x = flat_rows(inputs)
        code = compiled_set(x)
        if code is not None:
            return stack_diagonal(self._stack, unit_rows(x), input_scales(x), code)
        return super().diagonal(inputs)

    @property
    def _stack(self) -> Stack:
        """Return the layers for compiled code."""
        return Stack(
            variances=((self.weight_variance, self.bias_variance),) * (self.depth + 1),
            slopes=(0.0,) * self.depth,
            tangent=self.kind == "ntk",
        )

    def moments(self, variance: Float[Tensor, " n"]) -> tuple[Float[Tensor, " n"], float]:
        """Return E[relu(u)²] and E[relu'(u)²]: a ReLU halves both."""
        return variance / 2, 0.5


def _after_relu(
    gap: Float[Tensor, "m n"], total: Float[Tensor, "m n"]
) -> tuple[Float[Tensor, "m n"], Float[Tensor, "m n"], Float[Tensor, "m n"]]:
    """Return D and S after a ReLU, and E[relu' relu'], the share of gates that both inputs open."""
    theta = angle(gap, total)
    # Two roots: a product of the two may be beyond what numbers reach.
    lost = gap.sqrt().mul_(total.sqrt()).sub_((total - gap).mul_(theta).div_(2)).div_(math.pi)
    # Below θ = 1e-16 the rounding of `lost`, εθ, exceeds the gap θ²/2, which then is 0 to any use.
    after = (gap - lost).div_(2).clamp_(min=0)
    return after, (total + gap).div_(2).sub_(after), theta.mul_(-1 / (2 * math.pi)).add_(0.5)
