"""`--ridge auto`: chosen, said, kept with the run; refused where left-out losses choose nothing."""

import json
from pathlib import Path

import pytest

import leftout as lo

NET = """
from torch import nn
def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
"""
FEW = ("digits", "--n-train", "60", "--n-query", "10", "--kernel", "two-layer-relu")


def test_an_audit_keeps_what_its_ridge_was_chosen_from(leftout) -> None:
    status, out, _ = leftout("audit", *FEW, "--ridge", "auto", "--refit-examples", "0")
    assert status == 0
    train, _ = lo.load("digits", n_train=60, n_query=10)
    choice = lo.choose_ridge(lo.kernels.TwoLayerReLU(), train)
    record = json.loads(Path("run/run.json").read_text())
    assert record["ridge_choice"]["ridge"] == choice.ridge
    assert record["ridge_choice"]["losses"] == pytest.approx(choice.losses, rel=1e-9)
    assert record["computation"]["fitted"]["rule"]["ridge"] == choice.ridge
    assert record["command"]["options"]["ridge"] == "auto"
    for text in (out, Path("run/report.html").read_text()):
        assert "of least exact left-out loss" in text
        assert "It is the smallest ridge that was tried" in text
    status, _, error = leftout("audit", "--repeat", "run", "--out", "again")
    assert (status, error) == (0, "")


@pytest.mark.parametrize(
    "command", ["influence", "curve", "learnability", "information", "prune", "rare", "sources", "referee"]
)
def test_every_command_that_fits_says_which_ridge_it_chose(leftout, command) -> None:
    less = ("--subsets", "20") if command == "referee" else ()
    status, out, _ = leftout(command, *FEW, "--ridge", "auto", *less)
    assert status == 0
    assert "note: The ridge is 5e-06, of least exact left-out loss" in out


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (("--rule", "flow"), "--rule flow is stopped at a time instead"),
        (("--loss", "cross-entropy"), "--loss is cross-entropy"),
        (("--label-aware", "kr-v1"), "another one without an example"),
    ],
)
def test_where_no_ridge_can_be_chosen_a_number_is_asked_for(leftout, flags, reason) -> None:
    status, _, error = leftout("influence", *FEW, "--ridge", "auto", *flags)
    assert status == 2
    assert "--ridge must be a number here, and not auto" in error
    assert reason in error


def test_trained_weights_choose_no_ridge_and_initial_ones_do_by_squared_loss(leftout) -> None:
    Path("net.py").write_text(NET)
    few = ("digits", "--n-train", "30", "--n-query", "5", "--model", "net.py:build", "--ridge", "auto")
    status, _, error = leftout("influence", *few, "--linearised-at", "trained")
    assert status == 2
    assert "these weights have seen every label" in error
    status, out, _ = leftout("influence", *few, "--linearised-at", "initial")
    assert status == 0
    assert "of least exact left-out loss" in out
    assert "cross-entropy" not in out


def test_a_word_that_is_no_ridge_is_refused(leftout) -> None:
    status, _, error = leftout("influence", *FEW, "--ridge", "best")
    assert status == 2
    assert "must be a number, or auto; got 'best'" in error.replace("\n", " ")
