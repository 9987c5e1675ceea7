"""The command line as a person meets it: help, short tables, one sentence when something is wrong."""

import csv
import gzip
import json
import os
import re
import struct
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest

import leftout as lo
from leftout.cli import main as main_module
from leftout.cli.main import _warn, main
from problems.runs import SMALL, refused, tree

COMMANDS = ("audit", "influence", "plan", "check")


# Help.


def test_the_version_is_said(leftout) -> None:
    assert leftout("--version") == (0, f"leftout {lo.__version__}\n", "")


def test_the_commands_are_listed(leftout) -> None:
    code, out, err = leftout("--help")
    assert (code, err) == (0, "")
    assert all(f" {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_an_example(leftout, name, flag) -> None:
    code, out, err = leftout(name, flag)
    assert (code, err) == (0, "")
    assert f"Example: leftout {name}" in out


@pytest.mark.parametrize("name", ["audit", "influence"])
def test_the_example_of_the_help_works(leftout, name) -> None:
    example = re.search(r"Example: leftout (.*)", leftout(name, "--help")[1]).group(1).split()
    code, out, err = leftout(*example)
    assert (code, err) == (0, "")
    assert out


# Audit.


def test_an_audit_ends_with_the_path_of_its_report(leftout, tmp_path) -> None:
    code, out, err = leftout("audit", "digits", "--ridge", "0.1", *SMALL)
    assert (code, err) == (0, "")
    last = out.rstrip("\n").splitlines()[-1]
    assert last == f"report: {tmp_path / 'run' / 'report.html'}"
    assert (tmp_path / "run/report.html").is_file()
    assert "80, 30" in out
    assert "accuracy on queries" in out
    run = lo.open(tmp_path / "run")
    doubted = run.suspects[run.suspects["is_label_issue"]]
    assert f"{len(doubted)} (" in out
    for name, reason in zip(doubted["id"][:5], doubted["reason"][:5], strict=True):
        assert f"  {name}: {reason}\n" in out


def test_an_audit_with_training_time_says_when_to_stop_and_one_without_says_nothing(
    leftout, tmp_path
) -> None:
    _, out, _ = leftout("audit", "digits", *SMALL, "--at", "3", "--out", "timed")
    (line,) = [line for line in out.splitlines() if "early stopping time" in line]
    stop = lo.open(tmp_path / "timed").record["stop"]
    assert f"t\u00a0=\u00a0{stop['at']:g}" in line
    assert ("none" in line) == (not stop["suggested"])
    assert "early stopping time" not in leftout("audit", "digits", *SMALL, "--out", "ridge")[1]


def test_the_record_holds_what_was_asked(leftout, tmp_path) -> None:
    leftout(
        "audit",
        "digits",
        *SMALL,
        "--rule",
        "flow",
        "--at",
        "3",
        "--at",
        "inf",
        "--ridge",
        "0.5",
        "--reduction",
        "mean",
        "--seed",
        "3",
        "--refit-examples",
        "1",
        "--out",
        "there",
    )
    record = lo.open(tmp_path / "there").record
    options = record["command"]["options"]
    assert (options["data"], options["n_train"], options["seed"]) == ("digits", 80, 3)
    assert (options["rule"], options["at"], options["ridge"]) == ("flow", [3.0, "inf"], 0.5)
    assert (options["refit_examples"], record["command"]["folder"]) == (1, str(tmp_path))
    assert record["computation"]["at"] == [3.0, None]
    assert record["computation"]["fitted"]["rule"]["loss"] == "mean"


def test_a_time_without_a_rule_means_flow(leftout, tmp_path) -> None:
    assert leftout("audit", "digits", *SMALL, "--at", "5")[0] == 0
    rule = lo.open(tmp_path / "run").record["computation"]["fitted"]["rule"]
    assert rule == lo.GradientFlow(1.0, 0.0).record


@pytest.mark.parametrize("kernel", ["relu", "erf"])
def test_deep_kernels_and_classes_are_chosen_by_words(leftout, tmp_path, kernel) -> None:
    code, _, err = leftout(
        "audit",
        "digits",
        *SMALL,
        "--classes",
        "3, 8",
        "--kernel",
        kernel,
        "--depth",
        "3",
        "--kind",
        "nngp",
        "--weight-variance",
        "1.5",
        "--bias-variance",
        "0.1",
    )
    assert (code, err) == (0, "")
    record = lo.open(tmp_path / "run").record
    assert record["computation"]["fitted"]["kernel"] == {
        "name": kernel,
        "depth": 3,
        "weight_variance": 1.5,
        "bias_variance": 0.1,
        "kind": "nngp",
    }
    assert record["preparation"]["train"]["classes"] == ["3", "8"]


def test_numbers_to_predict_are_audited_from_a_table(leftout, tmp_path) -> None:
    draw = np.random.default_rng(0)
    values = draw.standard_normal((60, 3))
    with open(tmp_path / "table.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "x", "y", "price"])
        rows.writerows([f"00{i}", *row[:2], row.sum()] for i, row in enumerate(values))
    code, out, err = leftout("audit", "table.csv", "--target", "price", "--kernel", "relu")
    assert (code, err) == (0, "")
    assert "mean loss on queries" in out
    assert set(lo.open(tmp_path / "run").redundant["id"]) <= {f"00{i}" for i in range(60)}


HOSTILE = ["<script>alert(1)</script>", "[bold red]", "[/]", "[link=x]", "\x1b[31mred", ":smile:"]


def test_names_are_printed_as_they_are(leftout, tmp_path) -> None:
    draw = np.random.default_rng(0)
    labels = np.array(HOSTILE)[np.arange(60) % len(HOSTILE)]
    pd.DataFrame(
        {
            "id": [f"[red]{i}[/red]" for i in range(60)],
            "x": draw.standard_normal(60),
            "y": draw.standard_normal(60),
            "label": labels,
        }
    ).to_csv(tmp_path / "table.csv", index=False)
    code, out, err = leftout("audit", "table.csv", "--kernel", "relu", "--n-query", "12")
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    run = lo.open(tmp_path / "run")
    doubted = run.suspects[run.suspects["is_label_issue"]]
    for name, given in zip(doubted["id"][:5], doubted["given"][:5], strict=True):
        assert f"  {name}: " in out
        assert given.replace("\x1b", "\\u001b") in out
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert "<script>alert(1)" not in page
    query = run.scores["query"].values.tolist()[0]
    code, out, err = leftout(
        "influence", "table.csv", "--kernel", "relu", "--n-query", "12", "--of-query", query, "--top", "48"
    )
    assert (code, err) == (0, "")
    assert f"{query}, end of training" in out
    assert "\x1b" not in out
    for given in HOSTILE:
        assert f"({given})".replace("\x1b", "\\u001b") in out


# Plan and check.


def test_a_plan_allocates_nothing_and_says_what_it_will_take(leftout, tmp_path) -> None:
    code, out, err = leftout("plan", "digits", *SMALL, "--at", "10")
    assert (code, err) == (0, "")
    assert "80 training examples and 30 queries" in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("machine_measured_once")
def test_a_plan_that_does_not_fit_is_status_2(leftout) -> None:
    code, _, err = leftout("plan", "digits", "--memory", "2MB")
    assert code == 2
    assert re.search(r"^leftout: .* more than the budget of 2 MB", err)


# What is wrong is one sentence.


def idx(path, values, *, cut=0):
    """Write an IDX file of bytes, its last `cut` bytes missing."""
    head = struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    content = head + values.astype(np.uint8).tobytes()
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(content[: len(content) - cut]))


def truncated_mnist(at):
    for split, n in (("train", 20), ("t10k", 10)):
        idx(at / f"mnist/{split}-images-idx3-ubyte.gz", np.ones((n, 28, 28)), cut=100)
        idx(at / f"mnist/{split}-labels-idx1-ubyte.gz", np.arange(n) % 2)


def written(name, text):
    return lambda at: (at / name).write_text(text)


def finished(at):
    (at / "run").mkdir()
    (at / "run/mine.txt").write_text("mine")


FLOW, DESCENT = ("--rule", "flow"), ("--rule", "descent")
NOTHING = None
TABLE = "x,y,label\n" + "".join(f"{i},{i % 7}.5,{i % 2}\n" for i in range(1, 40))
WRONG = {
    "no such source": (NOTHING, ("digitz",), r"`data` must be one of digits, .*; got 'digitz'"),
    "no such folder": (NOTHING, ("mnist:nowhere",), "`nowhere` must be a folder; there is none"),
    "no such file": (NOTHING, ("nowhere.csv",), r"`nowhere\.csv` must be a file; there is none"),
    "a truncated file": (truncated_mnist, ("mnist:mnist",), "bytes"),
    "no such class": (NOTHING, ("digits", "--classes", "3,12"), "--classes must be among 0, 1, .*'12'"),
    "one class": (NOTHING, ("digits", "--classes", "3"), "--classes must name at least two classes"),
    "no class": (NOTHING, ("digits", "--classes", ""), "--classes must "),
    "too many to train on": (
        NOTHING,
        ("digits", "--n-train", "99999"),
        "--n-train must be at most 1297, what `digits` holds beside the 500 queries",
    ),
    "none to train on": (NOTHING, ("digits", "--n-train", "0"), "--n-train must be a whole number ≥ 1"),
    "fewer than no queries": (NOTHING, ("digits", "--n-query", "-3"), "--n-query must be a whole number ≥ 1"),
    "a negative seed": (NOTHING, ("digits", "--seed", "-1"), "--seed must be a whole number ≥ 0"),
    "a negative ridge": (
        NOTHING,
        ("digits", "--ridge", "-0.1"),
        "--ridge must be a finite number ≥ 0; got -0.1",
    ),
    "a ridge that is none": (
        NOTHING,
        ("digits", "--ridge", "nan"),
        "--ridge must be a finite number ≥ 0; got nan",
    ),
    "an infinite ridge": (
        NOTHING,
        ("digits", "--ridge", "inf"),
        "--ridge must be a finite number ≥ 0; got inf",
    ),
    "a rate of nothing": (NOTHING, ("digits", *FLOW, "--rate", "0"), "--rate must be a finite number > 0"),
    "a rate that diverges": (
        NOTHING,
        ("digits", *SMALL, *DESCENT, "--rate", "5", "--at", "10"),
        r"--rate must be below the critical rate 2 / \(s_max \+ ridge\) = 0\.\d+.*; got 5",
    ),
    "a negative time": (NOTHING, ("digits", *SMALL, "--at", "-1"), "--at must be a time ≥ 0.*got -1"),
    "a time that is none": (NOTHING, ("digits", *SMALL, "--at", "nan"), "--at must be a time ≥ 0.*got nan"),
    "half a step": (
        NOTHING,
        ("digits", *SMALL, *DESCENT, "--rate", "0.01", "--at", "1.5"),
        "--at must be a whole number of steps ≥ 0.*got 1.5",
    ),
    "a time under ridge": (
        NOTHING,
        ("digits", *SMALL, "--rule", "ridge", "--at", "3"),
        "--at must be None under Ridge.*no training time; got 3",
    ),
    "a rate under ridge": (NOTHING, ("digits", "--rate", "1"), "--rate belongs to --rule flow or descent"),
    "descent without a rate": (NOTHING, ("digits", *DESCENT), "--rule descent needs --rate"),
    "a depth of a kernel that has none": (
        NOTHING,
        ("digits", "--depth", "3"),
        "--depth belongs to --kernel relu, erf, tanh or conv-relu; name one with it",
    ),
    "no depth": (NOTHING, ("digits", "--kernel", "relu", "--depth", "0"), "--depth must"),
    "a negative variance": (
        NOTHING,
        ("digits", "--kernel", "erf", "--weight-variance", "-1"),
        "--weight-variance must",
    ),
    "memory that is no size": (
        NOTHING,
        ("digits", "--memory", "much"),
        "--memory must be a number of bytes or a size",
    ),
    "no memory": (NOTHING, ("digits", "--memory", "0"), "--memory must be positive"),
    "too little memory": (
        NOTHING,
        ("digits", "--memory", "1MB"),
        "more than the budget of 1 MB: raise --memory",
    ),
    "no such device": (
        NOTHING,
        ("digits", "--device", "abacus"),
        "--device must be one that this machine has.*'abacus'",
    ),
    "fewer than no refits": (
        NOTHING,
        ("digits", *SMALL, "--refit-examples", "-1"),
        "--refit-examples must be a whole number ≥ 0; got -1",
    ),
    "a target of no table": (
        NOTHING,
        ("digits", "--target", "x"),
        "--target must be left out unless the data are a table",
    ),
    "inputs that are not scaled": (
        NOTHING,
        ("digits", *SMALL, "--kernel", "two-layer-relu", "--normalise", "none"),
        'normalise="unit"',
    ),
    "no such column": (
        written("t.csv", TABLE),
        ("t.csv", "--target", "price"),
        r"--target must be a column of `t\.csv`.*got 'price'",
    ),
    "a missing target": (written("t.csv", TABLE + "1,2.5,\n"), ("t.csv",), "'label' has none in row 41"),
    "infinity": (written("t.csv", TABLE + "1,inf,0\n"), ("t.csv",), "'y' has inf in row 41"),
    "a text among numbers": (
        written("t.csv", TABLE + "1,red,0\n"),
        ("t.csv",),
        "must have numbers or texts in a column, not both; 'y' holds numbers, and text in 1 of 40 rows",
    ),
    "a class of one": (
        written("t.csv", TABLE + "1,2.5,7\n"),
        ("t.csv",),
        "at least 2 training examples of every class",
    ),
    "an empty table": (written("t.csv", ""), ("t.csv",), "it is empty"),
    "no function": (written("d.py", "x = 1"), ("d.py:data",), r"`d\.py` must define a function 'data'"),
    "a function that raises": (
        written("d.py", "def data():\n    raise KeyError('oh')"),
        ("d.py:data",),
        r"`d\.py:data` must return .*KeyError",
    ),
    "a function that leaves": (
        written("d.py", "def data():\n    raise SystemExit(0)"),
        ("d.py:data",),
        r"`d\.py:data` must return .*SystemExit",
    ),
    "a function of rubbish": (
        written("d.py", "def data():\n    return 'rubbish'"),
        ("d.py:data",),
        r"must be a pair \(train, query\).*got str",
    ),
    "no Python": (written("d.py", "def data(:"), ("d.py:data",), "SyntaxError"),
    "a folder that is no run": (finished, ("digits", *SMALL), "run' exists and is no run of leftout"),
    "a folder below a file": (
        written("file", "mine"),
        ("digits", *SMALL, "--out", "file/run"),
        r"file/run\.part' cannot be made: '.*/file' is a file\.",
    ),
    "a folder that cannot be": (
        NOTHING,
        ("digits", *SMALL, "--out", "/proc/run"),
        r"'/proc/\.run\.leftout\.lock' cannot be locked: .* Choose an --out where",
    ),
    "a name that is too long": (NOTHING, ("digits", *SMALL, "--out", "x" * 300), "File name too long"),
    "no name": (NOTHING, ("digits", *SMALL, "--out", ""), "exists and is no run of leftout"),
}


@pytest.mark.parametrize(("before", "words", "message"), WRONG.values(), ids=WRONG)
def test_bad_input_is_one_sentence_status_2_and_nothing_written(
    leftout, tmp_path, before, words, message
) -> None:
    if before is not None:
        before(tmp_path)
    there = tree(tmp_path)
    refused(leftout("audit", *words), message)
    left = {name: value for name, value in tree(tmp_path).items() if "__pycache__" not in name}
    assert left == there
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_flag_is_refused(leftout, tmp_path, name) -> None:
    code, out, err = leftout(name, "--no-such-flag")
    assert (code, out) == (2, "")
    assert "No such option: --no-such-flag" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("audit", "--ridge", "little"), "--ridge"),
        (("audit", "--n-train", "1.5"), "--n-train"),
        (("audit", "--kernel", "linear"), "--kernel"),
        (("audit", "--rule", "adam"), "--rule"),
        (("audit", "--loss", "max"), "--loss"),
        (("audit", "digits", "cifar"), "cifar"),
        (("influence", "--of", "weights", "--out", "a.csv"), "--of"),
        (("audits",), "audits"),
    ],
)
def test_a_word_that_is_none_is_refused(leftout, tmp_path, words, named) -> None:
    code, out, err = leftout(*words)
    assert (code, out) == (2, "")
    assert named in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_names_in_errors_cannot_speak_to_the_terminal(leftout) -> None:
    code, _, err = leftout("audit", "\x1b[31mred\n[bold]")
    assert code == 2
    assert "\x1b" not in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_goes_to_a_terminal_and_nowhere_else(leftout, monkeypatch, terminal) -> None:
    monkeypatch.setattr("leftout.core.progress.PATIENCE", 0.0)
    if terminal:
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        monkeypatch.setenv("TERM", "xterm")
    code, out, err = leftout("audit", *SMALL)
    assert code == 0
    assert ("kernel" in err or "queries" in err) is terminal
    assert out.startswith("leftout audit")


