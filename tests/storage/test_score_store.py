"""Scores are kept in blocks that are whole or not there, under labels that come back as given."""

import json
import math
import shutil
from hashlib import sha256

import numpy as np
import pytest
import xarray as xr

from leftout.core.errors import StoreError
from leftout.storage import score_store as store
from problems.runs import STRANGE

TIMES = (1.0, 10.0, math.inf)
ATTRS = {"sign": "positive = it helped", "rule": '{"ridge": 0.1}'}


def empty_store(folder, m=7, n=5):
    """Return a store of m queries and n training examples without a block, and its scores."""
    query, train = (tuple(f"{axis} {i}" for i in range(size)) for axis, size in (("q", m), ("t", n)))
    store.create_store(folder, times=TIMES, query=query, train=train, attrs=ATTRS)
    scores = np.random.default_rng(0).standard_normal((len(TIMES), m, n))
    return query, train, scores


def test_blocks_come_back_under_their_labels(tmp_path) -> None:
    m = 2 * store.BLOCK + 3
    query, train, scores = empty_store(tmp_path, m)
    for start in (store.BLOCK, 0, 2 * store.BLOCK):
        store.write_block(tmp_path, start, scores[:, start : start + store.BLOCK])
    stored = store.open_store(tmp_path)["influence"]
    assert stored.dims == ("at", "query", "train")
    assert np.array_equal(stored.to_numpy(), scores)
    assert tuple(stored["at"].values) == TIMES
    assert tuple(stored["query"].values) == query
    assert tuple(stored["train"].values) == train
    assert stored.attrs == ATTRS


def test_strange_ids_come_back(tmp_path) -> None:
    store.create_store(tmp_path, times=(math.inf,), query=STRANGE, train=STRANGE[::-1], attrs={})
    size = len(STRANGE)
    store.write_block(tmp_path, 0, np.ones((1, size, size)))
    stored = store.open_store(tmp_path)["influence"]
    assert tuple(stored["query"].values.tolist()) == STRANGE
    assert tuple(stored["train"].values.tolist()) == STRANGE[::-1]


def test_a_block_counts_as_done_only_after_it_is_written(tmp_path, monkeypatch) -> None:
    assert store.finished_blocks(tmp_path) == set()
    _, _, scores = empty_store(tmp_path)
    assert store.finished_blocks(tmp_path) == set()

    def fails(*given):
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(store, "write_json", fails)
        with pytest.raises(RuntimeError, match="killed"):
            store.write_block(tmp_path, 0, scores)
    assert store.finished_blocks(tmp_path) == set()
    store.write_block(tmp_path, 0, scores)
    assert store.finished_blocks(tmp_path) == {0}
    done = json.loads((tmp_path / store.DONE).read_text())
    chunks = (tmp_path / store.SCORES).glob("influence/[0-9]*")
    assert done == {"0": {f"influence/{path.name}": sha256(path.read_bytes()).hexdigest() for path in chunks}}
    assert len(done["0"]) == len(TIMES)


HARM_TO_A_BLOCK = {
    "nothing": (lambda at: None, {0, store.BLOCK}),
    "an empty chunk": (lambda at: (at / "influence/1.0.0").write_bytes(b""), {store.BLOCK}),
    "a chunk less": (lambda at: (at / "influence/2.1.0").unlink(), {0}),
    "exchanged chunks": (lambda at: _exchange(at / "influence/0.0.0", at / "influence/1.0.0"), {store.BLOCK}),
    "no labels": (lambda at: shutil.rmtree(at / "train"), {0, store.BLOCK}),
    "an empty description": (lambda at: (at / "influence/.zarray").write_bytes(b""), {0, store.BLOCK}),
    "half a table": (lambda at: half_a_table(at), {0, store.BLOCK}),
    "no store": (lambda at: shutil.rmtree(at), set()),
}


def _exchange(one, other):
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def half_a_table(path):
    (path / "margin").mkdir()
    (path / "margin/.zarray").write_text('{"shape"')
    (path / ".zmetadata").write_text("{}")


@pytest.mark.parametrize(("harm", "whole"), HARM_TO_A_BLOCK.values(), ids=HARM_TO_A_BLOCK)
def test_making_a_store_again_keeps_whole_blocks_and_nothing_else(tmp_path, harm, whole) -> None:
    m = store.BLOCK + 7
    _, _, scores = empty_store(tmp_path, m)
    starts = (0, store.BLOCK)
    for start in starts:
        store.write_block(tmp_path, start, scores[:, start : start + store.BLOCK])
    harm(tmp_path / store.SCORES)
    empty_store(tmp_path, m)
    assert store.finished_blocks(tmp_path) == whole
    for start in set(starts) - whole:
        store.write_block(tmp_path, start, scores[:, start : start + store.BLOCK])
    stored = store.open_store(tmp_path)
    assert set(stored.variables) == {"at", "query", "train", "influence"}
    assert np.array_equal(stored["influence"].to_numpy(), scores)


def test_tables_join_the_scores_and_are_replaced(tmp_path) -> None:
    _, train, scores = empty_store(tmp_path)
    store.write_block(tmp_path, 0, scores)
    for value in (1.0, 2.0):
        store.write_tables(tmp_path, xr.Dataset({"margin": (("train",), np.full(5, value))}))
    stored = store.open_store(tmp_path)
    assert set(stored.data_vars) == {"influence", "margin"}
    assert stored["margin"].values.tolist() == [2.0] * 5
    assert tuple(stored["margin"]["train"].values) == train


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
    _, _, scores = empty_store(tmp_path)
    store.write_block(tmp_path, 0, scores)
    store.open_store(tmp_path)
    harm(tmp_path / store.SCORES)
    with pytest.raises(StoreError, match=f"scores.zarr' {message}"):
        store.open_store(tmp_path)
