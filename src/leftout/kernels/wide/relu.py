"""The kernels of infinitely wide ReLU networks with several hidden layers."""

from dataclasses import dataclass
from typing import final

from leftout.kernels.layers.relu import Relu
from leftout.kernels.wide.deep import Deep


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
    activation = Relu()
