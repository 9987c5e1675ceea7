import errno
import os
from pathlib import Path

import pytest

from leftout.core.atomic_files import atomic_write, part_path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fail_half_way(path: Path, member: str = "") -> None:
    def write() -> None:
        with atomic_write(path) as part:
            if member:
                part.mkdir()
            (part / member).write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()


def test_a_file_appears_when_it_is_whole(tmp_path) -> None:
    path = tmp_path / "scores.csv"
    with atomic_write(path) as part:
        part.write_text("half")
        assert names(tmp_path) == [part_path(path).name] == ["scores.csv.part"]
        part.write_text("whole")
    assert names(tmp_path) == ["scores.csv"]
    assert path.read_text() == "whole"


def test_an_older_file_is_replaced_only_by_a_whole_one(tmp_path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("old")
    fail_half_way(path)
    assert names(tmp_path) == ["scores.csv"]
    assert path.read_text() == "old"
    with atomic_write(path) as part:
        part.write_text("new")
    assert path.read_text() == "new"


def test_a_folder_appears_when_it_is_whole(tmp_path) -> None:
    path = tmp_path / "scores.zarr"
    fail_half_way(path, "chunk")
    assert names(tmp_path) == []
    with atomic_write(path) as part:
        part.mkdir()
        (part / "chunk").write_text("whole")
    assert names(tmp_path) == ["scores.zarr"]
    assert (path / "chunk").read_text() == "whole"


def test_nothing_written_is_an_error_and_leaves_the_old_file(tmp_path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), atomic_write(path):
        pass
    assert path.read_text() == "old"


def test_processes_that_share_a_file_write_parts_of_their_own(tmp_path, monkeypatch) -> None:
    path = tmp_path / "scores.csv"
    with atomic_write(path, shared=True) as one:
        one.write_text("mine")
        monkeypatch.setattr("os.getpid", lambda: 1)
        with atomic_write(path, shared=True) as two:
            two.write_text("theirs")
        assert two.name == "scores.csv.1.part" != one.name
        assert path.read_text() == "theirs"
    assert path.read_text() == "mine"
    assert names(tmp_path) == ["scores.csv"]


def test_a_file_and_its_name_are_on_the_disk_when_it_is_called_whole(tmp_path, monkeypatch) -> None:
    done: list[tuple[str, str]] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda file: done.append(("sync", name_of(file))) or fsync(file))
    monkeypatch.setattr(Path, "replace", lambda a, b: done.append(("rename", a.name)) or replace(a, b))
    with atomic_write(tmp_path / "scores.csv") as part:
        part.write_text("whole")
    assert done == [("sync", "scores.csv.part"), ("rename", "scores.csv.part"), ("sync", tmp_path.name)]
    done.clear()
    with atomic_write(tmp_path / "scores.zarr") as part:
        (part / "inner").mkdir(parents=True)
        (part / "inner/chunk").write_text("whole")
    synced = [("sync", name) for name in ("chunk", "inner", "scores.zarr.part")]
    assert done == [*synced, ("rename", "scores.zarr.part"), ("sync", tmp_path.name)]


def name_of(descriptor: int) -> str:
    return Path(os.readlink(f"/proc/self/fd/{descriptor}")).name


def test_a_disk_that_flushes_no_folders_is_taken_and_a_full_one_is_not(tmp_path, monkeypatch) -> None:
    fsync = os.fsync

    def refuse(number: int, kind: str):
        def sync(descriptor: int) -> None:
            if os.path.isdir(f"/proc/self/fd/{descriptor}") == (kind == "folder"):
                raise OSError(number, os.strerror(number))
            fsync(descriptor)

        return sync

    monkeypatch.setattr(os, "fsync", refuse(errno.EINVAL, "folder"))
    with atomic_write(tmp_path / "scores.csv") as part:
        part.write_text("whole")
    monkeypatch.setattr(os, "fsync", refuse(errno.ENOSPC, "file"))
    with pytest.raises(OSError, match="No space left"), atomic_write(tmp_path / "other.csv") as part:
        part.write_text("half")
    assert names(tmp_path) == ["scores.csv"]
