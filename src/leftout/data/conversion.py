"""Arrays from what programs hold: tensors, lists, masked arrays, columns and frames of pandas.

Nothing is filled in or rounded on the way. A masked or missing entry is refused with its row; texts become
objects, as fixed-width text would give every row the width of the longest; whole numbers stay exact, and
those that become doubles must lie within ±2^53, where doubles are exact.
"""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leftout.core.errors import DataError, ShapeError

LARGEST_WHOLE = 2**53
"""Whole numbers up to here are exact in double precision; beyond, neighbours become equal."""

KINDS = {"i": "integers", "u": "integers", "b": "truth values", "f": "floats"}


def as_array(name: str, values: Any) -> np.ndarray:
    """Return a tensor, array, list, column or frame as an array; texts and very large integers as objects.

    Args:
        name: what messages call it.

    Raises:
        ShapeError: rows of different lengths, or a single number.
        DataError: a masked or missing entry, named by its row; entries of several types.
    """
    if isinstance(values, Tensor):
        values = _tensor_values(name, values)
    elif isinstance(values, np.ma.MaskedArray):
        check_all_present(name, np.ma.getmaskarray(values), "masked")
    elif hasattr(values, "isna"):
        return _pandas_array(name, values)
    elif isinstance(values, list | tuple):
        return _list_array(name, values)
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise _shape_error(name, values, f": {error}") from error
    if array.ndim == 0:
        raise _shape_error(name, values)
    return _plain_array(name, array)


def kind_of(array: np.ndarray) -> str | None:
    """Return "integers", "truth values", "texts" or "floats"; None for other types."""
    if array.dtype.kind == "O" and array.size:
        types = set(map(type, array.ravel().tolist()))
        if all(issubclass(kind, str) for kind in types):
            return "texts"
        whole = all(issubclass(kind, Integral) and not issubclass(kind, bool) for kind in types)
        return "integers" if whole else None
    return KINDS.get(array.dtype.kind)


def check_whole_numbers(name: str, array: np.ndarray, rows: Sequence[str] | None = None) -> None:
    """Raise where an integer is too large to be exact in double precision.

    Args:
        rows: names of the rows; None numbers them.
    """
    if kind_of(array) != "integers" or (array.dtype.kind in "iu" and array.dtype.itemsize < 8):
        return
    outside = array > LARGEST_WHOLE
    if array.dtype.kind != "u":
        outside |= array < -LARGEST_WHOLE
    if not outside.any():
        return
    place = tuple(int(axis) for axis in np.argwhere(outside)[0])
    row = f"row {place[0]}" if rows is None else rows[place[0]]
    raise DataError(
        f"`{name}` must hold whole numbers within ±2^53 = {LARGEST_WHOLE}, as double precision rounds larger "
        f"ones to their neighbours; {row} holds {array[place]}. Number them anew (np.unique with "
        "return_inverse), or subtract an offset."
    )


def doubles(array: np.ndarray) -> np.ndarray:
    """Return a copy in double precision; numbers too large for it become infinite without a warning.

    The caller refuses infinity with the name of the row, which numpy's warning would not have.
    """
    with np.errstate(all="ignore"):
        return np.array(array, dtype=np.float64, order="C")


def check_all_present(name: str, absent: np.ndarray, word: str) -> None:
    """Raise at the first row with an entry that is masked or missing.

    Args:
        absent: truth values, one row per example.
        word: "masked" or "missing".
    """
    rows = np.flatnonzero(absent.reshape(len(absent), -1).any(1)) if absent.ndim else absent.reshape(-1)
    if absent.any():
        raise DataError(
            f"`{name}` must have a value everywhere; row {int(rows[0])} has an entry that is {word} "
            f"({len(rows)} of {len(absent) if absent.ndim else 1} rows do). Fill it in, or drop these rows."
        )


def _tensor_values(name: str, tensor: Tensor) -> Any:
    if torch.masked.is_masked_tensor(tensor):
        check_all_present(name, ~tensor.get_mask().cpu().numpy(), "masked")  # type: ignore[no-untyped-call]
        tensor = tensor.get_data()  # type: ignore[no-untyped-call]
    if tensor.is_meta:
        raise DataError(f"`{name}` must hold numbers; it is a tensor on the device meta, which has none.")
    try:
        tensor = tensor.detach().cpu()
        return tensor.double() if tensor.is_floating_point() else tensor  # bfloat16 is unknown to numpy
    except (RuntimeError, NotImplementedError, TypeError) as error:
        raise DataError(f"`{name}` must be a plain tensor of numbers; got {error}.") from error


def _pandas_array(name: str, values: Any) -> np.ndarray:
    """Return a column of pandas, or the numbers of a frame, each column by itself so that none is rounded."""
    if values.ndim == 1:
        _check_column_present(name, values)
        return _plain_array(name, values.to_numpy())
    columns = []
    for place in range(values.shape[1]):
        heading = f"{name} column {values.columns[place]}"
        columns.append(as_array(heading, values.iloc[:, place]))
        if kind_of(columns[-1]) in (None, "texts") and values.shape[1] > 1:
            raise DataError(
                f"`{heading}` must hold real numbers; it holds {kind_of(columns[-1]) or 'another type'}. "
                "Encode it as numbers (one column per value), or drop it."
            )
    if not columns:
        raise ShapeError(f"`{name}` must have columns; it has none.")
    types = {column.dtype for column in columns}
    if len(types) > 1:
        for place, column in enumerate(columns):
            check_whole_numbers(f"{name} column {values.columns[place]}", column)
        columns = [doubles(column) for column in columns]
    return np.stack(columns, axis=1)


