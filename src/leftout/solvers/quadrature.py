"""Quadratures that write a function of K as a sum of a few resolvents.

    g(K) = Re sum_q w_q (z_q I − K)⁻¹,   that is   g(s) = Re sum_q w_q / (z_q − s) on [0, high].

Leaving an example out changes a resolvent by a rank-one term, so a function written in resolvents
can be downdated for all examples at once. The nodes do not depend on the example, because the
spectrum without it lies between the same bounds (Cauchy interlacing). The end of training is one
resolvent itself and needs no nodes. Two families of them for finite times:

    hyperbola  (1 − e^{−τ(s + λ)}) / (s + λ)  the contour of Weideman & Trefethen (2007) around 0
               and the spectrum, for all τ of a window [T, L·T] at once; under z → (1 − e^{−u})/η,
               and its mirror image (1 + e^{−u})/η, it serves gradient descent of 10 steps and more
    circle     any polynomial of low degree: descent of fewer than 10 steps

Since 1/z integrates to nothing at infinity, e^{−τz}/z alone carries (1 − e^{−τz})/z.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Complex128, Float64
from torch import Tensor

from leftout.core.blocks import blocks

WINDOW = 10.0
"""Largest ratio L of the times that share nodes: wider windows need more nodes, linearly in log L."""

NODES = 40
"""Nodes of one hyperbola. On a window of 10 the error falls like e^{−N}: 40 give 3e−14 of g. More nodes gain
nothing, and on narrower windows they lose digits: e^{−τz} grows at the tip. So every window is 10 wide."""

ANGLE = 1.0236
"""Opening a of the hyperbola that makes the error fall fastest, the largest (π² − 2πa) / A(a)."""

FEW_STEPS = 10
"""Below so many steps the hyperbola in u would be cut off by the period of e^{−u}: use the circle."""

CIRCLE_NODES = 48
CIRCLE_RADIUS = 2.0
"""On the interval the trapezoid rule errs by 2^−96; |g| grows by at most (1 + 2·1.5)^9 on the way
out, and 4^9·eps = 6e−11 is what rounding could then leave; measured: below 1e−13 of t·rate."""


@dataclass(frozen=True, eq=False)
class Quadrature:
    """Nodes and weights with g_t(s) = Re Σ_q weights[t, q] / (nodes[q] − s).

    Conjugate nodes are folded in: K and the data are real, so the term of z̄ is the conjugate of
    the term of z, and doubling the real part replaces it.
    """

    nodes: Complex128[Tensor, " q"]
    weights: Complex128[Tensor, "t q"]

    def __call__(self, values: Float64[Tensor, " s"]) -> Float64[Tensor, "t s"]:
        """Return the function that these nodes stand for, at real values."""
        poles = 1 / (self.nodes[:, None] - values.to(self.nodes.dtype)[None, :])  # (q, s)
        return (self.weights @ poles).real


def windows(times: Sequence[float]) -> list[list[int]]:
    """Return the positions of `times`, grouped so that those of a group lie within `WINDOW`."""
    order = sorted(range(len(times)), key=lambda j: times[j])
    groups: list[list[int]] = []
    for j in order:
        if groups and times[j] <= WINDOW * times[groups[-1][0]]:
            groups[-1].append(j)
        else:
            groups.append([j])
    return groups


def flow_quadrature(times: Sequence[float], *, ridge: float) -> Quadrature:
    """Return nodes for (1 − e^{−τ(s + ridge)}) / (s + ridge), s ≥ 0, at times of one window.

    Args:
        times: τ > 0, the largest at most `WINDOW` times the smallest.
        ridge: λ ≥ 0, in the units of s.

    Accuracy:
        3e−14 relative to g, for every s ≥ 0; tested against g itself.

    Source:
        Weideman & Trefethen 2007, "Parabolic and hyperbolic contours for computing the Bromwich
        integral", Math. Comp. 76.
    """
    shifted, slope, step = _hyperbola(min(times))
    decay = np.exp(-np.asarray(times)[:, None] * shifted)  # (t, q)
    weights = -step / (1j * math.pi) * decay * slope / shifted
    return Quadrature(nodes=torch.from_numpy(shifted - ridge), weights=torch.from_numpy(weights))


def descent_quadrature(steps: Sequence[float], *, rate: float, ridge: float, high: float) -> Quadrature:
    """Return nodes for (1 − (1 − η(s + ridge))^t) / (s + ridge), t ≥ 10 of one window.

    Args:
        steps: t, the largest at most `WINDOW` times the smallest.
        rate: η.
        ridge: λ ≥ 0, in the units of s.
        high: upper bound of s; where η(high + λ) > 1 the mirror image is added.
    """
    log, slope, step = _hyperbola(min(steps))
    # As floats, all above 2^53 even: more steps than an int64 counts are a whole number too.
    counts = np.asarray(steps, dtype=float)[:, None]
    slope = -step / (1j * math.pi) * slope * np.exp(-log) / rate
    power = np.exp(-counts * log)  # (t, q)
    # expm1: for many steps the nodes crowd at log → 0, and 1 − e^{−log} would lose their digits.
    nodes = -np.expm1(-log) / rate
    weights = power * slope / nodes
    if rate * (high + ridge) > 1:
        mirror = (1 + np.exp(-log)) / rate
        sign = np.where(counts % 2 == 0, 1.0, -1.0)
        nodes = np.concatenate([nodes, mirror])
        weights = np.concatenate([weights, -sign * power * slope / mirror], axis=1)
    return Quadrature(nodes=torch.from_numpy(nodes - ridge), weights=torch.from_numpy(weights))


def circle_quadrature(functions: Sequence[Callable[[Tensor], Tensor]], *, high: float) -> Quadrature:
    """Return nodes for functions analytic in a disc twice as wide as [0, high].

    Args:
        functions: of a complex argument s; polynomials of degree below 2 · `CIRCLE_NODES`.
        high: upper bound of the spectrum.
    """
    high = high if high > 0 else 1.0  # K = 0: any disc around 0 will do, but not an empty one
    angle = (torch.arange(CIRCLE_NODES, dtype=torch.float64, device="cpu") + 0.5) * math.pi / CIRCLE_NODES
    ray = torch.polar(torch.full_like(angle, CIRCLE_RADIUS * high / 2), angle)
    nodes = high / 2 + ray
    weights = torch.stack([function(nodes) * ray / CIRCLE_NODES for function in functions])
    return Quadrature(nodes=nodes, weights=weights)


def quadrature_error(
    quadrature: Quadrature, exact: Callable[[Tensor], Tensor], *, high: float, extra: Float64[Tensor, " s"]
) -> Float64[Tensor, " t"]:
    """Return a bound on max √s · |g(s) − quadrature(s)| over 0 ≤ s ≤ high, for each time.

    √s is the weight with which an error of g reaches a prediction: kernel rows are φ(x)ᵀΦ, and
    ‖Φ h(K)‖ = max √s |h(s)|.

    Args:
        exact: g, for a vector of s, as (t, s).
        extra: further points to sample, such as the spectrum itself.

    Accuracy:
        The difference is a function of log s that is analytic in a strip of half-width ≥ 0.8 (the
        nodes keep that angle from the axis), so what varies faster than σ = 52 radians a unit is
        below e^{−0.8·52} = 1e−18 of it. Sampled at a spacing h = 0.04 its maximum is at most
        1 / cos(σh/2) = 2 times the largest sample (Bernstein); below 1e−20 · high, √s |g| is 1e−10
        of what it is at the top and g is constant. Hence the factor 2.
    """
    if high <= 0:
        return torch.zeros(len(quadrature.weights), dtype=torch.float64, device="cpu")
    grid = high * torch.exp(-0.04 * torch.arange(1152, dtype=torch.float64, device="cpu"))  # to 1e-20 · high
    points = torch.cat([grid, extra.clamp(0, high).cpu()])
    error = torch.zeros(len(quadrature.weights), dtype=torch.float64, device="cpu")
    for block in blocks(len(points), 4096):
        s = points[block]
        difference = (quadrature(s) - exact(s)).abs() * s.sqrt()
        error = torch.maximum(error, difference.amax(1))
    return 2 * error


def _hyperbola(first: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Return nodes z(u), z'(u) and the step h, for e^{−τz} with τ in [first, WINDOW · first].

    z = −μ (1 + sin(iu − a)) = μ (cosh u sin a − 1) − iμ sinh u cos a, u = (j + 1/2) h.
    """
    reach = math.acosh(
        ((math.pi - 2 * ANGLE) * WINDOW + 4 * ANGLE - math.pi) / ((4 * ANGLE - math.pi) * math.sin(ANGLE))
    )
    step = reach / NODES
    scale = (4 * math.pi * ANGLE - math.pi**2) * NODES / (reach * WINDOW * first)
    u = (np.arange(NODES) + 0.5) * step
    nodes = scale * (np.cosh(u) * math.sin(ANGLE) - 1) - 1j * scale * np.sinh(u) * math.cos(ANGLE)
    slope = scale * np.sinh(u) * math.sin(ANGLE) - 1j * scale * np.cosh(u) * math.cos(ANGLE)
    return nodes, slope, step
