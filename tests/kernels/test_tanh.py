"""Tanh against a rule in two dimensions, its limits, its network; and what kernels start as."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from leftout.core.errors import DataError, OptionError
from leftout.dynamics.wide import WideNetwork
from leftout.kernels import Erf, From, Precomputed, ReLU, TwoLayerReLU
from leftout.kernels.assemble import cross, gram
from leftout.kernels.base import Kernel
from leftout.kernels.network.empirical import Empirical
from leftout.kernels.wide.arc_cosine import ArcCosine
from leftout.kernels.wide.tanh import Tanh
from problems.networks import network, seeded, sphere

D = 6


def expected(function, covariance: np.ndarray) -> float:
    """E[function(u) function(v)], by a trapezoid rule over two independent normal numbers.

    Of step 0.05 to ±9: tanh is analytic up to π/2√K from the axis, K ≤ 12 here, which leaves
    exp(−2π · 0.45 / 0.05) = 1e−25.
    """
    points = np.arange(-9, 9.01, 0.05)
    one, other = np.meshgrid(points, points, indexing="ij")
    weights = np.exp(-(one**2 + other**2) / 2) * 0.05**2 / (2 * math.pi)
    first, second = np.sqrt(np.diag(covariance))
    cosine = min(1.0, covariance[0, 1] / (first * second)) if first * second > 0 else 0.0
    turned = cosine * one + math.sqrt(1 - cosine**2) * other
    return float((function(first * one) * function(second * turned) * weights).sum())


def oracle(x: Tensor, *, depth: int, w: float, b: float) -> dict[str, np.ndarray]:
    """Both kernels between all rows, layer by layer from their definition."""
    covariance = w * (x @ x.T).numpy() / x.shape[1] + b
    tangent = covariance.copy()
    for _ in range(depth):
        after, slope = np.empty_like(covariance), np.empty_like(covariance)
        for i, j in np.ndindex(*covariance.shape):
            pair = covariance[np.ix_([i, j], [i, j])]
            after[i, j] = expected(np.tanh, pair)
            slope[i, j] = expected(lambda u: 1 / np.cosh(u) ** 2, pair)
        covariance = w * after + b
        tangent = covariance + w * tangent * slope
    return {"nngp": covariance, "ntk": tangent}


def rows(*norms: float) -> Tensor:
    found = torch.randn(len(norms), D, dtype=torch.float64, generator=seeded(1))
    found[-1] = found[0] + 1e-6 * found[1]  # nearly the same
    return found / found.norm(dim=1, keepdim=True) * torch.tensor(norms)[:, None].double()


@pytest.mark.parametrize(("w", "b"), [(2.0, 0.0), (1.3, 0.2), (6.0, 0.5)])
@pytest.mark.parametrize("depth", [1, 3])
def test_the_kernel_is_that_of_the_definition(depth: int, w: float, b: float) -> None:
    x = rows(1.0, 3.3, 0.01, 2.0)
    want = oracle(x, depth=depth, w=w, b=b)
    for kind in ("nngp", "ntk"):
        kernel = Tanh(depth, w, b, kind)
        found = kernel.block(x, x).numpy()
        size = np.sqrt(np.outer(np.diag(want[kind]), np.diag(want[kind])))
        # What the docstring promises: 1e-13, and rounding of degree p = 162 s for s ≤ 12.
        allowed = 1e-13 + 4 * (depth + 1) * (1 + math.sqrt(162 * 12)) * 2**-52
        assert (np.abs(found - want[kind]) <= allowed * size).all()
        np.testing.assert_allclose(kernel.diagonal(x).numpy(), np.diag(found), rtol=allowed)


def test_small_inputs_pass_tanh_as_they_are() -> None:
    x = 1e-5 * rows(1.0, 2.0, 3.0)
    linear = 2 * (x @ x.T) / D  # tanh u = u − u³/3: off by 1e-10 of it
    torch.testing.assert_close(Tanh(1, kind="nngp").block(x, x), 2 * linear, rtol=1e-8, atol=0)
    torch.testing.assert_close(Tanh(1).block(x, x), 4 * linear, rtol=1e-8, atol=0)


def test_large_inputs_make_tanh_a_step() -> None:
    # sign: (2/π) arcsin ρ; the smooth step differs in a layer of relative width 1 / √K11 ≈ 0.18.
    x = rows(*[math.sqrt(31.0 * D / 2)] * 4)
    cosine = (x @ x.T / x.norm(dim=1)[:, None] / x.norm(dim=1)).clamp(-1, 1)
    found = Tanh(1, kind="nngp").block(x, x)[:3, :3] / 2
    assert bool((found.diagonal() > 0.8).all())
    torch.testing.assert_close(found, 2 / math.pi * torch.asin(cosine)[:3, :3], rtol=0, atol=0.2)


def test_the_zero_vector_is_an_input_too() -> None:
    x = rows(2.0, 0.0, 1.0)
    want = oracle(x, depth=2, w=2.0, b=0.0)
    for kind in ("nngp", "ntk"):
        np.testing.assert_allclose(Tanh(2, kind=kind).block(x, x).numpy(), want[kind], atol=1e-12)


def test_symmetric_positive_and_of_the_same_values_in_any_block() -> None:
    kernel = Tanh(2, 2.0, 0.1)
    x, _ = sphere(40, D)
    x = x * math.sqrt(D)
    whole = gram(kernel, x)
    assert torch.equal(whole, whole.T)
    assert float(torch.linalg.eigvalsh(whole)[0]) > -1e-12

    def close(got: Tensor, want: Tensor, eps: float) -> None:
        # What the docstring promises of each, in units of the diagonal, which is the same for all rows; of
        # degree p = 41 + 162 s, with s = 2 + 0.1.
        allowed = 2 * 4 * 3 * (1 + math.sqrt(41 + 162 * 2.1)) * eps
        torch.testing.assert_close(got, want, rtol=0, atol=allowed * float(whole.max()))

    eps = torch.finfo(torch.float64).eps
    close(gram(kernel, x, block=7), whole, eps)
    close(cross(kernel, x[:3], x), whole[:3], eps)
    close(kernel.diagonal(x), whole.diagonal(), eps)
    turn = torch.linalg.qr(torch.randn(D, D, dtype=torch.float64, generator=seeded()))[0]
    close(gram(kernel, x @ turn), whole, D * eps)  # turning a row is a product of D terms more
    single = gram(kernel, x, dtype=torch.float32)
    close(single, whole, torch.finfo(torch.float32).eps)
    assert not torch.equal(single, whole)
    assert kernel.block(x[:0], x).shape == (0, 40)
    assert kernel.diagonal(x[:0]).shape == (0,)


def test_tangent_kernels_of_networks_are_on_the_mean_those_of_the_limit() -> None:
    """Forty networks of width 400: within four standard errors and the bias of order 1 / width."""
    inputs, _ = sphere(4, D)
    exact = Tanh(2, 2.0, 0.1).block(inputs, inputs).numpy()
    drawn = [
        Empirical(
            WideNetwork(400, D, depth=2, activation="tanh", bias_variance=0.1, generator=seeded(seed))
        ).block(inputs, inputs)
        for seed in range(40)
    ]
    error = np.std(drawn, axis=0) / np.sqrt(40)
    assert (np.abs(np.mean(drawn, axis=0) - exact) < 4 * error + 8 / 400).all()


@pytest.mark.parametrize("kernel", [ReLU(2, 1.5, 0.1), Erf(2, 1.5, 0.1), Tanh(2, 1.5, 0.1)])
def test_a_network_starts_as_the_process_of_its_kernel(kernel: Kernel) -> None:
    """Outputs of random networks, in pairs: covariances within four standard errors of k_0.

    At width 200 the covariance is biased by O(1/width) from the second hidden layer on.
    """
    inputs, _ = sphere(3, D)
    activation = kernel.record["name"]
    outputs = torch.cat(
        [
            WideNetwork(
                200,
                D,
                50,
                depth=2,
                activation=activation,
                weight_variance=1.5,
                bias_variance=0.1,
                generator=seeded(seed),
            )(inputs)
            for seed in range(60)
        ],
        dim=1,
    ).detach()
    assert kernel.prior() == type(kernel)(2, 1.5, 0.1, "nngp")
    assert kernel.prior().prior() == kernel.prior()
    want = kernel.prior().block(inputs, inputs)
    products = outputs[:, None] * outputs[None]  # outputs of a network share its hidden layers
    found = products.view(3, 3, 60, 50).mean(3)
    error = found.std(2) / math.sqrt(60)
    assert bool(((found.mean(2) - want).abs() < 4 * error + 4 / 200).all())


@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_a_two_layer_network_starts_as_the_arc_cosine_of_its_scale(scale: float) -> None:
    inputs, _ = sphere(3, D)
    outputs = torch.cat(
        [network(3000, D, seed=seed, scale=scale, antisymmetric=False)(inputs) for seed in range(300)], dim=1
    ).detach()
    want = ArcCosine(scale).block(inputs, inputs)
    # Var(f f') = k_ii k_jj + k_ij² of a normal pair, 300 of them; widths add 1/3000.
    spread = (torch.outer(want.diagonal(), want.diagonal()) + want.square()).sqrt() / math.sqrt(300)
    assert bool((((outputs @ outputs.T) / 300 - want).abs() < 4 * spread).all())


def test_the_arc_cosine_kernel_is_its_formula_and_scales_with_its_scale() -> None:
    x = rows(1.0, 2.0, 0.5)
    norms = x.norm(dim=1)
    theta = torch.arccos((x @ x.T / norms[:, None] / norms).clamp(-1, 1))
    want = torch.outer(norms, norms) * (theta.sin() + (math.pi - theta) * theta.cos()) / 2 / math.pi
    # The oracle's arccos loses half the digits of the angle of nearly equal rows; cos θ does not.
    torch.testing.assert_close(ArcCosine(1.0).block(x, x), want, rtol=1e-9, atol=0)
    torch.testing.assert_close(ArcCosine(3.0).block(x, x), 9 * ArcCosine(1.0).block(x, x), rtol=1e-13, atol=0)
    torch.testing.assert_close(ArcCosine(2.0).diagonal(x), 2 * norms.square(), rtol=1e-14, atol=0)
    assert ArcCosine(2.0).prior() == ArcCosine(2.0)
    assert ArcCosine(2.0).record == {"name": "arc-cosine", "scale": 2.0}
    assert gram(ArcCosine(2.0), x[:0]).shape == (0, 0)


def test_kernels_that_name_no_network_have_no_prior() -> None:
    assert TwoLayerReLU().prior() is None
    assert Precomputed(torch.eye(2)).prior() is None
    assert From(lambda x, z: x @ z.T).prior() is None
    assert Empirical(network(6, 4)).prior() is None


def test_what_tanh_is_not_made_for_is_refused() -> None:
    with pytest.raises(OptionError, match=r"`weight_variance` \+ `bias_variance` must be at most 32"):
        Tanh(1, 30.0, 3.0)
    with pytest.raises(OptionError, match="`depth` must be a whole number"):
        Tanh(0)
    x = rows(1.0, 20.0, 3.0)
    with pytest.raises(DataError, match=r"variance of pre-activations ≤ 32.*row 1 has 133 \(1 of 3"):
        gram(Tanh(1), x)
    x[0, 0] = math.nan
    with pytest.raises(DataError, match="`inputs` must be finite; row 0"):
        gram(Tanh(1), x)
    assert Tanh(2, 1.5, 0.1, "nngp").record == {
        "name": "tanh",
        "depth": 2,
        "weight_variance": 1.5,
        "bias_variance": 0.1,
        "kind": "nngp",
    }


def test_scales_and_inputs_that_the_arc_cosine_cannot_have_are_refused() -> None:
    with pytest.raises(OptionError, match="`scale` must be a finite number > 0; got 0"):
        ArcCosine(0.0)
    with pytest.raises(DataError, match="must not hold a zero vector; row 1"):
        gram(ArcCosine(1.0), rows(1.0, 0.0, 2.0))


def test_a_zero_vector_without_a_bias_is_refused() -> None:
    with pytest.raises(DataError, match=r"zero vector; row 1.*every network maps it to 0"):
        Tanh(1).check("train", torch.tensor([[1.0, 2.0], [0.0, 0.0]]))
    Tanh(1, bias_variance=0.1).check("train", torch.zeros(2, 2))
