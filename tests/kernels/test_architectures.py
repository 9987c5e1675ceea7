"""Forty random networks, layer by layer: against another library, the definition, and networks drawn."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import leftout as lo
from laws import assert_same
from leftout.kernels.fused.library import available_sets
from leftout.kernels.layers import Activation, Conv, Dense, Flatten, Relu, Tanh
from oracles import architectures as oracle
from problems.architecture_modules import Network, kernel_of
from problems.architectures import COUNT, ROWS, architecture, inputs, layer_names

PEER = json.loads(Path(__file__).with_name("peer_values.json").read_text())["networks"]
KINDS = ("nngp", "ntk")
ROUNDING = 1e-12
"""Of a kernel over √(k(x, x) k(z, z)): some tens of layers and windows, each right to a few roundings."""

seeds = pytest.mark.parametrize("seed", range(COUNT))


def images(seed, **options):
    return torch.from_numpy(inputs(architecture(seed), **options))


def scaled(kernel):
    """Return a kernel matrix over the roots of its diagonal."""
    root = np.sqrt(np.diag(kernel))
    return kernel / np.outer(root, root)


def test_the_networks_are_those_of_the_kept_values_and_have_every_layer() -> None:
    assert [kept["architecture"] for kept in PEER] == [architecture(seed) for seed in range(COUNT)]
    names = set().union(*(layer_names(kept["architecture"]["layers"]) for kept in PEER))
    assert names == {
        *("dense", "conv", "relu", "leaky", "abs", "gelu", "erf", "sine", "cosine"),
        *("pool", "flatten", "mean", "norm", "scale", "residual"),
    }
    of_conv = [layer for kept in PEER for layer in kept["architecture"]["layers"] if layer[0] == "conv"]
    assert {str(layer[3]) for layer in of_conv} == {"same", "valid", "circular", "1"}
    assert any(layer[2] != [1, 1] for layer in of_conv)
    assert any(layer[1][0] != layer[1][1] for layer in of_conv)


CODES = ("torch", *available_sets())
"""What computes kernels here: torch, and C with what this processor has."""


@pytest.mark.parametrize("code", CODES)
@seeds
def test_kernels_are_those_of_neural_tangents(seed, code) -> None:
    x = images(seed)
    for kind in KINDS:
        with lo.kernels.use_code(code):
            ours = kernel_of(architecture(seed), kind).block(x, x).numpy()
        peer = np.array(PEER[seed][kind])
        root = np.sqrt(np.diag(peer))
        error = np.abs(ours - peer) / np.outer(root, root)
        assert error[~np.eye(len(x), dtype=bool)].max() < ROUNDING
        assert np.diag(error).max() < 1e-7, "where the peer loses half of its digits"


@pytest.mark.sample(6)
@seeds
def test_kernels_are_the_recursion_written_out(seed) -> None:
    of, x = architecture(seed), images(seed)
    written = oracle.kernels(of, x[2], x[3])
    for kind, value in zip(KINDS, written, strict=True):
        kernel = kernel_of(of, kind)
        root = float(kernel.diagonal(x[2:4]).prod()) ** 0.5
        assert abs(float(kernel.block(x[2:3], x[3:4])) - value) < ROUNDING * root


DENSE, MEAN = ["dense", 1.5, 0.1], ["mean"]
OTHERS = {
    "zeros at a stride": [["conv", [3, 3], [2, 2], 1, 2.0, 0.1], ["relu"], MEAN, DENSE],
    "more zeros than the window needs": [["conv", [2, 1], [1, 2], 2, 2.0, 0.0], ["gelu"], ["flatten"], DENSE],
    "circular as PyTorch counts": [["conv", [3, 3], [2, 1], ["circular", 1], 2.0, 0.1], ["erf"], MEAN, DENSE],
    "even circular windows": [["conv", [2, 2], [1, 1], "circular", 2.0, 0.0], ["leaky", -0.5], MEAN, DENSE],
    "strides beyond the window": [["conv", [1, 2], [2, 3], "valid", 2.0, 0.1], ["abs"], ["flatten"], DENSE],
    "padded averages at a stride": [
        ["conv", [2, 2], [1, 1], "same", 2.0, 0.1],
        ["relu"],
        ["pool", [3, 2], [2, 2], 1],
        ["conv", [2, 1], [1, 1], "same", 2.0, 0.1],
        ["leaky", 0.3],
        MEAN,
        DENSE,
    ],
    "averages of pre-activations": [
        ["conv", [2, 2], [1, 1], "same", 2.0, 0.1],
        ["pool", [2, 2], [1, 1], 0],
        ["norm", 1e-5],
        ["relu"],
        ["flatten"],
        DENSE,
    ],
    "whole images normalised": [
        ["conv", [2, 2], [1, 1], "same", 2.0, 0.1],
        ["norm", 1e-2, "all"],
        ["relu"],
        ["conv", [2, 1], [1, 1], "valid", 2.0, 0.1],
        ["norm", 1e-2, "all"],
        ["gelu"],
        MEAN,
        DENSE,
    ],
    "whole images normalised, of positions by themselves": [
        ["conv", [2, 2], [1, 1], "same", 2.0, 0.1],
        ["norm", 1e-2, "all"],
        ["erf"],
        ["flatten"],
        DENSE,
    ],
    "tanh": [["conv", [2, 2], [1, 1], "same", 1.0, 0.1], ["tanh"], MEAN, DENSE, ["tanh"], DENSE],
    "a block behind an activation": [
        ["conv", [2, 2], [1, 1], "same", 2.0, 0.1],
        ["relu"],
        [
            "residual",
            [["conv", [3, 3], [1, 1], 1, 1.0, 0.0], ["relu"], ["conv", [1, 1], [1, 1], 0, 1.0, 0.1]],
            [],
        ],
        ["conv", [1, 1], [1, 1], "valid", 2.0, 0.0],
        ["relu"],
        MEAN,
        DENSE,
    ],
    "no activation": [["conv", [2, 2], [1, 1], "same", 2.0, 0.1], ["scale", 1.3], MEAN, DENSE],
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_the_peer_does_not_have_is_the_recursion_written_out(name) -> None:
    of = {"input": [2, 3, 4], "layers": OTHERS[name]}
    x = torch.from_numpy(inputs(of))
    for i, j in ((2, 3), (0, 0)):
        for kind, value in zip(KINDS, oracle.kernels(of, x[i], x[j]), strict=True):
            kernel = kernel_of(of, kind)
            root = float(kernel.diagonal(x[[i, j]]).prod()) ** 0.5
            assert abs(float(kernel.block(x[[i]], x[[j]])) - value) < ROUNDING * root


@pytest.mark.sample(12)
@seeds
def test_matrices_are_symmetric_positive_and_have_the_diagonal(seed) -> None:
    x = images(seed, n=12)
    for kind in KINDS:
        kernel = kernel_of(architecture(seed), kind)
        matrix = lo.kernels.gram(kernel, x)
        assert torch.equal(matrix, matrix.T)
        assert torch.linalg.eigvalsh(matrix)[0] > -12 * ROUNDING * matrix.diagonal().max()
        assert_same(matrix.diagonal(), kernel.diagonal(x), ROUNDING)


@pytest.mark.sample(12)
@seeds
def test_equal_inputs_are_equal_to_the_kernel(seed) -> None:
    x = images(seed)
    x[3] = x[0]
    for kind in KINDS:
        kernel = kernel_of(architecture(seed), kind)
        matrix = lo.kernels.gram(kernel, x)
        assert torch.equal(matrix[3], matrix[0])
        assert matrix[0, 3] == matrix[0, 0] == matrix[3, 3]
        block = kernel.block(x, x)  # each pair by itself, not a copy of another
        assert_same(block[3], block[0], ROUNDING)
        assert abs(float(block[0, 3] / kernel.diagonal(x[:1])) - 1) < ROUNDING


@pytest.mark.sample(8)
@seeds
def test_opposite_inputs_have_a_kernel(seed) -> None:
    x = images(seed)
    kernel = kernel_of(architecture(seed))
    opposite = kernel.block(x, -x)
    assert opposite.isfinite().all()
    assert_same(opposite, opposite.T, ROUNDING)
    assert (opposite.diagonal() <= kernel.diagonal(x) * (1 + ROUNDING)).all()


@pytest.mark.parametrize("shape", [[6], [2, 3, 4]], ids=["rows", "images"])
def test_opposite_inputs_are_at_an_angle_of_pi(shape) -> None:
    first = ["dense", 2.0, 0.0] if len(shape) == 1 else ["conv", [2, 2], [1, 1], "same", 2.0, 0.0]
    flat = [] if len(shape) == 1 else [["flatten"]]
    x = torch.from_numpy(inputs({"input": shape}))
    of_abs = kernel_of({"layers": [first, ["abs"], *flat, ["dense", 1.0, 0.0]]})
    assert_same(of_abs.block(x, -x).diagonal(), of_abs.diagonal(x), ROUNDING)
    of_relu = kernel_of({"layers": [first, ["relu"], *flat, ["dense", 1.0, 0.0]]})
    assert of_relu.block(x, -x).diagonal().abs().max() < ROUNDING * of_relu.diagonal(x).max()


@pytest.mark.sample(8)
@seeds
def test_the_order_of_channels_or_features_changes_nothing(seed) -> None:
    x = images(seed)
    order = torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(1))
    kernel = kernel_of(architecture(seed))
    expected = kernel.block(x, x)
    assert_same(kernel.block(x[:, order], x[:, order]), expected, ROUNDING)
    if x.shape[1] > 1:
        assert (kernel.block(x.roll(1, 1), x) - expected).abs().max() > 1e-3 * expected.max(), "a control"


@pytest.mark.sample(8)
@seeds
def test_blocks_of_pairs_are_those_of_each_pair(seed) -> None:
    x = images(seed)
    for kind in KINDS:
        kernel = kernel_of(architecture(seed), kind)
        single = torch.stack([torch.cat([kernel.block(a[None], b[None])[0] for b in x[2:]]) for a in x[:2]])
        assert_same(kernel.block(x[:2], x[2:]), single, ROUNDING)


@pytest.mark.sample(8)
@seeds
def test_before_training_networks_have_the_kernel_of_the_readout(seed) -> None:
    of = architecture(seed)
    assert kernel_of(of, "ntk").prior() == kernel_of(of, "nngp")
    x = images(seed)
    assert (kernel_of(of).diagonal(x) >= kernel_of(of, "nngp").diagonal(x)).all()


@pytest.mark.sample(8)
@seeds
def test_single_precision_is_near_double(seed) -> None:
    x = images(seed)
    for kind in KINDS:
        kernel = kernel_of(architecture(seed), kind)
        single = kernel.block(x.float(), x.float())
        assert single.dtype == torch.float32
        # An angle θ is off by its rounding over itself, and by the root of it at most: here to 1e-3 / π.
        assert_same(single.double(), kernel.block(x, x), 1e-3)
        apart = ~torch.eye(len(x), dtype=torch.bool)
        assert_same(single.double()[apart], kernel.block(x, x)[apart], 3e-5)


def moments(function, slope, variances, ratio, corner=None):
    """Return E[φ φ] and E[φ' φ'] by Gauss and Legendre's rule, on either side of a corner of φ."""
    nodes, weights = np.polynomial.legendre.leggauss(96)

    def panels(middle):
        """Return nodes and weights (… 192) on both sides of some numbers (…)."""
        middle = np.asarray(middle)[..., None]
        below, above = (middle - np.minimum(-9, middle - 1)) / 2, (np.maximum(9, middle + 1) - middle) / 2
        numbers = np.concatenate([middle + below * (nodes - 1), middle + above * (nodes + 1)], -1)
        sizes = np.concatenate([below * weights, above * weights], -1)
        return numbers, sizes * np.exp(-(numbers**2) / 2) / math.sqrt(2 * math.pi)

    deviations = [math.sqrt(variance) for variance in variances]
    first, first_weights = panels(0.0)
    rest = math.sqrt(1 - ratio**2)
    middle = np.zeros_like(first) if corner is None or rest == 0 else -ratio * first / rest
    second, second_weights = panels(middle)
    u, v = deviations[0] * first[:, None], deviations[1] * (ratio * first[:, None] + rest * second)
    weight = first_weights[:, None] * second_weights
    return np.array([(weight * f(u) * f(v)).sum() for f in (function, slope)])


