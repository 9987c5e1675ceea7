"""Convolutional kernels once more: the recursion written out, and finite networks."""

import math

import numpy as np
import torch
from torch.func import functional_call, jacrev, vmap


def padded(length, size, stride, padding):
    """Return for each window the places it sees, None where it sees a zero."""
    count = (length - size) // stride + 1 if padding == "valid" else math.ceil(length / stride)
    missing = 0 if padding == "valid" else max((count - 1) * stride + size - length, 0)
    windows = []
    for i in range(count):
        places = [i * stride + j - missing // 2 for j in range(size)]
        if padding == "circular":
            places = [place % length for place in places]
        windows.append([place if 0 <= place < length else None for place in places])
    return windows


def convolved(values, size, stride, padding):
    """Return mean over windows, at the same place in both images, of values[p, q]."""
    h, w = values.shape[:2]
    rows, columns = (padded(n, size, stride, padding) for n in (h, w))
    found = np.zeros((len(rows), len(columns), len(rows), len(columns)))
    for i, j, k, m in np.ndindex(found.shape):
        for a in range(size):
            for b in range(size):
                one = rows[i][a], columns[j][b], rows[k][a], columns[m][b]
                if None not in one:
                    found[i, j, k, m] += values[one] / size**2
    return found


def averaged(values, size):
    """Return the mean over squares of either image."""
    h, w = values.shape[0] // size, values.shape[1] // size
    found = np.zeros((h, w, h, w))
    for i, j, k, m in np.ndindex(found.shape):
        part = [slice(n * size, (n + 1) * size) for n in (i, j, k, m)]
        found[i, j, k, m] = values[tuple(part)].mean()
    return found


def kernel(x, z, layers, *, padding, pooling, w, b, last_relu=True):
    """Return NNGP and tangent kernel of two images (c, h, w); layers are (size, stride, average)."""
    pairs = {"xz": (x, z), "xx": (x, x), "zz": (z, z)}
    cov = {name: np.einsum("cij,ckl->ijkl", one, two) / len(one) for name, (one, two) in pairs.items()}
    tangent = None
    for place, (size, stride, average) in enumerate(layers):
        cov = {name: w * convolved(one, size, stride, padding) + b for name, one in cov.items()}
        tangent = cov["xz"] + (0 if tangent is None else w * convolved(tangent, size, stride, padding))
        if last_relu or place < len(layers) - 1:
            own = [np.einsum("ijij->ij", cov[name]) for name in ("xx", "zz")]
            sides = {"xz": own, "xx": [own[0]] * 2, "zz": [own[1]] * 2}
            after = {name: relu(cov[name], *sides[name]) for name in cov}
            tangent = tangent * after["xz"][1]
            cov = {name: one[0] for name, one in after.items()}
        if average > 1:
            cov = {name: averaged(one, average) for name, one in cov.items()}
            tangent = averaged(tangent, average)
    read = np.mean if pooling == "mean" else lambda one: np.einsum("ijij->ij", one).mean()
    nngp = w * read(cov["xz"]) + b
    return nngp, w * read(tangent) + nngp


def relu(cov, left, right):
    """Return E[relu relu] and E[relu' relu'] from the angle."""
    scale = np.sqrt(left[:, :, None, None] * right[None, None])
    with np.errstate(invalid="ignore"):
        cosine = np.clip(np.where(scale > 0, cov / scale, 1.0), -1, 1)
    angle = np.arccos(cosine)
    share = (np.pi - angle) / (2 * np.pi)
    return scale * (np.sin(angle) / (2 * np.pi) + share * cosine), share


class Finite(torch.nn.Module):
    """A finite network of the tangent parametrisation, made of torch's own convolutions."""

    def __init__(self, channels, side, layers, *, width, padding, pooling, w, b, last_relu=True):
        super().__init__()
        self.given = layers, padding, pooling, last_relu
        self.w, self.b = w, b
        sizes = [channels, *[width] * len(layers)]
        for size, stride, average in layers:
            side = len(padded(side, size, stride, padding)) // average
        normal = torch.nn.ParameterList()
        for place, (size, _, _) in enumerate(layers):
            normal.append(torch.randn(sizes[place + 1], sizes[place], size, size).double())
        last = width if pooling == "mean" else width * side**2
        normal.append(torch.randn(1, last).double())
        self.normal = normal
        self.offsets = torch.nn.ParameterList(torch.randn(len(one)).double() for one in normal)

    def forward(self, x):
        layers, padding, pooling, last_relu = self.given
        for place, (size, stride, average) in enumerate(layers):
            windows = [padded(n, size, stride, padding) for n in x.shape[-2:]]
            seen = x
            for axis, one in zip((-2, -1), windows, strict=True):
                # An extra place at the end holds the zeros of the padding.
                zeros = torch.zeros_like(seen.narrow(axis, 0, 1))
                places = [n if n is not None else seen.shape[axis] for part in one for n in part]
                seen = torch.cat([seen, zeros], axis).index_select(axis, torch.tensor(places))
            fan_in = x.shape[1] * size**2
            weights = math.sqrt(self.w / fan_in) * self.normal[place]
            x = torch.nn.functional.conv2d(seen, weights, stride=size)
            x = x + math.sqrt(self.b) * self.offsets[place][:, None, None]
            if last_relu or place < len(layers) - 1:
                x = torch.relu(x)
            if average > 1:
                x = torch.nn.functional.avg_pool2d(x, average)
        x = x.mean((2, 3)) if pooling == "mean" else x.flatten(1)
        weights = math.sqrt(self.w / x.shape[1]) * self.normal[-1]
        return x @ weights.T + math.sqrt(self.b) * self.offsets[-1]


def finite_tangent(network, images):
    """Return J Jᵀ of a finite network."""
    weights = dict(network.named_parameters())

    def one(parameters, x):
        return functional_call(network, parameters, (x[None],))[0, 0]

    rows = vmap(jacrev(one), (None, 0))(weights, images)
    flat = torch.cat([part.flatten(1) for part in rows.values()], 1)
    return (flat @ flat.T).detach().numpy()
