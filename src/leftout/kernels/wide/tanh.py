"""How alike are two inputs to an infinitely wide network of tanh units? No closed form: a series.

With K the kernel of the pre-activations, ρ² = K12² / (K11 K22) and h_p the orthonormal Hermite
polynomials, a tanh turns K into (Mehler; only odd p count)

    E[tanh u tanh v]   = K12 Σ_p c_p(K11) c_p(K22) ρ^(p − 1),     c_p(s) = E[tanh(√s z) h_p(z)] / √s,
    E[tanh' tanh']     = Σ_p p c_p(K11) c_p(K22) ρ^(p − 1),       its derivative in K12,

and a fully connected layer of weight variance w and bias variance b turns it into wK + b. The
tangent kernel T starts at K; a tanh multiplies it by E[tanh' tanh'], a layer makes it K' + wT.

tanh(√s z) is analytic in a strip of half-width y = π / 2√s, at whose edge h_p grows like e^{y√p}. So the
terms of both series fall like e^{−2y√p}, p of them at most: `TERMS` · s degrees leave e^{−40}. And the
trapezoid rule of step h has c_p up to e^{−2πy/h + y√p}: h = 2πy / 60 leaves e^{−40} as well.
"""

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from leftout.core.errors import DataError, OptionError
from leftout.kernels.rows import flat_rows
from leftout.kernels.wide.deep import Deep
from leftout.kernels.wide.layers import input_scales

TERMS = (40 / math.pi) ** 2
"""Degrees for each unit of s: 2y√p = 40."""

FEWEST = 41
"""Degrees where s is small and terms fall like s^p / p! instead."""

LARGEST = 32.0
"""Largest variance of a pre-activation. Degrees grow like s, and tanh is a step long before."""

REACH = 13.0
"""Where the trapezoid rule ends: h_p φ ≤ e^{−z²/4}, 4e−19 here."""


