"""Whole numbers are exact or refused, through every door."""

import numpy as np
import pandas as pd
import pyarrow
import pytest
import torch
from pyarrow import parquet
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import leftout as lo
from leftout.core.checks import check_whole_kept
from leftout.core.errors import DataError
from leftout.data.load import load
from leftout.data.pairs import examples_of, inputs_of

N = 20
EDGE = 2**53
LARGE = (EDGE + 1, -EDGE - 1, 2**62 + 1)
Y = np.arange(N) % 2


def columns_with(number: int) -> dict[str, list[int]]:
    """Return a table of whole numbers, the third of them the given one, and a target."""
    return {"code": [1, 2, number, *range(4, N + 1)], "count": list(range(N)), "y": Y.tolist()}


def write_csv(path, columns) -> str:
    pd.DataFrame({name: pd.Series(cells, dtype=object) for name, cells in columns.items()}).to_csv(
        path, index=False
    )
    return str(path)


def write_parquet(path, columns) -> str:
    parquet.write_table(pyarrow.table(columns), path)
    return str(path)


def write_npz(path, columns) -> str:
    np.savez(path, x=np.array([columns["code"], columns["count"]]).T, y=Y)
    return str(path)


def pair_of(columns):
    return np.array([columns["code"], columns["count"]]).T, Y


DOORS = {
    "csv": lambda folder, columns: load(write_csv(folder / "d.csv", columns), normalise=None)[0],
    "parquet": lambda folder, columns: load(write_parquet(folder / "d.parquet", columns), normalise=None)[0],
    "npz": lambda folder, columns: load(write_npz(folder / "d.npz", columns), normalise=None)[0],
    "frame": lambda folder, columns: load(pd.DataFrame(columns), normalise=None)[0],
    "pair of arrays": lambda folder, columns: examples_of(pair_of(columns)),
    "pair of lists": lambda folder, columns: examples_of((pair_of(columns)[0].tolist(), Y.tolist())),
    "list of mixed rows": lambda folder, columns: examples_of(
        ([[code, 0.5] for code in columns["code"]], Y.tolist())
    ),
    "frame of two types": lambda folder, columns: examples_of(
        (pd.DataFrame({"code": columns["code"], "half": 0.5}), Y)
    ),
    "dataset": lambda folder, columns: examples_of(TensorDataset(*map(torch.as_tensor, pair_of(columns)))),
    "loader": lambda folder, columns: examples_of(
        DataLoader(TensorDataset(*map(torch.as_tensor, pair_of(columns))), batch_size=7)
    ),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("number", LARGE)
def test_a_whole_number_beyond_two_to_the_53_is_refused_with_its_row(tmp_path, door, number) -> None:
    row = {"csv": "row 4", "parquet": "row 3"}.get(door, "row 2")
    with pytest.raises(DataError, match=f"{row} holds {number}"):
        DOORS[door](tmp_path, columns_with(number))


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("number", [EDGE, -EDGE, EDGE - 1])
def test_whole_numbers_up_to_two_to_the_53_are_kept_exactly(tmp_path, door, number) -> None:
    examples = DOORS[door](tmp_path, columns_with(number))
    codes = {int(code) for code in examples.inputs[:, 0].tolist()}
    assert codes <= {number, *range(1, N + 1)}
    assert number in codes or len(examples) < N


def test_unsigned_numbers_and_objects_are_refused_as_inputs_too() -> None:
    for inputs in ([[2**63, 1]] * 2, [[2**70, 1]] * 2, np.array([[EDGE + 1, 1]], dtype=object)):
        with pytest.raises(DataError, match="row 0 holds"):
            inputs_of(inputs)
    with pytest.raises(DataError, match="row 1 holds"):
        inputs_of(np.array([[1], [EDGE + 1]], dtype=np.uint64))


def test_a_csv_cell_that_a_column_of_floats_would_round_is_refused(tmp_path) -> None:
    rows = "".join(f"{row}.5,{row % 2}\n" for row in range(1, 9))
    (tmp_path / "d.csv").write_text(f"a,y\n{rows}{EDGE + 1},0\n")
    with pytest.raises(DataError, match="column 'a' holds one in row 10"):
        load(tmp_path / "d.csv")


NAMES = {
    "neighbours of 2^53": (EDGE, EDGE + 1),
    "64 bits, unsigned": (2**64 - 1, 2**64 - 2),
    "signed and unsigned": (-1, 2**64 - 1),
    "19 digits and more": (10**19, 10**19 + 1),
    "25 digits": (10**25, 10**25 + 1),
}


@pytest.mark.parametrize("pair", NAMES.values(), ids=NAMES)
def test_class_numbers_of_any_size_stay_apart(tmp_path, pair) -> None:
    numbers = [pair[row % 2] for row in range(N)]
    expected = tuple(map(str, sorted(pair)))
    x = np.arange(2.0 * N).reshape(N, 2) + 1
    path = write_csv(tmp_path / "d.csv", {"a": list(range(1, N + 1)), "y": numbers})
    assert load(path)[0].classes == expected
    assert examples_of((x, numbers)).classes == expected
    assert load((x, numbers))[0].classes == expected
    assert load(pd.DataFrame({"a": x[:, 0], "y": pd.Series(numbers, dtype=object)}))[0].classes == expected
    train = examples_of((x, numbers))
    query = examples_of((x, numbers[::-1]), encoding=train.encoding, name="query")
    assert query.labels.tolist() == train.labels.tolist()[::-1]


def test_class_numbers_of_two_integer_types_are_joined_exactly() -> None:
    x = np.arange(2.0 * N).reshape(N, 2) + 1
    signed, unsigned = (EDGE + Y).astype(np.int64), (EDGE + Y).astype(np.uint64)
    train, query = load(((x, signed), (x, unsigned)))
    assert train.classes == (str(EDGE), str(EDGE + 1))
    assert query.labels.tolist() == train.labels.tolist() == Y.tolist()


class Hashed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(64, 1)

    def forward(self, x):
        return self.table(x.long() % 64)[:, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ids_reach_a_module_as_they_are_or_are_refused(dtype) -> None:
    module = Hashed().to(dtype)
    ids = torch.arange(2**24 + 1, 2**24 + 9)[:, None]
    kernel = lo.kernels.Empirical(module, weights="initial")
    if dtype is torch.float32:
        with pytest.raises(DataError, match=r"row 0 has 16777217, which becomes 16777216 .*module\.double"):
            lo.fit(kernel, (ids, torch.ones(8, 1)), rule=lo.Ridge(0.1))
        with pytest.raises(DataError, match="row 0 has 16777217, which becomes 16777216"):
            lo.train(module, (ids, torch.ones(8, 1)), rule=lo.GradientDescent(0.1), steps=2)
        return
    fitted = lo.fit(kernel, (ids, torch.ones(8, 1)), rule=lo.Ridge(0.1))
    assert torch.equal(fitted.kernel.initial(fitted.train.inputs), module(ids).detach())
    assert torch.linalg.matrix_rank(fitted.gram) == 8


def test_every_row_is_looked_at_and_measurements_are_rounded_as_ever() -> None:
    ids = torch.ones(1000, 2, dtype=torch.float64)
    check_whole_kept("x", ids * 2**30, torch.float32)
    check_whole_kept("x", ids * (2**30 + 0.25), torch.float32)
    check_whole_kept("x", ids * 1e80, torch.float32)
    ids[997, 1] = 2**24 + 1
    check_whole_kept("x", ids, torch.float64)
    with pytest.raises(DataError, match=r"row 997 has 16777217, .*\(1 of 1000"):
        check_whole_kept("x", ids, torch.float32)
