"""Is it the kernel of infinitely wide convolutional networks? Against finite ones, and written out."""

import json
import re

import numpy as np
import pytest
import torch

import leftout as lo
from allocated import peak_memory
from laws import assert_same
from leftout.core.errors import DataError, OptionError, ShapeError
from leftout.kernels.assemble import cross, gram
from leftout.kernels.wide import images as pieces
from leftout.kernels.wide.conv_relu import ConvReLU
from oracles import convolutional as oracle

CASES = {
    "one layer": {"depth": 1},
    "flattened": {"depth": 3, "bias_variance": 0.1},
    "mean": {"depth": 2, "pooling": "mean"},
    "mean with bias": {"depth": 3, "pooling": "mean", "bias_variance": 0.2, "weight_variance": 1.5},
    "strides": {"depth": 2, "stride": (1, 2), "bias_variance": 0.1},
    "strides under a mean": {"depth": 2, "stride": 2, "pooling": "mean"},
    "valid": {"depth": 2, "padding": "valid", "kernel_size": 2},
    "valid with strides": {"depth": 1, "padding": "valid", "kernel_size": 2, "stride": 2},
    "circular": {"depth": 2, "padding": "circular", "bias_variance": 0.1},
    "circular under a mean": {"depth": 2, "padding": "circular", "pooling": "mean"},
    "circular, even and wide": {"depth": 1, "padding": "circular", "kernel_size": 4, "stride": 2},
    "other sizes": {"depth": 2, "kernel_size": (1, 4), "bias_variance": 0.1},
    "averaged": {"depth": 2, "average": (2, 1), "bias_variance": 0.1},
    "averaged under a mean": {"depth": 2, "average": 2, "pooling": "mean"},
    "averaged at the end": {"depth": 2, "average": (1, 2), "bias_variance": 0.1},
    "without the last ReLU": {"depth": 3, "last_relu": False, "weight_variance": 1.0},
}
MEAN = 400**0.5 * 2.0**-52
"""Rounding of a mean over all pairs of 20 positions, whose order follows the shape of a tile."""

ANGLE = 20 * MEAN
"""The same where arc cosines of angles of at least 0.05 are rounded in another lane of the processor."""

cases = pytest.mark.parametrize("options", CASES.values(), ids=CASES)


def images(n=3, c=2, side=(4, 5), seed=0):
    draw = np.random.default_rng(seed)
    found = draw.standard_normal((n, c, *side))
    found[1] = found[0] + 0.2 * found[1]
    return torch.from_numpy(found)


def layers(kernel):
    record = kernel.record
    return list(zip(record["kernel_size"], record["stride"], record["average"], strict=True))


def written_out(kernel, x, z):
    both = oracle.kernel(
        x.numpy(),
        z.numpy(),
        layers(kernel),
        padding=kernel.padding,
        pooling=kernel.pooling,
        w=kernel.weight_variance,
        b=kernel.bias_variance,
        last_relu=kernel.last_relu,
    )
    return both[kernel.kind == "ntk"]


@pytest.mark.sample(12)
@cases
@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_it_is_the_recursion_written_out(options, kind) -> None:
    kernel, x = ConvReLU(**options, kind=kind), images()
    want = [[written_out(kernel, a, b) for b in x] for a in x]
    # Of each layer: sums of at most 16 products and an arc cosine whose angle is at least 0.05 here.
    assert_same(kernel.block(x, x), np.array(want), 100 * 3 / 0.05 * 2.0**-52)
    assert_same(kernel.diagonal(x), np.diag(want), 100 * 3 * 2.0**-52)


FINITE = {
    "flattened": ({"depth": 2, "bias_variance": 0.1}, 160),
    "mean": ({"depth": 2, "pooling": "mean", "stride": (1, 2)}, 160),
    "averaged": ({"depth": 2, "average": (2, 1), "padding": "circular"}, 160),
    "without the last ReLU": ({"depth": 2, "last_relu": False, "padding": "valid", "kernel_size": 2}, 160),
}


@pytest.mark.parametrize(("options", "width"), FINITE.values(), ids=FINITE)
def test_finite_networks_have_it_on_the_mean(options, width) -> None:
    kernel, x = ConvReLU(**options), images(side=(4, 4))
    torch.manual_seed(0)
    made = {
        "width": width,
        "padding": kernel.padding,
        "pooling": kernel.pooling,
        "w": kernel.weight_variance,
        "b": kernel.bias_variance,
        "last_relu": kernel.last_relu,
    }
    drawn = [oracle.finite_tangent(oracle.Finite(2, 4, layers(kernel), **made), x) for _ in range(24)]
    error = np.std(drawn, axis=0, ddof=1) / 24**0.5
    exact = kernel.block(x, x).numpy()
    # Four standard errors of 24 draws, and a bias of order depth / width.
    assert (np.abs(np.mean(drawn, axis=0) - exact) < 4 * error + 3 / width * exact.max()).all()