def sigmoid(u):
    return 1 / (1 + np.exp(-u))


SMOOTH = {
    "tanh": (Tanh(), np.tanh, lambda u: 1 - np.tanh(u) ** 2, None),
    "silu": (
        Activation(torch.nn.functional.silu),
        lambda u: u * sigmoid(u),
        lambda u: sigmoid(u) * (1 + u * (1 - sigmoid(u))),
        None,
    ),
    "tanh as any function": (Activation(torch.tanh), np.tanh, lambda u: 1 - np.tanh(u) ** 2, None),
    "softplus": (Activation(torch.nn.functional.softplus), lambda u: np.logaddexp(0, u), sigmoid, None),
    "cube": (Activation(lambda u: u**3, name="cube"), lambda u: u**3, lambda u: 3 * u**2, None),
}
CORNERS = {
    "elu": (
        Activation(torch.nn.functional.elu, tolerance=1e-2),
        lambda u: np.where(u > 0, u, np.expm1(np.minimum(u, 0))),
        lambda u: np.where(u > 0, 1.0, np.exp(np.minimum(u, 0))),
        0.0,
    ),
    "relu": (
        Activation(torch.relu, name="relu", tolerance=0.5),
        lambda u: np.maximum(u, 0),
        lambda u: (u > 0).astype(float),
        0.0,
    ),
}
PAIRS = [((1.0, 1.0), 0.5), ((0.3, 2.0), -0.8), ((2.0, 0.7), 0.97), ((1.3, 1.3), 1.0)]