def test_an_error_of_ours_keeps_its_traceback(leftout, monkeypatch) -> None:
    def fails(*given, **more):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("leftout.cli.command_audit.run_audit", fails)
    monkeypatch.setattr(sys, "argv", ["leftout", "audit", *SMALL])
    with pytest.raises(ZeroDivisionError, match="a bug"):
        main()


# In processes of their own.


def process(*words, cwd, **more):
    return subprocess.run(
        words,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        **more,
    )


def test_the_script_and_the_module_are_the_command_line(tmp_path) -> None:
    script = os.path.join(os.path.dirname(sys.executable), "leftout")
    done = process(script, "audit", *SMALL, "--out", "run", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"report: {tmp_path}/run/report.html\n")
    assert "\x1b" not in done.stdout
    for command in ([script], [sys.executable, "-m", "leftout"]):
        assert process(*command, "--version", cwd=tmp_path).stdout == f"leftout {lo.__version__}\n"


def test_memory_that_is_not_there_is_one_sentence(monkeypatch, capsys) -> None:
    def fails(**options):
        raise MemoryError("Unable to allocate 7 GiB")

    monkeypatch.setattr(main_module, "app", fails)
    with pytest.raises(SystemExit) as ended:
        main_module.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "leftout: there is not enough memory (Unable to allocate 7 GiB). Take fewer examples (--n-train, "
        "--n-query), or free some.\n"
    )


