"""The hierarchy of kernels from its definitions: by automatic differentiation, by hand, by random draws.

Nothing here is shared with the package. A network is f(x) = m^-1/2 Σ a_r σ(w_r·x); K_2 is the product of two
gradients of f, and K_{r+1}(…, x) the product of the gradients of K_r(…) and f(x), all in (w, a).
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, vmap

SIGMA = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "erf": torch.erf,
    "gelu": lambda z: z * (1 + torch.erf(z / math.sqrt(2))) / 2,
}


def drawn(width: int, features: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return weights and readout of a random network."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(width, features, generator=generator, dtype=torch.float64)
    return weights, torch.randn(width, generator=generator, dtype=torch.float64)


def kernel_by_differentiation(activation: str, weights: Tensor, readout: Tensor, points: Tensor) -> Tensor:
    """Return K_r of r points, for each of many such: points (b, r, d)."""
    features = weights.shape[1]

    def output(parameters: Tensor, x: Tensor) -> Tensor:
        w, a = parameters[:, :features], parameters[:, features]
        return (a * SIGMA[activation](w @ x)).sum() / math.sqrt(len(a))

    def kernel(parameters: Tensor, rows: Tensor) -> Tensor:
        if len(rows) == 1:
            return output(parameters, rows[0])
        before = grad(kernel)(parameters, rows[:-1])
        return (before * grad(output)(parameters, rows[-1])).sum()

    parameters = torch.cat([weights, readout[:, None]], dim=1)
    return vmap(kernel, (None, 0))(parameters, points)


def fourth_by_differentiation(activation: str, weights: Tensor, readout: Tensor, x: Tensor) -> Tensor:
    """Return K_4 between all rows, (n, n, n, n)."""
    n = len(x)
    rows = torch.cartesian_prod(*[torch.arange(n)] * 4)
    return kernel_by_differentiation(activation, weights, readout, x[rows]).view(n, n, n, n)


def third_by_differentiation(activation: str, weights: Tensor, readout: Tensor, x: Tensor) -> Tensor:
    """Return K_3 between all rows, (n, n, n)."""
    n = len(x)
    rows = torch.cartesian_prod(*[torch.arange(n)] * 3)
    return kernel_by_differentiation(activation, weights, readout, x[rows]).view(n, n, n)


def derivatives(activation: str, z: np.ndarray) -> list[np.ndarray]:
    """Return σ, σ', σ'' and σ''' by differentiating three times."""
    found, function = [], SIGMA[activation]
    points = torch.from_numpy(z).flatten()
    for _ in range(4):
        found.append(vmap(function)(points).view(z.shape).numpy())
        function = grad(function)
    return found


def fourth_of_neurons(activation: str, weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return m² E_a K_4 of each neuron as written out in the literature's terms, (r, n, n, n, n)."""
    z = weights @ x.T  # (r, n)
    s, t, u, v = derivatives(activation, z)
    dot = x @ x.T

    def term(*factors: tuple[str, np.ndarray]) -> np.ndarray:
        letters = ",".join(name for name, _ in factors)
        return np.einsum(f"{letters}->rabcd", *[value for _, value in factors], optimize=True)

    def neuron(one, two, three, four, *dots):
        return term(("ra", one), ("rb", two), ("rc", three), ("rd", four), *[(p, dot) for p in dots])

    third = (
        2 * neuron(t, t, s, s, "ab")
        + neuron(t, s, t, s, "ac")
        + neuron(s, t, t, s, "bc")
        + 3 * neuron(u, t, t, s, "ab", "ac")
        + 3 * neuron(t, u, t, s, "ab", "bc")
    )
    by_one = (
        2 * neuron(u, t, s, t, "ab", "ad")
        + neuron(u, s, t, t, "ac", "ad")
        + neuron(t, t, t, t, "bc", "ad")
        + 3 * neuron(v, t, t, t, "ab", "ac", "ad")
        + 3 * neuron(u, u, t, t, "ab", "bc", "ad")
    )
    by_two = (
        2 * neuron(t, u, s, t, "ab", "bd")
        + neuron(t, t, t, t, "ac", "bd")
        + neuron(s, u, t, t, "bc", "bd")
        + 3 * neuron(u, u, t, t, "ab", "ac", "bd")
        + 3 * neuron(t, v, t, t, "ab", "bc", "bd")
    )
    by_three = (
        2 * neuron(t, t, t, t, "ab", "cd")
        + neuron(t, s, u, t, "ac", "cd")
        + neuron(s, t, u, t, "bc", "cd")
        + 3 * neuron(u, t, u, t, "ab", "ac", "cd")
        + 3 * neuron(t, u, u, t, "ab", "bc", "cd")
    )
    return third + by_one + by_two + by_three


