import numpy as np
import pytest
import torch

from leftout.core.errors import DataError, ShapeError
from leftout.kernels import Precomputed
from leftout.kernels.assemble import cross, gram


def between(n: int = 10, *, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    rows = torch.randn(n, 4, dtype=dtype, generator=torch.Generator().manual_seed(0))
    values = rows @ rows.T
    return (values + values.T) / 2


def numbers(*rows: float) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("column", [False, True])
@pytest.mark.parametrize("block", [1, 2, None])
def test_row_numbers_pick_rows_and_columns(column: bool, block: int | None) -> None:
    values = between()
    kernel = Precomputed(values)
    train, query = numbers(7, 2, 2, 0), numbers(9, 7)
    if column:
        train, query = train[:, None], query[:, None]
    rows = torch.tensor([7, 2, 2, 0])
    assert torch.equal(gram(kernel, train, block=block), values[rows][:, rows])
    expected = values[torch.tensor([9, 7])][:, rows]
    assert torch.equal(cross(kernel, query, train, block=block), expected)
    assert torch.equal(kernel.diagonal(train), values.diagonal()[rows])


def test_numpy_arrays_whole_numbers_and_read_only_arrays_are_welcome() -> None:
    values = between().numpy().copy()
    values.flags.writeable = False
    assert torch.equal(gram(Precomputed(values), numbers(1, 2)), torch.tensor(values[1:3, 1:3]))
    whole = Precomputed(np.array([[2, 1], [1, 2]]))
    assert gram(whole, numbers(0, 1)).tolist() == [[2, 1], [1, 2]]


def test_a_matrix_with_another_memory_order_is_read_rightly() -> None:
    values = np.asfortranarray(between().numpy())
    assert torch.equal(gram(Precomputed(values), numbers(3, 4)), torch.tensor(values[3:5, 3:5]))


def test_rounding_asymmetry_becomes_the_mean_and_is_recorded(frozen) -> None:
    values = between()
    values[2, 3] += 1e-9
    frozen(values)
    kernel = Precomputed(values)
    found = gram(kernel, numbers(2, 3))
    assert found[0, 1] == found[1, 0] == (values[2, 3] + values[3, 2]) / 2
    assert kernel.record["asymmetry"] == pytest.approx(1e-9, rel=1e-5)
    assert cross(kernel, numbers(2), numbers(3)) == cross(kernel, numbers(3), numbers(2))


def test_an_asymmetric_matrix_is_refused_and_the_worst_pair_is_named() -> None:
    values = between()
    values[2, 3], values[3, 2] = 1.5, 1.25
    values[5, 4], values[4, 5] = 0.5, -0.5
    message = (
        r"`gram` must be symmetric; entry \(4, 5\) is -0\.5 and entry \(5, 4\) is 0\.5\. "
        r"Average it with its transpose"
    )
    with pytest.raises(DataError, match=message):
        Precomputed(values)


def test_the_worst_pair_is_found_beyond_the_first_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leftout.kernels.symmetry.PANEL", 3)
    values = between()
    values[8, 6] += 3
    with pytest.raises(DataError, match=r"entry \(6, 8\) is .* and entry \(8, 6\) is "):
        Precomputed(values)


@pytest.mark.parametrize("shape", [(3, 4), (3,), (0, 0), (2, 2, 2)])
def test_a_matrix_that_is_not_square_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"`gram` must be square, .*; got \(" + str(shape)[1:-1]):
        Precomputed(torch.zeros(shape, dtype=torch.float64))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_are_refused(value: float) -> None:
    values = between()
    values[4, 4] = value
    with pytest.raises(DataError, match=r"`gram` must be finite; row 4 holds NaN or infinity"):
        Precomputed(values)


@pytest.mark.parametrize(("wrong", "shown"), [(2.5, "2.5"), (-1, "-1"), (10, "10")])
def test_inputs_that_are_no_row_numbers_are_refused(wrong: float, shown: str) -> None:
    kernel = Precomputed(between())
    message = rf"`inputs` must be row numbers of `gram`, whole numbers from 0 to 9; row 1 holds {shown}\."
    with pytest.raises(DataError, match=message):
        gram(kernel, numbers(3, wrong, 4))
    with pytest.raises(DataError, match=message.replace("inputs", "queries")):
        cross(kernel, numbers(3, wrong, 4), numbers(1))


def test_nan_is_no_row_number() -> None:
    with pytest.raises(DataError, match=r"`inputs` must be finite; row 0"):
        gram(Precomputed(between()), numbers(float("nan")))


def test_inputs_of_two_columns_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"of shape \(n,\) or \(n, 1\); got \(3, 2\)\."):
        gram(Precomputed(between()), torch.zeros(3, 2, dtype=torch.float64))


def test_float32_is_kept_and_read_exactly() -> None:
    values = between(dtype=torch.float32)
    kernel = Precomputed(values)
    assert kernel.gram.dtype == torch.float32
    assert torch.equal(gram(kernel, numbers(5, 6)), values[5:7, 5:7].double())


def test_the_record_tells_two_matrices_apart() -> None:
    first, second = Precomputed(between()), Precomputed(2 * between())
    assert first.record == Precomputed(between()).record
    assert first.record["name"] == "precomputed"
    assert first.record["points"] == 10
    assert first.record["fingerprint"] != second.record["fingerprint"]
    assert repr(first) == "Precomputed(10 points)"
