import math

import numpy as np
import pytest
import torch
from torch import Tensor

from allocated import peak_memory
from leftout.core.errors import DataError, MemoryBudgetError, OptionError, ShapeError
from leftout.kernels import Erf, From, ReLU, TwoLayerReLU
from leftout.kernels.assemble import cross, gram
from leftout.kernels.tiles import TEMPORARIES

KERNEL = ReLU(2, bias_variance=0.1)


def rows(n: int, d: int = 8, *, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(n)).to(dtype)


def test_half_the_blocks_of_a_gram_are_evaluated() -> None:
    sizes = []

    def linear(x1: Tensor, x2: Tensor) -> Tensor:
        sizes.append(len(x1) * len(x2))
        return x1 @ x2.T

    x = rows(100)
    torch.testing.assert_close(gram(From(linear), x, block=10), x @ x.T, rtol=1e-14, atol=1e-14)
    assert sum(sizes) == 100 * (100 + 10) / 2


def test_a_block_size_that_does_not_divide_n_leaves_no_gap() -> None:
    x, z = rows(23), rows(11)
    linear = From(lambda a, b: a @ b.T)
    torch.testing.assert_close(gram(linear, x, block=5), x @ x.T, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(cross(linear, z, x, block=5), z @ x.T, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("given", [torch.float32, torch.float64])
def test_the_result_is_float64_whatever_came_and_however_it_was_evaluated(given, dtype) -> None:
    x = rows(20, dtype=given)
    assert gram(KERNEL, x, dtype=dtype).dtype == torch.float64
    assert cross(KERNEL, x[:3], x, dtype=dtype, device="cpu").dtype == torch.float64


def test_float64_evaluation_of_float32_inputs_takes_them_as_exact() -> None:
    x = rows(20, dtype=torch.float32)
    assert torch.equal(gram(KERNEL, x), gram(KERNEL, x.double()))


def test_queries_and_inputs_of_different_dtypes_meet() -> None:
    x, z = rows(20), rows(6, dtype=torch.float32)
    assert torch.equal(cross(KERNEL, z, x), cross(KERNEL, z.double(), x))


@pytest.mark.parametrize("kernel", [TwoLayerReLU(), KERNEL, Erf(3, bias_variance=0.1)], ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("crowd", [False, True])
def test_no_more_memory_is_held_than_the_budget(kernel, dtype, crowd: bool) -> None:
    x = rows(500, 40) + (100 if crowd else 0)  # crowded: every pair is nearly collinear
    x /= x.norm(dim=1, keepdim=True)
    fixed = 8 * 500**2 + (x.numel() * 4 if dtype == torch.float32 else 0)
    budget = fixed + TEMPORARIES * dtype.itemsize * 100**2
    assert 8 * 500**2 < peak_memory(gram, kernel, x, memory=budget, dtype=dtype) <= budget


def test_a_result_that_does_not_fit_is_refused_before_it_is_allocated() -> None:
    x = rows(1000)
    message = r"A kernel matrix of 1000 × 1000 needs 8\.11 MB, more than the budget of 8 MB\. Use fewer"
    with pytest.raises(MemoryBudgetError, match=message):
        gram(KERNEL, x, memory="8MB")
    with pytest.raises(MemoryBudgetError, match=r"A kernel matrix of 3 × 1000 needs"):
        cross(KERNEL, x[:3], x, memory=1000)
    assert gram(KERNEL, x, memory="8.2MB").shape == (1000, 1000)


def test_a_block_that_does_not_fit_is_refused() -> None:
    with pytest.raises(MemoryBudgetError, match=r"A kernel matrix of 500 × 500 needs 30 MB"):
        gram(KERNEL, rows(500), memory="10MB", block=500)


@pytest.mark.parametrize("function", [gram, lambda k, x, **o: cross(k, x, x, **o)])
class TestOptions:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.int64])
    def test_other_dtypes_are_refused(self, function, dtype) -> None:
        message = rf"`dtype` must be one of torch\.float64, torch\.float32; got {dtype}"
        with pytest.raises(OptionError, match=message):
            function(KERNEL, rows(5), dtype=dtype)

    @pytest.mark.parametrize("block", [0, -4])
    def test_an_empty_block_is_refused(self, function, block) -> None:
        with pytest.raises(OptionError, match=rf"`block` must be a positive .*; got {block}\."):
            function(KERNEL, rows(5), block=block)

    def test_a_senseless_budget_is_refused(self, function) -> None:
        with pytest.raises(OptionError, match=r"`memory` must be positive; got 0"):
            function(KERNEL, rows(5), memory=0)


def test_queries_with_other_features_are_refused() -> None:
    message = r"`queries` must have the features of `inputs`, \(8,\); got \(7,\)\."
    with pytest.raises(ShapeError, match=message):
        cross(KERNEL, rows(5, 7), rows(5, 8))


def test_nan_queries_are_named_as_queries() -> None:
    z = rows(5)
    z[3, 1] = math.nan
    with pytest.raises(DataError, match=r"`queries` must be finite; row 3"):
        cross(KERNEL, z, rows(6))


def test_an_overflow_is_refused_and_the_row_is_named() -> None:
    x = rows(40)
    x[33] = 1e30
    message = r"`kernel` must be finite; its row \d+ holds (inf|nan)\. .*evaluate in float64"
    with pytest.raises(DataError, match=message):
        gram(KERNEL, x, dtype=torch.float32, block=8)
    assert bool(torch.isfinite(gram(KERNEL, x)).all())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kernel", [TwoLayerReLU(), KERNEL, Erf(2)], ids=repr)
def test_a_gpu_gives_the_same_kernel(kernel, dtype) -> None:
    x = rows(300, 30)
    x /= x.norm(dim=1, keepdim=True)
    x[7] = x[5]
    found = gram(kernel, x, device="cuda", dtype=dtype, block=64)
    assert found.device.type == "cuda"
    assert torch.equal(found[5], found[7])
    atol = 500 * torch.finfo(dtype).eps
    torch.testing.assert_close(found.cpu(), gram(kernel, x), rtol=0, atol=atol)
    between = cross(kernel, x[:9], x, device="cuda", dtype=dtype)
    torch.testing.assert_close(between.cpu(), cross(kernel, x[:9], x), rtol=0, atol=atol)


def test_halves_of_floats_and_devices_that_are_missing():
    kernel, inputs = ReLU(1), torch.eye(2)
    expected = gram(kernel, inputs)
    assert torch.equal(gram(kernel, inputs.bfloat16()), expected)
    with pytest.raises(OptionError, match="one that this machine has"):
        gram(kernel, inputs, device="gpu")


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([[1.0, 2.0]], "must be a tensor; got list. torch.as_tensor"),
        (np.eye(2), "must be a tensor; got ndarray. torch.as_tensor"),
        (torch.eye(2).to_sparse(), "must be a dense tensor; got torch.sparse_coo"),
    ],
    ids=["list", "array", "sparse"],
)
def test_inputs_that_are_no_dense_tensor_are_refused(inputs, words) -> None:
    for matrix in (lambda: gram(ReLU(1), inputs), lambda: cross(ReLU(1), inputs, torch.eye(2))):
        with pytest.raises(OptionError, match=words):
            matrix()
