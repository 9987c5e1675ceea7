"""Work grows linearly with the columns, rows and classes of a file: counted, not timed."""

import csv
import sys

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from leftout.core.errors import MemoryBudgetError
from leftout.data.columns import first_repeat
from leftout.data.load import load
from leftout.data.pairs import examples_of
from leftout.data.split import allotment, stratified_rows

DOUBLED = 2.3
"""Most by which work may grow when a size doubles: quadratic work would grow by 4."""


class CountedText(str):
    """A text that counts how often it is compared or hashed."""

    __slots__ = ()
    operations = 0

    def __eq__(self, other: object) -> bool:
        CountedText.operations += 1
        return str.__eq__(self, other)

    def __hash__(self) -> int:
        CountedText.operations += 1
        return str.__hash__(self)

    def strip(self, *characters) -> "CountedText":
        return CountedText(str.strip(self, *characters))


class CountedArray(np.ndarray):
    """An array that counts the numbers on which element-wise operations work."""

    operations = 0

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        plain = [entry.view(np.ndarray) if isinstance(entry, CountedArray) else entry for entry in inputs]
        if out is not None:
            options["out"] = tuple(
                entry.view(np.ndarray) if isinstance(entry, CountedArray) else entry for entry in out
            )
        CountedArray.operations += max(np.size(entry) for entry in plain)
        result = getattr(ufunc, method)(*plain, **options)
        return result.view(CountedArray) if isinstance(result, np.ndarray) else result


def calls_of(function) -> int:
    """Return how many functions, of Python and of C, a call enters."""
    count = 0

    def watch(frame, event, argument) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(watch)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def operations_of(kind, function) -> int:
    before = kind.operations
    function()
    return kind.operations - before


def wide(path, columns: int) -> str:
    names = ",".join(f"c{column}" for column in range(columns))
    rows = "".join("1.5," * (columns - 1) + f"{row}.5,{'ab'[row % 2]}\n" for row in range(1, 9))
    path.write_text(f"{names},t\n{rows}")
    return str(path)


def long(path, rows: int) -> str:
    path.write_text("f,t\n" + "".join(f"{row}.5,{'ab'[row % 2]}\n" for row in range(1, rows + 1)))
    return str(path)


def varied(path, classes: int) -> str:
    path.write_text("f,t\n" + "".join(f"{row}.5,c{row // 4}\n" for row in range(4 * classes)))
    return str(path)


@pytest.mark.parametrize(("write", "size"), [(wide, 300), (long, 1_000), (varied, 250)])
def test_twice_the_columns_rows_or_classes_take_twice_the_calls_and_comparisons(
    tmp_path, monkeypatch, write, size
) -> None:
    paths = [write(tmp_path / f"{factor}.csv", factor * size) for factor in (1, 2, 4)]
    load(paths[0])
    first, second = (calls_of(lambda path=path: load(path, n_query=4)) for path in paths[1:])
    assert second <= DOUBLED * first
    plain = csv.reader
    monkeypatch.setattr(
        csv,
        "reader",
        lambda *lines, **options: ([CountedText(c) for c in row] for row in plain(*lines, **options)),
    )
    first, second = (operations_of(CountedText, lambda path=path: load(path)) for path in paths[1:])
    assert 0 < second <= DOUBLED * first


def test_names_are_compared_a_constant_number_of_times_each() -> None:
    names = [CountedText(f"column {number}") for number in range(2_000)]
    assert operations_of(CountedText, lambda: first_repeat(names)) <= 4 * len(names)
    assert first_repeat([*names, names[7]]) == "column 7"


def test_a_parquet_of_many_columns_enters_as_many_functions_for_each(tmp_path) -> None:
    counts = []
    for columns in (200, 400, 800):
        table = {f"c{column}": np.arange(1.0, 9) for column in range(columns)} | {"t": ["a", "b"] * 4}
        parquet.write_table(pyarrow.table(table), tmp_path / f"{columns}.parquet")
        counts.append(calls_of(lambda columns=columns: load(tmp_path / f"{columns}.parquet")))
    assert counts[2] <= DOUBLED * counts[1]