def of_layer(layer):
    """Return E[φ φ] and E[φ' φ'] of a layer, for pre-activations of these variances and correlations."""
    first, second, covariances = [], [], []
    for variances, ratio in PAIRS:
        first.append([math.sqrt(2 * variances[0]), 0.0])
        direction = [ratio, math.sqrt(1 - ratio**2)]
        second.append([math.sqrt(2 * variances[1]) * share for share in direction])
        covariances.append(ratio * math.sqrt(math.prod(variances)))
    x, z = (torch.tensor(rows, dtype=torch.float64) for rows in (first, second))
    kernels = (lo.kernels.serial(Dense(1.0), layer, Dense(1.0), kind=kind) for kind in KINDS)
    nngp, ntk = (kernel.block(x, z).diagonal().numpy() for kernel in kernels)
    return np.stack([nngp, (ntk - nngp) / covariances], axis=1)


@pytest.mark.parametrize("name", [*SMOOTH, *CORNERS])
def test_a_series_is_within_the_error_that_it_states(name) -> None:
    layer, function, slope, corner = (SMOOTH | CORNERS)[name]
    for (variances, ratio), got in zip(PAIRS, of_layer(layer), strict=True):
        expected = moments(function, slope, variances, ratio, corner)
        # E[φ'²] is what errors are relative to; that of E[φ φ] is less than the variances times as large.
        size = math.sqrt(math.prod(moments(function, slope, (own, own), 1.0, corner)[1] for own in variances))
        stated = 0.0
        if isinstance(layer, Activation):
            stated = math.sqrt(float(layer.error(torch.tensor(variances, dtype=torch.float64)).prod()))
        error = np.abs(got - expected) / (size * np.array([math.sqrt(math.prod(variances)), 1.0]))
        assert (error <= stated + 1e-13).all(), (variances, ratio)
        if name in CORNERS and ratio == 1:
            assert stated < 100 * error[1], "the stated error is what it is, where it is largest"


