"""Arrays of inputs and targets from a pair `(inputs, targets)`, a Dataset or a DataLoader.

Row i must stay example i. A loader that shuffles or drops examples, or a data set that returns another
input each time, would number its examples differently on the next reading; both are refused.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, SequentialSampler

from leftout.core.errors import DataError, ShapeError
from leftout.data.targets import as_array, doubles, target_array


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
    else:
        raise DataError(
            f"`{name}` must be Examples, a pair (inputs, targets), a Dataset or a DataLoader; got "
            f"{type(pair).__name__}."
        )
    inputs = input_array(f"{name} inputs", inputs)
    targets = target_array(f"{name} targets", targets)
    if len(inputs) != len(targets):
        raise ShapeError(
            f"`{name}` must have as many inputs as targets; got {inputs.shape} and {targets.shape}."
        )
    return inputs, targets


def input_array(name: str, inputs: Any) -> np.ndarray:
    """Return real numbers, one row per example."""
    array = as_array(name, inputs)
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"`{name}` must hold real numbers; got dtype {array.dtype}. Encode them as "
            "numbers, complex ones as their two parts."
        )
    if 0 in array.shape:
        raise ShapeError(f"`{name}` must hold at least one example and feature; got {array.shape}.")
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
    _check_repeats(loader.dataset, name)
    # Iterating draws a seed for the workers from the global generator; it stays where it was.
    with torch.random.fork_rng(devices=[]):
        batches = [_checked_pair(batch, name, row) for row, batch in enumerate(loader)]
    if loader.batch_size is None and loader.batch_sampler is None:
        return _stack_pairs(batches, name)
    if not batches:
        raise DataError(f"`{name}` must hold at least one example; its loader is empty.")
    columns = [[as_array(name, batch) for batch in column] for column in zip(*batches, strict=True)]
    try:
        inputs, targets = (np.concatenate(column) for column in columns)
    except ValueError as error:
        raise ShapeError(f"`{name}` must yield batches of one shape: {error}.") from error
    return inputs, targets


def _dataset_arrays(dataset: Dataset[Any], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the items of a map-style data set, 0 … len − 1."""
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise _stream_error(name)
    _check_repeats(dataset, name)
    return _stack_pairs([_checked_pair(dataset[row], name, row) for row in range(len(dataset))], name)


def _stack_pairs(pairs: Sequence[tuple[Any, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    if not pairs:
        raise DataError(f"`{name}` must hold at least one example; it is empty.")
    columns = []
    for side, column in zip(("inputs", "targets"), zip(*pairs, strict=True), strict=True):
        rows = [_row_array(f"{name} {side}", row) for row in column]
        odd = next((i for i, row in enumerate(rows) if row.shape != rows[0].shape), None)
        if odd is not None:
            raise ShapeError(
                f"`{name} {side}` must have one shape; item 0 has {rows[0].shape}, item {odd} "
                f"{rows[odd].shape}."
            )
        columns.append(np.stack(rows))
    return columns[0], columns[1]


def _row_array(name: str, row: Any) -> np.ndarray:
    """Return one input or target, possibly a single number."""
    if isinstance(row, Tensor | np.ndarray | list | tuple | int | float | str | np.generic):
        return as_array(name, [row] if np.ndim(row) == 0 else row).reshape(np.shape(row))
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


def _check_repeats(dataset: Any, name: str) -> None:
    """Raise when the first example differs from one reading to the next, as under augmentation."""
    if not len(dataset):
        raise DataError(f"`{name}` must hold at least one example; it is empty.")
    # A transform may draw from the global generator; asking twice must not move the caller's.
    with torch.random.fork_rng(devices=[]):
        first, second = (
            _row_array(f"{name} inputs", _checked_pair(dataset[0], name, 0)[0]) for _ in range(2)
        )
    if first.shape != second.shape or not np.array_equal(first, second, equal_nan=first.dtype.kind == "f"):
        raise DataError(
            f"`{name}` must return the same input every time; its first example differs from one "
            "reading to the next. Remove random transforms."
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
