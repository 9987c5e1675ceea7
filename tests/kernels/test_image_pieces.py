"""How pairs of images are cut into pieces changes nothing, on any number of threads."""

import pytest
import torch

from allocated import peak_memory
from laws import assert_same
from leftout.core.errors import MemoryBudgetError
from leftout.kernels import residual, serial, use_code
from leftout.kernels.assemble import gram
from leftout.kernels.layers import Activation, AveragePool, Conv, Dense, Flatten, Gelu, Relu, Tanh
from leftout.kernels.layers.chain import numbers_of_a_row
from leftout.kernels.threads import one_thread_each, side_by_side
from leftout.kernels.tiles import TEMPORARIES
from leftout.kernels.wide import images as pieces
from leftout.kernels.wide.conv_relu import ConvReLU

CASES = {
    "flattened": {"depth": 3, "bias_variance": 0.1},
    "mean": {"depth": 2, "pooling": "mean", "bias_variance": 0.1},
    "average": {"depth": 2, "average": (2, 1)},
}
MEAN = 48**0.5 * 2.0**-52
"""Rounding of a mean whose order differs, over all pairs of 48 positions."""


def images(n=4, side=(6, 8)):
    draw = torch.Generator().manual_seed(0)
    found = torch.randn(n, 2, *side, generator=draw, dtype=torch.float64)
    found[1] = found[0] + 0.2 * found[1]
    return found


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
@pytest.mark.parametrize("tile", [1, 400])
def test_how_pairs_are_cut_changes_nothing(options, tile, monkeypatch) -> None:
    kernel, x = ConvReLU(**options), images()
    whole = kernel.block(x, x[:3])
    monkeypatch.setitem(pieces.TILE, "cpu", tile)
    # An arc tangent in another lane of the processor: angles are at least 0.05 here.
    assert_same(kernel.block(x, x[:3]), whole, 20 * MEAN)


def test_threads_change_nothing_at_all(monkeypatch) -> None:
    """Not a bit: a piece is computed by one thread however many there are."""
    kernel, x = ConvReLU(2, pooling="mean"), images()
    monkeypatch.setitem(pieces.TILE, "cpu", 400)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = kernel.block(x, x)
        torch.set_num_threads(3)
        assert torch.equal(kernel.block(x, x), alone)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_threads_are_given_back_after_an_error() -> None:
    before = torch.get_num_threads()

    def refuse(item: int) -> int:
        raise ValueError(f"no {item} with {torch.get_num_threads()} thread")

    def refused() -> None:
        with one_thread_each(torch.device("cpu")) as threads:
            assert threads == 2
            list(side_by_side(refuse, range(5), threads))

    try:
        torch.set_num_threads(2)
        with pytest.raises(ValueError, match="no 0 with 1 thread"):
            refused()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_results_come_in_the_order_of_the_items() -> None:
    assert list(side_by_side(lambda item: item**2, range(50), 3)) == [i**2 for i in range(50)]


def test_a_pair_of_images_that_does_not_fit_is_refused() -> None:
    kernel, x = ConvReLU(1, pooling="mean", average=2), torch.ones(2, 1, 64, 64)
    with pytest.raises(MemoryBudgetError, match=r"One piece of a convolutional kernel needs 1\.\d+ GB"):
        gram(kernel, x.double(), memory="1GB")


def test_batches_of_images_may_need_different_numbers_of_terms(monkeypatch) -> None:
    kernel, x = (
        serial(Conv(3), Activation(torch.nn.functional.silu), Flatten(), Dense(), Tanh(), Dense()),
        images(),
    )
    x = x * torch.tensor([0.1, 1.0, 2.0, 3.0], dtype=x.dtype)[:, None, None, None]
    whole = kernel.block(x, x)
    monkeypatch.setitem(pieces.TILE, "cpu", 1)
    assert_same(kernel.block(x, x), whole, 1e-13)
    assert_same(torch.stack([kernel.diagonal(one[None])[0] for one in x]), whole.diagonal(), 1e-13)


ROWS = {
    "gelu": (Dense(), Gelu(), Dense()),
    "series": (Dense(), Activation(torch.nn.functional.silu), Dense()),
    "residual": (Dense(), residual(Relu(), Dense(), residual(Gelu(), Dense())), residual(Relu(), Dense())),
}
IMAGES = {
    "gelu": (Conv(3), Gelu(), Flatten(), Dense()),
    "series": (Conv(3), Activation(torch.nn.functional.silu), Flatten(), Dense()),
    "residual": (
        Conv(3),
        residual(Relu(), Conv(3), residual(Gelu(), Conv(3))),
        AveragePool(2),
        Flatten(),
        Dense(),
    ),
}


@pytest.mark.parametrize("layers", ROWS.values(), ids=ROWS)
def test_blocks_of_rows_are_as_many_as_are_counted(layers) -> None:
    x, kernel = torch.randn(256, 5, dtype=torch.float64), serial(*layers)
    with use_code("torch"):
        taken = peak_memory(lambda: kernel.block(x, -x)) / 8
    blocks = TEMPORARIES + max(layer.arrays for layer in layers)
    assert taken < 256**2 * (0.2 + blocks) + 256 * numbers_of_a_row(layers)


@pytest.mark.parametrize("layers", IMAGES.values(), ids=IMAGES)
def test_pieces_of_images_are_as_large_as_is_counted(layers) -> None:
    x, kernel = images(30, (8, 8)), serial(*layers)
    with use_code("torch"):
        taken = peak_memory(lambda: kernel.block(x, x[:20])) / 8
    assert taken < pieces.numbers_held(layers, x, 30, 1)


def test_a_derivative_of_a_series_is_right() -> None:
    x = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    z, step = torch.randn(3, 4, dtype=torch.float64), torch.zeros(2, 4, dtype=torch.float64)
    step[0, 1] = 1e-6
    kernel = serial(Dense(1.0, 0.1), Activation(torch.nn.functional.silu), Dense())
    (slope,) = torch.autograd.grad(kernel.block(x, z).sum(), x)
    with torch.no_grad():
        difference = float(kernel.block(x + step, z).sum() - kernel.block(x - step, z).sum()) / 2e-6
    assert float(slope[0, 1]) == pytest.approx(difference, rel=1e-6)


@pytest.mark.parametrize("activation", [Tanh(), Activation(torch.nn.functional.silu)], ids=["tanh", "silu"])
def test_no_inputs_have_an_empty_kernel(activation) -> None:
    none, some = torch.empty(0, 4, dtype=torch.float64), torch.ones(2, 4, dtype=torch.float64)
    kernel = serial(Dense(), activation, Dense())
    assert kernel.block(none, some).shape == (0, 2)
    assert kernel.block(none, none).shape == (0, 0)
    assert kernel.diagonal(none).shape == (0,)


def test_branches_of_other_strides_are_computed_where_images_have_one_position() -> None:
    kernel = serial(Conv(1), residual(Relu(), Conv(1, stride=2)), Flatten(), Dense())
    x = torch.randn(3, 2, 1, 1, dtype=torch.float64)
    with use_code("torch"):
        expected = kernel.block(x, x)
    assert_same(kernel.block(x, x), expected, 1e-14)
