"""Checked reading of whole files: no devices or pipes, and nothing larger than memory allows."""

from pathlib import Path

from leftout.core.blocks import check_fits, memory_budget
from leftout.core.errors import DataError
from leftout.data.data_name import check_file

BYTES_PER_NUMBER = 48
"""Most that a number of a table or array takes while examples are made of it: six doubles."""

BYTES_PER_PIXEL = 28
"""The same of a byte of a picture: three doubles, and copies of itself."""


def file_bytes(path: Path) -> bytes:
    """Return the content of an ordinary file.

    Raises:
        DataError: missing, no ordinary file, or not readable.
        MemoryBudgetError: larger than what may be used of the free memory.
    """
    check_file(path)
    check_allocation(f"`{path}`", path.stat().st_size)
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"`{path}` must be readable; got {error}.") from error


def check_allocation(name: str, size: int) -> None:
    """Raise when an object of this name would take more bytes than the free memory allows."""
    check_fits(name, size, memory_budget(None), advice="Take fewer or smaller examples.")
