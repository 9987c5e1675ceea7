"""Is every file still what it was? SHA-256 of the files of a folder, kept in a record that seals itself.

The record is JSON with the checksums of all other files. Its last key holds the SHA-256 of its own text,
taken while 64 zeros stood there.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from leftout.core.atomic_files import atomic_write
from leftout.core.errors import StoreError
from leftout.core.json_file import read_json, strict

FILES = "files"
"""Key of the checksums: path in the folder, with slashes, to 64 hex digits."""

SEAL = "sha256"
"""Key of the checksum of the record itself."""

ZEROS = "0" * 64

CHANGED, MISSING, ADDED = "changed", "missing", "added"


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_names(folder: Path) -> set[str]:
    """Return the paths in a folder, with slashes, of everything that is no folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def checksums(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of files of a folder, by their paths in it."""
    return {name: checksum(folder / name) for name in sorted(names)}


def differences(folder: Path, expected: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """Return which files of a folder differ, and how: changed, missing or added.

    Args:
        expected: checksums of all files that there should be.
        names: the files to be compared.
    """
    compared = {name: _difference(folder / name, expected.get(name)) for name in sorted(names)}
    return {name: difference for name, difference in compared.items() if difference}


def _difference(path: Path, expected: str | None) -> str:
    """Return how a file differs; nothing where it is as expected."""
    if expected is None:
        return ADDED
    try:
        # What is neither a file nor missing, such as a pipe, is not read: that might never end.
        same = (path.is_file() or not path.exists()) and checksum(path) == expected
    except FileNotFoundError:
        return MISSING
    except OSError as error:
        return f"not readable ({error.strerror or error})"
    return "" if same else CHANGED


def write_sealed(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record, with the checksum of its text in its last key."""
    text = json.dumps(strict({**record, SEAL: ZEROS}), indent=2, allow_nan=False) + "\n"
    before, _, after = text.rpartition(ZEROS)
    seal = hashlib.sha256(text.encode()).hexdigest()
    with atomic_write(path) as unfinished:
        unfinished.write_bytes((before + seal + after).encode())


def has_seal(path: Path) -> bool:
    """Return whether a record is as it was written, to the last bit.

    Raises:
        StoreError: no such file, or not JSON.
    """
    record = read_json(path)
    seal = record.get(SEAL) if isinstance(record, dict) else None
    if not isinstance(seal, str) or len(seal) != len(ZEROS):
        return False
    before, _, after = path.read_bytes().rpartition(seal.encode(errors="replace"))
    return hashlib.sha256(before + ZEROS.encode() + after).hexdigest() == seal


def raise_damage(folder: Path, damage: Mapping[str, str], advice: str) -> None:
    """Raise a StoreError that names files which are not as they were, if there are any."""
    if not damage:
        return
    first = ", ".join(f"{name} ({difference})" for name, difference in list(damage.items())[:3])
    more = f" and {len(damage) - 3} more" if len(damage) > 3 else ""
    raise StoreError(f"{str(folder)!r} was changed after it was made: {first}{more}. {advice}")
