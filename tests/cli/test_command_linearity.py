"""The command line: what it prints and saves is what the library says, and its verdict in words."""

import re
from dataclasses import replace

import pandas as pd
import pytest

import leftout as lo
from leftout.cli.command_linearity import verdict_sentence
from leftout.cli.module_file import network
from leftout.core.wording import number, percent
from leftout.diagnostics.linearity.linearity_test import LinearityTest, linearity_test
from leftout.diagnostics.linearity.snapshots import Snapshot

SMALL = ("digits", "--classes", "3,8", "--n-train", "30", "--n-query", "12", "--model", "net.py:build")
NETWORK = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 2)).double()
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NETWORK)
    return tmp_path


def by_library(**options):
    train, query = lo.load(
        "digits", classes=["3", "8"], n_train=30, n_query=12, centre="none", normalise=None
    )
    train = train.in_columns(2)
    return linearity_test(network("net.py:build"), train, query.coded_as(train.encoding), **options)


def test_help_shows_an_example_that_works(folder, leftout) -> None:
    code, out, err = leftout("linearity", "--help")
    assert (code, err) == (0, "")
    example = re.search(r"Example: leftout (.*)", out).group(1).split()
    assert example[0] == "linearity"
    smaller = ["5" if word == "100" else word for word in example]
    code, out, err = leftout(*smaller, "--classes", "3,8", "--n-train", "20", "--n-query", "10")
    assert (code, err) == (0, "")
    assert "the kernel speaks for it" in out


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("words", "options"),
    [
        (("--steps", "12"), {"steps": 12}),
        (
            ("--rule", "descent", "--rate", "0.002", "--ridge", "0.1", "--steps", "6"),
            {"rule": lo.GradientDescent(0.002, 0.1), "steps": 6},
        ),
        (("--rule", "flow", "--steps", "4"), {"rule": lo.GradientFlow(), "steps": 4}),
        (("--ridge", "200", "--tolerance", "0.05"), {"rule": lo.Ridge(200.0), "tolerance": 0.05}),
        (
            ("--reduction", "mean", "--ridge", "1", "--steps", "3"),
            {"rule": lo.Ridge(1.0, "mean"), "steps": 3},
        ),
        (
            ("--parameters", "4.*", "--sample", "9", "--steps", "5"),
            {"parameters": ("4.*",), "sample": 9, "steps": 5},
        ),
    ],
)
def test_what_is_saved_and_said_is_what_the_library_finds(folder, leftout, words, options) -> None:
    code, out, err = leftout("linearity", *SMALL, *words, "--out", "path.csv")
    assert (code, err) == (0, "")
    want = by_library(**options)
    table = pd.read_csv("path.csv")
    assert table["step"].tolist() == [one.step for one in want.path]
    for name in ("time", "gap", "gap_train", "moved", "weights", "kernel", "kernel_learned", "loss"):
        # Processes may round sums otherwise, and gaps are differences of numbers a hundred times larger.
        assert table[name].tolist() == pytest.approx(
            [getattr(one, name) for one in want.path], rel=1e-6, abs=1e-12
        )
    assert number(want.gap) in out
    assert percent(want.kernel_learned) in out
    assert verdict_sentence(want) in out
    assert f"Training {want.status}" in out


def found(*, learned=0.0, gap=0.0, diverged=False):
    one = Snapshot(
        step=1,
        time=1.0,
        gap=gap,
        gap_train=0.0,
        moved=1.0,
        moved_train=1.0,
        weights=0.0,
        kernel=0.0,
        growth=1.0,
        kernel_learned=learned,
        loss=0.0,
        loss_linearised=0.0,
        step_error=0.0,
    )
    whole = LinearityTest(
        (one,), lo.GradientDescent(0.1), 1.0, 1.0, 1.0, 1.0, 9, 9, False, False, "took the 1 step."
    )
    return replace(whole, diverged=diverged)


@pytest.mark.parametrize(
    ("given", "begins", "holds"),
    [
        ({"learned": 0.1, "gap": 0.02}, "The kernel speaks for this network: ", "at most 2.0\u202f%"),
        ({"learned": 0.4}, "Take care: ", "changes by 40\u202f% in the modes"),
        ({"learned": 1.4}, "The kernel does not speak for this network: ", "Train less long"),
        ({"diverged": True}, "The kernel does not speak for this network: ", "the network diverges"),
    ],
)
def test_verdicts_are_told_in_words(given, begins, holds) -> None:
    said = verdict_sentence(found(**given))
    assert said.startswith(begins)
    assert holds in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("digits",), "leftout linearity needs --model"),
        ((*SMALL, "--outputs", "trace"), "--outputs and --projection approximate the kernel"),
        ((*SMALL, "--projection", "gaussian:5"), "--outputs and --projection approximate the kernel"),
        ((*SMALL, "--at", "5"), "--at asks about a time"),
        ((*SMALL, "--steps", "0"), "--steps must be a whole number ≥ 1; got 0"),
        ((*SMALL, "--tolerance", "2"), "--tolerance must lie in (0, 1); got 2"),
        ((*SMALL, "--rule", "descent"), "--rule descent needs --rate"),
        ((*SMALL, "--rate", "0.1", "--rule", "ridge"), "--rate belongs to --rule flow or descent"),
        ((*SMALL, "--rule", "descent", "--rate", "9"), "--rate must be below the critical rate"),
        ((*SMALL, "--kernel", "relu"), "leave it out with --model"),
        ((*SMALL, "--out", "path.txt"), "--out must end in .csv"),
        ((*SMALL, "--weights", "no.pt"), "must be a file"),
    ],
)
def test_flags_that_do_not_go_together_are_one_sentence(folder, leftout, words, message) -> None:
    code, out, said = leftout("linearity", *words)
    assert code == 2
    assert message in said
    assert "Traceback" not in said
    assert out == ""
    assert not (folder / "path.csv").exists()