def test_rows_are_split_by_class_in_work_linear_in_rows_and_classes() -> None:
    counts = []
    for classes in (200, 400, 800):
        labels = (np.arange(4 * classes) % classes).view(CountedArray)
        rows, random = np.arange(4 * classes), np.random.default_rng(0)
        counts.append(
            operations_of(CountedArray, lambda: stratified_rows(labels, rows, 2 * classes, random))  # noqa: B023
        )
    assert 0 < counts[2] <= DOUBLED * counts[1]


def test_classes_trade_examples_in_work_linear_in_their_number() -> None:
    counts = []
    for classes in (200, 400, 800):
        sizes = np.array([1, 1, 2, 9] * (classes // 4)).view(CountedArray)
        counts.append(operations_of(CountedArray, lambda: allotment(sizes, 2 * classes)))  # noqa: B023
    assert 0 < counts[2] <= DOUBLED * counts[1]


def traded_step_by_step(sizes: np.ndarray, count: int, spare: int) -> np.ndarray:
    """Return the allotment by its definition, one trade at a time over all classes."""
    share = count * sizes / sizes.sum()
    counts = np.floor(share).astype(int)
    counts[np.argsort(counts - share, kind="stable")[: count - counts.sum()]] += 1
    least = np.zeros_like(sizes) if spare else np.minimum(sizes, 2)
    most = np.maximum(sizes - spare, 0)
    if least.sum() <= count <= most.sum():
        while (counts < least).any():
            counts[np.argmax(counts - least)] -= 1
            counts[np.argmax(least - counts)] += 1
        while (counts > most).any():
            counts[np.argmax(counts - most)] -= 1
            counts[np.argmax(most - counts)] += 1
    return counts


def test_the_trade_is_that_of_its_definition() -> None:
    random = np.random.default_rng(0)
    for _ in range(1_000):
        sizes = random.integers(1, random.choice([4, 8, 60]), random.integers(1, 12))
        count, spare = int(random.integers(0, sizes.sum() + 1)), int(random.integers(0, 3))
        assert np.array_equal(allotment(sizes, count, spare=spare), traded_step_by_step(sizes, count, spare))


@pytest.mark.parametrize("centre", ["uniform", "mean", "none"])
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_targets_made_in_place_are_those_of_the_definition(classes, centre) -> None:
    labels = np.random.default_rng(1).permutation(np.arange(40) % classes)
    x = np.arange(80.0).reshape(40, 2) + 1
    train, _ = load(((x, labels), (x, labels)), centre=centre)
    one_hot = np.eye(classes)[labels]
    columns = 2.0 * labels[:, None] - 1 if classes == 2 else one_hot
    offset = {"mean": columns.mean(0), "uniform": 0.0 if classes == 2 else 1 / classes, "none": 0.0}[centre]
    assert np.array_equal(train.targets.numpy(), columns - offset)


def test_one_hot_targets_beyond_memory_are_refused_before_they_are_made(monkeypatch) -> None:
    monkeypatch.setattr("leftout.data.encoding.memory_budget", lambda _: 8 * 40 * 10 - 1)
    labels = np.arange(40) % 10
    with pytest.raises(
        MemoryBudgetError, match=r"targets of 40 examples in 10 columns, .* 10 classes, needs 3.2 kB"
    ):
        examples_of((np.ones((40, 2)), labels))
    assert len(examples_of((np.ones((40, 2)), labels % 9)).classes) == 9


def test_queries_of_many_classes_are_coded_without_a_search_for_each() -> None:
    names = [f"class {number}" for number in range(1_600)]
    train = examples_of((np.ones((1_600, 1)), names))
    counts = []
    for n in (400, 800, 1_600):
        query = (np.ones((n, 1)), np.array([CountedText(name) for name in names[:n]], dtype=object))
        counts.append(
            operations_of(
                CountedText, lambda query=query: examples_of(query, encoding=train.encoding, name="query")
            )
        )
    assert 0 < counts[2] <= DOUBLED * counts[1]