def test_errors_of_the_process_have_status_2_and_no_traceback(tmp_path) -> None:
    done = process(sys.executable, "-m", "leftout", "audit", "--ridge", "-1", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "leftout: --ridge must be a finite number ≥ 0; got -1.0.\n"
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_stops_reading_is_no_error_of_ours(tmp_path) -> None:
    done = process(
        "bash",
        "-c",
        f"{sys.executable} -m leftout influence --n-train 80 --n-query 30 | head -1",
        cwd=tmp_path,
    )
    assert "Traceback" not in done.stderr


def test_a_warning_is_a_sentence_without_a_place_in_the_program(leftout) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        code, _, err = leftout(
            "influence",
            "digits",
            "--classes",
            "3,8",
            "--n-train",
            "20",
            "--n-query",
            "5",
            "--kernel",
            "hierarchy",
            "--units",
            "4",
            "--labels-frozen",
        )
    assert code == 0
    assert err.startswith("leftout: take care: `kernel` is an expansion in 1/width, and at width 4 ")
    assert ".py" not in err
    assert err.count("\n") == 1


def test_a_warning_of_others_keeps_its_place(monkeypatch, capsys) -> None:
    """A network of the user's own may have something to say."""
    shown = []
    monkeypatch.setattr(main_module, "SHOW_WARNING", lambda *asked, **_: shown.append(asked))
    _warn("mine", UserWarning, "net.py", 3)
    assert shown == [("mine", UserWarning, "net.py", 3)]
    assert capsys.readouterr().err == ""


def test_a_command_stopped_by_hand_ends_with_one_line(leftout, monkeypatch) -> None:
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("leftout.cli.commands_curation.rare_command", interrupted)
    assert leftout("rare", "digits") == (130, "", "Stopped.\n")


@pytest.mark.parametrize("loaded", ["typer", "leftout.audit.run_folder"])
def test_a_command_stopped_while_it_loads_ends_with_one_line(tmp_path, loaded) -> None:
    program = f"""
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from leftout.cli.start import start
def interrupt(event, given):
    if event == "import" and given[0] == {loaded!r}:
        os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(interrupt)
sys.argv = ["leftout", "verify"]
start()
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "Stopped.\n")


def test_corrected_labels_are_read_back_and_the_next_report_says_so(leftout, tmp_path) -> None:
    words = ["audit", "digits", "--n-train", 60, "--n-query", 12, "--ridge", 0.1]
    assert leftout(*words, "--out", "run")[0] == 0
    status, said, _ = leftout(*words, "--labels", "run/corrected.csv", "--out", "again")
    assert status == 0
    record = json.loads((tmp_path / "again" / "run.json").read_text())
    changed = record["preparation"]["train"]["corrected"]["changed"]
    with (tmp_path / "run" / "suspects.csv").open() as file:
        assert changed == sum(row["is_label_issue"] == "True" for row in csv.DictReader(file))
    assert f"{changed} by run/corrected.csv" in said
    assert f"{changed} by run/corrected.csv" in (tmp_path / "again" / "report.html").read_text()
    assert leftout("audit", "--repeat", "again")[0] == 0
    code, _, said = leftout(*words, "--labels", "run/keep.txt", "--out", "third")
    assert code == 2
    assert "Traceback" not in said
