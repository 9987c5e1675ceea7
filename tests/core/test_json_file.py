"""JSON files are replaced whole, hold what every reader takes, and are refused in a sentence."""

import json
import math
import os
from pathlib import Path

import pytest

from leftout.core.errors import StoreError
from leftout.core.json_file import read_json, write_json


def test_json_is_replaced_whole_or_not_at_all(tmp_path) -> None:
    path = tmp_path / "some.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"b": object()})
    assert read_json(path) == {"a": 1}


def test_json_holds_no_word_that_other_readers_refuse(tmp_path) -> None:
    path = tmp_path / "some.json"
    write_json(path, {"at": [math.inf, 1.0], "inner": {"x": (math.nan, -math.inf)}})

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    content = json.loads(path.read_text(), parse_constant=refuse)
    assert content == {"at": ["inf", 1.0], "inner": {"x": ["nan", "-inf"]}}


def test_unreadable_json_is_one_sentence(tmp_path) -> None:
    path = tmp_path / "some.json"
    with pytest.raises(StoreError, match=r"some\.json' does not exist"):
        read_json(path)
    for damage in (b"", b"{", b"\xff\xfe", b"\x1f\x8b\x08\x00"):
        path.write_bytes(damage)
        with pytest.raises(StoreError, match=r"some\.json' is not readable JSON: "):
            read_json(path)
    with pytest.raises(StoreError, match=r"is not readable JSON: it is no file\.$"):
        read_json(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have no names there")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path) -> None:
    os.mkfifo(tmp_path / "run.json")
    with pytest.raises(StoreError, match=r"run\.json' is not readable JSON: it is no file\.$"):
        read_json(tmp_path / "run.json")


def test_what_memory_does_not_hold_is_one_sentence(tmp_path, monkeypatch) -> None:
    (tmp_path / "run.json").write_text("{}")

    def fails(path):
        raise MemoryError

    monkeypatch.setattr(Path, "read_text", fails)
    with pytest.raises(StoreError, match=r"is not readable JSON: it is larger than memory\.$"):
        read_json(tmp_path / "run.json")
