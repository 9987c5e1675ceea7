"""The kernels of infinitely wide networks of error functions.

With K the kernel of the pre-activations, an erf turns it into

    E[erf(u) erf(v)] = (2/π) arcsin(2 K12 / sqrt((1 + 2 K11)(1 + 2 K22))),
    E[erf' erf']     = (4/π) / sqrt((1 + 2 K11)(1 + 2 K22) − 4 K12²),

and a fully connected layer of weight variance w and bias variance b turns it into wK + b. The
tangent kernel T starts at K; an erf multiplies it by E[erf' erf'], a layer makes it K' + wT.

The determinant Δ under the last root loses digits when K is large and the inputs nearly equal; with
gap and total, D = sqrt(K11 K22) − K12 and S = sqrt(K11 K22) + K12, it is a sum of positive terms,

    Δ = 1 + 2 (K11 + K22) + 4 D S,        arcsin(…) = atan2(2 K12, √Δ).
"""

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from leftout.kernels.rows import flat_rows
from leftout.kernels.wide.deep import Deep
from leftout.kernels.wide.layers import dense_gap_and_total, input_gap_and_total, input_scales


@final
@dataclass(frozen=True)
class Erf(Deep):
    """The kernel of an infinitely wide fully connected network of error functions.

    In neural-tangents' conventions; the non-linearity is erf(u) itself, not a rescaled one.

    Args, errors:
        as of `Deep`.

    Cost:
        One product, and for each hidden layer an arctangent, two square roots and some ten passes
        over each block.

    Accuracy:
        In units of sqrt(k(x, x) k(z, z)), with δ the error of a cosine and ε the rounding of the
        dtype: about 8 (depth + 1)(1 + κ) ε + 4 κ δ, where κ = weight_variance + bias_variance is
        what K can be at most behind an erf. The first layer, where K is as large as the inputs, has
        its gap from the rows (`leftout.kernels.wide.angles`); in later layers D is a difference, off by
        κε. No root of a small number and no arcsin near 1 is ever taken.

    Source:
        Williams 1997, "Computing with infinite networks" (the first formula); the second is its
        derivative; Jacot, Gabriel & Hongler 2018, "Neural tangent kernel" (T).

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> x = torch.tensor([[3.0, 4.0], [4.0, -3.0]])
        >>> lo.kernels.Erf(depth=1, bias_variance=0.1).block(x, x)
        tensor([[8.1953, 0.1099],
                [0.1099, 8.1953]])
    """

    name = "erf"

    def block(self, queries: Float[Tensor, "m ..."], inputs: Float[Tensor, "n ..."]) -> Float[Tensor, "m n"]:
        """Return the kernel of every pair."""
        x, z = flat_rows(queries), flat_rows(inputs)
        w, b = self.weight_variance, self.bias_variance
        gap, total = input_gap_and_total(x, z)
        k11, k22 = input_scales(x).square(), input_scales(z).square()
        dense_gap_and_total(gap, total, k11, k22, weight_variance=w, bias_variance=b)
        k11, k22 = w * k11 + b, w * k22 + b
        covariance = (total - gap).div_(2)
        tangent = covariance.clone() if self.kind == "ntk" else None
        for _ in range(self.depth):
            root = gap.mul_(total).mul_(4).add_((2 * k11)[:, None] + 2 * k22 + 1).sqrt_()
            covariance = torch.atan2(covariance.mul_(2), root).mul_(2 / math.pi).mul_(w).add_(b)
            if tangent is not None:
                tangent.mul_(4 * w / math.pi).div_(root).add_(covariance)
            k11, k22 = (self.moments(variance)[0] * w + b for variance in (k11, k22))
            norms = torch.outer(k11, k22).sqrt_()
            gap, total = norms - covariance, norms.add_(covariance)
        return covariance if tangent is None else tangent

    def moments(self, variance: Float[Tensor, " n"]) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Return E[erf(u)²] and E[erf'(u)²]."""
        root = (1 + 4 * variance).sqrt()
        return torch.atan2(2 * variance, root) * (2 / math.pi), 4 / math.pi / root
