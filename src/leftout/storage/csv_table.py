"""Tables as CSV files: every id comes back as it was, and a file is there whole or not at all."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from leftout.core.atomic_files import atomic_write, part_path
from leftout.core.errors import OptionError


def check_free(out: Path, *suffixes: str) -> None:
    """Raise unless a file of one of these kinds can be made there."""
    if out.suffix not in suffixes:
        raise OptionError(f"--out must end in {' or '.join(suffixes)}; got {str(out)!r}.")
    if out.exists():
        raise OptionError(f"--out {str(out)!r} exists; choose another, or remove it.")
    if not out.parent.is_dir():
        raise OptionError(f"--out {str(out)!r} must lie in a folder that exists.")
    unfinished = part_path(out)
    try:  # nothing but writing tells whether it can be written to
        unfinished.touch()
        unfinished.unlink()
    except OSError as error:
        raise OptionError(f"--out {str(out)!r} cannot be written: {error.strerror}.") from error


def save_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table; the file appears only when it is whole."""
    with atomic_write(path) as unfinished:
        write_csv(unfinished, header, rows)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table, as UTF-8 with commas."""
    # Names of files need not be text: what they hold instead passes through as it is.
    with path.open("w", newline="", encoding="utf-8", errors="surrogatepass") as file:
        for row in (header, *rows):
            file.write(",".join(map(_quoted_cell, row)) + "\n")


def _quoted_cell(cell: Any) -> str:
    """Return a cell, quoted where it must be; the csv module leaves a carriage return bare."""
    text = str(cell)
    if any(mark in text for mark in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text
