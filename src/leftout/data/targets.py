"""Targets as classes or numbers: integers, truth values and texts are classes, floats are numbers.

The rule looks at the type alone, never at the values: 0.0, 1.0, 1.0 are numbers to be predicted,
0, 1, 1 are the names of two classes. Convert them to mean the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from leftout.core.errors import DataError, ShapeError

KINDS = {"i": "integers", "u": "integers", "b": "truth values", "U": "texts", "f": "floats"}


@dataclass(frozen=True, eq=False)
class RawTargets:
    """Targets of n rows: class numbers into `classes`, or `numbers` (n, k); the other is None."""

    labels: np.ndarray | None
    classes: tuple[str, ...]
    numbers: np.ndarray | None

    def __len__(self) -> int:
        return len(self.labels if self.numbers is None else self.numbers)  # type: ignore[arg-type]

    def rows(self, chosen: np.ndarray) -> "RawTargets":
        """Return the targets of some rows, under the same class names."""
        labels = None if self.labels is None else self.labels[chosen]
        numbers = None if self.numbers is None else self.numbers[chosen]
        return RawTargets(labels, self.classes, numbers)


def raw_targets(name: str, values: np.ndarray) -> RawTargets:
    """Return classes for integers, truth values and texts, numbers for floats.

    Class names are the texts of the distinct values, in the order of the values.

    Raises:
        ShapeError: classes with more than one column.
    """
    if values.dtype.kind == "f":
        numbers = doubles(values)
        return RawTargets(None, (), numbers[:, None] if numbers.ndim == 1 else numbers)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ShapeError(
            f"`{name}` must be one class per row, of shape (n,), when it holds "
            f"{KINDS[values.dtype.kind]}; got {values.shape}. Turn one-hot columns into class "
            "numbers with `argmax(1)`, or numbers to be predicted into floats."
        )
    distinct, labels = np.unique(values, return_inverse=True)
    classes = tuple(map(str, distinct.tolist()))
    return RawTargets(labels.astype(np.int64), classes, None)


def joined_targets(name: str, train: np.ndarray, query: np.ndarray) -> RawTargets:
    """Return the targets of the training rows, then of the queries, in one coding."""
    kinds = KINDS[train.dtype.kind], KINDS[query.dtype.kind]
    if kinds[0] != kinds[1]:
        raise DataError(
            f"`{name}` must be of one kind for training and query; got {kinds[0]} and {kinds[1]}."
        )
    if train.shape[1:] != query.shape[1:]:
        raise ShapeError(
            f"`{name}` must have the same columns for training and query; got {train.shape} and "
            f"{query.shape}."
        )
    return raw_targets(name, np.concatenate([train, query]))


def target_array(name: str, values: Tensor | np.ndarray | Sequence[Any]) -> np.ndarray:
    """Return targets as an array of integers, truth values, texts or floats, (n,) or (n, k).

    Raises:
        DataError: any other type (objects, complex numbers, dates).
        ShapeError: not one- or two-dimensional, ragged, or empty.
    """
    array = as_array(name, values)
    if array.dtype.kind == "S":
        array = np.char.decode(array, "latin-1")
    if array.dtype.kind not in KINDS:
        raise DataError(
            f"`{name}` must hold classes (integers, truth values, texts) or numbers (floats); got "
            f"dtype {array.dtype}."
        )
    if array.ndim not in (1, 2) or 0 in array.shape:
        raise ShapeError(f"`{name}` must have shape (n,) or (n, k), none of them 0; got {array.shape}.")
    return array


def doubles(array: np.ndarray) -> np.ndarray:
    """Return a copy in double precision; numbers too large for it become infinite without a warning.

    The caller refuses infinity with the name of the row, which numpy's warning would not have.
    """
    with np.errstate(all="ignore"):
        return np.array(array, dtype=np.float64, order="C")


def as_array(name: str, values: Any) -> np.ndarray:
    """Return a tensor, array or list as an array.

    Raises:
        ShapeError: rows of different lengths, or a single number.
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        if values.is_floating_point():
            values = values.double()  # bfloat16 is unknown to numpy
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise ShapeError(
            f"`{name}` must be a tensor, an array or a list with rows of one length; got "
            f"{type(values).__name__}: {error}."
        ) from error
    if array.ndim == 0:
        raise ShapeError(
            f"`{name}` must be a tensor, an array or a list of rows; got {type(values).__name__}."
        )
    return array
