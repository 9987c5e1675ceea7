"""How far down its spectrum does a kernel learn from n examples? To the root κ of

    Σ_i m_i λ_i / (λ_i + κ) + ridge / κ = n,

λ_i its eigenvalues over the domain, of multiplicity m_i: modes with λ_i ≫ κ are learned, those with
λ_i ≪ κ are not, and the ridge takes its share of n. The left side falls in κ from the number of modes
(infinity with a ridge) to 0: there is one root if n lies between.

In this form the equation loses digits if κ is much smaller than the λ_i: 1e-20 changes none of the first
twenty digits of a sum near 1. It is solved in an equivalent form: each mode above κ is counted as 1, and only
its shortfall is subtracted,

    (modes above κ − n) + Σ_below m λ / (λ + κ) − Σ_above m κ / (λ + κ) + ridge / κ = 0.

At the root all terms are of the size of D = Σ m L (1 − L) + ridge / κ, L = λ / (λ + κ), which is minus the
slope in log κ: for any spectrum, rounding moves log κ by a few eps.

This holds for examples drawn independently. For n different points of a domain of M the ridge takes

    (1 − n / M) ridge / (κ − ridge / M)

instead: eigenfunctions at the examples are then part of an orthogonal matrix, not independent. (A random
projection of n dimensions out of M turns the R-transform R(z) into R(nz / M): free compression. Without
ridge nothing changes; with all points κ = ridge / M, as expected.)
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.core.checks import check_at_least, check_finite
from leftout.core.errors import DataError, OptionError, ShapeError

STEPS = 400
"""Iteration limit: enough to bisect the logarithm of the widest bracket of doubles to 1e-14."""

TOLERANCE = 1e-14
"""Change of log κ at which to stop."""


class RidgeTerms(NamedTuple):
    """The ridge's term in the eigenvalue equation, its share of n, and the slopes of that term.

    Attributes:
        share: h, the term of the ridge in the eigenvalue equation.
        fall: −κ ∂h / ∂κ.
        rise: κ ∂h / ∂ridge.
    """

    share: float
    fall: float
    rise: float


def ridge_terms(kappa: float, *, n: float, ridge: float, points: int | None = None) -> RidgeTerms:
    """Return the term of the ridge at κ, and its slopes.

    Args:
        points: M, where examples are different points of a finite domain; None where independent.
    """
    per_point = 0.0 if points is None else 1 / points
    above = kappa - ridge * per_point
    factor = (1 - n * per_point) * kappa / above  # 1 for independent examples
    return RidgeTerms(factor * ridge / kappa, factor * ridge / above, factor * kappa / above)


def kappa_of(
    eigenvalues: Float64[Tensor, " r"],
    *,
    n: float,
    ridge: float = 0.0,
    multiplicities: Float64[Tensor, " r"] | None = None,
    points: int | None = None,
) -> float:
    """Return κ; infinity for n = 0.

    Args:
        eigenvalues: λ ≥ 0 of the kernel as an operator under the mean over the domain, in any order:
            those of gram / M. Zeros count for nothing.
        n: number of examples, any real number, so that curves can be drawn.
        ridge: added to the Gram matrix of the n examples as given.
        multiplicities: how many modes each eigenvalue stands for, any positive numbers; None for one each.
        points: M, where examples are different points of a finite domain; None where independent.

    Raises:
        OptionError: n or ridge that is negative or not finite; without ridge, n that is not below the
            number of modes with λ > 0: there κ is 0 or not defined; n that is not below `points`.
        DataError: eigenvalues or multiplicities that are negative, infinite or NaN.
        ShapeError: multiplicities of another length.

    Cost:
        about 9 passes over the eigenvalues, 24 at most in 150 spectra of up to 60 decades.

    Accuracy:
        relative 1e-12 or better, in units of the change by one rounding of n.

    Source:
        Simon, Dickens & DeWeese 2021, "Neural tangent kernel eigenvalues accurately predict
        generalization". Examples of a finite domain: derived here.
    """
    check_at_least("n", n, 0)
    check_at_least("ridge", ridge, 0)
    check_spectrum(eigenvalues, multiplicities)
    there = eigenvalues > 0
    values = eigenvalues[there]
    weights = torch.ones_like(values) if multiplicities is None else multiplicities[there]
    if n == 0:
        return math.inf
    modes = float(weights.sum())
    if ridge == 0 and n >= modes:
        raise OptionError(
            f"`n` must be below the number of modes with a positive eigenvalue, {modes:g}, where there "
            f"is no ridge: from as many examples all are learned and κ is 0; got {n:g}. Ask for "
            "fewer examples, or pass a `ridge` > 0."
        )
    if points is not None and n >= points:
        raise OptionError(
            f"`n` must be below the {points} points of the domain that different examples are drawn "
            f"from; got {n:g}. With all of them there is only one data set: use `transfer`."
        )
    order = values.argsort(descending=True)
    equation = _Equation(values[order], weights[order], float(n), float(ridge), points)
    return equation.root()


def check_spectrum(eigenvalues: Float64[Tensor, " r"], multiplicities: Float64[Tensor, " r"] | None) -> None:
    """Raise unless these are eigenvalues ≥ 0 and their multiplicities > 0."""
    if eigenvalues.ndim != 1:
        raise ShapeError(f"`eigenvalues` must have one axis, shape (r,); got {tuple(eigenvalues.shape)}.")
    check_finite("eigenvalues", eigenvalues)
    if bool((eigenvalues < 0).any()):
        row = int(eigenvalues.argmin())
        raise DataError(
            f"`eigenvalues` must be ≥ 0; row {row} holds {float(eigenvalues[row]):.3g}. Set negative "
            "rounding errors to 0."
        )
    if multiplicities is None:
        return
    if multiplicities.shape != eigenvalues.shape:
        raise ShapeError(
            f"`multiplicities` must have one number for each of {len(eigenvalues)} eigenvalues; got "
            f"shape {tuple(multiplicities.shape)}."
        )
    check_finite("multiplicities", multiplicities)
    if bool((multiplicities <= 0).any()):
        row = int(multiplicities.argmin())
        raise DataError(
            f"`multiplicities` must be > 0; row {row} holds {float(multiplicities[row]):.3g}. Leave "
            "out modes that are not there."
        )


@final
@dataclass(frozen=True, eq=False)
class _Equation:
    """The eigenvalue equation of positive eigenvalues, largest first."""

    values: Float64[Tensor, " r"]
    weights: Float64[Tensor, " r"]
    n: float
    ridge: float
    points: int | None

    def root(self) -> float:
        """Return κ by Newton's method in log κ, by halving where that would leave the bracket."""
        low, high = self.bracket()
        kappa = math.sqrt(low) * math.sqrt(high)
        for _ in range(STEPS):
            excess, slope = self.excess(kappa)
            if excess > 0:
                low = kappa
            else:
                high = kappa
            step = excess / slope
            if abs(step) <= TOLERANCE or high <= low:
                return kappa
            # The excess is neither convex nor concave: only the bracket guarantees the root.
            inside = abs(step) < 700 and low < kappa * math.exp(step) < high
            following = kappa * math.exp(step) if inside else math.sqrt(low) * math.sqrt(high)
            if following == kappa:
                return kappa
            kappa = following
        raise AssertionError(f"no root between {low} and {high}")

    def bracket(self) -> tuple[float, float]:
        """Return bounds of κ, of which neither is 0.

        Above: λ / (λ + κ) < λ / κ. Below: the N modes down to the value λ alone make N λ / (λ + κ),
        which is n at κ = λ (N / n − 1); and the ridge alone takes n at κ = ridge / n. From there on a
        finite domain's term is the smaller one: the bound above is good for both.
        """
        alone = self.values * ((self.weights.cumsum(0) - self.n) / self.n)
        low = max(float(alone.max()) if len(alone) else 0.0, self.ridge / self.n)
        high = (float(self.weights @ self.values) + self.ridge) / self.n
        # Where one mode or the ridge is all there is, both are the root, up to rounding.
        wide = 1e-12 if self.points is None else min(1e-12, (1 - self.n / self.points) / 2)
        return low * (1 - wide), high * (1 + wide)

    def excess(self, kappa: float) -> tuple[float, float]:
        """Return left side minus n at κ, and minus its slope in log κ."""
        sums = self.values + kappa
        learned, missing = self.values / sums, kappa / sums
        above = int((self.values > kappa).sum())
        ridge_share, fall, _ = ridge_terms(kappa, n=self.n, ridge=self.ridge, points=self.points)
        counted_fully = float(self.weights[:above].sum()) - self.n
        corrections = float(self.weights[above:] @ learned[above:] - self.weights[:above] @ missing[:above])
        return counted_fully + corrections + ridge_share, float(self.weights @ (learned * missing)) + fall