@cases
def test_equal_images_have_equal_rows_and_their_own_diagonal(options) -> None:
    """No angle of 1e-8 between them: rounding is that of the mean over at most 400 positions."""
    kernel, x = ConvReLU(**options), images(5)
    x[3] = x[0]
    found = kernel.block(x, x)
    assert_same(found[3], found[0], MEAN)
    assert_same(found.diagonal(), kernel.diagonal(x), MEAN)
    assert_same(found[0, 3], found[0, 0], MEAN)


@cases
def test_matrices_are_symmetric_and_positive_to_rounding(options) -> None:
    found = gram(ConvReLU(**options), images(12))
    assert torch.equal(found, found.T)
    values = torch.linalg.eigvalsh(found)
    assert values[0] > -12 * 2.0**-50 * values[-1]


@cases
def test_tiles_change_nothing(options, monkeypatch) -> None:
    kernel, x = ConvReLU(**options), images(3)
    whole = kernel.block(x, x[:2]), kernel.diagonal(x)
    monkeypatch.setitem(pieces.TILE, "cpu", 1)
    assert_same(kernel.block(x, x[:2]), whole[0], ANGLE)
    assert_same(kernel.diagonal(x), whole[1], MEAN)
    assert_same(cross(kernel, x, x[:2], block=2), whole[0], ANGLE)


def test_without_bias_it_is_homogeneous() -> None:
    kernel, x = ConvReLU(3), images()
    assert_same(kernel.block(4 * x, 0.5 * x), 2 * kernel.block(x, x), 1e-14)


def test_circular_padding_and_a_mean_do_not_see_where_things_are() -> None:
    kernel, x = ConvReLU(2, padding="circular", pooling="mean"), images()
    moved = x.roll((1, 2), (2, 3))
    assert_same(kernel.block(moved, x), kernel.block(x, x), 1e-12)
    flat = ConvReLU(2, padding="circular")
    assert_same(flat.block(moved, moved), flat.block(x, x), 1e-12)
    assert (flat.block(moved, x) - flat.block(x, x)).abs().max() > 0.01


def test_one_pixel_is_a_fully_connected_network() -> None:
    """A window of one, on images of one pixel, is a dense layer on the channels."""
    x = images(4, 6, (1, 1))
    for kind in ("ntk", "nngp"):
        dense = lo.kernels.ReLU(3, 2.0, 0.1, kind).block(x.flatten(1), x.flatten(1))
        for pooling in ("flatten", "mean"):
            kernel = ConvReLU(3, 1, pooling=pooling, bias_variance=0.1, kind=kind)
            assert_same(kernel.block(x, x), dense, 1e-13)


def test_images_of_one_channel_need_no_axis_for_it() -> None:
    x = images(3, 1)
    assert torch.equal(ConvReLU(2).block(x, x), ConvReLU(2).block(x[:, 0], x[:, 0]))


def test_black_borders_are_zero_to_the_network() -> None:
    x = torch.zeros(2, 1, 9, 9, dtype=torch.float64)
    x[:, :, :3, :3] = images(2, 1, (3, 3))
    for pooling in ("flatten", "mean"):
        kernel = ConvReLU(2, pooling=pooling)
        found = kernel.block(x, x)
        assert_same(found[0, 1], written_out(kernel, x[0], x[1]), 1e-12)
        assert_same(found.diagonal(), kernel.diagonal(x), MEAN)


def test_single_precision_is_near_double() -> None:
    kernel, x = ConvReLU(3, bias_variance=0.1), images()
    single = kernel.block(x.float(), x.float())
    assert single.dtype == torch.float32
    # An angle is off by its rounding over itself, here over 0.05.
    assert_same(single.double(), kernel.block(x, x), 100 * 2.0**-23)


def test_a_model_is_fitted_and_left_out_with_it() -> None:
    train, query = lo.load("digits", n_train=30, n_query=5, normalise="sphere")
    fitted = lo.fit(ConvReLU(2), train, rule=lo.Ridge(0.1))
    rest = lo.fit(ConvReLU(2), train.select(list(range(1, 30))), rule=lo.Ridge(0.1))
    scores = lo.leave_one_out(fitted, query, of="prediction")
    change = (fitted.predict(query) - rest.predict(query)).numpy()
    np.testing.assert_allclose(scores.values[:, 0], change, atol=1e-10 * np.abs(change).max())


def test_the_record_says_all_of_it_and_kernels_are_values() -> None:
    kernel = ConvReLU(2, [3, 1], stride=[1, 2])
    assert json.loads(json.dumps(kernel.record)) == kernel.record
    assert kernel.record["stride"] == [1, 2]
    assert kernel == ConvReLU(2, (3, 1), stride=(1, 2))
    assert hash(kernel) == hash(ConvReLU(2, (3, 1), stride=(1, 2)))


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"depth": 0}, "`depth` must be a whole number of hidden layers"),
        (
            {"kernel_size": 0},
            "`kernel_size` must be a whole number ≥ 1, or one for each of the 2 layers; got 0",
        ),
        ({"stride": (1, 2, 1)}, r"`stride` must be a whole number ≥ 1, or one for each .*; got \(1, 2, 1\)"),
        ({"average": 1.5}, "`average` must be .* got 1.5"),
        ({"padding": "reflect"}, "`padding` must be one of 'same', 'valid', 'circular'; got 'reflect'"),
        ({"pooling": "max"}, "`pooling` must be one of 'flatten', 'mean'; got 'max'"),
        ({"last_relu": "no"}, "`last_relu` must be one of True, False"),
        ({"weight_variance": 0}, "`weight_variance`"),
        ({"kind": "cntk"}, "`kind`"),
    ],
)
def test_options_that_are_none_are_refused(options, match) -> None:
    with pytest.raises(OptionError, match=match):
        ConvReLU(**{"depth": 2, **options})


