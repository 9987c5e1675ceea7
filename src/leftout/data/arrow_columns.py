"""Columns of a table of pyarrow, from whatever file it was read. Rows are numbered from 1."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from leftout.core.errors import DataError, LeftoutError, MemoryBudgetError
from leftout.data.columns import Column, RawTable, date_or_text, first_repeat, integer_array
from leftout.data.dates import MICROSECONDS
from leftout.data.zipped import reason

try:
    import pyarrow
except ImportError:
    pyarrow = None

INDEX = "__index_level_"
"""How a data frame's row index is named in the file; it is no column of the data."""


def check_installed(source: str) -> None:
    """Raise where pyarrow is not installed."""
    if pyarrow is None:
        raise DataError(
            f"`{source}` needs pyarrow to be read, which is not installed. Install "
            "`leftout[parquet]`, or save the table as .csv."
        )


@contextmanager
def arrow_errors(source: str, kind: str) -> Iterator[None]:
    """Turn whatever pyarrow raises or warns of a file into an error that names it.

    Args:
        kind: of file, for the message: "parquet".
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    except LeftoutError:
        raise
    except MemoryError as error:
        raise MemoryBudgetError(f"`{source}` needs more memory than there is: {reason(error)}.") from error
    except Exception as error:
        raise DataError(
            f"`{source}` must be a whole {kind} file; got {reason(error)}. Save it again."
        ) from error


def arrow_columns(table: Any, source: str) -> RawTable:
    """Return the columns of a table, and the name of every row.

    Args:
        source: what messages call it.

    Raises:
        DataError: no rows or columns; a name twice; a column of lists or other types that are neither numbers
            nor texts.
    """
    names = [name for name in table.column_names if not name.startswith(INDEX)]
    if not names or not table.num_rows:
        raise DataError(f"`{source}` must hold columns and rows; it has {table.shape}.")
    twice = first_repeat(names)
    if twice is not None:
        raise DataError(f"`{source}` must name each column once; {twice!r} is there twice.")
    columns = [_column(name, table.column(name), source) for name in names]
    return RawTable(columns, [f"row {row}" for row in range(1, table.num_rows + 1)])


def is_pictures(kind: Any) -> bool:
    """Return whether a type of pyarrow is one of picture files: their bytes, alone or beside a path."""
    types = pyarrow.types
    if types.is_struct(kind):
        names = [kind.field(place).name for place in range(kind.num_fields)]
        return "bytes" in names
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def is_text(kind: Any) -> bool:
    """Return whether a type of pyarrow is one of texts."""
    return bool(pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind))


def _column(name: str, values: Any, source: str) -> Column:
    types = pyarrow.types
    kind = values.type
    missing = values.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    if missing.all():
        return Column(name, "text", np.zeros(len(values)), missing, empty=True)
    if types.is_dictionary(kind):
        if is_text(kind.value_type):
            return date_or_text(name, _texts(values), missing)
        kind = kind.value_type
        values = values.cast(kind)
    if types.is_integer(kind):
        # Not to a float and back: a class number above 2^53 would become its neighbour.
        filled = values.fill_null(0).to_numpy()
        large = filled.dtype == np.uint64 and filled.max() > np.iinfo(np.int64).max
        return Column(
            name, "integer", integer_array(filled.tolist()) if large else filled.astype(np.int64), missing
        )
    if types.is_floating(kind):
        return Column(name, "number", values.fill_null(0).to_numpy().astype(np.float64), missing)
    if types.is_boolean(kind):
        truths = values.fill_null(False).to_numpy(zero_copy_only=False)
        return Column(name, "truth", truths.astype(bool), missing)
    if types.is_timestamp(kind) or types.is_date(kind):
        filled = values.cast(pyarrow.timestamp("us", getattr(kind, "tz", None))).fill_null(0)
        moments = filled.to_numpy().astype(MICROSECONDS)  # of UTC, where there is a zone
        return Column(name, "date", moments, missing)
    if is_text(kind):
        return date_or_text(name, _texts(values.dictionary_encode()), missing)
    raise DataError(
        f"`{name}` in {source} must hold numbers or texts; its type is {kind}. Convert or drop it."
    )


def _texts(values: Any) -> np.ndarray:
    """Return texts as objects, equal ones as one object."""
    combined = values.unify_dictionaries().combine_chunks()
    chunks = combined.chunks if hasattr(combined, "chunks") else [combined]
    parts = [np.empty(0, dtype=object)]
    for chunk in chunks:
        distinct = np.empty(len(chunk.dictionary) + 1, dtype=object)
        distinct[:] = [*chunk.dictionary.to_pylist(), ""]
        numbers = chunk.indices.fill_null(len(chunk.dictionary)).to_numpy(zero_copy_only=False)
        parts.append(distinct[numbers])
    return np.concatenate(parts)
