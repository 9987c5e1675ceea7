"""Is the finite network the one whose limit the deep kernels are?"""

import numpy as np
import pytest
import torch

import leftout as lo
from leftout.core.errors import OptionError, ShapeError
from leftout.dynamics.wide import WideNetwork
from leftout.kernels.network.empirical import Empirical
from problems.networks import seeded, sphere

D = 5
KERNELS = {"relu": lo.kernels.ReLU, "erf": lo.kernels.Erf}


@pytest.mark.sample(1)
@pytest.mark.parametrize(("activation", "depth"), [("relu", 1), ("relu", 2), ("erf", 2)])
def test_tangent_kernels_are_on_the_mean_those_of_the_limit(activation, depth) -> None:
    """Forty networks of width 400: within four standard errors and the bias of order 1 / width."""
    inputs, _ = sphere(4, D)
    exact = KERNELS[activation](depth, 2.0, 0.1).block(inputs, inputs).numpy()
    drawn = []
    for seed in range(40):
        network = WideNetwork(
            400, D, depth=depth, activation=activation, bias_variance=0.1, generator=seeded(seed)
        )
        drawn.append(Empirical(network).block(inputs, inputs).numpy())
    error = np.std(drawn, axis=0) / np.sqrt(40)
    assert (np.abs(np.mean(drawn, axis=0) - exact) < 4 * error + 4 * depth / 400).all()


def test_outputs_are_those_of_the_recursion_written_out() -> None:
    network = WideNetwork(7, D, 2, depth=2, activation="tanh", bias_variance=0.3, generator=seeded())
    inputs, _ = sphere(3, D)
    w, b = ([one.detach().numpy() for one in part] for part in (network.weights, network.biases))
    one = np.tanh(np.sqrt(2 / D) * inputs.numpy() @ w[0].T + np.sqrt(0.3) * b[0])
    two = np.tanh(np.sqrt(2 / 7) * one @ w[1].T + np.sqrt(0.3) * b[1])
    out = np.sqrt(2 / 7) * two @ w[2].T + np.sqrt(0.3) * b[2]
    np.testing.assert_allclose(network(inputs).detach().numpy(), out, rtol=1e-13, atol=1e-14)


def test_without_bias_variance_there_are_no_biases_and_relu_scales_with_its_inputs() -> None:
    network = WideNetwork(9, D, depth=3, generator=seeded())
    inputs, _ = sphere(3, D)
    assert len(list(network.parameters())) == 4
    torch.testing.assert_close(network(3 * inputs), 3 * network(inputs), rtol=1e-13, atol=0)


def test_the_single_precision_network_is_the_double_one_rounded() -> None:
    double = WideNetwork(9, D, generator=seeded())
    single = WideNetwork(9, D, generator=seeded(), dtype=torch.float32)
    for one, two in zip(double.parameters(), single.parameters(), strict=True):
        assert torch.equal(one.float(), two)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"width": 0}, "`width`"),
        ({"depth": 0}, "`depth`"),
        ({"activation": "gelu"}, "`activation`"),
        ({"weight_variance": 0.0}, "`weight_variance`"),
        ({"bias_variance": -0.1}, "`bias_variance`"),
        ({"generator": 3}, "`generator`"),
        ({"dtype": torch.int64}, "`dtype`"),
    ],
)
def test_options_that_describe_no_network_are_refused(options, match) -> None:
    given = {"width": 4, "inputs": D, "generator": seeded(), **options}
    with pytest.raises(OptionError, match=match):
        WideNetwork(given.pop("width"), given.pop("inputs"), **given)


def test_inputs_of_another_length_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"must have 5 features.*got 4"):
        WideNetwork(4, D, generator=seeded())(torch.ones(2, 4, dtype=torch.float64))
