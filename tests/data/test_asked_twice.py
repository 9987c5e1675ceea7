"""Data that answer differently when they are asked twice are refused: inputs and targets, on every row."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import leftout as lo
from leftout.core.errors import DataError
from leftout.data.arrays import READINGS
from leftout.data.load import load
from leftout.data.pairs import examples_of

X = torch.randn(12, 16, generator=torch.Generator().manual_seed(0))
Y = torch.arange(12) % 3


class Items(Dataset):
    """n items, each made by a function of its row."""

    def __init__(self, item, n: int = 12) -> None:
        self.item, self.n = item, n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, row: int):
        return self.item(row)


def flipped(row: int):
    x = X[row]
    return (x.flip(-1) if torch.rand(()) < 0.5 else x), int(Y[row])


def test_a_flip_of_one_half_is_refused_for_every_seed() -> None:
    # Twelve rows pass one comparison with probability 2^-12, and 512 comparisons with 2^-512.
    for seed in range(200):
        torch.manual_seed(seed)
        with pytest.raises(DataError, match="the same input every time"):
            examples_of(Items(flipped))


class Counter:
    """A value that changes with every call."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        return self.calls


CHANGING = {
    "input, torch": (lambda row: (X[row] + torch.rand(()), 0), "input"),
    "input, numpy": (lambda row: (X[row] + np.random.rand(), 0), "input"),
    "input, random": (lambda row: (X[row] + random.random(), 0), "input"),
    "input, last row only": (lambda row: (X[row] + (torch.rand(()) if row == 11 else 0), 0), "input"),
    "input, one call in twenty": (lambda row: (X[row] + (torch.rand(()) < 0.05).float(), 0), "input"),
    "input, counting calls": ((lambda count: lambda row: (X[row] + count(), 0))(Counter()), "input"),
    "class": (lambda row: (X[row], int(torch.randint(3, ()))), "target"),
    "class, last row only": (lambda row: (X[row], int(torch.randint(3, ())) if row == 11 else 0), "target"),
    "number": (lambda row: (X[row], torch.rand(1)), "target"),
    "text": (lambda row: (X[row], random.choice("ab")), "target"),
}


DOORS = {
    "dataset": examples_of,
    "loader": lambda data: examples_of(DataLoader(data, batch_size=5)),
    "loader of single items": lambda data: examples_of(DataLoader(data, batch_size=None)),
    "load": load,
    "query": lambda data: lo.leave_one_out(lo.fit(lo.kernels.ReLU(1), (X, X[:, :1])), data),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("changing", CHANGING)
def test_what_changes_is_refused_and_named(changing, door) -> None:
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    item, side = CHANGING[changing]
    data = Items(item)
    with pytest.raises(DataError, match=f"must return the same {side} every time; example [0-9]+ differs"):
        DOORS[door](data)


def test_a_collation_that_draws_is_refused() -> None:
    def collate(batch):
        x, y = (
            torch.stack([torch.as_tensor(entry) for entry in column]) for column in zip(*batch, strict=True)
        )
        return x + 0.1 * torch.rand(()), y

    data = Items(lambda row: (X[row], int(Y[row])))
    with pytest.raises(DataError, match="the same input every time"):
        examples_of(DataLoader(data, batch_size=5, collate_fn=collate))
    assert torch.equal(examples_of(DataLoader(data, batch_size=5)).inputs, X.double())


def test_a_loader_that_loses_examples_is_refused() -> None:
    def ending(row: int):
        if row == 7:
            raise StopIteration
        return X[row], int(Y[row])

    with pytest.raises(DataError, match="all its examples; its data set says 12, its loader returned 7"):
        examples_of(DataLoader(Items(ending), batch_size=1))
    dropping = DataLoader(Items(flipped), batch_size=4, collate_fn=lambda batch: (X[:3], Y[:3]))
    with pytest.raises(DataError, match="all its examples; its data set says 12, its loader returned 9"):
        examples_of(dropping)


@pytest.mark.parametrize(("n", "expected"), [(12, 43), (READINGS, 1), (3 * READINGS, 1)])
def test_every_row_is_read_twice_and_few_rows_more_often(n, expected) -> None:
    calls = np.zeros(n, dtype=int)

    def item(row: int):
        calls[row] += 1
        return X[row % 12] * (row + 1), int(Y[row % 12])

    examples_of(Items(item, n))
    assert calls.tolist() == [1 + expected] * n


def test_rows_that_are_nan_twice_are_the_same_and_then_refused_as_nan() -> None:
    with pytest.raises(DataError, match="must be finite; row 0"):
        examples_of(Items(lambda row: (X[row] * torch.nan, int(Y[row]))))


class UnusualError(Exception):
    """An error of a program of one's own."""


@pytest.mark.parametrize("error", [KeyError, AssertionError, AttributeError, OSError, UnusualError])
def test_what_a_data_set_raises_is_shown_in_one_sentence(error) -> None:
    def item(row: int):
        if row == 7:
            raise error("no such file")
        return X[row], int(Y[row])

    for data, when in (
        (Items(item), "item 7 was asked for"),
        (DataLoader(Items(item)), "its loader was read"),
    ):
        with pytest.raises(DataError, match=f"`train` must return its examples; it raised .*{when}"):
            examples_of(data)
