"""What arrays are in a pair `(inputs, targets)`, a Dataset or a DataLoader?

Row i must stay example i: a loader that shuffles, drops or a data set that returns another input
each time would number its examples differently the next time, and every answer would be about
other examples than it says.
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
        inputs, targets = _loaded(pair, name)
    elif isinstance(pair, Dataset):
        inputs, targets = _collected(pair, name)
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


def input_array(name: str, values: Any) -> np.ndarray:
    """Return real numbers, one row per example."""
    array = as_array(name, values)
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


def _loaded(loader: DataLoader[Any], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the batches of a loader, one after the other."""
    if isinstance(loader.dataset, IterableDataset):
        raise _streaming(name)
    sampler: Any = loader.sampler
    if loader.batch_sampler is not None:
        if type(loader.batch_sampler) is not BatchSampler:
            raise _shuffled(name, loader.batch_sampler)
        sampler = loader.batch_sampler.sampler
    if type(sampler) is not SequentialSampler:
        raise _shuffled(name, sampler)
    if loader.drop_last:
        raise DataError(
            f"`{name}` must be a loader of all its examples; this one has `drop_last=True`. Make "
            "it with `drop_last=False`."
        )
    _check_repeats(loader.dataset, name)
    # Iterating draws a seed for the workers from the global generator; it stays where it was.
    with torch.random.fork_rng(devices=[]):
        batches = [_two(batch, name, row) for row, batch in enumerate(loader)]
    if loader.batch_size is None and loader.batch_sampler is None:
        return _stacked(batches, name)
    if not batches:
        raise DataError(f"`{name}` must hold at least one example; its loader is empty.")
    parts = [[as_array(name, value) for value in column] for column in zip(*batches, strict=True)]
    try:
        inputs, targets = (np.concatenate(part) for part in parts)
    except ValueError as error:
        raise ShapeError(f"`{name}` must yield batches of one shape: {error}.") from error
    return inputs, targets


def _collected(dataset: Dataset[Any], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the items of a map-style data set, 0 … len − 1."""
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise _streaming(name)
    _check_repeats(dataset, name)
    items = [_two(dataset[row], name, row) for row in range(len(dataset))]
    return _stacked(items, name)


def _stacked(items: Sequence[tuple[Any, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    if not items:
        raise DataError(f"`{name}` must hold at least one example; it is empty.")
    columns = []
    for what, column in zip(("inputs", "targets"), zip(*items, strict=True), strict=True):
        rows = [_item(f"{name} {what}", value) for value in column]
        odd = next((i for i, row in enumerate(rows) if row.shape != rows[0].shape), None)
        if odd is not None:
            raise ShapeError(
                f"`{name} {what}` must have one shape; item 0 has {rows[0].shape}, item {odd} "
                f"{rows[odd].shape}."
            )
        columns.append(np.stack(rows))
    return columns[0], columns[1]


def _item(name: str, value: Any) -> np.ndarray:
    """Return one input or target, possibly a single number."""
    if isinstance(value, Tensor | np.ndarray | list | tuple | int | float | str | np.generic):
        return as_array(name, [value] if np.ndim(value) == 0 else value).reshape(np.shape(value))
    raise DataError(
        f"`{name}` must be tensors, arrays or numbers; got {type(value).__name__}. Turn pictures "
        "into tensors with a transform."
    )


def _two(item: Any, name: str, row: int) -> tuple[Any, Any]:
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise DataError(
            f"`{name}` must yield pairs (input, target); item {row} is a {type(item).__name__}"
            + (f" of {len(item)}." if isinstance(item, tuple | list | dict) else ".")
        )
    return item[0], item[1]


def _check_repeats(dataset: Any, name: str) -> None:
    """Raise when the first example is another one the second time, as under augmentation."""
    if not len(dataset):
        raise DataError(f"`{name}` must hold at least one example; it is empty.")
    # A transform may draw from the global generator; asking twice must not move the caller's.
    with torch.random.fork_rng(devices=[]):
        first, second = (_item(f"{name} inputs", _two(dataset[0], name, 0)[0]) for _ in range(2))
    if first.shape != second.shape or not np.array_equal(first, second, equal_nan=first.dtype.kind == "f"):
        raise DataError(
            f"`{name}` must return the same input every time; its first example differs from one "
            "reading to the next. Remove random transforms."
        )


def _shuffled(name: str, sampler: object) -> DataError:
    return DataError(
        f"`{name}` must be a loader in a fixed order, as shuffled loaders number their examples "
        f"anew each time; this one uses {type(sampler).__name__}. Make it with `shuffle=False` and "
        "no sampler."
    )


def _streaming(name: str) -> DataError:
    return DataError(
        f"`{name}` must be a map-style data set, with a length and items by number; this one is a "
        "stream. Collect it into a pair (inputs, targets)."
    )
