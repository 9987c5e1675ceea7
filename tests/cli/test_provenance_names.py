"""Where does each example come from? From a column, a file of ids, or its class; else a sentence."""

import numpy as np
import pandas as pd
import pytest

import leftout as lo
from leftout.cli.commands import AuditArguments
from leftout.cli.model import load_examples
from leftout.cli.provenance_names import provenance_column, provenance_names
from leftout.core.errors import DataError, OptionError


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A table of twelve rows with a column of sources, a file of its ids, and one without ids."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(draw.standard_normal((12, 2)), columns=["a", "b"])
    frame["where"] = ["north", "south"] * 6
    frame["kind"] = ["x", "y", "y"] * 4
    frame.to_csv("bare.csv", index=False)
    frame["id"] = [f"{i:03d}" for i in range(12)]
    frame.to_csv("t.csv", index=False)
    frame.rename(columns={"where": "source"})[["source", "id"]].to_csv("s.csv", index=False)
    return frame


def loaded(name):
    return lo.load(name, target="kind", columns=["a", "b"])[0]


@pytest.mark.parametrize(("source", "name"), [("where", "t.csv"), ("where", "bare.csv"), ("s.csv", "t.csv")])
def test_each_example_has_its_own(data, source, name) -> None:
    train = loaded(name)
    rows = [int(i) if name == "t.csv" else int(i.removeprefix("row ")) - 2 for i in train.ids]
    assert provenance_names(source, name, train) == data["where"].iloc[rows].tolist()


def test_not_said_it_is_the_class(data) -> None:
    train = loaded("t.csv")
    assert provenance_names(None, "t.csv", train) == [train.classes[i] for i in train.labels]


def test_a_column_of_sources_is_no_feature(data) -> None:
    assert provenance_column("where", "t.csv", "kind") == "where"
    assert provenance_column("s.csv", "t.csv", "kind") is None
    assert provenance_column(None, "digits", None) is None
    for more, columns in ({}, ("a", "b")), ({"columns": "where,b"}, ("where", "b")):
        asked = AuditArguments.from_options(data="t.csv", target="kind", provenance="where", **more)
        assert load_examples(asked, lo.kernels.ReLU(2))[0].columns == columns


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("where", "digits", None), "must be a file with columns id and source"),
        (("here", "t.csv", "kind"), "must be a column of 't.csv', 'a', 'b', 'where', 'kind', or a file"),
        (("kind", "t.csv", "kind"), "is the column that is predicted; name another with --target"),
        (("kind", "bare.csv", None), "is the column that is predicted; name another with --target"),
        (("id", "t.csv", "kind"), "must be a column of 't.csv'"),
    ],
)
def test_a_column_that_is_none_is_refused(data, asked, message) -> None:
    with pytest.raises(OptionError, match=message):
        provenance_column(*asked)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,from\n000,a\n", "must have the columns 'id' and 'source'; it has 'id', 'from'"),
        ("name,source\n000,a\n", "must have the columns 'id' and 'source'; it has 'name', 'source'"),
        ("id,source\n999,a\n", "must name a source for every training example; .* are not there, the first"),
        ("id,source\n000,\n001,b\n", "must name a source for every example; that of 000 is missing"),
    ],
)
def test_a_file_that_does_not_say_is_refused(data, tmp_path, content, message) -> None:
    (tmp_path / "f.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        provenance_names("f.csv", "t.csv", loaded("t.csv"))


def test_numbers_to_predict_are_no_sources(data) -> None:
    train = lo.load("t.csv", target="a", columns=["b"])[0]
    with pytest.raises(OptionError, match="--provenance must say where examples come from, as there are no"):
        provenance_names(None, "t.csv", train)
