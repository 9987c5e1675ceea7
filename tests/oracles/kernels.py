"""Every kernel once more from its definition: finite random networks, and formulas in 60 digits.

Nothing here is shared with the package: numpy draws the networks and backpropagates by hand, mpmath
takes the arccos and arcsin that the package avoids.
"""

import math
from collections.abc import Callable

import mpmath
import numpy as np
from mpmath import mp, mpf
from scipy.special import erf

mp.dps = 60

ANGLES = [10.0**-k for k in range(12, 0, -1)] + [0.0441, 0.0443, 0.5, math.pi / 2, 2.0, 3.0]
ANGLES += [math.pi - 0.0443, math.pi - 0.0441] + [math.pi - 10.0**-k for k in range(1, 13)]
ANGLES += [math.pi]
"""From 1e-12 to π, on both sides of where the package changes its formula (0.0442)."""

EPS = 2.0**-52

ACTIVATIONS: dict[str, tuple[Callable, Callable]] = {
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(float)),
    "erf": (erf, lambda z: 2 / np.sqrt(np.pi) * np.exp(-(z**2))),
}


def exact_products(x: np.ndarray, z: np.ndarray) -> tuple[mpf, mpf, mpf]:
    """Return x·x, x·z and z·z of float64 vectors, to 60 digits."""
    a, b = [mpf(float(v)) for v in x], [mpf(float(v)) for v in z]
    return mpmath.fdot(a, a), mpmath.fdot(a, b), mpmath.fdot(b, b)


def exact_angle(x: np.ndarray, z: np.ndarray) -> mpf:
    """Return the angle of two float64 vectors; arccos leaves 30 of the 60 digits."""
    xx, xz, zz = exact_products(x, z)
    return mpmath.acos(max(mpf(-1), min(mpf(1), xz / mpmath.sqrt(xx * zz))))


def exact_two_layer_relu(x: np.ndarray, z: np.ndarray) -> mpf:
    return exact_products(x, z)[1] * (mp.pi - exact_angle(x, z)) / (2 * mp.pi)


def exact_two_layer_gelu(x: np.ndarray, z: np.ndarray) -> mpf:
    """Return E[σσ] + x·z E[σ'σ'], the second as the derivative of the first in x·z."""
    xx, xz, zz = exact_products(x, z)

    def value(c: mpf) -> mpf:
        rest = (1 + xx) * (1 + zz) - c**2
        plus = xx * zz + c**2 * (1 / (1 + xx) + 1 / (1 + zz) - 1)
        chance = mpf(1) / 4 + mpmath.atan2(c, mpmath.sqrt(rest)) / (2 * mp.pi)
        return c * chance + plus / (2 * mp.pi * mpmath.sqrt(rest))

    # Rounding leaves 35 digits of 60; and the next singularity is 1/|x|² of |x||z| away at least, so that
    # for |x|² = 1e12 the square of the step is 1e-26.
    step = mpf(10) ** -25 * mpmath.sqrt(xx * zz)
    return value(xz) + xz * (value(xz + step) - value(xz - step)) / (2 * step)


def integrated_two_layer_gelu(square: float) -> mpf:
    """Return k(x, x) = E[σ(u)²] + |x|² E[σ'(u)²], u ~ N(0, |x|²), by quadrature."""
    length = mpmath.sqrt(mpf(square))

    def density(z: mpf) -> mpf:
        u = length * z
        slope = mpmath.ncdf(u) + u * mpmath.npdf(u)
        return ((u * mpmath.ncdf(u)) ** 2 + length**2 * slope**2) * mpmath.npdf(z)

    with mpmath.workdps(25):
        near = [k / length for k in (-12, -4, -1, 0, 1, 4, 12)]  # where GELU is no straight line
        return mpmath.quad(density, sorted({mpf(-12), *near, mpf(1), mpf(4), mpf(12)}))


def _relu_moments(xx: mpf, xz: mpf, zz: mpf) -> tuple[mpf, mpf]:
    scale = mpmath.sqrt(xx * zz)
    theta = mpmath.acos(max(mpf(-1), min(mpf(1), xz / scale)))
    value = scale * (mpmath.sin(theta) + (mp.pi - theta) * mpmath.cos(theta)) / (2 * mp.pi)
    return value, (mp.pi - theta) / (2 * mp.pi)


def _erf_moments(xx: mpf, xz: mpf, zz: mpf) -> tuple[mpf, mpf]:
    product = (1 + 2 * xx) * (1 + 2 * zz)
    value = 2 / mp.pi * mpmath.asin(2 * xz / mpmath.sqrt(product))
    return value, 4 / mp.pi / mpmath.sqrt(product - 4 * xz**2)


MOMENTS = {"relu": _relu_moments, "erf": _erf_moments}


def exact_deep(
    activation: str, x: np.ndarray, z: np.ndarray, *, depth: int, w: float, b: float
) -> dict[str, mpf]:
    """Return nngp and ntk of an infinitely wide network with `depth` hidden layers."""
    moments = MOMENTS[activation]
    xx, xz, zz = (mpf(w) * value / len(x) + mpf(b) for value in exact_products(x, z))
    tangent = xz
    for _ in range(depth):
        value, slope = moments(xx, xz, zz)
        xx, zz = moments(xx, xx, xx)[0], moments(zz, zz, zz)[0]
        xx, xz, zz = (mpf(w) * v + mpf(b) for v in (xx, value, zz))
        tangent = xz + mpf(w) * slope * tangent
    return {"nngp": xz, "ntk": tangent}


def finite_deep(
    activation: str, x: np.ndarray, *, depth: int, width: int, w: float, b: float, random: np.random.Generator
) -> dict[str, np.ndarray]:
    """Return the kernels of one random network: nngp given its hidden layers, ntk by gradients.

    Every weight is standard normal and multiplied by sqrt(w / fan-in), every bias by sqrt(b); the
    tangent kernel is the product of two gradients in all of them.
    """
    phi, slope = ACTIVATIONS[activation]
    signals, slopes, weights = [x], [], []
    for _ in range(depth):
        fan_in = signals[-1].shape[1]
        weights.append(np.sqrt(w / fan_in) * random.standard_normal((fan_in, width)))
        before = signals[-1] @ weights[-1] + np.sqrt(b) * random.standard_normal(width)
        signals.append(phi(before))
        slopes.append(slope(before))
    layer = [w * h @ h.T / h.shape[1] + b for h in signals]
    tangent = layer[-1].copy()
    backward = np.sqrt(w / width) * random.standard_normal(width) * slopes[-1]
    for level in range(depth - 1, -1, -1):
        tangent += layer[level] * (backward @ backward.T)
        if level:
            backward = (backward @ weights[level].T) * slopes[level - 1]
    return {"nngp": layer[-1], "ntk": tangent}


def finite_two_layer_relu(x: np.ndarray, *, width: int, random: np.random.Generator) -> np.ndarray:
    """Return the product of the gradients in the first layer of one random two-layer network."""
    gates = (x @ random.standard_normal((x.shape[1], width)) > 0).astype(float)
    return (x @ x.T) * (gates @ gates.T) / width


def pair_at_angle(angle: float, d: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two float64 vectors of norm 1, `angle` apart up to their rounding."""
    random = np.random.default_rng(seed)
    first, other = np.linalg.qr(random.standard_normal((d, 2)))[0].T
    return first, np.cos(angle) * first + np.sin(angle) * other
