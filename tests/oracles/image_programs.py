"""Programs of convolutions, leaky rectifiers and residual sums, written out at all pairs of positions."""

import numpy as np

from leftout.kernels.fused.program import Convolution, Factor, Rectifier

PAIRS = ("xz", "xx", "zz")


def last_layer(steps, x, z):
    """Return K and T of two images (c, h, w) behind these steps, at all pairs of positions, (h, w, h, w)."""
    images = {"x": np.asarray(x, np.longdouble), "z": np.asarray(z, np.longdouble)}
    kernels = {}
    for pair in PAIRS:
        products = np.einsum("cij,ckl->ijkl", images[pair[0]], images[pair[1]]) / len(x)
        kernels[pair] = products, np.zeros_like(products)
    return after(steps, kernels)["xz"]


def readout(values, mean):
    """Return the mean over pairs of positions, or over equal positions."""
    return float(values.mean() if mean else np.einsum("ijij->ij", values).mean())


def after(steps, kernels):
    """Return K and T of every pair of images behind these steps."""
    for step in steps:
        if isinstance(step, Convolution):
            kernels = {pair: convolved(step, *both) for pair, both in kernels.items()}
        elif isinstance(step, Rectifier):
            own = {side: np.einsum("ijij->ij", kernels[side * 2][0]) for side in "xz"}
            kernels = {
                pair: rectified(step.slope, *both, own[pair[0]], own[pair[1]])
                for pair, both in kernels.items()
            }
        elif isinstance(step, Factor):
            kernels = {pair: tuple(step.number * values for values in both) for pair, both in kernels.items()}
        else:
            ends = after(step.branch, kernels), after(step.shortcut, kernels)
            kernels = {
                pair: tuple(a + b for a, b in zip(ends[0][pair], ends[1][pair], strict=True))
                for pair in PAIRS
            }
    return kernels


def convolved(step, covariance, tangent):
    """Return w / area Σ over a window at the same place in both images, + b; and that + Σ of T."""
    sides = covariance.shape[:2]
    sums = np.zeros((2, *step.counts, *step.counts), np.longdouble)
    for i, j, k, m in np.ndindex(sums.shape[1:]):
        for a, b in np.ndindex(step.size):
            p = i * step.stride[0] - step.before[0] + a, j * step.stride[1] - step.before[1] + b
            q = k * step.stride[0] - step.before[0] + a, m * step.stride[1] - step.before[1] + b
            if all(0 <= place < side for place, side in zip((*p, *q), (*sides, *sides), strict=True)):
                sums[0, i, j, k, m] += covariance[(*p, *q)]
                sums[1, i, j, k, m] += tangent[(*p, *q)]
    sums *= np.longdouble(step.weight_variance) / (step.size[0] * step.size[1])
    return sums[0] + step.bias_variance, sums[1] + sums[0] + step.bias_variance


def rectified(slope, covariance, tangent, left, right):
    """Return E[φ(u) φ(v)] and T E[φ'(u) φ'(v)] of φ(u) = slope u + (1 − slope) relu(u)."""
    scale = np.sqrt(left[:, :, None, None] * right[None, None])
    cosine = np.clip(np.divide(covariance, scale, out=np.ones_like(scale), where=scale > 0), -1, 1)
    angle = np.arccos(cosine)
    turn = 2 * np.arccos(np.longdouble(-1))
    gates = (turn / 2 - angle) / turn
    relu = scale * np.sin(angle) / turn + gates * covariance
    return (slope * covariance + (1 - slope) ** 2 * relu, tangent * (slope + (1 - slope) ** 2 * gates))
