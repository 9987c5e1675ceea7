"""Kernels are limits: finite random networks come closer as 1 / sqrt(width), and no faster."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch

from leftout.kernels import Erf, ReLU, TwoLayerReLU
from leftout.kernels.assemble import gram
from oracles.kernels import finite_deep, finite_two_layer_relu

WIDTHS = [32, 64, 128, 256, 512, 1024]
DRAWS = 30
CASES = [
    ("relu", 1, 2.0, 0.0),
    ("relu", 2, 2.0, 0.1),
    ("relu", 3, 1.5, 0.0),
    ("erf", 1, 2.0, 0.1),
    ("erf", 2, 3.0, 0.0),
]
DEEP = {"relu": ReLU, "erf": Erf}


def inputs(n: int = 4, d: int = 6) -> np.ndarray:
    rows = np.random.default_rng(1).standard_normal((n, d))
    rows[1] = rows[0] + 0.3 * rows[1]  # a pair at a small angle
    return rows * (d**0.5 / np.linalg.norm(rows, axis=1, keepdims=True))


def error_slope(sample: Callable[[int, np.random.Generator], np.ndarray], exact: np.ndarray) -> float:
    """Return p of error = c width^p, the error a root mean square over draws and pairs."""
    errors = []
    for width in WIDTHS:
        random = np.random.default_rng(width)
        draws = np.stack([sample(width, random) for _ in range(DRAWS)])
        errors.append(np.sqrt(np.mean((draws - exact) ** 2)) / np.abs(exact).max())
    assert errors[-1] < 0.2
    return float(np.polyfit(np.log(WIDTHS), np.log(errors), 1)[0])


# The logarithm of a root mean square over 30 independent draws has a standard error of about
# 1 / sqrt(60) = 0.13; a line through six widths, each twice the last, turns that into a slope
# off by 0.13 / (ln 2 · sqrt(17.5)) = 0.045. Three of these on either side of −1/2.
SLACK = 0.135


@pytest.mark.sample(4)
@pytest.mark.parametrize("kind", ["ntk", "nngp"])
@pytest.mark.parametrize(("name", "depth", "w", "b"), CASES)
def test_deep_networks_approach_their_kernel_as_one_over_the_root_of_width(
    name: str, depth: int, w: float, b: float, kind: str
) -> None:
    x = inputs()
    exact = gram(DEEP[name](depth, w, b, kind), torch.from_numpy(x)).numpy()

    def sample(width: int, random: np.random.Generator) -> np.ndarray:
        return finite_deep(name, x, depth=depth, width=width, w=w, b=b, random=random)[kind]

    assert abs(error_slope(sample, exact) + 0.5) < SLACK


def test_two_layer_networks_approach_their_kernel_as_one_over_the_root_of_width() -> None:
    x = inputs() / 6**0.5
    exact = gram(TwoLayerReLU(), torch.from_numpy(x)).numpy()

    def sample(width: int, random: np.random.Generator) -> np.ndarray:
        return finite_two_layer_relu(x, width=width, random=random)

    assert abs(error_slope(sample, exact) + 0.5) < SLACK


@pytest.mark.parametrize(("name", "w", "b"), [("relu", 2.0, 0.1), ("erf", 2.0, 0.1)])
@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_one_hidden_layer_has_the_kernel_as_its_mean(name: str, w: float, b: float, kind: str) -> None:
    # With one hidden layer both kernels are means over independent units, so unbiased at any width.
    x, random = inputs(), np.random.default_rng(7)
    exact = gram(DEEP[name](1, w, b, kind), torch.from_numpy(x)).numpy()
    draws = np.stack(
        [finite_deep(name, x, depth=1, width=4096, w=w, b=b, random=random)[kind] for _ in range(100)]
    )
    error = draws.mean(0) - exact
    # Ten different pairs, each within 4.5 standard errors: false alarms in 7e-5 of all seeds.
    assert np.all(np.abs(error) < 4.5 * draws.std(0, ddof=1) / 10)


@pytest.mark.parametrize("name", DEEP)
def test_the_oracle_backpropagates_as_autograd_does(name: str) -> None:
    # The same draws, in the same order, as the oracle takes them.
    x, depth, width, w, b = inputs(), 2, 5, 1.7, 0.4
    random = np.random.default_rng(3)
    sizes, normal = [6, 5, 5], []
    for before, after in itertools.pairwise(sizes):
        normal += [random.standard_normal((before, after)), random.standard_normal(after)]
    normal += [random.standard_normal((width, 1)), np.zeros(1)]
    leaves = [torch.from_numpy(value).requires_grad_() for value in normal]
    phi = torch.relu if name == "relu" else torch.erf
    gradients = []
    for row in torch.from_numpy(x):
        signal = row
        for level in range(depth + 1):
            weight, bias = leaves[2 * level : 2 * level + 2]
            signal = (w / len(signal)) ** 0.5 * signal @ weight + b**0.5 * bias
            signal = phi(signal) if level < depth else signal
        parts = torch.autograd.grad(signal[0], leaves)
        gradients.append(torch.cat([part.flatten() for part in parts]))
    rows = torch.stack(gradients)
    oracle = finite_deep(name, x, depth=depth, width=width, w=w, b=b, random=np.random.default_rng(3))["ntk"]
    np.testing.assert_allclose(oracle, (rows @ rows.T).numpy(), rtol=1e-12, atol=1e-12)
