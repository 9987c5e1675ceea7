"""A .parquet file, read with pyarrow. Rows are numbered from 1.

What is declared (unpacked bytes, rows times columns) is compared with the memory before anything is unpacked.
Texts are read as a dictionary and a number for each row, so that a long text costs its length once.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from leftout.core.errors import DataError, LeftoutError, MemoryBudgetError
from leftout.data.columns import Column, first_repeat, integer_array
from leftout.data.data_name import check_file
from leftout.data.files import BYTES_PER_NUMBER, check_allocation
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
            with parquet.ParquetFile(path) as file:
                _check_declared(file.metadata, path)
                texts = [field.name for field in file.schema_arrow if _is_text(field.type)]
            with parquet.ParquetFile(path, page_checksum_verification=True, read_dictionary=texts) as file:
                table = file.read()
            table.validate(full=True)
            columns = [
                _column(name, table.column(place), path)
                for place, name in enumerate(table.column_names)
                if not name.startswith(INDEX)
            ]
    except LeftoutError:
        raise
    except MemoryError as error:
        raise MemoryBudgetError(f"`{path}` needs more memory than there is: {reason(error)}.") from error
    except Exception as error:
        raise DataError(
            f"`{path}` must be a whole parquet file; got {reason(error)}. Save it again."
        ) from error
    names = [column.name for column in columns]
    if not names or not table.num_rows:
        raise DataError(f"`{path}` must hold columns and rows; it has {table.shape}.")
    twice = first_repeat(names)
    if twice is not None:
        raise DataError(f"`{path}` must name each column once; {twice!r} is there twice.")
    return columns, [f"row {row}" for row in range(1, table.num_rows + 1)]


def _check_declared(metadata: Any, path: Path) -> None:
    """Raise where the file says that it holds more than memory: a small file can hold any number of rows."""
    sizes = [metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups)]
    check_allocation(f"`{path}`, unpacked,", sum(max(size, 0) for size in sizes))
    cells = max(metadata.num_rows, 0) * max(metadata.num_columns, 0)
    check_allocation(
        f"`{path}`, a table of {metadata.num_rows} × {metadata.num_columns},", BYTES_PER_NUMBER * cells
    )


def _is_text(kind: Any) -> bool:
    return bool(pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind))


def _column(name: str, values: Any, path: Path) -> Column:
    types = pyarrow.types
    kind = values.type
    missing = values.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    if missing.all():
        return Column(name, "text", np.zeros(len(values)), missing, empty=True)
    if types.is_dictionary(kind):
        if _is_text(kind.value_type):
            return Column(name, "text", _texts(values), missing)
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
    if _is_text(kind):
        return Column(name, "text", _texts(values.dictionary_encode()), missing)
    raise DataError(f"`{name}` in {path} must hold numbers or texts; its type is {kind}. Convert or drop it.")


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
