"""Expectations of an activation at two Gaussian numbers, as series in their correlation.

With h_p the orthonormal Hermite polynomials, ρ = K12 / √(K11 K22) and (Mehler)

    b_p(s) = E[φ'(√s z) h_p(z)],                      z standard normal,
    E[φ' φ'] = Σ_p b_p(K11) b_p(K22) ρ^p,
    E[φ φ]   = E[φ] E[φ] + K12 Σ_p b_p(K11) b_p(K22) ρ^p / (p + 1),        its integral in K12.

What terms from P on can add up to is known: at most √(t(K11) t(K22)) of the first, t(s) = E[φ'(√s z)²] −
Σ_{p<P} b_p(s)² (Parseval, Cauchy and Schwarz), and at most √(K11 K22) / (P + 1) times that of the second.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

REACH = 13.0
"""Where the trapezoid rule ends: h_p times the normal density is at most e^{−z²/4}, 4e−19 here."""


def half_line(step: float, device: torch.device) -> Tensor:
    """Return the positive points of the trapezoid rule, whose others are their negatives."""
    return (torch.arange(math.ceil(REACH / step), dtype=torch.float64, device=device) + 0.5) * step


def hermite_functions(points: Tensor, count: int) -> Tensor:
    """Return ψ_p = h_p √density for p < count, (count, z): √(p + 1) ψ_{p+1} = z ψ_p − √p ψ_{p−1}."""
    before = torch.zeros_like(points)
    now = (2 * math.pi) ** -0.25 * torch.exp(-points.square() / 4)
    rows = []
    for p in range(count):
        rows.append(now)
        before, now = now, (points * now - math.sqrt(p) * before) / math.sqrt(p + 1)
    return torch.stack(rows)


def slope_coefficients(
    slopes: Callable[[Tensor], Tensor], variance: Tensor, basis: Tensor, points: Tensor
) -> Tensor:
    """Return b_p of every variance, (… t), from φ' and Hermite functions times the rule's weights, (t z)."""
    coefficients: Tensor = slopes(variance.double().sqrt()[..., None] * points) @ basis.T
    return coefficients


def series(ratio: Tensor, x: Tensor, z: Tensor) -> Tensor:
    """Return Σ_j x_j z_j ratio^j by Horner's rule; x and z are (… t), the rest broadcasts over `ratio`."""
    x, z = x.to(ratio), z.to(ratio)
    total = torch.zeros_like(ratio)
    for j in range(x.shape[-1] - 1, -1, -1):
        total.mul_(ratio).addcmul_(x[..., j], z[..., j])
    return total


def correlation(k12: Tensor, x: Tensor, z: Tensor) -> Tensor:
    """Return ρ, between −1 and 1; 0 where a variance is 0."""
    x_scale, z_scale = (torch.where(side > 0, side, 1.0).double().rsqrt().to(k12) for side in (x, z))
    return (k12 * x_scale).mul_(z_scale).clamp_(-1, 1)
