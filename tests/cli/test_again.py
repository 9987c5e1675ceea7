"""Can a run be made again from its record? To the same bytes; a record that is none is refused."""

import json
import re

import numpy as np
import pandas as pd
import pytest

import leftout as lo
from leftout.cli.arguments import Choices
from leftout.core.errors import OptionError
from problems.runs import small_audit, tree

SMALL = ("--n-train", "80", "--n-query", "30")


def assert_same_results(one, other):
    """Equal bits: the same computation twice, by as many threads of one processor."""
    for name in ("suspects.csv", "redundant.csv"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    runs = lo.open(one), lo.open(other)
    assert runs[0].tables.identical(runs[1].tables)
    assert runs[0].record["computation"] == runs[1].record["computation"]
    assert runs[0].record["asked"] == runs[1].record["asked"]


ASKED = {
    "the defaults": (),
    "ridge": ("--ridge", "0.1", "--loss", "mean", "--seed", "2", "--classes", "1,7,9"),
    "flow": ("--at", "3", "--at", "inf", "--ridge", "0.1", "--centre", "mean", "--refits", "1"),
    "descent": ("--rule", "descent", "--rate", "0.03", "--at", "20"),
    "a deep kernel": ("--kernel", "relu", "--depth", "3", "--kind", "nngp", "--normalise", "unit"),
}


@pytest.mark.parametrize("words", ASKED.values(), ids=ASKED)
def test_a_run_made_again_has_the_same_bytes(leftout, tmp_path, words) -> None:
    assert leftout("audit", "digits", *SMALL, *words)[0] == 0
    before = tree(tmp_path / "run")
    code, out, err = leftout("audit", "--again", "run/run.json")
    assert (code, err) == (0, "")
    assert out.endswith(f"report: {tmp_path / 'run-again' / 'report.html'}\n")
    assert tree(tmp_path / "run") == before
    assert_same_results(tmp_path / "run", tmp_path / "run-again")


def test_a_run_made_again_goes_where_it_is_told(leftout, tmp_path) -> None:
    leftout("audit", "digits", *SMALL, "--out", "first")
    assert leftout("audit", "--again", "first/run.json", "--out", "run")[0] == 0
    assert_same_results(tmp_path / "first", tmp_path / "run")
    assert leftout("audit", "--again", "run/run.json", "--memory", "1GB")[0] == 0
    assert_same_results(tmp_path / "first", tmp_path / "run-again")


def test_files_are_found_from_any_folder(leftout, tmp_path, monkeypatch) -> None:
    draw = np.random.default_rng(0)
    (tmp_path / "home").mkdir()
    (tmp_path / "away").mkdir()
    frame = pd.DataFrame(draw.standard_normal((50, 2)), columns=["x", "y"])
    frame.assign(kind=np.arange(50) % 2).to_csv(tmp_path / "home/table.csv", index=False)
    monkeypatch.chdir(tmp_path / "home")
    assert leftout("audit", "table.csv", "--kernel", "relu")[0] == 0
    monkeypatch.chdir(tmp_path / "away")
    code, _, err = leftout("audit", "--again", "../home/run/run.json", "--out", "here")
    assert (code, err) == (0, "")
    assert_same_results(tmp_path / "home/run", tmp_path / "away/here")
    assert [path.name for path in (tmp_path / "away").iterdir()] == ["here"]


def test_a_folder_that_is_gone_is_the_one_we_are_in(leftout, tmp_path) -> None:
    leftout("audit", "digits", *SMALL)
    record = json.loads((tmp_path / "run/run.json").read_text())
    record["asked"]["folder"] = "/no/such/folder"
    (tmp_path / "moved.json").write_text(json.dumps(record))
    assert leftout("audit", "--again", "moved.json", "--out", "again")[0] == 0
    one, other = (tmp_path / name / "suspects.csv" for name in ("run", "again"))
    assert one.read_bytes() == other.read_bytes()


def test_a_run_of_another_version_is_made_again_by_this_one(leftout, tmp_path) -> None:
    leftout("audit", "digits", *SMALL)
    record = json.loads((tmp_path / "run/run.json").read_text())
    (tmp_path / "run/run.json").write_text(json.dumps(record | {"leftout": "0.0.1"}))
    assert leftout("audit", "--again", "run/run.json", "--out", "new")[0] == 0
    lo.open(tmp_path / "new")


@pytest.mark.parametrize(
    "words", [("--ridge", "3"), ("--n-train", "50"), ("--refits", "1"), ("--at", "1"), ("mnist:x",)]
)
def test_other_flags_beside_again_are_refused_and_not_ignored(leftout, tmp_path, words) -> None:
    leftout("audit", "digits", *SMALL)
    before = tree(tmp_path)
    code, out, err = leftout("audit", *words, "--again", "run/run.json")
    assert (code, out) == (2, "")
    assert err.startswith("leftout: --again repeats a run as it was asked: give no other flags")
    assert tree(tmp_path) == before


def test_a_run_made_in_python_is_made_again_there(leftout, tmp_path) -> None:
    small_audit(tmp_path / "run")
    before = tree(tmp_path)
    code, out, err = leftout("audit", "--again", "run/run.json")
    assert (code, out) == (2, "")
    assert re.match(r"leftout: --again needs the run\.json .*\(a run made in Python is made", err)
    assert tree(tmp_path) == before


CHOICES = Choices().record
NO_RECORD = {
    "nothing": (None, r"rec\.json' does not exist"),
    "garbage": (b"\x00\xff", r"rec\.json' is not readable JSON"),
    "half": (b'{"asked": ', r"rec\.json' is not readable JSON"),
    "a list": ([], "--again needs the run.json"),
    "nothing asked": ({}, "--again needs the run.json"),
    "asked in words": ({"asked": "digits"}, "--again needs the run.json"),
    "asked nothing": ({"asked": {}}, "--again needs the run.json"),
    "no folder": ({"asked": {"choices": CHOICES, "refits": 3}}, "--again needs the run.json"),
    "folder 7": ({"asked": {"choices": CHOICES, "refits": 3, "folder": 7}}, "--again needs the run.json"),
    "many refits": (
        {"asked": {"choices": CHOICES, "refits": "many", "folder": "."}},
        "`asked` holds 'many' for `refits`, which it cannot be",
    ),
    "choices in words": (
        {"asked": {"choices": "all", "refits": 3, "folder": "."}},
        "`asked` must hold choices by name; got 'all'",
    ),
}


@pytest.mark.parametrize(("content", "message"), NO_RECORD.values(), ids=NO_RECORD)
def test_a_record_that_is_none_is_one_sentence(leftout, tmp_path, content, message) -> None:
    if content is not None:
        whole = content if isinstance(content, bytes) else json.dumps(content).encode()
        (tmp_path / "rec.json").write_bytes(whole)
    before = tree(tmp_path)
    code, out, err = leftout("audit", "--again", "rec.json")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert re.search(message, err), err
    assert tree(tmp_path) == before


WRONG_CHOICES = [
    ("colour", "red", "`asked` holds 'colour', which this version does not know"),
    ("ridge", "much", "`asked` holds 'much' for `ridge`, which it cannot be"),
    ("seed", 1.5, "`asked` holds 1.5 for `seed`, which it cannot be"),
    ("seed", True, "`asked` holds True for `seed`, which it cannot be"),
    ("seed", None, "`asked` holds None for `seed`, which it cannot be"),
    ("data", 3, "`asked` holds 3 for `data`, which it cannot be"),
    ("at", 3.0, "`asked` holds 3.0 for `at`, which it cannot be"),
    ("at", ["soon"], r"`asked` holds \['soon'\] for `at`, which it cannot be"),
    ("loss", "max", "`asked` holds 'max' for `loss`, which it cannot be"),
    ("kind", ["ntk"], r"`asked` holds \['ntk'\] for `kind`, which it cannot be"),
    ("normalise", "loud", "`asked` holds 'loud' for `normalise`, which it cannot be"),
    (
        "kernel",
        "linear",
        "`kernel` must be one of 'two-layer-relu', .*'conv-relu', 'hierarchy', 'auto'; got 'linear'",
    ),
    ("rule", "adam", "`rule` must be one of 'ridge', 'flow', 'descent'; got 'adam'"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG_CHOICES)
def test_a_choice_that_is_none_is_one_sentence(leftout, tmp_path, name, value, message) -> None:
    record = {"asked": {"choices": CHOICES | {name: value}, "refits": 3, "folder": str(tmp_path)}}
    (tmp_path / "rec.json").write_text(json.dumps(record))
    code, out, err = leftout("audit", "--again", "rec.json", "--out", "run")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert re.search(message, err), err
    assert [path.name for path in tmp_path.iterdir()] == ["rec.json"]


def test_choices_come_back_from_their_record() -> None:
    made = Choices(
        data="table.csv",
        classes="a,b",
        n_train=10,
        n_query=3,
        seed=4,
        normalise="none",
        centre="mean",
        target="price",
        kernel="erf",
        depth=3,
        weight_variance=1.5,
        bias_variance=0.5,
        kind="nngp",
        rule="flow",
        ridge=0.5,
        rate=2.0,
        loss="mean",
        at=(1.0, 20.0, float("inf")),
    )
    assert Choices.of(json.loads(json.dumps(made.record))) == made
    assert Choices.of({}) == Choices()
    # Whole numbers, as people write them, where numbers are asked for.
    assert Choices.of({"ridge": 1, "at": [3, "inf"]}) == Choices(ridge=1.0, at=(3.0, float("inf")))


def test_choices_of_words_that_are_none_make_nothing() -> None:
    with pytest.raises(OptionError, match="`kernel` must be one of"):
        Choices(kernel="linear").made_kernel()
    with pytest.raises(OptionError, match="`rule` must be one of"):
        Choices(rule="adam").made_rule()


def test_choices_make_the_rules_and_kernels_they_name() -> None:
    assert Choices().made_rule() == lo.Ridge(1.0)
    assert Choices(ridge=0.0, loss="mean").made_rule() == lo.Ridge(0.0, "mean")
    assert Choices(at=(1.0,)).made_rule() == lo.GradientFlow(1.0, 0.0)
    assert Choices(rule="flow", ridge=2.0, rate=3.0).made_rule() == lo.GradientFlow(3.0, 2.0)
    descent = Choices(rule="descent", rate=0.1, loss="mean").made_rule()
    assert descent == lo.GradientDescent(0.1, 0.0, "mean")
    assert Choices().made_kernel().record == lo.kernels.TwoLayerReLU().record
    deep = Choices(kernel="relu", depth=4, weight_variance=1.9, bias_variance=0.2, kind="nngp")
    want = lo.kernels.ReLU(4, weight_variance=1.9, bias_variance=0.2, kind="nngp")
    assert deep.made_kernel().record == want.record
