"""The weights of K₃ and K₄ in the change of the kernel until time t, by example and by pair.

The hierarchy of kernels of a network moves by dK(x, x', …)/dt = Σ_i K(x, x', …, x_i) r_i: K₂ along K₃, K₃
along K₄ (Huang & Yau). With the residual of the kernel's own dynamics, r_t = exp(−tH) r, H the Gram matrix,
and K₄ kept as it starts,

    K̂_t(x, x') = K₂ + Σ_i α_i K₃(x, x', x_i) + Σ_ij C_ij K₄(x, x', x_i, x_j),
    α = ∫_0^t r_u du,       C = ∫_0^t r_u R_uᵀ du,  R_u = ∫_0^u r_v dv.

In the eigenbasis of H, with b = Pᵀ r and g(s) = (1 − e^{−ts}) / s,

    (Pᵀ α)_k = b_k g(d_k),       (Pᵀ C P)_kl = b_k b_l [g(d_k) − g(d_k + d_l)] / d_l,

which at t = ∞ are b_k / d_k and b_k b_l / (d_k (d_k + d_l)). Neither C nor K₄ in its last two arguments is
symmetric, so C cannot be replaced by its symmetric half. But d/du (R_u R_uᵀ) = r_u R_uᵀ + R_u r_uᵀ, hence
**C + Cᵀ = α αᵀ**, whatever the time: wherever K₄ *is* symmetric, the sum over pairs is a square.

Time is in units of 1/eigenvalue of H, for the loss ½ Σ (f − y)²; the paper's, for the loss / n, is n times
that.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.core.errors import NotPositiveError

SMALLEST = 1e-150
"""Replaces an eigenvalue of 0: small, and so that t d and its square do not underflow."""

SERIES = 20
"""Terms of (z − 1 + e^−z) / z for z ≤ 1: the first left out is 1 / 22!."""


@dataclass(frozen=True, eq=False)
class Pull:
    """α and C of the module's text.

    Attributes:
        single: α, the weight of each example.
        pairs: C, the weight of each pair; the first index is that of the third argument of K₄.
    """

    single: Float64[Tensor, " n"]
    pairs: Float64[Tensor, "n n"]


def pull(gram: Float64[Tensor, "n n"], residual: Float64[Tensor, " n"], *, time: float = math.inf) -> Pull:
    """Return how hard the examples have pulled.

    Args:
        gram: H, the kernel at the start between the training inputs.
        residual: y − f_0.
        time: t ≥ 0, in 1/eigenvalue of `gram`.

    Raises:
        NotPositiveError: without an end of time, a Gram matrix that is singular to rounding.

    Cost:
        One eigendecomposition, 9n³, and two products.

    Accuracy:
        Sums of positive terms: a few roundings of each coefficient in the eigenbasis, times what the
        eigenvalues themselves are known by, ε d_1 / d_k.
    """
    values, vectors = torch.linalg.eigh(gram)
    along = vectors.T @ residual
    if time == math.inf:
        _check_regular(values)
        single = along / values
        pairs = torch.outer(single, along) / (values[:, None] + values)
    else:
        # Below 0 by rounding only; the limits at 0 are finite, and as good as at ε.
        values = values.clamp_min(SMALLEST)
        scaled = time * values
        single = along * -torch.expm1(-scaled) / values
        pairs = torch.outer(along, along) * (_double_integral(scaled) * time**2)
    return Pull(vectors @ single, vectors @ pairs @ vectors.T)


def _double_integral(z: Float64[Tensor, " n"]) -> Float64[Tensor, "n n"]:
    """Return ∫_0^1 e^{−as} (1 − e^{−bs}) / b ds for all a and b of z.

    It is [γ(a) + a e^{−a} h(b)] / (a (a + b)) with γ(a) = 1 − (1 + a) e^{−a}, the incomplete gamma
    function of order 2, and h(b) = (b − 1 + e^{−b}) / b: positive terms, where the difference in the
    docstring of the module would cancel.
    """
    z = z.clamp_min(SMALLEST)
    gamma = torch.special.gammainc(torch.full_like(z, 2.0), z)
    small = z.clamp_max(1.0)
    series = torch.zeros_like(z)
    for power in range(SERIES, 0, -1):
        # z/2! − z²/3! + …, by Horner's rule
        series = small / (power + 1) * (1 - series)
    deep = torch.where(z <= 1, series, (z + torch.expm1(-z)) / z)
    upper = gamma[:, None] + (z * torch.exp(-z))[:, None] * deep
    integrals: Tensor = upper / z[:, None] / (z[:, None] + z)
    return integrals


def _check_regular(values: Float64[Tensor, " n"]) -> None:
    """Raise if the smallest eigenvalue is below the rounding of the largest."""
    least, most = float(values[0]), float(values[-1])
    if not least > len(values) * torch.finfo(values.dtype).eps * most:
        raise NotPositiveError(
            "Without a `time` the Gram matrix of the inputs must be positive definite beyond rounding; its "
            f"smallest eigenvalue is {least:.3g}, its largest {most:.3g}. Drop repeated inputs, or pass a "
            "finite `time`."
        )
