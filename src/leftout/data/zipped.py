"""Members of a zip archive, read without trusting the sizes that it declares.

Nothing is unpacked to disk. A member is inflated in blocks up to the size it declares, so that one that
holds more costs no more memory than it declared, and its checksum is verified.
"""

import zipfile
from collections import Counter
from operator import itemgetter
from pathlib import Path

from leftout.core.errors import DataError
from leftout.core.wording import byte_size
from leftout.data.data_name import check_file
from leftout.data.files import check_allocation

BLOCK = 2**20
"""Bytes inflated at once: the most that a member can cost beyond the size it declares."""


def open_zip(path: Path) -> zipfile.ZipFile:
    """Return the archive, open for reading.

    Raises:
        DataError: missing, no zip archive, damaged directory, or two members of one name.
    """
    check_file(path)
    try:
        archive = zipfile.ZipFile(path)
    # A damaged directory ends in BadZipFile, struct.error, NotImplementedError, UnicodeError …
    except Exception as error:
        raise DataError(f"`{path}` must be a whole zip archive; got {reason(error)}.") from error
    name, times = max(Counter(archive.namelist()).items(), key=itemgetter(1), default=("", 0))
    if times > 1:
        archive.close()
        raise DataError(f"`{path}` must hold each name once; {name!r} is there {times} times.")
    return archive


def member_bytes(archive: zipfile.ZipFile, name: str, *, limit: int) -> bytes:
    """Return one member, its checksum verified.

    Args:
        limit: bytes a member may declare.

    Raises:
        DataError: larger than `limit`, encrypted, truncated or damaged.
        MemoryBudgetError: it says that it is larger than memory; it is not unpacked then.
    """
    size = archive.getinfo(name).file_size
    if size > limit:
        raise DataError(
            f"`{name}` in {archive.filename} must be at most {byte_size(limit)} unpacked; it says "
            f"{byte_size(size)}."
        )
    check_allocation(f"`{name}` in {archive.filename}, unpacked,", 2 * size)
    try:
        with archive.open(name) as handle:
            content = b"".join(iter(lambda: handle.read(BLOCK), b""))
    except Exception as error:
        raise DataError(
            f"`{name}` in {archive.filename} cannot be read: {reason(error)}. Fetch or pack the "
            "archive again."
        ) from error
    if len(content) != size:
        raise DataError(
            f"`{name}` in {archive.filename} must hold {size} bytes, as it says; got "
            f"{len(content)}. Fetch or pack the archive again."
        )
    return content


def reason(error: Exception) -> str:
    """Return what another library's exception says, or at least its kind."""
    text = str(error).strip().rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
