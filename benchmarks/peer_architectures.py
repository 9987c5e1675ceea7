"""Kernels of the 40 random architectures by neural-tangents, kept as test data.

    PYTHONPATH=tests PYTHON_OF_PEERS benchmarks/peer_architectures.py tests/kernels/peer_values.json

with the Python of an environment that holds the extra `peers` of pyproject.toml (neural-tangents 0.6.5,
jax 0.5.3); leftout and torch are not needed there. Takes some two minutes on one core.
"""

import json
import os
import platform
import sys
import warnings
from importlib.metadata import version

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_ENABLE_X64"] = "1"

import numpy as np
from neural_tangents import stax
from neural_tangents._src.stax.requirements import layer, supports_masking

from problems.architectures import architectures, inputs


@layer
@supports_masking(remask_kernel=False)
def scale(factor):
    """Multiply by a number: neural-tangents has no layer for it, but its kernels can be multiplied."""
    return lambda key, shape: (shape, ()), lambda _, x, **__: factor * x, lambda k, **_: k * factor


ACTIVATIONS = {
    "relu": stax.Relu,
    "leaky": stax.LeakyRelu,
    "abs": stax.Abs,
    "gelu": stax.Gelu,  # exact, not the approximation by tanh
    "erf": stax.Erf,
    "sine": stax.Sin,
    "cosine": stax.Cos,
}


def convolution(size, stride, padding, w, b):
    if isinstance(padding, int):
        assert list(size) == [2 * padding + 1] * 2, "neural-tangents knows no such padding"
        assert list(stride) == [1, 1], "neural-tangents knows no such padding"
        padding = "same"
    return stax.Conv(1, tuple(size), tuple(stride), padding.upper(), W_std=w**0.5, b_std=b**0.5)


def pool(size, stride, padding):
    if padding:
        assert list(size) == [2 * padding + 1] * 2, "neural-tangents knows no such padding"
        assert list(stride) == [1, 1], "neural-tangents knows no such padding"
    return stax.AvgPool(tuple(size), tuple(stride), "SAME" if padding else "VALID", normalize_edges=False)


def peer_layer(name, *options):
    """Return a layer of neural-tangents."""
    match name:
        case "dense":
            w, b = options
            return stax.Dense(1, W_std=w**0.5, b_std=b**0.5)
        case "conv":
            return convolution(*options)
        case "pool":
            return pool(*options)
        case "flatten":
            return stax.Flatten()
        case "mean":
            return stax.GlobalAvgPool()
        case "norm":
            return stax.LayerNorm(eps=options[0])
        case "scale":
            return scale(options[0])
        case "residual":
            branch, shortcut = (
                stax.serial(*(peer_layer(*inner) for inner in layers)) if layers else stax.Identity()
                for layers in options
            )
            return stax.serial(stax.FanOut(2), stax.parallel(branch, shortcut), stax.FanInSum())
    return ACTIVATIONS[name](*options)


def values(of):
    """Return both kernel matrices of the inputs of an architecture, as nested lists."""
    _, _, kernel = stax.serial(*(peer_layer(*described) for described in of["layers"]))
    rows = inputs(of)
    if rows.ndim == 4:
        rows = rows.transpose(0, 2, 3, 1)
    both = kernel(rows, None, ("ntk", "nngp"))
    return {name: np.asarray(getattr(both, name)).tolist() for name in ("ntk", "nngp")}


def main(path):
    warnings.filterwarnings("ignore")  # "FanIn layers assume independent inputs"
    kept = [{"architecture": of, **values(of)} for of in architectures()]
    made = {
        "source": "neural-tangents by benchmarks/peer_architectures.py, float64",
        "versions": {name: version(name) for name in ("neural-tangents", "jax", "jaxlib", "numpy")},
        "python": platform.python_version(),
    }
    lines = ",\n".join(json.dumps(entry) for entry in kept)
    with open(path, "w") as file:
        file.write(f'{{"made": {json.dumps(made)},\n"networks": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main(sys.argv[1])
