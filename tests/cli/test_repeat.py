"""A run is repeated from its record, to the same bytes; a record that is none is refused."""

import json
import re

import numpy as np
import pandas as pd
import pytest

import leftout as lo
from leftout.cli.commands import AuditArguments
from problems.runs import small_audit, tree

SMALL = ("--n-train", "80", "--n-query", "30")


def assert_same_results(one, other):
    for name in ("suspects.csv", "redundant.csv"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    runs = lo.open(one), lo.open(other)
    assert runs[0].tables.identical(runs[1].tables)
    assert runs[0].record["computation"] == runs[1].record["computation"]
    assert runs[0].record["command"] == runs[1].record["command"]


ASKED = {
    "the defaults": (),
    "ridge": ("--ridge", "0.1", "--reduction", "mean", "--seed", "2", "--classes", "1,7,9"),
    "flow": ("--at", "3", "--at", "inf", "--ridge", "0.1", "--centre", "mean", "--refit-examples", "1"),
    "descent": ("--rule", "descent", "--rate", "0.03", "--at", "20"),
    "a deep kernel": ("--kernel", "relu", "--depth", "3", "--kind", "nngp", "--normalise", "unit"),
}


@pytest.mark.sample(2)
@pytest.mark.parametrize("words", ASKED.values(), ids=ASKED)
def test_a_run_made_again_has_the_same_bytes(leftout, tmp_path, words) -> None:
    assert leftout("audit", "digits", *SMALL, *words)[0] == 0
    before = tree(tmp_path / "run")
    code, out, err = leftout("audit", "--repeat", "run")
    assert (code, err) == (0, "")
    assert out.endswith(f"report: {tmp_path / 'run-again' / 'report.html'}\n")
    assert tree(tmp_path / "run") == before
    assert_same_results(tmp_path / "run", tmp_path / "run-again")


def test_a_run_made_again_goes_where_it_is_told(leftout, tmp_path) -> None:
    leftout("audit", "digits", *SMALL, "--out", "first")
    assert leftout("audit", "--repeat", "first/run.json", "--out", "run")[0] == 0
    assert_same_results(tmp_path / "first", tmp_path / "run")
    assert leftout("audit", "--repeat", "run/run.json", "--memory", "1GB")[0] == 0
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
    code, _, err = leftout("audit", "--repeat", "../home/run/run.json", "--out", "here")
    assert (code, err) == (0, "")
    assert_same_results(tmp_path / "home/run", tmp_path / "away/here")
    assert [path.name for path in (tmp_path / "away").iterdir()] == ["here"]


def test_a_folder_that_is_gone_is_the_one_we_are_in(leftout, tmp_path) -> None:
    leftout("audit", "digits", *SMALL)
    record = json.loads((tmp_path / "run/run.json").read_text())
    record["command"]["folder"] = "/no/such/folder"
    (tmp_path / "moved.json").write_text(json.dumps(record))
    assert leftout("audit", "--repeat", "moved.json", "--out", "again")[0] == 0
    one, other = (tmp_path / name / "suspects.csv" for name in ("run", "again"))
    assert one.read_bytes() == other.read_bytes()


def test_a_run_of_another_version_is_made_again_by_this_one(leftout, tmp_path) -> None:
    leftout("audit", "digits", *SMALL)
    record = json.loads((tmp_path / "run/run.json").read_text())
    (tmp_path / "run/run.json").write_text(json.dumps(record | {"leftout": "0.0.1"}))
    assert leftout("audit", "--repeat", "run/run.json", "--out", "new")[0] == 0
    lo.open(tmp_path / "new")


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    "words",
    [
        ("--ridge", "3"),
        ("--n-train", "50"),
        ("--refit-examples", "1"),
        ("--refit-examples", "3"),  # the default
        ("--seed", "0"),
        ("--at", "1"),
        ("mnist:x",),
        ("digits",),
    ],
)
def test_other_flags_beside_repeat_are_refused_and_not_ignored(leftout, tmp_path, words) -> None:
    leftout("audit", "digits", *SMALL)
    before = tree(tmp_path)
    code, out, err = leftout("audit", *words, "--repeat", "run/run.json")
    assert (code, out) == (2, "")
    assert err.startswith("leftout: --repeat repeats a run as it was asked: give no other flags")
    assert tree(tmp_path) == before


def test_a_run_made_in_python_is_made_again_there(leftout, tmp_path) -> None:
    small_audit(tmp_path / "run")
    before = tree(tmp_path)
    code, out, err = leftout("audit", "--repeat", "run/run.json")
    assert (code, out) == (2, "")
    assert re.match(r"leftout: --repeat needs the run\.json .*\(repeat a run made in Python there", err)
    assert tree(tmp_path) == before


