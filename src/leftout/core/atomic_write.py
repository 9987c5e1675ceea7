"""Files and folders that appear under their name only when they are whole.

They are written under `NAME.part` beside it, and renamed at the end: a reader sees the old one or the new
one, and what a killed process leaves behind is known by its name.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def part_of(path: Path) -> Path:
    """Return where a file or folder is written before it takes its name."""
    return path.with_name(path.name + ".part")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield where to write a file; it replaces the one of its name when the block ends without error."""
    part = part_of(path)
    yield part
    part.replace(path)
