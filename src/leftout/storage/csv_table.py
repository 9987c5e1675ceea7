"""Tables as CSV files: every id comes back as it was, and a file is there whole or not at all.

A spreadsheet runs a cell that begins with = + - @ or a tab as a formula, and ids and class names come from
files of other people. Such a cell gets an apostrophe in front, which makes it text there. The column `id`
stays exact, for programs; where one of its cells would be run, a last column `id_shown` has none that is.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from leftout.core.atomic_files import atomic_write, part_path
from leftout.core.errors import OptionError
from leftout.core.writer_lock import writer_lock

EXACT = "id"
"""The column whose cells are the ids as they are."""

SHOWN = "id_shown"
"""The column with the same ids for people, where one of them would be run by a spreadsheet."""

FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|[+-]?(inf|nan)", re.IGNORECASE)


def check_free(out: Path, *suffixes: str) -> None:
    """Raise unless a file of one of these kinds can be made there."""
    if out.suffix not in suffixes:
        raise OptionError(f"--out must end in {' or '.join(suffixes)}; got {str(out)!r}.")
    _check_new(out)
    if not out.parent.is_dir():
        raise OptionError(f"--out {str(out)!r} must lie in a folder that exists.")
    unfinished = part_path(out)
    try:  # nothing but writing tells whether it can be written to
        unfinished.touch()
        unfinished.unlink()
    except OSError as error:
        raise OptionError(f"--out {str(out)!r} cannot be written: {error.strerror}.") from error


def _check_new(out: Path) -> None:
    if out.exists():
        raise OptionError(f"--out {str(out)!r} exists; choose another, or remove it.")


@contextmanager
def write_new(out: Path) -> Iterator[Path]:
    """Yield the path at which to write a result, which becomes `out`; of several processes one writes it.

    Raises:
        StoreError: another process is writing it.
        OptionError: it is there by now.
    """
    with writer_lock(out):
        _check_new(out)
        with atomic_write(out) as unfinished:
            yield unfinished


def save_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table that is not there yet; the file appears only when it is whole."""
    with write_new(path) as unfinished:
        write_csv(unfinished, header, rows)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table, as UTF-8 with commas."""
    text = csv_text(header, rows)
    # Names of files need not be text: what they hold instead passes through as it is.
    path.write_text(text, newline="", encoding="utf-8", errors="surrogatepass")


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table as text with commas."""
    rows = [tuple(map(str, row)) for row in rows]
    if EXACT in header:
        place = tuple(header).index(EXACT)
        if any(shown_cell(row[place]) != row[place] for row in rows):
            header = (*header, SHOWN)
            rows = [(*row, row[place]) for row in rows]
    lines = []
    for row in (header, *rows):
        cells = (text if name == EXACT else shown_cell(text) for name, text in zip(header, row, strict=True))
        lines.append(",".join(map(_quoted_cell, cells)) + "\n")
    return "".join(lines)


def shown_cell(text: str) -> str:
    """Return a cell that no spreadsheet runs: with an apostrophe in front if it would run it.

    Example:
        >>> shown_cell("=1+1"), shown_cell("-1"), shown_cell("seven")
        ("'=1+1", '-1', 'seven')
    """
    return "'" + text if _is_formula(text) else text


def original_cell(text: str) -> str:
    """Return the text that `shown_cell` was given."""
    return text[1:] if text.startswith("'") and _is_formula(text[1:]) else text


def _is_formula(text: str) -> bool:
    """Return whether a spreadsheet would run a cell, or it looks like one that was changed for that."""
    return bool(FORMULA.match(text)) and not NUMBER.fullmatch(text)


def _quoted_cell(text: str) -> str:
    """Return a cell, quoted where it must be; the csv module leaves a carriage return bare."""
    if any(mark in text for mark in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text
