"""The tangent kernel of a wide two-layer network, both of whose layers are trained.

    f(x) = m^-1/2 Σ_r a_r σ(w_r·x),    a_r ~ N(0, 1),  w_r ~ N(0, I)

As m grows, the product of two gradients becomes, with u = w·x and v = w·z,

    k(x, z) = E[σ(u) σ(v)] + x·z E[σ'(u) σ'(v)].

For ReLU, erf and tanh that is the deep kernel of one hidden layer at inputs √d times as long. For
GELU, σ(u) = u Φ(u), with a = |x|², b = |z|², c = x·z, D = ab − c², Δ = (1 + a)(1 + b) − c² = 1 + a + b + D,
e = 1/(1 + a) + 1/(1 + b) and P = atan2(√Δ, −c) / 2π (the chance that u and v both exceed an independent
normal number of their own), by parts:

    E[σ σ]   = c P + (D + c² e) / 2π√Δ,
    E[σ' σ'] = P + c B / 2π√Δ,                            its derivative in c,
    B = (((1 + a + b)(3 + a + b) + ab) / (1 + a)(1 + b) + e D) / Δ.

With D = ab (1 − cos θ)(1 + cos θ) from the rows, every sum but that with c P is one of positive terms,
however long the inputs are.
"""

import math
from dataclasses import dataclass
from typing import Any, final, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from leftout.core.checks import check_choice
from leftout.kernels.base import Kernel
from leftout.kernels.rows import check_not_zero, check_vectors, flat_rows, lengths
from leftout.kernels.wide.angles import gap_and_total
from leftout.kernels.wide.deep import Deep
from leftout.kernels.wide.erf import Erf
from leftout.kernels.wide.options import Activation
from leftout.kernels.wide.relu import ReLU
from leftout.kernels.wide.tanh import Tanh, check_variances

DEEP: dict[str, type[Deep]] = {"relu": ReLU, "erf": Erf, "tanh": Tanh}


@final
@dataclass(frozen=True)
class TwoLayer(Kernel):
    """The neural tangent kernel of a two-layer network whose two layers are trained.

    Inputs of more than one axis are flattened. There is no bias: append a constant feature for one.

    Args:
        activation: "relu", "tanh", "erf" or "gelu".

    Cost, accuracy:
        those of the deep kernel of one hidden layer; for GELU one product, one arctangent and some
        thirty-five passes over each block. There 4 ε on the diagonal and 8 ε + 5 δ in units of
        sqrt(k(x, x) k(z, z)), δ the error of a cosine (at most d roundings, typically √d), however
        long inputs are: at most 2.6 ε and 5.3 ε were measured, of 6 features with |x|² from 1e-8 to 1e12
        in float64 and float32.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> x = torch.tensor([[0.6, 0.8], [0.8, -0.6]])
        >>> lo.kernels.TwoLayer("gelu").block(x, x)
        tensor([[0.8811, 0.0796],
                [0.0796, 0.8811]])
    """

    activation: Activation

    normalise = "unit"

    def __post_init__(self) -> None:
        check_choice("activation", self.activation, get_args(Activation))

    def block(self, queries: Float[Tensor, "m ..."], inputs: Float[Tensor, "n ..."]) -> Float[Tensor, "m n"]:
        """Return the kernel of every pair."""
        x, z = flat_rows(queries), flat_rows(inputs)
        if self.activation == "gelu":
            return _gelu(lengths(x)[:, None], lengths(z)[None], *gap_and_total(x, z))
        longer = math.sqrt(x.shape[1])
        return self._deep().block(longer * x, longer * z)

    def diagonal(self, inputs: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        """Return E[σ²] + |x|² E[σ'²]."""
        x = flat_rows(inputs)
        if self.activation == "gelu":
            norms = lengths(x)
            return _gelu(norms, norms, torch.zeros_like(norms), torch.full_like(norms, 2))
        return self._deep().diagonal(math.sqrt(x.shape[1]) * x)

    def check(self, name: str, inputs: Tensor) -> None:
        """Raise unless every input is a vector of finite numbers, not zero.

        Raises:
            DataError: not floating-point, NaN or infinity, a zero vector; for tanh, |x|² > 32.
            ShapeError: no axis of features.
        """
        check_vectors(name, inputs)
        check_not_zero(name, inputs, why="Without a bias every network maps it to 0: drop it.")
        if self.activation == "tanh":
            check_variances(name, lengths(flat_rows(inputs)).square(), what="|x|²", normalise="unit")

    @property
    def record(self) -> dict[str, Any]:
        """Return name and activation."""
        return {"name": "two-layer", "activation": self.activation}

    def _deep(self) -> Deep:
        """Return the deep kernel that this is at longer inputs: its first layer divides by d."""
        return DEEP[self.activation](1, 1.0)


def _gelu(x: Tensor, z: Tensor, gap: Tensor, total: Tensor) -> Tensor:
    """Return k from |x|, |z|, 1 − cos θ and 1 + cos θ; the last two are written over."""
    x_longer, z_longer = (1 + x.square()).sqrt(), (1 + z.square()).sqrt()
    f, g = x_longer.square().reciprocal(), z_longer.square().reciprocal()
    # |x||z|, and all that follows, in powers of (1 + a)(1 + b): numbers of order 1.
    norms = (x / x_longer) * (z / z_longer)
    c = (total - gap).div_(2).mul_(norms)
    ab, e, fg = norms.square_(), f + g, f * g
    d = gap.mul_(total).mul_(ab)
    rest = e - fg  # 1 + a + b
    delta = torch.add(d, rest, out=total)
    slope = (2 * fg).add_(rest).mul_(rest).addcmul_(ab, fg).addcmul_(e, d).div_(delta)  # B
    root = delta.sqrt_()
    kernel = slope.add_(e).mul_(c.square()).add_(d).div_(root)
    kernel.addcmul_(c, torch.atan2(root, -c), value=2)
    return kernel.mul_(x_longer * z_longer).div_(2 * math.pi)
