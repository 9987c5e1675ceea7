"""The recursion of a network's kernels from the definition: position by position, window by window.

Architectures are described in problems/architectures.py. Each covariance that the answer needs is computed
once, by itself; expectations over two Gaussian numbers are sums over a grid, or over angles where the
function is linear on both sides of zero.
"""

import math
from functools import cache
from itertools import pairwise

import numpy as np
from scipy.special import erf

LINEAR = {"relu": lambda: (0.0, 1.0), "leaky": lambda slope: (slope, 1.0), "abs": lambda: (-1.0, 1.0)}
"""Slopes on either side of zero."""

SMOOTH = {
    "gelu": (
        lambda u: u * (1 + erf(u / 2**0.5)) / 2,
        lambda u: (1 + erf(u / 2**0.5)) / 2 + u * np.exp(-(u**2) / 2) / (2 * np.pi) ** 0.5,
    ),
    "erf": (erf, lambda u: 2 / np.pi**0.5 * np.exp(-(u**2))),
    "sine": (np.sin, np.cos),
    "cosine": (np.cos, lambda u: -np.sin(u)),
    "tanh": (np.tanh, lambda u: 1 - np.tanh(u) ** 2),
}

STEP = 0.125
"""Of a grid of standard Gaussian numbers. Of functions that grow as exp(S y²/2) off the real axis its error
is exp(−2π² / (STEP² (1 + S))), below 2^-52 for S = 34; of tanh exp(−π² / (STEP σ)), for variances up to 4."""

GRID = np.arange(-9, 9 + STEP / 2, STEP)
WEIGHTS = STEP / (2 * np.pi) ** 0.5 * np.exp(-(GRID**2) / 2)
NODES, LEGENDRE = np.polynomial.legendre.leggauss(24)


class Layer:
    """A layer behind others: its name and options, what it follows, and its height and width."""

    def __init__(self, name, options, before, shape):
        self.name, self.options, self.before, self.shape = name, options, before, shape


def chain(layers, layer):
    """Return the last of some layers that follow another."""
    for name, *options in layers:
        before, shape = [layer], layer.shape
        if name == "residual":
            before = [chain(branch, layer) for branch in options]
            shape = before[0].shape
        elif name in ("conv", "pool"):
            shape = tuple(
                len(starts(*axis, options[2])) for axis in zip(layer.shape, *options[:2], strict=True)
            )
        elif name in ("flatten", "mean"):
            shape = (1, 1)
        layer = Layer(name, options, before, shape)
    return layer


