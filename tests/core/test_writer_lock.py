"""A lock on a path: held by one process, named, and gone afterwards, also where the disk is full."""

import errno
import os

import pytest

from leftout.core import writer_lock as module
from leftout.core.errors import StoreError
from leftout.core.writer_lock import lock_path, writer_lock


def test_who_holds_it_is_named_and_nothing_stays(tmp_path) -> None:
    with (
        writer_lock(tmp_path / "run"),
        pytest.raises(StoreError, match=rf"run' is being written by process {os.getpid()} on "),
        writer_lock(tmp_path / "run"),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_a_full_disk_takes_the_lock_without_the_name_of_its_holder(tmp_path, monkeypatch) -> None:
    class Full:
        """The system, but for a disk without space."""

        def __getattr__(self, name):
            return getattr(os, name)

        def write(self, descriptor, content):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "os", Full())
    with writer_lock(tmp_path / "run"):
        assert lock_path(tmp_path / "run").exists()
        with (
            pytest.raises(StoreError, match="is being written by another process"),
            writer_lock(tmp_path / "run"),
        ):
            pass
    assert not list(tmp_path.iterdir())
