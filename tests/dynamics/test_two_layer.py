"""Is the two-layer network that of the paper, and are its pairs exactly opposite?"""

import copy
import math
import pickle
import re

import numpy as np
import pytest
import torch

from laws import assert_same
from leftout.core.errors import OptionError, ShapeError
from leftout.dynamics.two_layer import TwoLayerNetwork
from leftout.kernels.wide.two_layer_relu import TwoLayerReLU
from oracles import networks as oracles
from problems.networks import arrays, network, seeded, sphere


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("antisymmetric", [True, False])
@pytest.mark.parametrize("width", [2, 10, 11])
def test_it_computes_equation_one(width, outputs, antisymmetric) -> None:
    if antisymmetric and width % 2:
        width += 1
    net = network(width, 5, outputs, antisymmetric=antisymmetric, scale=0.3)
    x = sphere(7, 5)[0]
    weights, signs = arrays(net)
    with torch.no_grad():
        got = net(x)
    if antisymmetric:
        assert not got.any()
        with torch.no_grad():
            net.weights[0] += 0.1
            got = net(x)
        weights = arrays(net)[0]
    assert_same(got, oracles.outputs(weights, signs, x.numpy()), 1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("width", "inputs", "rows"), [(2, 1, 1), (34, 7, 3), (1000, 33, 65)])
def test_pairs_start_from_exactly_zero(width, inputs, rows, dtype) -> None:
    """The same product twice, of equal halves of one shape, and the second has the other sign."""
    net = network(width, inputs, 2, dtype=dtype)
    with torch.no_grad():
        assert not net(sphere(rows, inputs)[0].to(dtype)).any()
    half = width // 2
    assert torch.equal(net.weights[:half], net.weights[half:])
    assert torch.equal(net.signs[:half], -net.signs[half:])


def test_weights_are_normal_of_the_scale_and_signs_fair() -> None:
    net = network(4000, 50, 3, scale=0.2, antisymmetric=False)
    weights, signs = arrays(net)
    # Standard errors: of a mean σ/√N, of a variance σ²·√(2/N); five of them.
    many = weights.size
    assert abs(weights.mean()) < 5 * 0.2 / math.sqrt(many)
    assert abs(weights.var() / 0.04 - 1) < 5 * math.sqrt(2 / many)
    assert set(np.unique(signs)) == {-1.0, 1.0}
    assert abs(signs.mean()) < 5 / math.sqrt(signs.size)
    assert np.abs(np.corrcoef(signs.T) - np.eye(3)).max() < 5 / math.sqrt(len(signs))


def test_a_seed_means_the_same_network_in_both_precisions() -> None:
    wide = network(5000, 3, 2, seed=4)
    again = network(5000, 3, 2, seed=4)
    single = network(5000, 3, 2, seed=4, dtype=torch.float32)
    assert torch.equal(wide.weights, again.weights)
    assert torch.equal(wide.weights.float(), single.weights)
    assert torch.equal(wide.signs.float(), single.signs)
    assert not torch.equal(wide.weights, network(5000, 3, 2, seed=5).weights)


def test_only_the_weights_are_trained() -> None:
    net = network(4, 3)
    assert [name for name, one in net.named_parameters() if one.requires_grad] == ["weights"]
    assert [name for name, _ in net.named_buffers()] == ["signs"]


def test_its_tangent_kernel_tends_to_the_analytic_one() -> None:
    x = sphere(6, 4)[0]
    want = TwoLayerReLU().block(x, x).numpy()
    width = 40_000
    gates = (arrays(network(width, 4, scale=0.01, antisymmetric=False))[0] @ x.numpy().T > 0) * 1.0
    got = (gates.T @ gates / width) * (x @ x.T).numpy()
    # A mean of `width` products of gates, each with variance ≤ 1/4; five standard errors.
    assert np.abs(got - want).max() < 5 * 0.5 / math.sqrt(width)
    # That this is the tangent kernel at all:
    small = network(30, 4, antisymmetric=False)
    gates = (arrays(small)[0] @ x.numpy().T > 0) * 1.0
    kernel = (gates.T @ gates / 30) * (x @ x.T).numpy()
    assert_same(oracles.tangent_kernel(*arrays(small), x.numpy()), kernel, 1e-13)


def test_images_are_flattened() -> None:
    net = network(6, 12, antisymmetric=False)
    x = sphere(5, 12)[0]
    with torch.no_grad():
        assert torch.equal(net(x.view(5, 3, 4)), net(x))


def test_it_can_be_copied_pickled_and_saved() -> None:
    net = network(6, 4, 2, antisymmetric=False)
    x = sphere(5, 4)[0]
    other = network(6, 4, 2, seed=1, antisymmetric=False)
    other.load_state_dict(net.state_dict())
    with torch.no_grad():
        want = net(x)
        for same in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), other):
            assert torch.equal(same(x), want)


def test_it_says_what_it_is() -> None:
    assert repr(network(6, 4, 2, scale=0.01)) == (
        "TwoLayerNetwork(width=6, inputs=4, outputs=2, scale=0.01, antisymmetric=True)"
    )
    assert network(6, 4).width == 6


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": 0}, "`width` must be a whole number ≥ 1; got 0."),
        ({"width": -2}, "`width` must be a whole number ≥ 1; got -2."),
        ({"inputs": 0}, "`inputs` must be a whole number ≥ 1; got 0."),
        ({"outputs": 0}, "`outputs` must be a whole number ≥ 1; got 0."),
        ({"scale": 0.0}, "`scale` must be a finite number > 0; got 0.0."),
        ({"scale": float("nan")}, "`scale` must be a finite number > 0; got nan."),
        ({"dtype": torch.float16}, "`dtype` must be one of torch.float32, torch.float64; got"),
        ({"width": 7, "antisymmetric": True}, "`width` must be even for antisymmetric pairs; got 7. Take 8."),
    ],
)
def test_a_network_that_cannot_be_is_refused(options, words) -> None:
    given = {"width": 6, "inputs": 4, "outputs": 1} | options
    with pytest.raises(OptionError, match=re.escape(words)):
        TwoLayerNetwork(**given, generator=seeded())


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("width", [2.0, True, "4"])
def test_a_width_that_is_no_whole_number_is_refused(width) -> None:
    with pytest.raises(OptionError, match="`width` must be a whole number ≥ 1; got"):
        TwoLayerNetwork(width, 4, generator=seeded())


def test_inputs_of_another_dimension_are_refused() -> None:
    net = network(6, 4)
    for x in (torch.zeros(5, 3).double(), torch.zeros(4).double()):
        with pytest.raises(ShapeError, match="`inputs` must have 4 features in each row, as the"):
            net(x)


@pytest.mark.usefixtures("as_users_run_it")
def test_a_seed_is_no_generator() -> None:
    with pytest.raises(OptionError, match=re.escape("`generator` must be a torch.Generator; got 0.")):
        TwoLayerNetwork(6, 4, generator=0)