def _check_column_present(name: str, column: Any) -> None:
    absent = np.asarray(column.isna(), dtype=bool)
    # A plain column of floats keeps its NaN, which is refused as what it is.
    if absent.any() and getattr(column.dtype, "kind", "O") != "f":
        check_all_present(name, absent, "missing")
    if absent.any() and not isinstance(column.dtype, np.dtype):
        check_all_present(name, absent, "missing")


def _list_array(name: str, values: list[Any] | tuple[Any, ...]) -> np.ndarray:
    """Return a list; one of texts, or of integers that numpy would make floats, as objects."""
    leaves = _leaves(values)
    types = set(map(type, leaves))
    if any(issubclass(kind, np.ma.MaskedArray) for kind in types):
        check_all_present(name, np.array([_has_mask(row) for row in values]), "masked")
    whole = any(issubclass(kind, Integral) and not issubclass(kind, bool) for kind in types)
    simple = all(issubclass(kind, Real) and not issubclass(kind, bool | np.bool_) for kind in types)
    odd = any(issubclass(kind, str | type(None)) for kind in types)
    try:
        array = np.array(values, dtype=object) if odd else np.asarray(values)
        if whole and simple and array.dtype.kind in "fO":
            array = np.array(values, dtype=object)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise _shape_error(name, values, f": {error}") from error
    if whole and array.ndim == 1 and types & {bool, np.bool_}:
        raise _mixture_error(name, np.array(values, dtype=object))
    return _plain_array(name, array)


def _has_mask(row: Any) -> bool:
    """Return whether anything in a row is masked."""
    leaves = _leaves([row])
    return any(np.ma.getmaskarray(leaf).any() for leaf in leaves if isinstance(leaf, np.ma.MaskedArray))


def _leaves(values: Sequence[Any]) -> list[Any]:
    """Return what is in nested lists, in no order."""
    leaves: list[Any] = []
    stack = [values]
    while stack:
        for entry in stack.pop():
            (stack if isinstance(entry, list | tuple) else leaves).append(entry)
    return leaves


def _plain_array(name: str, array: np.ndarray) -> np.ndarray:
    """Return an array of numbers as it is, one of texts as objects, one of objects by what it holds."""
    if array.dtype.kind in "UT":
        return array.astype(object)
    if array.dtype.kind != "O" or not array.size:
        return array
    flat = array.ravel().tolist()
    gaps = np.fromiter((_is_missing(entry) for entry in flat), bool, len(flat)).reshape(array.shape)
    types = set(map(type, flat))
    floats = all(issubclass(kind, Real) and not issubclass(kind, bool | np.bool_) for kind in types)
    if gaps.any() and not floats:
        check_all_present(name, gaps, "missing")
    if all(issubclass(kind, str) for kind in types):
        return array
    if all(issubclass(kind, bool | np.bool_) for kind in types):
        return array.astype(bool)
    if floats and all(issubclass(kind, Integral) for kind in types):
        return _integers(array, flat)
    if floats:
        whole = np.array([isinstance(entry, Integral) for entry in flat]).reshape(array.shape)
        check_whole_numbers(name, np.where(whole, array, 0))
        return array.astype(np.float64)
    if len(types) == 1 or array.ndim != 1:
        return array  # refused by whoever knows what it is for
    raise _mixture_error(name, array)


def _integers(array: np.ndarray, flat: list[Any]) -> np.ndarray:
    low, high = min(flat), max(flat)
    for kind in (np.int64, np.uint64):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return array.astype(kind)
    return array


def _is_missing(entry: Any) -> bool:
    """Return whether an entry is None, NaN, or what pandas and numpy write for a missing one."""
    if isinstance(entry, float):
        return entry != entry
    return entry is None or type(entry).__name__ in ("NAType", "NaTType", "MaskedConstant")


def _mixture_error(name: str, array: np.ndarray) -> DataError:
    first = type(array[0])
    row = next((i for i, entry in enumerate(array) if type(entry) is not first), 0)
    return DataError(
        f"`{name}` must hold entries of one type; row 0 is {array[0]!r:.40} ({first.__name__}), row {row} is "
        f"{array[row]!r:.40} ({type(array[row]).__name__}). Convert them to one."
    )


def _shape_error(name: str, values: Any, detail: str = "") -> ShapeError:
    if hasattr(values, "toarray"):
        return ShapeError(f"`{name}` must be dense; got {type(values).__name__}. Pass `.toarray()` of it.")
    rule = "an array or a list with rows of one length" if detail else "an array or a list of rows"
    return ShapeError(f"`{name}` must be a tensor, {rule}; got {type(values).__name__}{detail}.")
