"""Data that a program holds: pairs of arrays, data sets, dictionaries of arrays, Examples.

(inputs, targets), a Dataset, a DataLoader      one set, which the seed splits
(train, query), each one of these               two sets
{"x": …, "y": …}, {"x_train": …, …}             the same, named as in a .npz
(Examples, Examples)                            as they are
"""

from collections.abc import Mapping
from typing import Any

from torch.utils.data import DataLoader, Dataset

from leftout.core.errors import DataError
from leftout.core.wording import name_list
from leftout.data.archive import SPLIT, WHOLE, source_of_arrays
from leftout.data.arrays import pair_arrays
from leftout.data.data_source import DataSource
from leftout.data.examples import Examples
from leftout.data.options import Task

ExamplePair = tuple[Examples, Examples]

BUNCH = ("data", "target")
"""Names of inputs and targets in what scikit-learn's loaders return."""


def is_frame(data: Any) -> bool:
    """Return whether an object is a DataFrame of pandas, which is not imported for that."""
    return hasattr(data, "iloc") and getattr(data, "ndim", 0) == 2


def source_of_object(
    data: Any, source: str, *, task: Task | None = None, pictures: bool | None = None
) -> DataSource | ExamplePair:
    """Return a pair of Examples unchanged, or the rows of one set of inputs and targets, or of two.

    Args:
        source: what messages call the data.

    Raises:
        DataError: none of these; or one Examples and one pair.
    """
    if isinstance(data, Mapping):
        data = _pair_of_mapping(data, source)
    if isinstance(data, Dataset | DataLoader):
        return _one_set(data, source, task, pictures)
    if not isinstance(data, tuple | list) or len(data) != 2:
        length = f" of {len(data)}" if isinstance(data, tuple | list) else ""
        raise DataError(
            f"`{source}` must be a pair (train, query), each Examples or a pair (inputs, targets); "
            f"got {type(data).__name__}{length}. A name, a DataFrame, a Dataset, or one pair (inputs, "
            "targets) to be split are also taken."
        )
    train, query = data
    if isinstance(train, Examples) and isinstance(query, Examples):
        if train.encoding != query.encoding:
            raise DataError(
                f"`{source}` must code training and query targets alike; got {train.encoding} and "
                f"{query.encoding}. Make the queries with the encoding of the training examples."
            )
        return train, query
    if isinstance(train, Examples) or isinstance(query, Examples):
        raise DataError(
            f"`{source}` must be two Examples, or two pairs (inputs, targets); got "
            f"{type(train).__name__} and {type(query).__name__}."
        )
    if all(hasattr(side, "__len__") and not isinstance(side, str) for side in data) and not (
        _is_set(train) and _is_set(query)
    ):
        return _one_set(data, source, task, pictures)
    inputs, targets = {}, {}
    for name, side in (("train", train), ("query", query)):
        inputs[name], targets[f"{name} targets"] = pair_arrays(side, name)
    return source_of_arrays(source, inputs, targets, task=task, pictures=pictures)


def _is_set(side: Any) -> bool:
    """Return whether an object is a set of inputs and targets rather than an array of either."""
    return isinstance(side, Dataset | DataLoader) or (isinstance(side, tuple | list) and len(side) == 2)


def _one_set(data: Any, source: str, task: Task | None, pictures: bool | None) -> DataSource:
    inputs, targets = pair_arrays(data, source)
    return source_of_arrays(source, {"x": inputs}, {"y": targets}, task=task, pictures=pictures)


def _pair_of_mapping(data: Mapping[Any, Any], source: str) -> tuple[Any, Any]:
    if set(SPLIT) <= set(data):
        x_train, y_train, x_query, y_query = (data[name] for name in SPLIT)
        return (x_train, y_train), (x_query, y_query)
    for x, y in (WHOLE, BUNCH):
        if x in data and y in data:
            return data[x], data[y]
    raise DataError(
        f"`{source}` must hold x_train, y_train, x_test and y_test, or x and y, or data and target; it holds "
        f"{name_list(map(str, data))}. Pass a pair (inputs, targets)."
    )