def expected_fourth(
    activation: str, x: np.ndarray, *, count: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return m E K_4 by draws of w, and its standard error."""
    draw = np.random.default_rng(seed)
    parts = [
        fourth_of_neurons(activation, draw.standard_normal((500, x.shape[1])), x).mean(0)
        for _ in range(count // 500)
    ]
    return np.mean(parts, axis=0), np.std(parts, axis=0, ddof=1) / math.sqrt(len(parts))


def pulled_by_quadrature(gram: np.ndarray, residual: np.ndarray, time: float, *, nodes: int = 60):
    """Return α = ∫ r_u du and C = ∫∫_{v<u} r_u r_vᵀ dv du by Gauss and Legendre's rule, r_u = e^{−uH} r."""
    place, weight = np.polynomial.legendre.leggauss(nodes)
    values, vectors = np.linalg.eigh(gram)

    def at(u: float) -> np.ndarray:
        return vectors @ (np.exp(-u * values) * (vectors.T @ residual))

    single = np.zeros_like(residual)
    pairs = np.zeros_like(gram)
    for p, w in zip(place, weight, strict=True):
        u, outer = time * (p + 1) / 2, w * time / 2
        inner = sum(wv * u / 2 * at(u * (pv + 1) / 2) for pv, wv in zip(place, weight, strict=True))
        single += outer * at(u)
        pairs += outer * np.outer(at(u), inner)
    return single, pairs


def equation_five(gram: np.ndarray, fourth: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the label-aware part of K^(NTH) as equation 5 has it, between all rows of K_4."""
    values, vectors = np.linalg.eigh(gram)
    dual = np.linalg.solve(gram, targets)
    first = np.einsum("i,abij,j->ab", dual, fourth, dual)
    turned = np.einsum("ik,abij,jl->abkl", vectors, fourth, vectors) / values
    quotient = turned / (values[:, None] + values)
    along = vectors.T @ targets
    return first - np.einsum("k,abkl,l->ab", along, quotient, along)


def two_layer_ntk(activation: str, x: np.ndarray) -> np.ndarray:
    """Return E[σσ] + x·z E[σ'σ']: for ReLU by the angle, else by a trapezoid rule in the plane of each pair.

    Of step h to ±8.5: tanh is analytic up to π / 2|x| from the axis, which for |x| ≤ 3 and h = 0.06 leaves
    exp(−2π · 0.52 / 0.06) = 2e−24; erf and GELU are entire, and h = 0.1 is plenty.
    """
    norms = np.linalg.norm(x, axis=1)
    lengths = np.outer(norms, norms)
    if activation == "relu":
        theta = np.arccos(np.clip(x @ x.T / lengths, -1, 1))
        away = math.pi - theta
        return (lengths * (np.sin(theta) + away * np.cos(theta)) + x @ x.T * away) / (2 * math.pi)
    place = np.arange(-8.5, 8.51, 0.1 if activation != "tanh" else 0.06)
    one, other = np.meshgrid(place, place, indexing="ij")
    both = np.exp(-(one**2 + other**2) / 2) * (place[1] - place[0]) ** 2 / (2 * math.pi)
    found = np.empty((len(x), len(x)))
    for i, j in np.ndindex(*found.shape):
        cosine = min(1.0, x[i] @ x[j] / lengths[i, j])
        turned = norms[j] * (cosine * one + math.sqrt(1 - cosine**2) * other)
        left, right = derivatives(activation, norms[i] * one), derivatives(activation, turned)
        found[i, j] = (both * (left[0] * right[0] + x[i] @ x[j] * left[1] * right[1])).sum()
    return found


def orthant_by_draws(cosines: np.ndarray, *, count: int, seed: int = 0):
    """Return P and E[z zᵀ 1{all z > 0}] of normal numbers of these correlations, with standard errors."""
    draw = np.random.default_rng(seed)
    values, vectors = np.linalg.eigh(cosines)
    root = vectors * np.sqrt(np.clip(values, 0, None))
    chance, moment = [], []
    for _ in range(50):
        z = draw.standard_normal((count // 50, 4)) @ root.T
        inside = z[(z > 0).all(1)]
        chance.append(len(inside) / len(z))
        moment.append(inside.T @ inside / len(z))
    return (
        (np.mean(chance), np.std(chance, ddof=1) / math.sqrt(50)),
        (np.mean(moment, axis=0), np.std(moment, axis=0, ddof=1) / math.sqrt(50)),
    )
