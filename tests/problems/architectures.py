"""Random networks and tiny inputs, as plain lists and numbers: 40 of them cover every layer together.

Needs nothing but numpy, so that a program without leftout and torch can import it. An architecture is
{"input": [d] or [channels, height, width], "layers": [...]}; a layer is a list, its name first:

    ["dense", w, b]                          weight variance over fan-in, bias variance
    ["conv", size, stride, padding, w, b]    of [h, w]; "same", "valid", "circular", zeros on each side, or
                                             ["circular", places on each side]
    ["relu"] ["leaky", slope] ["abs"] ["gelu"] ["erf"] ["sine"] ["cosine"] ["tanh"]
    ["pool", size, stride, zeros each side] ["flatten"] ["mean"]
    ["norm", epsilon]                        of each position; ["norm", epsilon, "all"] of a whole image
    ["scale", factor] ["residual", layers, layers of the shortcut]
"""

from random import Random

import numpy as np

COUNT = 40
ROWS = 12
"""The first so many networks are fully connected; the others see images."""

ACTIVATIONS = (["relu"], ["leaky", 0.2], ["abs"], ["gelu"], ["erf"], ["sine"], ["cosine"])
IMAGES = ((2, 4, 5), (3, 4, 5), (2, 6, 6))


def architecture(seed):
    """Return the network of a number: always the same."""
    random = Random(seed)
    if seed < ROWS:
        hidden = _dense_layers(random)
        return {"input": [6], "layers": [*hidden, _dense(random)]}
    shape = IMAGES[seed % 3]
    hidden, behind = _image_layers(random, shape[1:])
    return {"input": list(shape), "layers": [*hidden, *behind, _dense(random)]}


def architectures():
    """Return all of them."""
    return [architecture(seed) for seed in range(COUNT)]


def inputs(of, n=5, seed=0):
    """Return (n, …) float64 inputs of an architecture; the second is near the first."""
    draw = np.random.default_rng(seed)
    rows = draw.standard_normal((n, *of["input"]))
    rows[1] = rows[0] + 0.3 * rows[1]
    return rows


def layer_names(layers):
    """Return the names of all layers, those within branches too."""
    names = set()
    for name, *options in layers:
        names.add(name)
        if name == "residual":
            names |= layer_names(options[0]) | layer_names(options[1])
    return names


def positions(length, size, stride, padding):
    """Return how many windows there are along an axis."""
    if padding in ("same", "circular"):
        return -(-length // stride)
    zeros = 0 if padding == "valid" else padding
    return (length + 2 * zeros - size) // stride + 1


def _variances(random):
    return [random.choice((1.0, 1.5, 2.0, 2.4)), random.choice((0.0, 0.0, 0.05, 0.3))]


def _dense(random):
    return ["dense", *_variances(random)]


def _activation(random):
    return list(random.choice(ACTIVATIONS))


def _before_activation(random):
    """Return what may stand between a linear layer and its activation."""
    return random.choice(([], [], [], [["norm", 1e-5]], [["norm", 0.1]], [["scale", 0.7]]))


def _dense_layers(random):
    layers = [_dense(random)]
    for _ in range(random.choice((1, 2, 3))):
        layers += [*_before_activation(random), _activation(random)]
        layers.append(_dense(random))
        if random.random() < 0.5:
            layers.append(_dense_residual(random, random.choice((0, 1))))
    return [*layers, _activation(random)]


def _dense_residual(random, deeper):
    branch = [_activation(random), _dense(random)]
    if deeper:
        branch.append(_dense_residual(random, 0))
    return ["residual", branch, random.choice(([], [], [_dense(random)]))]


def _conv(random, shape, *, stride=None, padding=None, longest=3):
    size = [min(length, longest, random.choice((1, 2, 3, 3))) for length in shape]
    if stride is None:
        stride = random.choice(([1, 1], [1, 1], [1, 2], [2, 2], [2, 1])) if min(shape) > 3 else [1, 1]
    if padding is None:
        padding = random.choice(("same", "same", "valid", "circular"))
        if size == [3, 3] and stride == [1, 1] and padding == "same":
            padding = 1
    after = [positions(*axis, padding) for axis in zip(shape, size, stride, strict=True)]
    return ["conv", size, stride, padding, *_variances(random)], after


def _image_layers(random, shape):
    """Return layers of images, and what is behind them: one row of numbers each."""
    first, shape = _conv(random, shape)
    layers = [first]
    for _ in range(random.choice((1, 2))):
        layers += [*_before_activation(random), _activation(random)]
        if random.random() < 0.4 and min(shape) > 1:
            pool, shape = _pool(random, shape)
            layers.append(pool)
        convolution, shape = _conv(random, shape)
        layers.append(convolution)
        if random.random() < 0.5:
            residual, shape = _image_residual(random, shape, random.choice((0, 1)))
            layers.append(residual)
    layers.append(_activation(random))
    if random.random() < 0.3 and min(shape) > 1:
        pool, shape = _pool(random, shape)
        layers.append(pool)
    behind = [[random.choice(("flatten", "mean"))]]
    if random.random() < 0.4:
        behind += [_dense(random), *_before_activation(random), _activation(random)]
    return layers, behind


def _pool(random, shape):
    if min(shape) >= 3 and random.random() < 0.4:
        return ["pool", [3, 3], [1, 1], 1], shape
    size = random.choice(([1, 2], [2, 1], [2, 2]))
    stride = random.choice((size, [1, 1]))
    after = [positions(*axis, 0) for axis in zip(shape, size, stride, strict=True)]
    return ["pool", size, list(stride), 0], after


def _image_residual(random, shape, deeper):
    stride = random.choice(([1, 1], [2, 2])) if min(shape) > 2 else [1, 1]
    padding = random.choice(("same", "circular"))
    first, after = _conv(random, shape, stride=stride, padding=padding)
    branch = [_activation(random), first]
    if deeper:
        inner, after = _image_residual_inside(random, after)
        branch.append(inner)
    if stride == [1, 1]:
        shortcut = random.choice(
            ([], [], [_conv(random, shape, stride=stride, padding="same", longest=1)[0]])
        )
    else:
        shortcut = [_conv(random, shape, stride=stride, padding="same", longest=1)[0]]
    return ["residual", branch, shortcut], after


def _image_residual_inside(random, shape):
    convolution, after = _conv(random, shape, stride=[1, 1], padding="same")
    return ["residual", [_activation(random), convolution], []], after
