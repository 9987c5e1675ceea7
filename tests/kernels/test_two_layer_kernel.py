"""The two-layer kernel, both layers trained, against integrals; and the derivatives of activations."""

import math
from typing import get_args

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor

from leftout.core.errors import DataError, OptionError
from leftout.kernels.assemble import gram
from leftout.kernels.wide.activations import response
from leftout.kernels.wide.options import Activation
from leftout.kernels.wide.two_layer import TwoLayer
from oracles.hierarchy import derivatives, two_layer_ntk
from oracles.kernels import exact_two_layer_gelu, integrated_two_layer_gelu
from problems.networks import seeded, sphere

ACTIVATIONS = get_args(Activation)
D = 6
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)


def rows() -> Tensor:
    found = torch.randn(5, 4, dtype=torch.float64, generator=seeded(11))
    found *= torch.tensor([0.3, 1.0, 2.9, 1.0, 2.0]).double()[:, None] / found.norm(dim=1, keepdim=True)
    found[3] = found[1] + 1e-4 * found[0]  # nearly the same
    return found


@every_activation
def test_the_kernel_is_the_expected_product_of_gradients(activation: Activation) -> None:
    x = rows()
    want = two_layer_ntk(activation, x.numpy())
    kernel = TwoLayer(activation)
    # The oracle's arccos of nearly equal rows is good to ε / θ = 1e-12; sums of 130 000 terms to 1e-13.
    np.testing.assert_allclose(kernel.block(x, x).numpy(), want, rtol=3e-12)
    np.testing.assert_allclose(kernel.diagonal(x).numpy(), np.diag(want), rtol=3e-12)


@every_activation
def test_the_gram_is_symmetric_positive_and_does_not_turn(activation: Activation) -> None:
    kernel = TwoLayer(activation)
    x, _ = sphere(30, 5)
    whole = gram(kernel, x)
    assert torch.equal(whole, whole.T)
    assert float(torch.linalg.eigvalsh(whole)[0]) > -1e-13
    turn = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=seeded()))[0]
    torch.testing.assert_close(gram(kernel, x @ turn), whole, rtol=1e-12, atol=1e-13)


def test_gelu_is_half_the_identity_for_short_inputs_and_relu_for_long_ones() -> None:
    x, _ = sphere(6, 3)
    short, gelu = 1e-6 * x, TwoLayer("gelu")
    # σ(u) = u / 2 + O(u²): k = x·z / 4 + x·z / 4
    torch.testing.assert_close(gelu.block(short, short), short @ short.T / 2, rtol=0, atol=1e-17)
    long = 1e4 * x
    relu = TwoLayer("relu").block(long, long)
    # They differ where |u| < 1: a share 1e-4 of the draws.
    torch.testing.assert_close(gelu.block(long, long), relu, rtol=0, atol=1e-3 * float(relu.max()))


def pairs_of_length(square: float, dtype: torch.dtype) -> Tensor:
    """Return rows of |x|² about `square`: apart, nearly parallel or opposite, repeated, longer."""
    u = torch.randn(3, D, dtype=torch.float64, generator=seeded(5))
    u /= u.norm(dim=1, keepdim=True)
    rows = [*u, u[0], -u[0], 2 * u[0]]
    for small in (1e-1, 3e-2, 1e-4, 1e-8):
        rows += [u[0] + small * u[1], 0.5 * (small * u[2] - u[0])]
    return (math.sqrt(square) * torch.stack(rows)).to(dtype)


@pytest.mark.sample(6)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("square", [1e-8, 1e-4, 1.0, 32.0, 784.0, 1e4, 7e6, 1e8, 1e12])
def test_gelu_is_as_accurate_for_long_inputs_as_for_short_ones(square, dtype) -> None:
    kernel, x, eps = TwoLayer("gelu"), pairs_of_length(square, dtype), torch.finfo(dtype).eps
    found, each = kernel.block(x, x).double().numpy(), kernel.diagonal(x).double().numpy()
    want = [[exact_two_layer_gelu(a, b) for b in x.numpy()] for a in x.numpy()]
    sizes = [mpmath.sqrt(want[i][i]) for i in range(len(x))]
    off = [
        [float(abs(found[i, j] - want[i][j]) / sizes[i] / sizes[j]) for j in range(len(x))]
        for i in range(len(x))
    ]
    # As promised: 8 ε + 5 δ, a cosine of D features being off by D roundings at the most.
    assert np.max(off) < (8 + 5 * D) * eps
    assert max(off[i][i] for i in range(len(x))) < 4 * eps
    assert max(abs(float(each[i] / want[i][i] - 1)) for i in range(len(x))) < 4 * eps
    # Rows and columns scaled to a diagonal of 1: each entry is off by that at most.
    unit = found / np.sqrt(np.outer(each, each))
    assert np.linalg.eigvalsh((unit + unit.T) / 2)[0] > -len(x) * (8 + 5 * D) * eps
    whole = gram(kernel, x, dtype=dtype)
    assert torch.equal(whole, whole.T)


@pytest.mark.sample(1)
@pytest.mark.parametrize("square", [1.0, 784.0, 1e8])
def test_the_closed_form_of_gelu_is_the_integral(square) -> None:
    x = np.array([math.sqrt(square)])
    exact, integral = exact_two_layer_gelu(x, x), integrated_two_layer_gelu(x[0] ** 2)
    # A square root that is rounded; quadrature cut off at 12 deviations.
    assert abs(exact / integral - 1) < 1e-15


@every_activation
def test_derivatives_are_those_of_automatic_differentiation(activation: Activation) -> None:
    z = torch.linspace(-4, 4, 41, dtype=torch.float64)[:, None]  # with 0, where ReLU has none
    want = derivatives(activation, z.numpy())
    for found, wanted in zip(response(activation, z), want, strict=True):
        found = torch.zeros_like(z) if found is None else found
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-13, atol=1e-14)


@pytest.mark.usefixtures("as_users_run_it")
def test_what_no_network_takes_is_refused() -> None:
    with pytest.raises(OptionError, match="`activation` must be one of 'relu', 'tanh', 'erf', 'gelu'"):
        TwoLayer("swish")
    with pytest.raises(DataError, match="`inputs` must not hold a zero vector; row 1"):
        gram(TwoLayer("erf"), torch.tensor([[1.0, 2.0], [0.0, 0.0]]))
    with pytest.raises(DataError, match=r"`inputs` must have \|x\|² ≤ 32: beyond that tanh.*row 0 has 50"):
        gram(TwoLayer("tanh"), torch.tensor([[5.0, 5.0]]))
    with pytest.raises(DataError, match="`inputs` must be finite; row 0"):
        gram(TwoLayer("gelu"), torch.tensor([[math.nan, 5.0]]))
    assert TwoLayer("gelu").record == {"name": "two-layer", "activation": "gelu"}
