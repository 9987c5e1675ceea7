"""A .parquet file, read with pyarrow. Rows are numbered from 1.

What is declared (unpacked bytes, rows times columns) is compared with the memory before anything is unpacked.
Texts are read as a dictionary and a number for each row, so that a long text costs its length once.
"""

from pathlib import Path
from typing import Any

from leftout.data.arrow_columns import arrow_columns, arrow_errors, check_installed, is_text
from leftout.data.columns import RawTable
from leftout.data.data_name import check_file
from leftout.data.files import BYTES_PER_NUMBER, check_allocation

try:
    from pyarrow import parquet
except ImportError:
    parquet = None

KIND = "parquet"


def parquet_raw_table(path: Path) -> RawTable:
    """Return the columns, and the name of every row.

    Raises:
        DataError: as `parquet_table`; or a column of lists or other types that are neither numbers nor texts.
    """
    table = parquet_table(path)
    with arrow_errors(str(path), KIND):
        return arrow_columns(table, str(path))


def parquet_table(path: Path) -> Any:
    """Return the file as a table of pyarrow.

    Raises:
        DataError: pyarrow is not installed; the file is damaged.
        MemoryBudgetError: it says that it is larger than memory.
    """
    check_file(path)
    check_installed(str(path))
    with arrow_errors(str(path), KIND):
        # From memory, not mapped: a file that shrinks while it is read would be a crash.
        with parquet.ParquetFile(path) as file:
            _check_declared(file.metadata, path)
            texts = [field.name for field in file.schema_arrow if is_text(field.type)]
        with parquet.ParquetFile(path, page_checksum_verification=True, read_dictionary=texts) as file:
            table = file.read()
        table.validate(full=True)
        return table


def _check_declared(metadata: Any, path: Path) -> None:
    """Raise where the file says that it holds more than memory: a small file can hold any number of rows."""
    sizes = [metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups)]
    check_allocation(f"`{path}`, unpacked,", sum(max(size, 0) for size in sizes))
    cells = max(metadata.num_rows, 0) * max(metadata.num_columns, 0)
    check_allocation(
        f"`{path}`, a table of {metadata.num_rows} × {metadata.num_columns},", BYTES_PER_NUMBER * cells
    )