OPTIONS = AuditArguments().record
NO_RECORD = {
    "nothing": (None, r"rec\.json' does not exist"),
    "garbage": (b"\x00\xff", r"rec\.json' is not readable JSON"),
    "half": (b'{"command": ', r"rec\.json' is not readable JSON"),
    "a list": ([], "--repeat needs the run.json"),
    "no command": ({}, "--repeat needs the run.json"),
    "a command in words": ({"command": "digits"}, "--repeat needs the run.json"),
    "an empty command": ({"command": {}}, "--repeat needs the run.json"),
    "no folder": ({"command": {"options": OPTIONS}}, "--repeat needs the run.json"),
    "folder 7": ({"command": {"options": OPTIONS, "folder": 7}}, "--repeat needs the run.json"),
    "many refits": (
        {"command": {"options": OPTIONS | {"refit_examples": "many"}, "folder": "."}},
        "`command` must hold a whole number for 'refit_examples'; got 'many'",
    ),
    "options in words": (
        {"command": {"options": "all", "folder": "."}},
        "`command` must hold options by name; got 'all'",
    ),
}


@pytest.mark.parametrize(("content", "message"), NO_RECORD.values(), ids=NO_RECORD)
def test_a_record_that_is_none_is_one_sentence(leftout, tmp_path, content, message) -> None:
    if content is not None:
        whole = content if isinstance(content, bytes) else json.dumps(content).encode()
        (tmp_path / "rec.json").write_bytes(whole)
    before = tree(tmp_path)
    code, out, err = leftout("audit", "--repeat", "rec.json")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert re.search(message, err), err
    assert tree(tmp_path) == before


WRONG_OPTIONS = [
    ("colour", "red", "`command` holds 'colour', which this version does not know"),
    ("ridge", "much", "`command` must hold a number or one of 'auto' or null for 'ridge'; got 'much'"),
    ("seed", 1.5, "`command` must hold a whole number for 'seed'; got 1.5"),
    ("seed", True, "`command` must hold a whole number for 'seed'; got True"),
    ("data", 3, "`command` must hold text for 'data'; got 3"),
    ("at", 3.0, "`command` must hold a list of numbers for 'at'; got 3.0"),
    ("loss", "max", "`command` must hold one of 'squared', 'cross-entropy' or null for 'loss'; got 'max'"),
    (
        "kernel",
        "linear",
        "`command` must hold one of 'two-layer-relu', .*, 'auto' or null for 'kernel'; got 'linear'",
    ),
    ("rule", "adam", "`command` must hold one of 'ridge', .* or null for 'rule'; got 'adam'"),
    ("depth", 3, "--depth belongs to --kernel relu, erf, tanh or conv-relu; name one with it"),
    ("data", "digitz", "`data` must be one of digits, .*; got 'digitz'"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG_OPTIONS)
def test_an_option_that_is_none_is_one_sentence(leftout, tmp_path, name, value, message) -> None:
    record = {"command": {"options": OPTIONS | {name: value}, "folder": str(tmp_path)}}
    (tmp_path / "rec.json").write_text(json.dumps(record))
    code, out, err = leftout("audit", "--repeat", "rec.json", "--out", "run")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert re.search(message, err), err
    assert [path.name for path in tmp_path.iterdir()] == ["rec.json"]


def table_of(folder, seed):
    draw = np.random.default_rng(seed)
    kind = np.arange(60) % 2
    np.savez(folder / "d.npz", x=draw.normal(size=(60, 3)) + kind[:, None], y=kind)


def edited(path, **entries):
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | entries))


def test_what_changed_since_a_run_is_said_and_kept_when_it_is_made_again(leftout, tmp_path) -> None:
    table_of(tmp_path, 0)
    assert leftout("audit", "d.npz")[0] == 0
    assert leftout("audit", "--repeat", "run", "--out", "same")[2] == ""
    assert "changes" not in lo.open(tmp_path / "same").record["command"]
    table_of(tmp_path, 1)
    code, _, err = leftout("audit", "--repeat", "run", "--out", "other")
    said = "leftout: take care: since that run was made, these changed: the training data, the queries. "
    assert (code, err) == (0, said + "Results may differ.\n")
    assert lo.open(tmp_path / "other").record["command"]["changes"] == ["the training data", "the queries"]


def test_other_code_and_threads_are_said_when_a_run_is_made_again(leftout, tmp_path) -> None:
    leftout("audit", "digits", *SMALL)
    edited(tmp_path / "run/run.json", code="0" * 16, threads=64)
    code, _, err = leftout("audit", "--repeat", "run")
    assert code == 0
    assert "changed: threads (64, now " in err
    assert err.endswith("), the code of leftout. Results may differ.\n")
    edited(tmp_path / "run/run.json", leftout="0.0.1", code="0" * 16, threads=64)
    err = leftout("audit", "--repeat", "run", "--out", "third")[2]
    assert f"changed: leftout (0.0.1, now {lo.__version__}), threads (64, now " in err
