"""Kernels that a command picks by leaving one out: what is tried, what is skipped, what is said."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import leftout as lo
from leftout.app import chosen as choosing
from leftout.app.choices import Choices
from leftout.app.chosen import chosen
from leftout.app.cli import app
from leftout.app.which_kernel import selection_rows, selection_verdict
from leftout.attribution.selection import STRENGTHS, Candidate, Selection
from leftout.core.errors import OptionError

SMALL = Choices(data="digits", classes="3,8", n_train=40, n_query=10, kernel="auto")
FEW = (
    ("two-layer-relu", {"kernel": "two-layer-relu"}),
    ("relu, 1 layer", {"kernel": "relu", "depth": 1}),
)


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(choosing, "TRIED", FEW)


def made(name, *losses, **more):
    return Candidate(
        name, lo.kernels.ReLU(1), torch.tensor(losses, dtype=torch.float64), None, **more
    )


def test_the_best_by_exact_leave_one_out_is_taken(few):
    found = chosen(SMALL)
    names = {one.name for one in found.selection.candidates}
    assert {name for name, _ in FEW} < names
    assert len(names) == 4, "and the best of them, with labels seen by two estimators"
    for one in found.selection.tried:
        # Each kernel has its own scaling of inputs, and is judged with it.
        scale = "unit" if one.name.startswith("two-layer") else "sphere"
        train, _ = lo.load("digits", classes=["3", "8"], n_train=40, n_query=10, normalise=scale)
        off = lo.out_of_sample(lo.fit(one.kernel, train)) - train.targets
        assert one.loss == pytest.approx(float(off.square().sum(1).mean() / 2), rel=1e-6)
    assert found.selection.best.loss == min(one.loss for one in found.selection.tried)
    assert found.kernel is found.selection.best.kernel


def test_what_would_take_too_long_is_skipped_and_said(few):
    with pytest.raises(OptionError, match=r"two-layer-relu: would take about .* --minutes 1e-09"):
        chosen(dataclasses.replace(SMALL, minutes=1e-9))


def test_pictures_are_tried_with_convolutions_and_rows_of_numbers_are_not(tmp_path, monkeypatch):
    names = ("two-layer-relu", "conv-relu, 2 layers")
    tried = tuple(one for one in choosing.TRIED if one[0] in names)
    assert len(tried) == 2
    monkeypatch.setattr(choosing, "TRIED", tried)
    monkeypatch.setattr(choosing, "ESTIMATORS", ())
    assert {one.name for one in chosen(SMALL).selection.candidates} == set(names)
    rows = np.random.default_rng(0).normal(size=(30, 4))
    path = tmp_path / "table.npz"
    np.savez(path, x=rows, y=np.arange(30) % 2)
    table = dataclasses.replace(SMALL, data=str(path), classes=None, n_train=None, n_query=None)
    assert [one.name for one in chosen(table).selection.candidates] == ["two-layer-relu"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"depth": 3}, "--depth must be left out with --kernel auto"),
        ({"label_aware": "kr-v1"}, "--label-aware must be left out with --kernel auto"),
        ({"model": "net.py:build"}, "--model must be left out with --kernel auto"),
        ({"minutes": 0.0}, "`--minutes` must be"),
    ],
)
def test_flags_that_auto_would_have_to_ignore_are_refused(more, said):
    with pytest.raises(OptionError, match=said):
        chosen(dataclasses.replace(SMALL, **more))


def test_a_kernel_that_is_named_is_taken_as_it_is():
    found = chosen(dataclasses.replace(SMALL, kernel="relu"))
    assert found.selection is None
    assert found.kernel == lo.kernels.ReLU(2)


def test_a_lead_within_its_noise_is_said_to_be_one():
    close = Selection((made("a", 1.0, 2.0, 3.0), made("b", 1.5, 1.6, 3.0)))
    assert "less than twice its standard error" in selection_verdict(close)
    clear = Selection((made("a", 1.0, 2.0, 3.0), made("b", 1.5, 2.6, 3.5)))
    assert "more than twice its standard error" in selection_verdict(clear)
    alone = Selection((made("a", 1.0), Candidate("b", lo.kernels.ReLU(1), skipped="too slow")))
    assert selection_verdict(alone) == "a was taken: no other kernel could be tried."
    assert selection_rows(alone)[1] == ("b", "skipped", "", "too slow")


def test_an_audit_says_which_kernel_it_took_and_by_how_much(few, tmp_path):
    out = tmp_path / "run"
    words = ["--classes", "3,8", "--n-train", "40", "--n-query", "10", "--kernel", "auto"]
    done = CliRunner().invoke(app, ["audit", "digits", *words, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "Which kernel?" in done.output
    page = (out / "report.html").read_text()
    assert "Which kernel?" in page
    assert "two-layer-relu" in page
    assert "below that of" in page
    assert json.loads((out / "run.json").read_text())["asked"]["choices"]["kernel"] == "auto"


def test_an_audit_of_a_kernel_that_sees_labels_teaches_it_again(tmp_path):
    out = tmp_path / "run"
    words = ["--classes", "3,8", "--n-train", "40", "--n-query", "10", "--kernel", "relu"]
    aware = ["--label-aware", "kr-v1", "--strength", "0.1"]
    done = CliRunner().invoke(app, ["audit", "digits", *words, *aware, "--out", str(out)])
    assert done.exit_code == 0, done.output
    train, query = lo.load("digits", classes=["3", "8"], n_train=40, n_query=10, normalise="sphere")
    fitted = lo.fit(lo.kernels.LabelAware(lo.kernels.ReLU(2), "kr-v1", 0.1), train)
    scores = lo.open(out).scores.isel(at=0)
    np.testing.assert_allclose(scores, lo.leave_one_out(fitted, query), rtol=1e-9, atol=1e-13)
    page = (out / "report.html").read_text()
    assert "taught again without each example" in page
    assert "The kernel saw the labels." in page
    again = CliRunner().invoke(app, ["audit", "digits", *words, *aware, "--out", str(out)])
    assert again.exit_code == 0, "a finished run is opened, not made again"


def test_a_curve_of_a_kernel_that_sees_labels_says_that_it_is_kept():
    words = ["--n-train", "60", "--kernel", "relu", "--label-aware", "kr-v1", "--strength", "0.01"]
    done = CliRunner().invoke(app, ["curve", "digits", *words, "--n", "120"])
    assert done.exit_code == 0, done.output
    assert "The kernel saw all labels and is kept as they made it" in done.output


def test_a_plan_foresees_the_teaching():
    words = ["digits", "--n-train", "60", "--kernel", "relu", "--label-aware", "kr-v1"]
    done = CliRunner().invoke(app, ["plan", *words])
    assert done.exit_code == 0, done.output
    assert "teaching again" in done.output
    assert f"{60 * (1 + len(STRENGTHS))} fits of 59" in " ".join(done.output.split())