def test_inputs_that_are_no_images_are_refused() -> None:
    with pytest.raises(ShapeError, match=re.escape("must hold images, (rows, channels, height, width)")):
        ConvReLU(2).check("train", torch.ones(3, 4))
    with pytest.raises(ShapeError, match="a height of 4 is used up by Conv, layer 3"):
        ConvReLU(2, padding="valid").check("train", images())
    with pytest.raises(DataError, match="Without a bias every network maps it to 0"):
        ConvReLU(2).check("train", torch.zeros(3, 4, 4))
    ConvReLU(2, bias_variance=0.1).check("train", torch.zeros(3, 4, 4))
    with pytest.raises(DataError, match="must be floating-point"):
        ConvReLU(2).check("train", torch.ones(3, 4, 4, dtype=torch.int64))


@pytest.mark.parametrize("pooling", ["flatten", "mean"])
@pytest.mark.parametrize("scale", [2.0**-400, 2.0**400])
def test_sizes_of_images_far_from_one_change_nothing(pooling, scale) -> None:
    """Variances of such images, multiplied, are out of the range of numbers."""
    kernel, x = ConvReLU(2, pooling=pooling), images()
    want = kernel.block(x, x)
    assert torch.equal(kernel.block(scale * x, x / scale), want)
    assert torch.equal(kernel.diagonal(scale * x), scale**2 * kernel.diagonal(x))
    single = x.float()
    far = kernel.block(single * 2.0**-40, single * 2.0**40)
    assert torch.equal(far, kernel.block(single, single))


SKIPPING = {
    "strides beyond the window": {"depth": 1, "kernel_size": 1, "stride": 2},
    "in the second layer": {"depth": 2, "kernel_size": (2, 1), "stride": (1, 3)},
    "valid": {"depth": 2, "padding": "valid", "kernel_size": 2, "stride": (1, 2)},
    "valid and whole": {"depth": 2, "padding": "valid", "kernel_size": (3, 2)},
    "circular": {"depth": 2, "padding": "circular", "kernel_size": (2, 1), "stride": (3, 2)},
    "averaged": {"depth": 2, "kernel_size": (2, 1), "stride": (1, 2), "average": (1, 2)},
    "averages of what is left over": {"depth": 1, "kernel_size": 1, "average": 2},
    "without the last ReLU": {"depth": 1, "kernel_size": 2, "stride": 3, "last_relu": False},
}


@pytest.mark.parametrize("pooling", ["flatten", "mean"])
@pytest.mark.parametrize("options", SKIPPING.values(), ids=SKIPPING)
def test_refused_are_images_whose_kernel_is_zero_and_no_others(options, pooling) -> None:
    """Every pixel by itself, of an image of two channels."""
    kernel = ConvReLU(**options, pooling=pooling)
    single = torch.eye(2 * 5 * 7, dtype=torch.float64).reshape(-1, 2, 5, 7)

    def refused(images) -> bool:
        try:
            kernel.check("train", images)
        except DataError:
            return True
        return False

    each = kernel.diagonal(single)
    assert [refused(one[None]) for one in single] == (each == 0).tolist()
    whole = ConvReLU(**options, pooling=pooling, bias_variance=0.1)
    whole.check("train", single)


def test_images_are_checked_without_a_look_at_their_kernels(monkeypatch) -> None:
    def nothing(*_):
        raise AssertionError("a kernel was evaluated")

    monkeypatch.setattr("leftout.kernels.wide.images.run_layers", nothing)
    x = images(300, 3, (16, 16))
    skipping = ConvReLU(3, padding="valid", stride=(1, 1, 4))
    ConvReLU(3, padding="valid").check("train", x)
    # Masked images of a block, beside what every kernel's check takes.
    least = peak_memory(ConvReLU(1).check, "train", x)
    block = 8 * 64 * x[0].numel()
    assert peak_memory(skipping.check, "train", x) <= max(least, 2 * block)
    x[271, :, :-1] = 0
    x[271, :, -1, 0] = 1
    with pytest.raises(DataError, match=r"black where these windows look.*row 271 is"):
        skipping.check("train", x)


def test_an_image_that_no_window_sees_is_refused() -> None:
    x = torch.zeros(2, 1, 4, 4, dtype=torch.float64)
    x[0, 0, 1, 1] = x[1, 0, 0, 0] = 1
    with pytest.raises(DataError, match=r"black where these windows look, which skip.*row 0 is"):
        ConvReLU(1, kernel_size=1, stride=2).check("train", x)