def test_an_error_beyond_the_tolerance_is_refused_with_its_number() -> None:
    kernel = lo.kernels.serial(Dense(), Activation(torch.relu, name="relu"), Dense())
    with pytest.raises(
        lo.LeftoutError, match=r"series of relu is right to tolerance=1e-06; at .* its error is up to"
    ):
        kernel.check("train", torch.ones(2, 3, dtype=torch.float64))


SIZES = ((2, 16), (4, 32), (8, 64), (16, 128))
"""Networks drawn, and their width. Both the noise of a mean and what a finite width adds fall as the root of
1 / (draws · width)."""

REPEATS = 16
SLACK = 0.17
"""Of the slope: the logarithm of an error from 16 means over some 2 independent pairs has a standard error of
1 / √(2 · 32) = 0.13, that of a line through four sizes, each 4 times the last, of 0.13 / (ln 4 √5) = 0.04.
Four of them; a kernel that is another one has a slope near 0."""


def error_slopes(of, kernels, repeats=REPEATS):
    """Return p of error = c (draws · width)^p for each kind of kernel, and the last error of each."""
    x = torch.from_numpy(inputs(of)[:4])
    i, j = torch.triu_indices(4, 4)
    errors = {kind: [] for kind in kernels}
    for draws, width in SIZES:
        network, generator = Network(of, width), torch.Generator().manual_seed(width)
        squares = {kind: [] for kind in kernels}
        for _ in range(repeats):
            drawn = []
            for _ in range(draws):
                network.draw(generator)
                drawn.append(network.kernels(x))
            for kind, exact in kernels.items():
                mean = torch.stack([both[kind.split()[-1]] for both in drawn]).mean(0)
                squares[kind].append(float((mean - exact)[i, j].square().mean() / exact.square().max()))
        for kind, found in squares.items():
            errors[kind].append(math.sqrt(np.mean(found)))
    sizes = np.log([draws * width for draws, width in SIZES])
    return {
        kind: (float(np.polyfit(sizes, np.log(found), 1)[0]), found[-1]) for kind, found in errors.items()
    }


