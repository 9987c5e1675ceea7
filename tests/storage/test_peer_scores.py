"""Files in the formats of other tools become (query, train) with our sign, or are refused."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.lib.format import open_memmap
from safetensors.torch import save_file

import leftout as lo
from leftout.core.errors import DataError, OptionError, ShapeError
from leftout.storage.peer_scores import AXES

N, M = 12, 5
WANTED = np.random.default_rng(0).normal(size=(M, N)).astype(np.float32)


def test_every_tool_is_read_from_its_own_format(tmp_path) -> None:
    memmap = open_memmap(tmp_path / "scores.mmap", mode="w+", dtype=np.float32, shape=(N, M))  # trak
    memmap[:] = WANTED.T
    memmap.flush()
    torch.save(torch.from_numpy(WANTED.T.copy()), tmp_path / "dattri.pt")
    save_file({"all_modules": torch.from_numpy(WANTED)}, tmp_path / "pairwise_scores.safetensors")
    torch.save(torch.from_numpy(WANTED), tmp_path / "captum.pt")
    np.save(tmp_path / "pydvl.npy", WANTED)
    torch.save(torch.from_numpy(WANTED), tmp_path / "quanda.pth")
    files = {
        "trak": "scores.mmap",
        "dattri": "dattri.pt",
        "kronfluence": "pairwise_scores.safetensors",
        "captum": "captum.pt",
        "pydvl": "pydvl.npy",
        "quanda": "quanda.pth",
    }
    assert set(files) | {"leftout"} == set(AXES)
    for source, name in files.items():
        got = lo.read_scores(tmp_path / name, source=source, train=N, query=M)
        assert got.dims == ("query", "train")
        assert np.array_equal(got, WANTED.astype(float)), source
        assert got.attrs["source"] == source
        # Without numbers of examples the axes are those of the tool.
        assert np.array_equal(lo.read_scores(str(tmp_path / name), source=source), got)


def test_our_saved_scores_are_read_back(tmp_path) -> None:
    train, query = lo.load("digits", n_train=30, n_query=8)
    scores = lo.leave_one_out(lo.fit(lo.kernels.ReLU(1), train), query)
    scores.to_dataset(name="influence").to_zarr(tmp_path / "scores.zarr", zarr_format=2, consolidated=False)
    got = lo.read_scores(tmp_path / "scores.zarr", source="leftout", train=train, query=query)
    assert np.array_equal(got, scores)
    assert got["train"].values.tolist() == list(train.ids)
    assert got.attrs["train_fingerprint"] == train.fingerprint
    assert got.attrs["sign_probe"].startswith(("confirmed", "unclear"))


def test_numbers_of_examples_decide_the_axes() -> None:
    for array in (WANTED, WANTED.T):
        for source in ("trak", "captum"):
            got = lo.read_scores(array, source=source, train=N, query=M)
            assert np.array_equal(got, WANTED.astype(float))
    assert lo.read_scores(WANTED, source="trak", train=N).attrs["orientation_of_source"] == "query, train"


def test_a_value_of_each_example_is_one_query() -> None:
    result = SimpleNamespace(values=np.array([3.0, 1.0, 2.0]), indices=np.array([2, 0, 1]))  # sorted by value
    got = lo.read_scores(result, source="pydvl")
    assert got.values.tolist() == [[1.0, 2.0, 3.0]]
    assert got["query"].values.tolist() == ["all"]


def labelled(turn=1):
    """Scores of a kernel, and the examples."""
    train, query = lo.load("digits", n_train=60, n_query=30)
    return turn * lo.leave_one_out(lo.fit(lo.kernels.ReLU(1), train), query), train, query


def test_the_sign_is_probed_by_classes_and_by_a_reference() -> None:
    scores, train, query = labelled()
    by_classes = lo.read_scores(scores.values.T, source="dattri", train=train, query=query)
    assert by_classes.attrs["sign_probe"].startswith("confirmed: mean difference, in standard deviations")
    other = lo.leave_one_out(lo.fit(lo.kernels.ReLU(3), train), query)
    by_reference = lo.read_scores(scores.values.T, source="dattri", train=train, query=query, reference=other)
    assert by_reference.attrs["sign_probe"].startswith(
        "confirmed: mean Spearman correlation with the reference"
    )
    noise = np.random.default_rng(0).normal(size=(30, 60))
    assert (
        lo.read_scores(noise, source="captum", train=train, query=query)
        .attrs["sign_probe"]
        .startswith("unclear")
    )
    unprobed = lo.read_scores(noise, source="captum", train=60, query=30).attrs["sign_probe"]
    assert unprobed == "none: pass `reference`, or `train` and `query` with classes"


def test_turned_scores_are_refused_and_turned_when_told() -> None:
    turned, train, query = labelled(turn=-1)
    with pytest.raises(DataError, match=r"these look turned: mean difference.* -\d"):
        lo.read_scores(turned.values.T, source="dattri", train=train, query=query)
    with pytest.raises(DataError, match="these look turned: mean Spearman correlation with the reference -1"):
        lo.read_scores(turned.values, source="captum", reference=-turned)
    got = lo.read_scores(turned.values.T, source="dattri", train=train, query=query, sign=-1)
    assert np.array_equal(got, -turned.values)
    assert got.attrs["sign_turned"] == 1


@pytest.mark.usefixtures("as_users_run_it")
def test_what_cannot_be_told_is_refused(tmp_path) -> None:
    square = WANTED[:, :M]

    def refused(error, words, scores, **options):
        with pytest.raises(error, match=re.escape(words)):
            lo.read_scores(scores, **{"source": "trak"} | options)

    refused(OptionError, "`orientation` must be given", square, train=M, query=M)
    assert np.array_equal(lo.read_scores(square, source="trak", orientation="train, query"), square.T)
    refused(
        ShapeError, "an axis for 4 queries and 12 training examples; got (5, 12)", WANTED, train=N, query=4
    )
    refused(
        ShapeError,
        "training examples as (train, query); got (5, 12)",
        WANTED,
        train=N,
        orientation="train, query",
    )
    refused(OptionError, "`source` must be one of 'leftout', 'dattri'", WANTED, source="shap")
    refused(DataError, "query 0 has NaN or infinity", WANTED * np.nan, query=M)
    refused(ShapeError, "`scores` must have two axes", WANTED[None], query=M)
    refused(DataError, "there is none of this name", tmp_path / "no.npy")
    refused(OptionError, "must be a file .npy, .mmap", _written(tmp_path / "scores.csv", b"1,2"))
    refused(DataError, "reading it raised", _written(tmp_path / "bad.npy", b"nothing"))
    refused(DataError, "reading it raised", _written(tmp_path / "bad.safetensors", b"nothing"))
    np.savez(tmp_path / "two.npz", a=WANTED, b=WANTED)
    refused(OptionError, "holds several arrays, 'a', 'b': say which by `key`", tmp_path / "two.npz")
    refused(OptionError, "`key` must be one of 'a', 'b'", tmp_path / "two.npz", key="c")
    assert lo.read_scores(tmp_path / "two.npz", source="captum", key="a").shape == (M, N)
    np.save(tmp_path / "objects.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    refused(DataError, "without pickled objects", tmp_path / "objects.npy")
    empty = xr.Dataset({"other": ("x", [1.0])})
    empty.to_zarr(tmp_path / "other.zarr", zarr_format=2, consolidated=False)
    refused(ShapeError, "must hold one array (query, train)", tmp_path / "other.zarr", source="leftout")


def _written(path, content):
    path.write_bytes(content)
    return path
