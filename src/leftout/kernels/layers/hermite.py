"""Expectations of an activation at two Gaussian numbers, as series in their correlation.

With h_p the orthonormal Hermite polynomials, ρ = K12 / √(K11 K22) and (Mehler)

    b_p(s) = E[φ'(√s z) h_p(z)],                      z standard normal,
    E[φ' φ'] = Σ_p b_p(K11) b_p(K22) ρ^p,
    E[φ φ]   = E[φ] E[φ] + K12 Σ_p b_p(K11) b_p(K22) ρ^p / (p + 1),        its integral in K12.

What terms from P on can add up to is known: at most √(t(K11) t(K22)) of the first, t(s) = E[φ'(√s z)²] −
Σ_{p<P} b_p(s)² (Parseval, Cauchy and Schwarz), and at most √(K11 K22) / (P + 1) times that of the second.
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from leftout.core.blocks import blocks
from leftout.kernels.layers.layer import ActivationLayer
from leftout.kernels.layers.state import State, Variances

REACH = 13.0
"""Where the trapezoid rule ends: h_p times the normal density is at most e^{−z²/4}, 4e−19 here."""

GRID = 32
"""Terms are multiples of it, so that most inputs need equally many."""

CHUNK = 2048
"""Variances that are expanded together: some hundreds of points each are some MB."""


@lru_cache(maxsize=16)
def trapezoid(step: float, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return positive points (z), whose others are their negatives, and h_p times the rule's weights (t z).

    They are the same for every block of inputs. Weights are those of the normal density.
    """
    points = (torch.arange(math.ceil(REACH / step), dtype=torch.float64, device=device) + 0.5) * step
    density = (2 * math.pi) ** -0.25 * torch.exp(-points.square() / 4)  # its root
    # ψ_p = h_p √density is bounded, as h_p is not: √(p + 1) ψ_{p+1} = z ψ_p − √p ψ_{p−1}.
    before, now = torch.zeros_like(points), density
    rows = []
    for p in range(count):
        rows.append(now)
        before, now = now, (points * now - math.sqrt(p) * before) / math.sqrt(p + 1)
    return points, torch.stack(rows) * (step * density)


def in_chunks(coefficients: Callable[[Tensor], Tensor], sizes: Tensor) -> Tensor:
    """Return coefficients (t, …) of variances (…), from a function of some of them, (n) to (n t)."""
    flat = sizes.reshape(-1)
    table = torch.cat([coefficients(flat[rows]) for rows in blocks(max(1, len(flat)), CHUNK)])
    return table.T.reshape(table.shape[1], *sizes.shape)


def terms_on_grid(needed: int, least: int) -> int:
    """Return how many terms are taken where so many are needed, and so many numbers wanted at least."""
    return max(-(-needed // GRID) * GRID, least - 2)


class SeriesActivation(ActivationLayer):
    """An activation by its series: a subclass says what the terms are, in `expand`."""

    degrees_apart: ClassVar[int] = 1
    """Degrees from one term to the next: 2 where φ' is even."""

    arrays = 2
    numbers_passing = 2400  # four of some 600 points

    @abstractmethod
    def expand(self, variances: Tensor, least: int) -> Tensor:
        """Return numbers of each variance s, (2 + t, …): s, E[φ], and b_p of each term, in float64.

        Args:
            least: numbers that are wanted at least, where the inputs of the other side need so many.
        """

    def __call__(self, state: State, variances: Variances, *, pairs_later: bool = False) -> State:
        covariance, k12 = state.covariance, state.covariance.k12
        x, z = variances.of(covariance, self.check, self.expand)
        most = max(len(x), len(z))
        x, z = (side if len(side) == most else self.expand(side[0], most) for side in (x, z))
        ratio = _correlation(k12, *covariance.over_pairs(x[0], z[0]))
        if self.degrees_apart == 2:
            ratio.square_()
        values, slope = torch.zeros_like(ratio), torch.zeros_like(ratio)
        for term in range(most - 3, -1, -1):
            b1, b2 = (side.to(ratio) for side in covariance.over_pairs(x[term + 2], z[term + 2]))
            values.mul_(ratio).addcmul_(b1, b2, value=1 / (self.degrees_apart * term + 1))
            if state.tangent is not None:
                slope.mul_(ratio).addcmul_(b1, b2)
        means = (side.to(ratio) for side in covariance.over_pairs(x[1], z[1]))
        return state.after(covariance.with_value(values.mul_(k12).addcmul_(*means)), slope)


def _correlation(k12: Tensor, x: Tensor, z: Tensor) -> Tensor:
    """Return ρ, between −1 and 1; 0 where a variance is 0."""
    x_scale, z_scale = (torch.where(side > 0, side, 1.0).rsqrt().to(k12) for side in (x, z))
    return (k12 * x_scale).mul_(z_scale).clamp_(-1, 1)