def starts(length, size, stride, padding):
    """Return where windows start along an axis; before 0 where there is padding."""
    if padding in ("same", "circular"):
        count = math.ceil(length / stride)
        missing = max(0, (count - 1) * stride + size - length)
        return [i * stride - missing // 2 for i in range(count)]
    zeros = 0 if padding == "valid" else padding[1] if isinstance(padding, list) else padding
    return list(range(-zeros, length + zeros - size + 1, stride))


def window(place, size, stride, padding, shape):
    """Return the places that the window of a place sees, None where it sees a zero."""
    first = [
        starts(*axis, padding)[i]
        for i, axis in zip(place, zip(shape, size, stride, strict=True), strict=True)
    ]
    seen = []
    for i in range(first[0], first[0] + size[0]):
        for j in range(first[1], first[1] + size[1]):
            if padding == "circular" or isinstance(padding, list):
                seen.append((i % shape[0], j % shape[1]))
            else:
                seen.append((i, j) if 0 <= i < shape[0] and 0 <= j < shape[1] else None)
    return seen


def places(shape):
    """Return all positions of an image."""
    return list(np.ndindex(tuple(shape)))


def kernels(of, x, z):
    """Return NNGP and tangent kernel of an architecture between two inputs."""
    pair = [np.asarray(side, dtype=float) for side in (x, z)]
    pair = [side.reshape(-1, 1, 1) if side.ndim == 1 else side for side in pair]
    last = chain(of["layers"], Layer("input", [], [], pair[0].shape[1:]))

    @cache
    def covariance(layer, left, right, p, q):
        inner = layer.before[0] if layer.before else None
        match layer.name:
            case "input":
                return float(
                    np.mean(
                        [
                            channel[p] * other[q]
                            for channel, other in zip(pair[left], pair[right], strict=True)
                        ]
                    )
                )
            case "residual":
                return sum(covariance(branch, left, right, p, q) for branch in layer.before)
            case "dense" | "conv":
                w, b = layer.options[-2:]
                return w * linear(covariance, layer, p, q, left, right) + b
            case "norm":
                return covariance(inner, left, right, p, q) / norm(layer, left, right, p, q)
            case "scale" | "pool" | "flatten" | "mean":
                return linear(covariance, layer, p, q, left, right)
        return expectations(layer, left, right, p, q)[0]

    def norm(layer, left, right, p, q):
        inner, product = layer.before[0], 1.0
        for side, place in ((left, p), (right, q)):
            seen = places(inner.shape) if layer.options[1:] == ["all"] else [place]
            variances = [covariance(inner, side, side, i, i) for i in seen]
            product *= sum(variances) / len(variances) + layer.options[0]
        return math.sqrt(product)

    @cache
    def expectations(layer, left, right, p, q):
        inner = layer.before[0]
        own = covariance(inner, left, left, p, p), covariance(inner, right, right, q, q)
        return gaussian(layer.name, layer.options, covariance(inner, left, right, p, q), *own)

    @cache
    def tangent(layer, p, q):
        inner = layer.before[0] if layer.before else None
        match layer.name:
            case "input":
                return 0.0
            case "residual":
                return sum(tangent(branch, p, q) for branch in layer.before)
            case "dense" | "conv":
                return layer.options[-2] * linear(tangent, layer, p, q) + covariance(layer, 0, 1, p, q)
            case "norm":
                return tangent(inner, p, q) / norm(layer, 0, 1, p, q)
            case "scale" | "pool" | "flatten" | "mean":
                return linear(tangent, layer, p, q)
        return tangent(inner, p, q) * expectations(layer, 0, 1, p, q)[1]

    return covariance(last, 0, 1, (0, 0), (0, 0)), tangent(last, (0, 0), (0, 0))


def linear(values, layer, p, q, *sides):
    """Return what a linear layer makes of values between two places, without variances of its weights."""
    inner = layer.before[0]

    def value(i, j):
        return 0.0 if i is None or j is None else values(inner, *sides, i, j)

    match layer.name:
        case "dense":
            return value(p, q)
        case "conv":
            size, stride, padding = layer.options[:3]
            seen = [window(place, size, stride, padding, inner.shape) for place in (p, q)]
            return sum(value(i, j) for i, j in zip(*seen, strict=True)) / len(seen[0])
        case "pool":
            size, stride, padding = layer.options
            seen = [window(place, size, stride, padding, inner.shape) for place in (p, q)]
            return sum(value(i, j) for i in seen[0] for j in seen[1]) / len(seen[0]) ** 2
        case "flatten":
            return sum(value(i, i) for i in places(inner.shape)) / math.prod(inner.shape)
        case "mean":
            whole = places(inner.shape)
            return sum(value(i, j) for i in whole for j in whole) / len(whole) ** 2
    return layer.options[0] ** 2 * value(p, q)


def gaussian(name, options, k, left, right):
    """Return E[φ(u) φ(v)] and E[φ'(u) φ'(v)] of Gaussian u, v with these variances and covariance k."""
    deviations = math.sqrt(left), math.sqrt(right)
    norm = deviations[0] * deviations[1]
    cosine = min(1.0, max(-1.0, k / norm)) if norm else 0.0  # where one is 0, it is multiplied by 0
    if abs(k) == left == right:
        cosine = math.copysign(1.0, k)
    if name in LINEAR:
        return by_angle(LINEAR[name](*options), cosine, deviations)
    function, slope = SMOOTH[name]
    u = deviations[0] * GRID[:, None]
    v = deviations[1] * (cosine * GRID[:, None] + math.sqrt((1 - cosine) * (1 + cosine)) * GRID)
    return tuple(float(((WEIGHTS[:, None] * f(u)) * f(v) * WEIGHTS).sum()) for f in (function, slope))


def by_angle(slopes, cosine, deviations):
    """Return the same where φ is linear on either side of zero: u = r cos a, v = r cos (a − angle)."""
    angle = math.acos(cosine)
    corners = sorted(
        {(corner + turn) % (2 * np.pi) for corner in (np.pi / 2, -np.pi / 2) for turn in (0.0, angle)}
    )
    corners = [*corners, corners[0] + 2 * np.pi]
    values = np.zeros(2)
    for start, end in pairwise(corners):
        turns = start + (end - start) * (NODES + 1) / 2
        u, v = np.cos(turns), np.cos(turns - angle)
        slope = np.where(u > 0, slopes[1], slopes[0]) * np.where(v > 0, slopes[1], slopes[0])
        values += (end - start) / 2 * np.array([(LEGENDRE * slope * u * v).sum(), (LEGENDRE * slope).sum()])
    # The mean of r² is 2, and the density of an angle 1 / 2π.
    return deviations[0] * deviations[1] * values[0] / np.pi, values[1] / (2 * np.pi)
