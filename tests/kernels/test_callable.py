from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from leftout.core.errors import DataError, ShapeError
from leftout.kernels import From
from leftout.kernels.assemble import cross, gram


def linear(x1, x2):
    return x1.reshape(len(x1), -1) @ x2.reshape(len(x2), -1).T


class ReadOnly:
    """An array of another library: numpy can read it, nobody can write to it."""

    def __init__(self, value: np.ndarray) -> None:
        self.value = value

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        view = self.value.view()
        view.flags.writeable = False
        return view if not copy else view.copy()


def rows(n: int = 9, *shape: int) -> Tensor:
    shape = shape or (4,)
    return torch.randn(n, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


RETURNS = {
    "tensor": lambda a, b: linear(a, b),
    "tensor that wants a gradient": lambda a, b: linear(a, b).requires_grad_(),
    "array": lambda a, b: linear(a, b).numpy(),
    "float32 array": lambda a, b: linear(a, b).numpy().astype("f4"),
    "list": lambda a, b: linear(a, b).tolist(),
    "read-only array of another library": lambda a, b: ReadOnly(linear(a, b).numpy()),
}


@pytest.mark.parametrize("function", RETURNS.values(), ids=RETURNS)
@pytest.mark.parametrize("block", [2, None])
def test_whatever_is_an_array_is_taken(function, block: int | None) -> None:
    x, queries = rows(), rows(3)
    kernel = From(function)
    rtol = 1e-6 if "f4" in str(function.__code__.co_consts) else 1e-14
    torch.testing.assert_close(gram(kernel, x, block=block), x @ x.T, rtol=rtol, atol=rtol)
    found = cross(kernel, queries, x, block=block)
    torch.testing.assert_close(found, queries @ x.T, rtol=rtol, atol=rtol)
    torch.testing.assert_close(kernel.diagonal(x), x.square().sum(1), rtol=rtol, atol=rtol)


def test_a_numpy_function_gets_numpy_arrays_that_it_cannot_write_to(frozen) -> None:
    came = []

    def kernel(x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
        came.append((type(x1), x1.flags.writeable, x1.dtype))
        return np.tensordot(x1, x2, axes=([1, 2], [1, 2]))

    x = rows(5, 3, 2)
    frozen(x)
    found = gram(From(kernel, numpy=True), x)
    torch.testing.assert_close(found, x.flatten(1) @ x.flatten(1).T, rtol=1e-14, atol=1e-14)
    assert set(came) == {(np.ndarray, False, np.dtype("f8"))}


def test_a_function_that_writes_to_its_tensors_writes_to_copies(frozen) -> None:
    def rude(x1: Tensor, x2: Tensor) -> Tensor:
        value = linear(x1, x2)
        x1.zero_()
        return value

    x = rows()
    frozen(x)
    torch.testing.assert_close(gram(From(rude), x), x @ x.T, rtol=1e-14, atol=1e-14)
    assert bool((x != 0).all())


def test_the_function_sees_the_dtype_and_the_shape_that_were_asked_for() -> None:
    came = set()

    def kernel(x1: Tensor, x2: Tensor) -> Tensor:
        came.add((x1.dtype, x1.shape[1:]))
        return linear(x1, x2)

    gram(From(kernel), rows(5, 1, 3, 2), dtype=torch.float32)
    assert came == {(torch.float32, (1, 3, 2))}


def test_a_wrong_shape_is_refused() -> None:
    message = r"`linear` must return an array of shape \(3, 9\), one row per row .*; got \(9, 3\)\."
    with pytest.raises(ShapeError, match=message):
        cross(From(lambda a, b: linear(b, a), "linear"), rows(3), rows())


@pytest.mark.parametrize(
    ("value", "came"),
    [
        (None, "ndarray of object"),
        (SimpleNamespace(ntk=1, nngp=2), "ndarray of object"),
        ("text", "ndarray of <U4"),
        ([[1.0], [1.0, 2.0]], r"\[\[1\.0\], \[1\.0, 2\.0\]\]"),
        (torch.ones(2, 2, dtype=torch.complex128), r"Tensor of torch\.complex128"),
        (torch.ones(2, 2, dtype=torch.bool), r"Tensor of torch\.bool"),
        (np.ones((2, 2), dtype=complex), "ndarray of complex128"),
    ],
)
def test_what_is_no_array_of_real_numbers_is_refused(value, came: str) -> None:
    message = rf"`k` must return an array of real numbers; got {came}\. .*get=\"ntk\""
    with pytest.raises(DataError, match=message):
        gram(From(lambda a, b: value, "k"), rows(2))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_are_refused_and_the_row_is_that_of_the_whole_matrix(value: float) -> None:
    x = rows()

    def broken(x1: Tensor, x2: Tensor) -> Tensor:
        found = linear(x1, x2)
        found[(x1 == x[7]).all(1)] = value
        return found

    with pytest.raises(DataError, match=rf"`kernel` must be finite; its row 7 holds {value}\."):
        cross(From(broken), x, x, block=2)
    with pytest.raises(DataError, match=r"`broken` must be finite; row 7 holds NaN or infinity"):
        From(broken).diagonal(x)


def test_a_function_that_is_not_symmetric_is_refused() -> None:
    def skew(x1: Tensor, x2: Tensor) -> Tensor:
        return x1[:, :1] - x2[:, :1].T

    x = torch.arange(6, dtype=torch.float64)[:, None]
    message = r"`kernel` must be symmetric; entry \(0, 5\) is -5 and entry \(5, 0\) is 5\."
    with pytest.raises(DataError, match=message):
        gram(From(skew), x)
    with pytest.raises(DataError, match=r"entry \(0, 1\) is -1 and entry \(1, 0\) is 1\."):
        gram(From(skew), x, block=2)


def test_an_asymmetry_in_a_later_block_is_named_by_its_rows_in_the_whole_matrix() -> None:
    def late(x1: Tensor, x2: Tensor) -> Tensor:
        return x1 @ x2.T + ((x1 == 4) & (x2.T == 5)).double()

    x = torch.arange(6, dtype=torch.float64)[:, None]
    with pytest.raises(DataError, match=r"entry \(4, 5\) is 21 and entry \(5, 4\) is 20\."):
        gram(From(late), x, block=2)


def test_nan_inputs_are_refused_before_the_function_sees_them() -> None:
    x = rows()
    x[2] = float("nan")
    with pytest.raises(DataError, match=r"`inputs` must be finite; row 2"):
        gram(From(lambda a, b: pytest.fail("called")), x)


def test_the_record_and_the_repr_name_the_function() -> None:
    assert From(linear).record == {"name": "from", "function": "linear", "numpy": False}
    assert From(lambda a, b: a, "mine", numpy=True).record["function"] == "mine"
    assert repr(From(linear)) == "From(linear)"
    assert repr(From(linear, numpy=True)) == "From(linear, numpy=True)"