def other_activations(layers):
    """Return the same layers with each activation replaced by another of the same scale."""
    swap = {"relu": ["leaky", 0.5], "leaky": ["abs"], "abs": ["relu"], "gelu": ["abs"]}
    swap |= {"erf": ["cosine"], "sine": ["relu"], "cosine": ["erf"], "tanh": ["abs"]}
    return [
        ["residual", other_activations(options[0]), other_activations(options[1])]
        if name == "residual"
        else swap.get(name, [name, *options])
        for name, *options in layers
    ]


def assert_networks_approach(of, repeats=REPEATS):
    x = torch.from_numpy(inputs(of)[:4])
    wrong = {**of, "layers": other_activations(of["layers"])}
    kernels = {kind: kernel_of(of, kind).block(x, x) for kind in KINDS}
    kernels["another ntk"] = kernel_of(wrong).block(x, x)
    slopes = error_slopes(of, kernels, repeats)
    for kind in KINDS:
        assert abs(slopes[kind][0] + 0.5) < SLACK * math.sqrt(REPEATS / repeats), slopes
        assert slopes[kind][1] < 0.1, slopes
    assert slopes["another ntk"][0] > -0.25, slopes
    assert slopes["another ntk"][1] > 3 * slopes["ntk"][1], slopes


READ = [*range(ROWS), 23, 36, 44, 48, 49, 59, 71, 83, 89, 99, 135, 137]
"""Networks of layers that PyTorch has: "same" at a stride pads one side only, which Conv2d does not do."""


@pytest.mark.sample(12)
@pytest.mark.parametrize("seed", READ)
def test_the_module_is_read_as_the_network_it_is(seed) -> None:
    """Every parameter is plus or minus the root of its variance, so that what is measured is exact."""
    network, generator = Network(architecture(seed), width=6), torch.Generator().manual_seed(seed)
    network.draw(generator)
    for name, parameter in network.module.named_parameters():
        parameter.data = parameter.data.sign() * network.variances[name] ** 0.5
    x = images(seed)
    for kind in KINDS:
        read = lo.kernels.of(network.module, initialisation="measured", kind=kind)
        assert_same(read.block(x, x), kernel_of(architecture(seed), kind).block(x, x), ROUNDING)


SMALL = {
    "input": [4],
    "layers": [
        ["dense", 1.5, 0.1],
        ["gelu"],
        ["dense", 2.0, 0.1],
        ["residual", [["relu"], ["dense", 1.5, 0.0]], []],
        ["relu"],
        ["dense", 1.0, 0.1],
    ],
}


def test_networks_of_the_very_module_approach_their_kernel() -> None:
    assert_networks_approach(SMALL, repeats=8)


@pytest.mark.slow
def test_networks_whose_images_are_normalised_as_a_whole_approach_their_kernel() -> None:
    assert_networks_approach({"input": [2, 3, 4], "layers": OTHERS["whole images normalised"]})


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 5, 8, 13, 16, 18, 23, 29, 33, 38])
def test_random_networks_of_the_very_module_approach_their_kernel(seed) -> None:
    assert_networks_approach(architecture(seed))


@pytest.mark.parametrize("function", [torch.sign, torch.round, torch.nn.functional.hardshrink])
def test_functions_that_jump_are_refused_whatever_their_derivative_says(function):
    kernel = lo.kernels.serial(Dense(), Activation(function, "steps", tolerance=0.2), Dense())
    with pytest.raises(lo.LeftoutError, match="one that jumps has no tangent kernel"):
        lo.kernels.gram(kernel, torch.eye(3, dtype=torch.float64))


@pytest.mark.parametrize("function", [lambda u: torch.softmax(u, -1), lambda u: u - u.mean()])
def test_functions_of_several_units_are_no_activations(function):
    with pytest.raises(lo.LeftoutError, match="depends on the others"):
        Activation(function)


def test_all_of_an_expectation_is_no_tolerance():
    with pytest.raises(lo.LeftoutError, match="less than 1"):
        Activation(torch.sin, tolerance=1.0)


@pytest.mark.parametrize("change", [lambda x: x.float(), lambda x: x[:, :1]])
def test_sides_of_a_matrix_that_differ_in_kind_are_refused_before_they_are_read(change):
    images = torch.ones(3, 2, 4, 4, dtype=torch.float64)
    kernel = lo.kernels.serial(Conv(3), Relu(), Flatten(), Dense())
    with pytest.raises(lo.LeftoutError, match="features, dtype and device"):
        kernel.block(images, change(images))
