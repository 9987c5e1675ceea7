"""Arrays of inputs and targets from a pair `(inputs, targets)`, a Dataset or a DataLoader.

Row i must stay example i. A loader that shuffles or drops examples would number its examples differently on
the next reading, and a data set that draws its inputs or targets anew would be another one; both are
refused. Every item is read twice, and all again until READINGS comparisons are made: items that differ from
their first reading with probability p each time pass with probability at most (1 − p)^READINGS.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, SequentialSampler

from leftout.core.errors import DataError, LeftoutError, ShapeError
from leftout.data.conversion import as_array, check_whole_numbers, doubles, kind_of
from leftout.data.targets import target_array

READINGS = 512
"""Least number of items that are read again and compared with their first reading."""


def pair_arrays(pair: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs (n, …) and targets (n,) or (n, k), types as given.

    Raises:
        DataError: no pair and no data set; a loader that shuffles or drops; random inputs; types
            that are no real numbers.
        ShapeError: inputs and targets of different length, or examples of different shape.
    """
    if isinstance(pair, DataLoader):
        inputs, targets = _loader_arrays(pair, name)
    elif isinstance(pair, Dataset):
        inputs, targets = _dataset_arrays(pair, name)
    elif isinstance(pair, tuple | list) and len(pair) == 2:
        inputs, targets = pair
        check_rows_match(name, inputs, targets)
    else:
        is_array = getattr(pair, "ndim", 0) >= 1 and not hasattr(pair, "iloc")
        raise DataError(
            f"`{name}` must be Examples, a pair (inputs, targets), a Dataset or a DataLoader; got "
            f"{type(pair).__name__}. "
            + (
                "Pass inputs and targets as one pair: (X, y)."
                if is_array
                else "`leftout.load` makes Examples of tables, files and dictionaries."
            )
        )
    inputs = input_array(f"{name} inputs", inputs)
    targets = target_array(f"{name} targets", targets)
    if len(inputs) != len(targets):
        raise ShapeError(
            f"`{name}` must have as many inputs as targets; got {inputs.shape} and {targets.shape}."
        )
    return inputs, targets


def check_rows_match(name: str, inputs: Any, targets: Any) -> None:
    """Raise where two objects of pandas name the same rows in another order: which is meant is not said."""
    if not (hasattr(inputs, "iloc") and hasattr(targets, "iloc")) or inputs.index.equals(targets.index):
        return
    if len(inputs) == len(targets) and set(inputs.index) == set(targets.index):
        raise DataError(
            f"`{name}` must have inputs and targets in one order; their indices name the same rows in two. "
            "Pass targets.loc[inputs.index] to go by names, or reset_index(drop=True) of both to go by place."
        )


def input_array(name: str, inputs: Any) -> np.ndarray:
    """Return real numbers, one row per example, that are exact in double precision if they are whole."""
    array = as_array(name, inputs)
    if array.dtype.kind not in "biuf" and kind_of(array) != "integers":
        texts = " of texts" if kind_of(array) == "texts" else ""
        raise DataError(
            f"`{name}` must hold real numbers; got dtype {array.dtype}{texts}. Encode them as "
            "numbers, complex ones as their two parts."
        )
    if 0 in array.shape:
        raise ShapeError(f"`{name}` must hold at least one example and feature; got {array.shape}.")
    check_whole_numbers(name, array)
    return array


def float64_tensor(array: np.ndarray) -> Tensor:
    """Return a copy of an array in double precision."""
    return torch.from_numpy(doubles(array))


