"""The kernels of infinitely wide networks of error functions."""

from dataclasses import dataclass
from typing import final

from leftout.kernels.layers.erf import Erf as ErfLayer
from leftout.kernels.wide.deep import Deep


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
        its gap from the rows (`leftout.kernels.layers.angles`); in later layers D is a difference, off by
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
    activation = ErfLayer()
