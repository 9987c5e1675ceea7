"""Curation on the command line: what it prints and saves is what the library says."""

import inspect
import re

import numpy as np
import pandas as pd
import pytest

import leftout as lo
from leftout.attribution.information import information
from leftout.cli.commands import PruneArguments
from leftout.curation.prune import prune
from leftout.curation.rare import outliers, rare
from leftout.curation.sources import sources

SMALL = ("digits", "--n-train", "80", "--n-query", "30", "--ridge", "0.1", "--kernel", "two-layer-relu")
COMMANDS = ("information", "prune", "rare", "sources")
MODEL = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 1, bias=False)).double()
"""


@pytest.fixture(scope="module")
def model():
    train, query = lo.load("digits", n_train=80, n_query=30)
    return lo.fit(lo.kernels.TwoLayerReLU(), train, rule=lo.Ridge(0.1)), query


def table(path):
    return pd.read_csv(path, dtype={"id": str, "label": str}, keep_default_na=False)


def numbers(column):
    """The numbers of a column that has some empty cells, and where they are."""
    there = np.flatnonzero(column.astype(str) != "")
    return there, column.iloc[there].astype(float).to_numpy()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_an_example_that_works(leftout, name) -> None:
    code, out, err = leftout(name, "--help")
    assert (code, err) == (0, "")
    example = re.search(r"Example: leftout (.*)", out).group(1).split()
    assert example[0] == name
    smaller = ["120" if word == "500" else word for word in example]
    code, out, err = leftout(*smaller, "--n-query", "30")
    assert (code, err) == (0, "")
    assert out


def test_information_is_saved_most_first(leftout, tmp_path, model) -> None:
    fitted, query = model
    code, out, err = leftout("information", *SMALL, "--top", "2", "--out", "told.csv")
    assert (code, err) == (0, "")
    found = table(tmp_path / "told.csv")
    wanted = information(fitted, query).sel(train=found["id"].tolist())
    # Two processes' worth of threads may round sums otherwise: 1e-9 of the largest is the promise.
    for name in ("function", "weights"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-9)
    assert (np.diff(found["function"]) <= 0).all()
    assert len(found) == 80
    assert found["id"].iloc[0] in out
    assert found["id"].iloc[-1] in out
    assert found["id"].iloc[40] not in out
    assert "≥ 0: how far model and model without the example are apart" in out


@pytest.mark.parametrize("order", ["least", "most", "random", "iterative"])
def test_an_order_is_saved_with_its_curve(leftout, tmp_path, model, order) -> None:
    fitted, query = model
    words = ("--order", order, "--by", "weights", "--share", "0.25", "--share", "0.5")
    code, out, err = leftout("prune", *SMALL, *words, "--out", "order.csv")
    assert (code, err) == (0, "")
    wanted = prune(fitted, query, order=order, by="weights", shares=(0.25, 0.5))
    found = table(tmp_path / "order.csv")
    assert found["id"].tolist() == [fitted.train.ids[row] for row in wanted.order]
    where, loss = numbers(found["query_loss"])
    assert (where + 1).tolist() == [20, 40]
    np.testing.assert_allclose(loss, wanted.loss[1:], rtol=1e-9)
    assert numbers(found["query_accuracy"])[1].tolist() == list(wanted.accuracy[1:])
    told = numbers(found["information"])[1]
    assert len(told) == (0 if order == "random" else 80)
    assert wanted.reason in out.replace("\n", " ")
    assert "retrained_loss" not in found


def test_what_is_tolerated_of_all_queries_and_of_a_class_decides_what_can_go(leftout, model) -> None:
    fitted, query = model
    defaults = inspect.signature(prune).parameters
    assert PruneArguments().tolerance == defaults["tolerance"].default
    assert PruneArguments().class_tolerance == defaults["class_tolerance"].default
    words = ("--share", "0.25", "--tolerance", "1e9")
    reasons = []
    for of_class in (0.0, 1e9):
        code, out, err = leftout("prune", *SMALL, *words, "--class-tolerance", of_class)
        assert (code, err) == (0, "")
        reasons.append(prune(fitted, query, shares=(0.25,), tolerance=1e9, class_tolerance=of_class).reason)
        assert reasons[-1] in " ".join(out.split())
    assert reasons[0] != reasons[1]


def test_a_network_of_ones_own_is_trained_again_beside_its_prediction(leftout, tmp_path) -> None:
    (tmp_path / "net.py").write_text(MODEL)
    code, out, err = leftout(
        "prune",
        "digits",
        "--classes",
        "7,9",
        "--n-train",
        "40",
        "--n-query",
        "30",
        "--ridge",
        "0.5",
        "--model",
        "net.py:build",
        "--share",
        "0.5",
        "--retrain",
        "--jobs",
        "1",
        "--out",
        "order.csv",
    )
    assert (code, err) == (0, "")
    found = table(tmp_path / "order.csv")
    # A linear network is its linearisation, up to the tolerance of training, 1e-6.
    np.testing.assert_allclose(
        numbers(found["retrained_loss"])[1], numbers(found["query_loss"])[1], rtol=1e-4
    )
    assert "loss, trained again" in out


def test_a_two_layer_network_is_made_and_takes_the_steps(leftout) -> None:
    code, out, err = leftout(
        "prune",
        "digits",
        "--classes",
        "7,9",
        "--n-train",
        "30",
        "--n-query",
        "20",
        "--rule",
        "descent",
        "--rate",
        "0.05",
        "--at",
        "20",
        "--share",
        "0.5",
        "--retrain",
        "--width",
        "256",
        "--jobs",
        "1",
    )
    assert (code, err) == (0, "")
    assert "accuracy, trained again" in out


def test_rare_lists_are_saved(leftout, tmp_path, model) -> None:
    fitted, _ = model
    code, out, err = leftout("rare", *SMALL, "--out", "rare.csv")
    assert (code, err) == (0, "")
    found = table(tmp_path / "rare.csv")
    for what, wanted in (("under-sampled", rare(fitted)), ("outlier", outliers(fitted))):
        ids = [fitted.train.ids[one.row] for one in wanted]
        assert found.loc[found["what"] == what, "id"].tolist() == ids
        assert f"{what}: {len(ids)}" in out
    assert "kinds within classes: 0" in out


def planted(path):
    """A table of classes: one of two clouds, 90 and 9, and one of one; and queries of each."""
    draw = np.random.default_rng(0)
    counts, centres = (90, 9, 90, 20), np.eye(5)[[0, 2, 1, 2]] * 8
    rows = np.concatenate([c + draw.standard_normal((n, 5)) for c, n in zip(centres, counts, strict=True)])
    frame = pd.DataFrame(rows, columns=list("abcde"))
    frame["where"] = np.repeat(["north", "south", "east", "south"], counts)
    frame["split"] = np.repeat(["train", "train", "train", "test"], counts)
    frame["kind"] = np.repeat(["one", "one", "two", "one"], counts)
    frame["id"] = [f"{i:03d}" for i in range(len(frame))]
    frame.to_csv(path, index=False)
    return frame


def test_a_kind_within_a_class_is_named(leftout, tmp_path) -> None:
    planted(tmp_path / "t.csv")
    features = tmp_path / "f.csv"
    pd.read_csv(tmp_path / "t.csv", dtype={"id": str}).drop(columns="where").to_csv(features, index=False)
    code, out, err = leftout("rare", "f.csv", "--target", "kind", "--out", "rare.csv")
    assert (code, err) == (0, "")
    assert "kinds within classes: 1" in out
    assert "These 9 are 9.1% of class one" in out
    found = table(tmp_path / "rare.csv")
    kind = found[found["what"] == "kind 1"]
    assert sorted(kind["id"]) == [f"{i:03d}" for i in range(90, 99)]
    assert set(kind["label"]) == {"one"}


def test_sources_are_classes_columns_or_a_file(leftout, tmp_path, model) -> None:
    fitted, query = model
    code, out, err = leftout("sources", *SMALL, "--out", "classes.csv")
    assert (code, err) == (0, "")
    wanted = sources(fitted, query, fitted.train.labels)
    found = table(tmp_path / "classes.csv")
    assert found["name"].astype(str).tolist() == [one.name for one in wanted.sources]
    np.testing.assert_allclose(found["function"], [one.function.value for one in wanted.sources])
    assert wanted.reason in out.replace("\n", " ")
    planted(tmp_path / "t.csv").rename(columns={"where": "source"})[["id", "source"]].to_csv(
        tmp_path / "s.csv", index=False
    )
    by_column = leftout("sources", "t.csv", "--target", "kind", "--provenance", "where")
    assert by_column[0] == 0
    assert {"north", "south", "east"} <= set(re.findall(r"\w+", by_column[1]))
    pd.read_csv(tmp_path / "t.csv", dtype={"id": str}).drop(columns="where").to_csv(
        tmp_path / "f.csv", index=False
    )
    assert leftout("sources", "f.csv", "--target", "kind", "--provenance", "s.csv") == by_column


def test_an_audit_shows_sources_and_is_repeated_with_them(leftout, tmp_path) -> None:
    planted(tmp_path / "t.csv")
    code, _, err = leftout("audit", "t.csv", "--target", "kind", "--provenance", "where", "--out", "run")
    assert (code, err) == (0, "")
    page = (tmp_path / "run/report.html").read_text()
    assert "Which source is worth more?" in page
    assert "9 examples of one, 9.1\u202f% of the class" in page
    record = lo.open(tmp_path / "run").record
    assert record["command"]["options"]["provenance"] == "where"
    assert {one["name"] for one in record["sources"]["sources"]} == {"north", "south", "east"}
    code, _, err = leftout("audit", "--repeat", "run/run.json")
    assert (code, err) == (0, "")
    assert lo.open(tmp_path / "run-again").record["sources"] == record["sources"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("information", *SMALL, "--top", "0"), "`--top` must be a whole number ≥ 1; got 0."),
        (("rare", *SMALL, "--out", "x.txt"), "--out must end in .csv; got 'x.txt'."),
        (("prune", *SMALL, "--at", "1", "--at", "2"), "--at must be given once here; got 1, 2."),
        (("prune", *SMALL, "--share", "1.5"), "--share must lie in (0, 1); got 1.5."),
        (("prune", *SMALL, "--at", "1", "--retrain"), "A network is trained under Ridge or GradientDescent"),
        (("prune", *SMALL[:5], "--retrain", "--kernel", "erf"), "--retrain needs --model, or --kernel"),
        (
            ("prune", *SMALL, "--rule", "descent", "--rate", "0.01", "--at", "0", "--retrain"),
            "A network is trained for at least one step; got at = 0.",
        ),
        (("sources", *SMALL, "--provenance", "where"), "must be a file with columns id and source"),
        (("sources", *SMALL, "--provenance", "no.csv"), "no.csv"),
        (("audit", *SMALL, "--provenance", "where"), "must be a file with columns id and source"),
        (("prune", "digits", "--n-train", "0"), "--n-train must be a whole number ≥ 1; got 0"),
    ],
    ids=lambda words: " ".join(words[:1] + words[-2:]) if isinstance(words, tuple) else "",
)
def test_what_a_user_can_put_right_is_one_sentence_and_status_2(leftout, tmp_path, words, sentence) -> None:
    code, out, err = leftout(*words)
    assert code == 2
    assert err.startswith("leftout: ")
    assert sentence in err
    assert err.count("\n") == 1
    assert "Traceback" not in out + err
    assert list(tmp_path.iterdir()) == []