@final
@dataclass(frozen=True)
class Tanh(Deep):
    """The kernel of a fully connected tanh network, in the conventions of `ReLU` and `Erf`.

    `depth` counts hidden layers. Every layer, the readout too, has weight variance over fan-in and the
    bias variance: the first layer's kernel is weight_variance · x·z / d + bias_variance. `kind` is
    "ntk" (all layers trained) or "nngp" (only the readout, or the process that the network starts as).

    Cost:
        One product, and for each hidden layer 81 s multiply-adds a pair, twice that for "ntk", s the
        largest variance of a pre-activation: 160 where inputs have norm √d and the weights variance 2.

    Accuracy:
        In units of sqrt(k(x, x) k(z, z)): what is cut off is below 1e-15 for "nngp" and 1e-13 for
        "ntk"; rounding adds 4 (depth + 1)(1 + √p) ε, p the degree, with ε of the dtype. Both are
        smooth in ρ at 1, so nearly equal inputs lose nothing.

    Source:
        Neal 1996, "Bayesian learning for neural networks", chapter 2 (the limit of one hidden layer);
        the series is Mehler's; truncation and step are derived here.
    """

    name = "tanh"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weight_variance + self.bias_variance > LARGEST:
            raise OptionError(
                f"`weight_variance` + `bias_variance` must be at most {LARGEST:g}, the largest variance "
                f"that the series of tanh is made for; got {self.weight_variance:g} + "
                f"{self.bias_variance:g}."
            )

    def block(self, queries: Float[Tensor, "m ..."], inputs: Float[Tensor, "n ..."]) -> Float[Tensor, "m n"]:
        """Return the kernel of every pair."""
        x, z = flat_rows(queries), flat_rows(inputs)
        w, b = self.weight_variance, self.bias_variance
        covariance = (x @ z.T).mul_(w / x.shape[1]).add_(b)
        left, right = self._first(x), self._first(z)
        tangent = covariance.clone() if self.kind == "ntk" else None
        for _ in range(self.depth):
            if not covariance.numel():
                return covariance
            one, other = _coefficients(left, right)
            share = _square_cosine(covariance, left, right)
            if tangent is not None:
                degrees = torch.arange(1, 2 * one.shape[1], 2, dtype=one.dtype, device=one.device)
                tangent.mul_(_series(share, degrees * one, other)).mul_(w)
            covariance.mul_(_series(share, one, other)).mul_(w).add_(b)
            if tangent is not None:
                tangent.add_(covariance)
            left, right = (side * c.square().sum(1) * w + b for side, c in ((left, one), (right, other)))
        return covariance if tangent is None else tangent

    def diagonal(self, inputs: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        """Return k(x, x)."""
        w, b = self.weight_variance, self.bias_variance
        variance = self._first(flat_rows(inputs))
        tangent = variance
        for _ in range(self.depth if len(variance) else 0):
            found = _coefficients(variance, variance)[0].square()
            degrees = torch.arange(1, 2 * found.shape[1], 2, dtype=found.dtype, device=found.device)
            slope = found @ degrees
            variance = variance * found.sum(1) * w + b
            tangent = tangent * slope * w + variance
        return (tangent if self.kind == "ntk" else variance).to(inputs)

    def _first(self, rows: Float[Tensor, "n d"]) -> Float64[Tensor, " n"]:
        """Return the variance of the first pre-activations."""
        return input_scales(rows.double()).square() * self.weight_variance + self.bias_variance

    def check(self, name: str, inputs: Tensor) -> None:
        """Raise unless every input is a vector of finite numbers, of no larger norm than can be told.

        Raises:
            DataError: not floating-point, NaN or infinity, or so large that every unit saturates.
            ShapeError: no axis of features.
        """
        super().check(name, inputs)
        large = (self._first(flat_rows(inputs)) > LARGEST).nonzero().flatten()
        if len(large):
            row = int(large[0])
            raise DataError(
                f"`{name}` must have weight_variance · |x|² / d + bias_variance ≤ {LARGEST:g}: beyond "
                f"that tanh is a step; row {row} has {float(self._first(flat_rows(inputs))[row]):.3g} "
                f'({len(large)} of {len(inputs)} rows do). Load them with normalise="sphere".'
            )


def _coefficients(
    left: Float64[Tensor, " m"], right: Float64[Tensor, " n"]
) -> tuple[Float64[Tensor, "m t"], Float64[Tensor, "n t"]]:
    """Return c_p of both sides for p = 1, 3, 5, …, as many as the larger variances ask for.

    The term p of a pair is at most that of its two variances' geometric mean, so the series may end
    where that of the largest does.
    """
    top = max(float(left.max()), float(right.max()))
    highest = FEWEST + math.ceil(TERMS * top)
    half_width = min(2.0, math.pi / 2 / math.sqrt(top)) if top > 0 else 2.0
    step = 2 * math.pi * half_width / 60
    points = (torch.arange(math.ceil(REACH / step), dtype=torch.float64) + 0.5) * step
    points = points.to(left.device)
    # Both factors are odd, so half the line counts twice. ψ_p = h_p √φ is bounded, as h_p is not.
    weights = 2 * step * (2 * math.pi) ** -0.25 * torch.exp(-points.square() / 4)
    basis = _hermite_functions(points, highest) * weights  # (t, z)

    def side(variance: Float64[Tensor, " n"]) -> Float64[Tensor, "n t"]:
        scale = variance.sqrt()[:, None]
        unit = torch.where(scale == 0, 1.0, scale)
        slopes = torch.where(scale == 0, points, torch.tanh(scale * points) / unit)  # (n, z)
        found: Tensor = slopes @ basis.T
        return found

    one = side(left)
    return one, one if right is left else side(right)


def _hermite_functions(points: Float64[Tensor, " z"], highest: int) -> Float64[Tensor, "t z"]:
    """Return ψ_p = h_p √φ for odd p ≤ highest: √(p + 1) ψ_{p+1} = z ψ_p − √p ψ_{p−1}."""
    before = torch.zeros_like(points)
    now = (2 * math.pi) ** -0.25 * torch.exp(-points.square() / 4)
    odd = []
    for p in range(highest):
        before, now = now, (points * now - math.sqrt(p) * before) / math.sqrt(p + 1)
        if p % 2 == 0:
            odd.append(now)
    return torch.stack(odd)


def _square_cosine(
    covariance: Float[Tensor, "m n"], left: Float64[Tensor, " m"], right: Float64[Tensor, " n"]
) -> Float[Tensor, "m n"]:
    """Return ρ², 0 where a variance is."""
    one, other = (torch.where(side > 0, side, 1.0).rsqrt().to(covariance) for side in (left, right))
    return (covariance * one[:, None]).mul_(other).square_().clamp_(max=1)


def _series(
    share: Float[Tensor, "m n"], left: Float64[Tensor, "m t"], right: Float64[Tensor, "n t"]
) -> Float[Tensor, "m n"]:
    """Return Σ_j left_j right_j (ρ²)^j, by Horner's rule."""
    one, other = left.to(share), right.to(share)
    total = torch.zeros_like(share)
    for j in range(left.shape[1] - 1, -1, -1):
        total.mul_(share).addr_(one[:, j], other[:, j])
    return total
