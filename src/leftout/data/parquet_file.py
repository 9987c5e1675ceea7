"""A .parquet file, read with pyarrow. Rows are numbered from 1."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from leftout.core.errors import DataError
from leftout.data.columns import Column
from leftout.data.data_name import check_file
from leftout.data.files import check_allocation
from leftout.data.zipped import reason

try:
    import pyarrow
    from pyarrow import parquet
except ImportError:
    pyarrow = parquet = None

INDEX = "__index_level_"
"""How a data frame's row index is named in the file; it is no column of the data."""


def parquet_columns(path: Path) -> tuple[list[Column], list[str]]:
    """Return the columns, and the name of every row.

    Raises:
        DataError: pyarrow is not installed; the file is damaged, or has no rows; a column of dates,
            lists or other types that are neither numbers nor texts.
    """
    check_file(path)
    if parquet is None:
        raise DataError(
            f"`{path}` needs pyarrow to be read, which is not installed. Install "
            "`leftout[parquet]`, or save the table as .csv."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            # From memory, not mapped: a file that shrinks while it is read would be a crash.
            with parquet.ParquetFile(path, page_checksum_verification=True) as file:
                groups = range(file.metadata.num_row_groups)
                size = sum(max(file.metadata.row_group(g).total_byte_size, 0) for g in groups)
                check_allocation(f"`{path}`", size)
                table = file.read()
            table.validate(full=True)
            columns = [
                _column(name, table.column(place), path)
                for place, name in enumerate(table.column_names)
                if not name.startswith(INDEX)
            ]
    except (DataError, MemoryError):
        raise
    except Exception as error:
        raise DataError(
            f"`{path}` must be a whole parquet file; got {reason(error)}. Save it again."
        ) from error
    names = [column.name for column in columns]
    if not names or not table.num_rows:
        raise DataError(f"`{path}` must hold columns and rows; it has {table.shape}.")
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        raise DataError(f"`{path}` must name each column once; {twice!r} is there twice.")
    return columns, [f"row {row}" for row in range(1, table.num_rows + 1)]


def _column(name: str, values: Any, path: Path) -> Column:
    types = pyarrow.types
    kind = values.type
    if types.is_dictionary(kind):
        kind = kind.value_type
        values = values.cast(kind)
    gaps = np.flatnonzero(values.is_null(nan_is_null=True).to_numpy(zero_copy_only=False))
    missing = int(gaps[0]) if len(gaps) else None
    if types.is_integer(kind):
        # Not to a float and back: a class number above 2^53 would become its neighbour.
        filled = values.fill_null(0).to_numpy()
        if filled.dtype == np.uint64 and filled.max() > np.iinfo(np.int64).max:
            raise DataError(f"`{name}` in {path} must lie below 2^63; got {filled.max()}.")
        return Column(name, "integer", filled.astype(np.int64), missing)
    if types.is_floating(kind):
        return Column(name, "number", values.fill_null(0).to_numpy().astype(np.float64), missing)
    if types.is_boolean(kind):
        truths = values.fill_null(False).to_numpy(zero_copy_only=False)
        return Column(name, "truth", truths.astype(bool), missing)
    if types.is_string(kind) or types.is_large_string(kind):
        texts = np.array(values.fill_null("").to_pylist(), dtype=str)
        return Column(name, "text", texts, missing)
    raise DataError(f"`{name}` in {path} must hold numbers or texts; its type is {kind}. Convert or drop it.")
