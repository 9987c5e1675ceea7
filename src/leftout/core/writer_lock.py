"""One writer at a time: a lock beside a path, which ends with its process however that ends."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from leftout.core.errors import StoreError

PATIENCE = 0.5
"""Seconds for which a lock is waited for: long enough for its holder to write who it is."""


def lock_path(path: Path) -> Path:
    """Return the path of the file that is locked while `path` is written."""
    return path.with_name(f".{path.name}.leftout.lock")


@contextmanager
def writer_lock(path: Path) -> Iterator[None]:
    """Be the only process that writes `path` while the block runs.

    The lock is one of the operating system on a hidden file beside `path`, so it is released when its
    process ends, also when that is killed. The file says who holds it and is removed at the end; what a
    killed process leaves of it is taken over by the next one.

    Raises:
        StoreError: another process holds the lock, or none can be made there.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder, writer_lock(Path(folder, "run")):
        ...     [path.name for path in Path(folder).iterdir()]
        ['.run.leftout.lock']
    """
    lock = FileLock(lock_path(path), timeout=PATIENCE, on_acquired=_write_holder)
    try:
        # Where no file can be made, the lock would wait for one to be released.
        lock_path(path).open("ab").close()
        lock.acquire()
    except Timeout:
        raise StoreError(
            f"{str(path)!r} is being written by {_holder(lock_path(path))}. Nothing was changed: wait until "
            "that has ended, or choose another `out`."
        ) from None
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StoreError(
            f"{str(lock_path(path))!r} cannot be locked: {reason}. Choose an `out` where files can be made "
            "and locked."
        ) from None
    try:
        yield
    finally:
        with suppress(OSError):  # while it is held, so that it is nobody else's; Windows keeps open files
            lock_path(path).unlink()
        lock.release()


def clear_lock(path: Path) -> None:
    """Remove what a killed process left of its lock, where nobody holds it now."""
    if lock_path(path).exists():
        with suppress(StoreError), writer_lock(path):
            pass


def _write_holder(descriptor: int) -> None:
    """Write into a locked file who locked it."""
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    os.ftruncate(descriptor, 0)
    with suppress(OSError):  # a full disk: it is locked all the same, and what is written next will say so
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()} since {since}\n".encode())


def _holder(path: Path) -> str:
    """Return who holds a locked file."""
    try:
        return path.read_text(errors="replace").strip() or "another process"
    except OSError:  # it has just ended, or Windows lets nobody read what is locked
        return "another process"
