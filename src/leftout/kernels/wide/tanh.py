"""The kernels of infinitely wide networks of tanh units, by a series: there is no closed form.

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
"""Largest variance of a pre-activation: degrees grow like s, and tanh is a step long before."""

REACH = 13.0
"""Where the trapezoid rule ends: h_p φ ≤ e^{−z²/4}, 4e−19 here."""


@final
@dataclass(frozen=True)
class Tanh(Deep):
    """The kernel of an infinitely wide fully connected tanh network, in neural-tangents' conventions.

    Args, errors:
        as of `Deep`; weight_variance + bias_variance at most 32.

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

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> x = torch.tensor([[0.6, 0.8], [0.8, -0.6]])
        >>> lo.kernels.Tanh(depth=1, bias_variance=0.1).block(x, x)
        tensor([[1.9079, 0.2386],
                [0.2386, 1.9079]])
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
        k11, k22 = self._first(x), self._first(z)
        tangent = covariance.clone() if self.kind == "ntk" else None
        for _ in range(self.depth):
            c1, c2 = _coefficients(k11, k22)
            square_cosine = _square_cosine(covariance, k11, k22)
            if tangent is not None:
                tangent.mul_(_series(square_cosine, _degrees(c1) * c1, c2)).mul_(w)
            covariance.mul_(_series(square_cosine, c1, c2)).mul_(w).add_(b)
            if tangent is not None:
                tangent.add_(covariance)
            k11, k22 = (k * c.square().sum(1) * w + b for k, c in ((k11, c1), (k22, c2)))
        return covariance if tangent is None else tangent

    def diagonal(self, inputs: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        """Return k(x, x), computed in float64."""
        return super().diagonal(inputs.double()).to(inputs)

    def moments(self, variance: Float64[Tensor, " n"]) -> tuple[Float64[Tensor, " n"], Float64[Tensor, " n"]]:
        """Return E[tanh(u)²] and E[tanh'(u)²]."""
        squares = _coefficients(variance, variance)[0].square()
        return variance * squares.sum(1), squares @ _degrees(squares)

    def _first(self, rows: Float[Tensor, "n d"]) -> Float64[Tensor, " n"]:
        """Return the variance of the first pre-activations."""
        return input_scales(rows.double()).square() * self.weight_variance + self.bias_variance

    def check(self, name: str, inputs: Tensor) -> None:
        """Raise unless every input is a vector of finite numbers of a norm that the series is made for.

        Raises:
            DataError: not floating-point, NaN or infinity, or so large that every unit saturates.
            ShapeError: no axis of features.
        """
        super().check(name, inputs)
        variances = self._first(flat_rows(inputs))
        check_variances(
            name, variances, what="weight_variance · |x|² / d + bias_variance", normalise="sphere"
        )


def check_variances(name: str, variances: Tensor, *, what: str, normalise: str) -> None:
    """Raise if a variance of pre-activations, called `what`, is larger than the series is made for."""
    large = (variances > LARGEST).nonzero().flatten()
    if len(large):
        row = int(large[0])
        raise DataError(
            f"`{name}` must have {what} ≤ {LARGEST:g}: beyond that tanh is a step; row {row} has "
            f"{float(variances[row]):.3g} ({len(large)} of {len(variances)} rows do). "
            f'Load them with normalise="{normalise}".'
        )


def _coefficients(
    k11: Float64[Tensor, " m"], k22: Float64[Tensor, " n"]
) -> tuple[Float64[Tensor, "m t"], Float64[Tensor, "n t"]]:
    """Return c_p of both sides for p = 1, 3, 5, …, as many as the larger variances ask for.

    The term p of a pair is at most that of its two variances' geometric mean, so the series may end
    where that of the largest does.
    """
    top = max((float(k.max()) for k in (k11, k22) if len(k)), default=0.0)
    highest = FEWEST + math.ceil(TERMS * top)
    half_width = min(2.0, math.pi / 2 / math.sqrt(top)) if top > 0 else 2.0
    step = 2 * math.pi * half_width / 60
    points = (torch.arange(math.ceil(REACH / step), dtype=torch.float64, device="cpu") + 0.5) * step
    points = points.to(k11.device)
    # Both factors are odd, so half the line counts twice. ψ_p = h_p √φ is bounded, as h_p is not.
    weights = 2 * step * (2 * math.pi) ** -0.25 * torch.exp(-points.square() / 4)
    basis = _hermite_functions(points, highest) * weights  # (t, z)

    def side(variance: Float64[Tensor, " n"]) -> Float64[Tensor, "n t"]:
        scale = variance.sqrt()[:, None]
        unit = torch.where(scale == 0, 1.0, scale)
        slopes = torch.where(scale == 0, points, torch.tanh(scale * points) / unit)  # (n, z)
        coefficients: Tensor = slopes @ basis.T
        return coefficients

    c1 = side(k11)
    return c1, c1 if k22 is k11 else side(k22)


def _degrees(coefficients: Float64[Tensor, "n t"]) -> Float64[Tensor, " t"]:
    """Return the degree p of each column: 1, 3, 5, …"""
    count = coefficients.shape[1]
    return torch.arange(1, 2 * count, 2, dtype=torch.float64, device=coefficients.device)


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
    covariance: Float[Tensor, "m n"], k11: Float64[Tensor, " m"], k22: Float64[Tensor, " n"]
) -> Float[Tensor, "m n"]:
    """Return ρ²; 0 where a variance is 0."""
    x_scale, z_scale = (torch.where(k > 0, k, 1.0).rsqrt().to(covariance) for k in (k11, k22))
    return (covariance * x_scale[:, None]).mul_(z_scale).square_().clamp_(max=1)


def _series(
    square_cosine: Float[Tensor, "m n"], c1: Float64[Tensor, "m t"], c2: Float64[Tensor, "n t"]
) -> Float[Tensor, "m n"]:
    """Return Σ_j c1_j c2_j (ρ²)^j, by Horner's rule."""
    c1, c2 = c1.to(square_cosine), c2.to(square_cosine)
    total = torch.zeros_like(square_cosine)
    for j in range(c1.shape[1] - 1, -1, -1):
        total.mul_(square_cosine).addr_(c1[:, j], c2[:, j])
    return total