def _loader_arrays(loader: DataLoader[Any], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the batches of a loader, one after the other."""
    if isinstance(loader.dataset, IterableDataset):
        raise _stream_error(name)
    sampler: Any = loader.sampler
    if loader.batch_sampler is not None:
        if type(loader.batch_sampler) is not BatchSampler:
            raise _shuffle_error(name, loader.batch_sampler)
        sampler = loader.batch_sampler.sampler
    if type(sampler) is not SequentialSampler:
        raise _shuffle_error(name, sampler)
    if loader.drop_last:
        raise DataError(
            f"`{name}` must be a loader of all its examples; this one has `drop_last=True`. Make "
            "it with `drop_last=False`."
        )
    count = _length(loader.dataset, name)
    if not count:
        raise DataError(f"`{name}` must hold at least one example; its loader is empty.")
    automatic = loader.batch_size is not None or loader.batch_sampler is not None

    def reading() -> tuple[np.ndarray, np.ndarray]:
        batches = [_checked_pair(batch, name, row) for row, batch in enumerate(_batches(loader, name))]
        arrays = _joined_batches(batches, name) if automatic else _stack_pairs(batches, name)
        if batches and len(arrays[0]) != count:  # a StopIteration of the data set ends its loader silently
            raise DataError(
                f"`{name}` must return all its examples; its data set says {count}, its loader returned "
                f"{len(arrays[0])}. Do not drop any on the way."
            )
        return arrays

    # Workers start anew for each reading.
    return _repeated(reading, name, most=8 if loader.num_workers else READINGS)


def _batches(loader: DataLoader[Any], name: str) -> list[Any]:
    try:
        return list(loader)
    except LeftoutError:
        raise
    except Exception as error:
        raise _failure(name, "its loader was read", error) from error


def _joined_batches(batches: Sequence[tuple[Any, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    columns = [[as_array(name, batch) for batch in column] for column in zip(*batches, strict=True)]
    try:
        inputs, targets = (np.concatenate(_of_one_type(name, column)) for column in columns)
    except ValueError as error:
        raise ShapeError(f"`{name}` must yield batches of one shape: {error}.") from error
    return inputs, targets


def _dataset_arrays(dataset: Dataset[Any], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the items of a map-style data set, 0 … len − 1."""
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise _stream_error(name)
    count = _length(dataset, name)
    return _repeated(lambda: _stack_pairs([_item(dataset, name, row) for row in range(count)], name), name)


def _length(dataset: Any, name: str) -> int:
    try:
        return len(dataset)
    except Exception as error:
        raise _failure(name, "its length was asked for", error) from error


def _item(dataset: Any, name: str, row: int) -> tuple[Any, Any]:
    """Return item `row`; whatever the data set raises becomes an error of ours that shows it."""
    try:
        pair = dataset[row]
    except LeftoutError:
        raise
    except Exception as error:
        raise _failure(name, f"item {row} was asked for", error) from error
    return _checked_pair(pair, name, row)


def _failure(name: str, when: str, error: Exception) -> DataError:
    return DataError(
        f"`{name}` must return its examples; it raised {type(error).__name__}: {error} when {when}."
    )


def _stack_pairs(pairs: Sequence[tuple[Any, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    if not pairs:
        raise DataError(f"`{name}` must hold at least one example; it is empty.")
    columns = []
    for side, column in zip(("inputs", "targets"), zip(*pairs, strict=True), strict=True):
        rows = [_row_array(f"{name} {side}[{i}]", row) for i, row in enumerate(column)]
        odd = next((i for i, row in enumerate(rows) if row.shape != rows[0].shape), None)
        if odd is not None:
            raise ShapeError(
                f"`{name} {side}` must have one shape; item 0 has {rows[0].shape}, item {odd} "
                f"{rows[odd].shape}."
            )
        columns.append(np.stack(_of_one_type(f"{name} {side}", rows)))
    return columns[0], columns[1]


def _of_one_type(name: str, rows: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    """Return rows that numpy joins without rounding an integer."""
    types = {row.dtype for row in rows}
    if len(types) > 1 and all(dtype.kind in "iuO" for dtype in types):
        return [row.astype(object) for row in rows]
    if len(types) > 1:
        for place, row in enumerate(rows):
            check_whole_numbers(f"{name}[{place}]", row[None])
    return rows


def _row_array(name: str, row: Any) -> np.ndarray:
    """Return one input or target, possibly a single number."""
    if isinstance(row, int | float | str | np.generic):
        return as_array(name, [row]).reshape(())
    if isinstance(row, Tensor | np.ndarray) and row.ndim == 0:
        return as_array(name, row[None]).reshape(())
    if isinstance(row, Tensor | np.ndarray | list | tuple) or hasattr(row, "isna"):
        return as_array(name, row)
    raise DataError(
        f"`{name}` must be tensors, arrays or numbers; got {type(row).__name__}. Turn pictures "
        "into tensors with a transform."
    )


def _checked_pair(pair: Any, name: str, row: int) -> tuple[Any, Any]:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise DataError(
            f"`{name}` must yield pairs (input, target); item {row} is a {type(pair).__name__}"
            + (f" of {len(pair)}." if isinstance(pair, tuple | list | dict) else ".")
        )
    return pair[0], pair[1]


def _repeated(
    reading: Callable[[], tuple[np.ndarray, np.ndarray]], name: str, most: int = READINGS
) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs and targets, read at least twice; raise where an example differs between readings.

    Args:
        most: readings beside the first, where READINGS asks for more.
    """
    # Iterating a loader, and random transforms, draw from the global generator: it stays where it was.
    with torch.random.fork_rng(devices=[]):
        first = reading()
        for _ in range(min(most, math.ceil(READINGS / len(first[0])))):
            for side, before, after in zip(("input", "target"), first, reading(), strict=True):
                _check_same(name, side, before, after)
    return first


def _check_same(name: str, side: str, before: np.ndarray, after: np.ndarray) -> None:
    """Raise at the first example that differs from one reading to the next."""
    row = None
    if before.shape != after.shape:
        row = min(len(before), len(after)) if len(before) != len(after) else 0
    else:
        differ = before != after
        if before.dtype.kind == after.dtype.kind == "f":
            differ &= ~(np.isnan(before) & np.isnan(after))
        rows = np.flatnonzero(differ.reshape(len(differ), -1).any(1))
        row = int(rows[0]) if len(rows) else None
    if row is not None:
        raise DataError(
            f"`{name}` must return the same {side} every time; example {row} differs from one reading to the "
            "next. Remove random transforms, or draw once and pass a pair (inputs, targets)."
        )


def _shuffle_error(name: str, sampler: object) -> DataError:
    return DataError(
        f"`{name}` must be a loader in a fixed order, as shuffled loaders number their examples "
        f"anew each time; this one uses {type(sampler).__name__}. Make it with `shuffle=False` and "
        "no sampler."
    )


def _stream_error(name: str) -> DataError:
    return DataError(
        f"`{name}` must be a map-style data set, with a length and items by number; this one is a "
        "stream. Collect it into a pair (inputs, targets)."
    )
