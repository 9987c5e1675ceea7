"""Do strips of displacements give what all pairs of positions at once give, on any number of threads?"""

import pytest
import torch

from laws import assert_same
from leftout.core.errors import MemoryBudgetError
from leftout.kernels.assemble import gram
from leftout.kernels.convolution import pieces, strips
from leftout.kernels.convolution.convolutional import ConvReLU
from leftout.kernels.fused.library import use_code
from leftout.kernels.threads import one_thread_each, side_by_side

CASES = {
    "flattened": {"depth": 3, "bias_variance": 0.1},
    "mean": {"depth": 3, "pooling": "mean", "bias_variance": 0.1},
    "strides": {"depth": 3, "stride": (1, 2, 2), "pooling": "mean"},
    "strides beyond windows": {"depth": 2, "stride": 3, "kernel_size": 2, "pooling": "mean"},
    "valid with strides": {"depth": 2, "kernel_size": 2, "stride": 2, "padding": "valid", "pooling": "mean"},
    "wide windows": {"depth": 2, "kernel_size": (5, 4), "pooling": "mean", "bias_variance": 0.1},
    "windows of one": {"depth": 2, "kernel_size": 1, "stride": (2, 1), "pooling": "mean"},
    "nngp": {"depth": 2, "pooling": "mean", "kind": "nngp", "last_relu": False},
}
MEAN = 48**0.5 * 2.0**-52
"""Rounding of a mean whose order differs, over all pairs of 48 positions."""


@pytest.fixture(autouse=True)
def _torch():
    with use_code("torch"):
        yield


cases = pytest.mark.parametrize("options", CASES.values(), ids=CASES)


def images(n=4, side=(6, 8)):
    draw = torch.Generator().manual_seed(0)
    found = torch.randn(n, 2, *side, generator=draw, dtype=torch.float64)
    found[1] = found[0] + 0.2 * found[1]
    return found


@cases
def test_strips_and_all_pairs_of_positions_agree(options, monkeypatch) -> None:
    kernel, x = ConvReLU(**options), images()
    found = kernel.block(x, x[:3]), kernel.diagonal(x)
    monkeypatch.setattr(strips, "fits", lambda network: False)
    # An arc tangent in another lane of the processor: angles are at least 0.05 here.
    assert_same(found[0], kernel.block(x, x[:3]), 20 * MEAN)
    assert_same(found[1], kernel.diagonal(x), 20 * MEAN)


@cases
@pytest.mark.parametrize("tile", [1, 400])
def test_how_strips_are_cut_changes_nothing(options, tile, monkeypatch) -> None:
    kernel, x = ConvReLU(**options), images()
    whole = kernel.block(x[:2], x[1:3])
    monkeypatch.setitem(pieces.TILE, "cpu", tile)
    monkeypatch.setattr(pieces, "SPREAD", 1)
    assert_same(kernel.block(x[:2], x[1:3]), whole, 20 * MEAN)


def test_threads_change_nothing_at_all(monkeypatch) -> None:
    """Not a bit: a piece is computed by one thread however many there are, and pieces add up in one order."""
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
