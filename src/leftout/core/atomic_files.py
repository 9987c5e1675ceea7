"""Files that appear only when they are whole and on the disk: written as NAME.part, then renamed to NAME.

A reader sees the old file or the new one, never half of one, also after a loss of power. A process that is
killed while it writes leaves NAME.part at most.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def part_path(path: Path) -> Path:
    """Return the path beside `path` under which it is written: NAME.part."""
    return path.with_name(path.name + ".part")


@contextmanager
def atomic_write(path: Path, *, shared: bool = False) -> Iterator[Path]:
    r"""Yield NAME.part to be written in the block; it becomes `path` when the block ends.

    What is written may be a file, or a folder where `path` does not exist yet. It is flushed to the disk
    before it is renamed, and so is its new name. Where the block raises, NAME.part is removed and `path`
    stays as it was.

    Args:
        shared: several processes may write `path` at once: each writes a part of its own name.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     table = Path(folder, "scores.csv")
        ...     with atomic_write(table) as part:
        ...         characters = part.write_text("id,score\n")
        ...     (part.name, table.read_text())
        ('scores.csv.part', 'id,score\n')
    """
    unfinished = part_path(path.with_name(f"{path.name}.{os.getpid()}") if shared else path)
    try:
        yield unfinished
        sync_tree(unfinished)
        unfinished.replace(path)
    except BaseException:
        shutil.rmtree(unfinished) if unfinished.is_dir() else unfinished.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk.

    Cost: a write of the disk; next to nothing where nothing changed since the last one.
    """
    is_folder = path.is_dir()
    try:
        descriptor = os.open(path, os.O_RDWR if os.name == "nt" and not is_folder else os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        # Windows and some network disks flush no folders: they keep names their own way.
        if not is_folder or error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM):
            raise


def sync_tree(path: Path) -> None:
    """Flush a file, or a folder with all that is in it, to the disk."""
    if path.is_dir():
        for member in path.iterdir():
            sync_tree(member)
    sync(path)
