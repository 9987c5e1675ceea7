"""How are scores kept? In blocks that are whole or not there, under labels that come back as given."""

import json
import math
import shutil

import numpy as np
import pytest
import xarray as xr

from leftout.core.errors import StoreError
from leftout.storage import score_store as store
from problems.runs import STRANGE

TIMES = (1.0, 10.0, math.inf)
ATTRS = {"sign": "positive = it helped", "rule": '{"ridge": 0.1}'}


def made(folder, m=7, n=5):
    """Return a store of m queries and n training examples without a block, and its scores."""
    query, train = (tuple(f"{axis} {i}" for i in range(size)) for axis, size in (("q", m), ("t", n)))
    store.create(folder, times=TIMES, query=query, train=train, attrs=ATTRS)
    scores = np.random.default_rng(0).standard_normal((len(TIMES), m, n))
    return query, train, scores


def test_blocks_come_back_under_their_labels(tmp_path) -> None:
    m = 2 * store.BLOCK + 3
    query, train, scores = made(tmp_path, m)
    for start in (store.BLOCK, 0, 2 * store.BLOCK):
        store.write_block(tmp_path, start, scores[:, start : start + store.BLOCK])
    found = store.opened(tmp_path)["influence"]
    assert found.dims == ("at", "query", "train")
    assert np.array_equal(found.to_numpy(), scores)
    assert tuple(found["at"].values) == TIMES
    assert tuple(found["query"].values) == query
    assert tuple(found["train"].values) == train
    assert found.attrs == ATTRS


def test_strange_ids_come_back(tmp_path) -> None:
    store.create(tmp_path, times=(math.inf,), query=STRANGE, train=STRANGE[::-1], attrs={})
    size = len(STRANGE)
    store.write_block(tmp_path, 0, np.ones((1, size, size)))
    found = store.opened(tmp_path)["influence"]
    assert tuple(found["query"].values.tolist()) == STRANGE
    assert tuple(found["train"].values.tolist()) == STRANGE[::-1]


def test_a_block_counts_as_done_only_after_it_is_written(tmp_path, monkeypatch) -> None:
    assert store.done(tmp_path) == set()
    _, _, scores = made(tmp_path)
    assert store.done(tmp_path) == set()

    def fails(*given):
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(store, "write_json", fails)
        with pytest.raises(RuntimeError, match="killed"):
            store.write_block(tmp_path, 0, scores)
    assert store.done(tmp_path) == set()
    store.write_block(tmp_path, 0, scores)
    assert store.done(tmp_path) == {0}
    assert json.loads((tmp_path / store.DONE).read_text()) == [0]


def test_making_a_store_again_empties_it(tmp_path) -> None:
    _, _, scores = made(tmp_path)
    store.write_block(tmp_path, 0, scores)
    made(tmp_path)
    assert store.done(tmp_path) == set()
    with pytest.raises(StoreError, match="is damaged: 3 of 3 chunks are gone"):
        store.opened(tmp_path)


def test_tables_join_the_scores_and_are_replaced(tmp_path) -> None:
    _, train, scores = made(tmp_path)
    store.write_block(tmp_path, 0, scores)
    for value in (1.0, 2.0):
        store.write_tables(tmp_path, xr.Dataset({"margin": (("train",), np.full(5, value))}))
    found = store.opened(tmp_path)
    assert set(found.data_vars) == {"influence", "margin"}
    assert found["margin"].values.tolist() == [2.0] * 5
    assert tuple(found["margin"]["train"].values) == train


DAMAGE = {
    "no store": (lambda at: shutil.rmtree(at), "is missing"),
    "no influence": (lambda at: shutil.rmtree(at / "influence"), "is damaged: "),
    "no group": (lambda at: (at / ".zgroup").unlink(), "is damaged: "),
    "broken group": (lambda at: (at / ".zgroup").write_text("{"), "is damaged: "),
    "broken array": (lambda at: (at / "influence/.zarray").write_text("[1]"), "is damaged: "),
    "no ids": (lambda at: shutil.rmtree(at / "train"), "is damaged: 'train'"),
    "fewer ids": (lambda at: _relabel(at, 4), r"is damaged: "),
    "no chunk": (lambda at: (at / "influence/1.0.0").unlink(), "is damaged: 1 of 3 chunks are gone"),
}


def _relabel(path, n):
    shutil.rmtree(path / "train")
    xr.Dataset(coords={"train": np.arange(n)}).to_zarr(path, mode="a", zarr_format=2, consolidated=False)


@pytest.mark.parametrize(("harm", "message"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_store_is_refused(tmp_path, harm, message) -> None:
    _, _, scores = made(tmp_path)
    store.write_block(tmp_path, 0, scores)
    store.opened(tmp_path)
    harm(tmp_path / store.SCORES)
    with pytest.raises(StoreError, match=f"scores.zarr' {message}"):
        store.opened(tmp_path)


def test_json_is_replaced_whole_or_not_at_all(tmp_path) -> None:
    path = tmp_path / "some.json"
    store.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        store.write_json(path, {"b": object()})
    assert store.read_json(path) == {"a": 1}


def test_json_holds_no_word_that_other_readers_refuse(tmp_path) -> None:
    path = tmp_path / "some.json"
    store.write_json(path, {"at": [math.inf, 1.0], "inner": {"x": (math.nan, -math.inf)}})

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    found = json.loads(path.read_text(), parse_constant=refuse)
    assert found == {"at": ["inf", 1.0], "inner": {"x": ["nan", "-inf"]}}


def test_unreadable_json_is_one_sentence(tmp_path) -> None:
    path = tmp_path / "some.json"
    with pytest.raises(StoreError, match=r"some\.json' does not exist"):
        store.read_json(path)
    for content in (b"", b"{", b"\xff\xfe", b"\x1f\x8b\x08\x00"):
        path.write_bytes(content)
        with pytest.raises(StoreError, match=r"some\.json' is not readable JSON: "):
            store.read_json(path)
    with pytest.raises(StoreError, match="is not readable JSON: "):
        store.read_json(tmp_path)
