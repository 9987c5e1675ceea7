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
