"""`leftout influence` as a person meets it: rankings, files, the classical function, refusals."""

import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import leftout as lo
from leftout.cli import command_influence
from problems.runs import SMALL as SIZES
from problems.runs import named, refused, tree

SMALL = (*SIZES, "--kernel", "two-layer-relu")


def test_influence_ranks_the_most_helpful_and_the_most_harmful(leftout) -> None:
    train, query = lo.load("digits", n_train=80, n_query=30)
    code, out, err = leftout(
        "influence", "digits", *SMALL, "--ridge", "0.1", "--of-query", query.ids[4], "--top", "2"
    )
    assert (code, err) == (0, "")
    fitted = lo.fit(lo.kernels.TwoLayerReLU(), train, rule=lo.Ridge(0.1))
    scores = lo.leave_one_out(fitted, query).values[4]
    order = np.argsort(scores)
    best, worst = order[::-1][:2], order[:2]
    said = [re.split(r"\s*│\s*", line)[1:5] for line in out.splitlines() if "digits/" in line][1:]
    for j in range(2):
        for (name, value), row in zip(
            ((said[j][0], said[j][1]), (said[j][2], said[j][3])), (best[j], worst[j]), strict=True
        ):
            assert name == f"{train.ids[row]} ({train.classes[train.labels[row]]})"
            assert value == f"{scores[row]:+.3e}"
    assert "positive = the example helped" in out


def test_influence_without_a_query_is_the_mean_over_all(leftout) -> None:
    code, out, err = leftout(
        "influence", "digits", *SMALL, "--at", "2", "--at", "30", "--rule", "descent", "--rate", "0.03"
    )
    assert (code, err) == (0, "")
    assert "mean over 30 queries, step 2" in out
    assert "mean over 30 queries, step 30" in out


@pytest.mark.parametrize("of", ["loss", "prediction"])
def test_all_influences_can_be_saved(leftout, tmp_path, of) -> None:
    for name in ("all.csv", "all.zarr"):
        code, _, err = leftout("influence", "digits", *SMALL, "--of", of, "--out", name)
        assert (code, err) == (0, "")
    train, query = lo.load("digits", n_train=80, n_query=30)
    fitted = lo.fit(lo.kernels.TwoLayerReLU(), train)
    want = lo.leave_one_out(fitted, query, at=[None], of=of)
    found = xr.open_zarr(tmp_path / "all.zarr", consolidated=False)["influence"]
    assert np.array_equal(found.values, want.values)
    assert found["train"].values.tolist() == list(train.ids)
    table = pd.read_csv(tmp_path / "all.csv")
    assert len(table) == want.size
    assert np.allclose(table["influence"], want.values.ravel(), rtol=1e-12)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.csv", "all.zarr"]


WRONG_INFLUENCE = {
    "no such query": (("--of-query", "digits/9999"), "--of-query 'digits/9999' is no query; there are 30"),
    "a query that is trained on": (("--of-query", "digits/0005"), "--of-query 'digits/0005' is no query"),
    "nobody at the top": (("--top", "0"), "--top must lie in 1 … 80, the training examples; got 0"),
    "more than all": (("--top", "81"), "--top must lie in 1 … 80"),
    "a file that is there": (("--out", "mine.csv"), r"--out 'mine\.csv' exists; choose another"),
    "no kind of file": (("--out", "scores.xlsx"), r"--out must end in \.csv or \.zarr; got 'scores\.xlsx'"),
    "not writable": (("--out", "/proc/such.csv"), r"--out '/proc/such\.csv' cannot be written"),
    "no folder": (("--out", "no/such.csv"), r"--out 'no/such\.csv' must lie in a folder that exists"),
    "predictions that are not saved": (("--of", "prediction"), "--of says what --out saves"),
}


@pytest.mark.parametrize(("words", "message"), WRONG_INFLUENCE.values(), ids=WRONG_INFLUENCE)
def test_what_influence_cannot_do_is_one_sentence(leftout, tmp_path, words, message) -> None:
    (tmp_path / "mine.csv").write_text("mine")
    before = tree(tmp_path)
    refused(leftout("influence", "digits", *SMALL, *words), message)
    assert tree(tmp_path) == before


def test_ids_that_a_spreadsheet_would_run_stand_beside_as_text(tmp_path) -> None:
    train, query = lo.load("digits", n_train=40, n_query=10)
    fitted = lo.fit(lo.kernels.TwoLayerReLU(), named(train, ("=1+1",)))
    scores = lo.leave_one_out(fitted, query).to_dataset(name="influence")
    command_influence._save(scores, tmp_path / "all.csv")
    table = pd.read_csv(tmp_path / "all.csv", dtype=str)
    assert table.columns.tolist() == ["query", "train", "influence", "train_shown"]
    assert table[["train", "train_shown"]].iloc[0].tolist() == ["=1+1", "'=1+1"]
    assert (table["train"] == table["train_shown"]).sum() == 39 * 10


# The classical influence function.


def test_influence_to_first_order_is_the_classical_one(leftout) -> None:
    words = ("influence", "digits", *SMALL, "--method", "first-order")
    code, out, err = leftout(*words, "--out", "scores.csv")
    assert (code, err) == (0, "")
    assert "To first order in its weight" in out
    train, query = lo.load("digits", n_train=80, n_query=30)
    want = lo.first_order(lo.fit(lo.kernels.TwoLayerReLU(), train, rule=lo.Ridge(1.0)), query)
    got = pd.read_csv("scores.csv", dtype={"query": str, "train": str})
    np.testing.assert_allclose(got["influence"], want.values.ravel(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rule", "flow", "--at", "3"), "--at must be None, the end of training"),
        (("--of", "prediction", "--out", "x.csv"), "--of prediction goes with"),
    ],
)
def test_what_is_not_there_to_first_order_is_one_sentence(leftout, words, message) -> None:
    code, _, err = leftout("influence", "digits", *SMALL, "--method", "first-order", *words)
    assert code == 2
    assert message in err


# One pass over the training examples, whatever is saved and shown.


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--out", "all.csv"),
        ("--of", "prediction", "--out", "all.csv"),
        ("--of", "prediction", "--out", "all.csv", "--of-query", "digits/0064"),
        ("--kernel", "erf", "--spread", "--out", "all.csv", "--of-query", "digits/0064"),
    ],
)
def test_the_engine_runs_once(leftout, monkeypatch, words) -> None:
    calls = []
    engine = command_influence.leave_one_out
    monkeypatch.setattr(
        command_influence,
        "leave_one_out",
        lambda *arguments, **options: calls.append(options) or engine(*arguments, **options),
    )
    code, _, err = leftout("influence", "digits", *SMALL, *words)
    assert (code, err, len(calls)) == (0, "", 1)


def test_what_is_shown_does_not_depend_on_what_is_saved(leftout) -> None:
    words = ("influence", "digits", *SMALL, "--ridge", "0.1")
    shown = leftout(*words)[1]
    assert leftout(*words, "--out", "loss.csv")[1] == shown
    assert leftout(*words, "--of", "prediction", "--out", "prediction.csv")[1] == shown
