"""Kernels that a command picks by leaving one out: what is tried, what is skipped, what is said."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import leftout as lo
from leftout.audit.summary import describe_kernel
from leftout.cli import kernel_choice as choosing
from leftout.cli.commands import AuditArguments, FittedArguments
from leftout.cli.kernel_choice import ResolvedKernel, resolve_kernel
from leftout.cli.main import app
from leftout.cli.model import rule_of
from leftout.core.errors import OptionError
from leftout.diagnostics.model_selection import POSITIVE_SHARE, STRENGTHS, Candidate, Selection
from leftout.dynamics import default_model
from leftout.planning.machine import LabelFitTimings, SecondsBySize
from leftout.report.kernel_choice_panel import selection_rows, selection_verdict
from planning.test_plan import FREE

pytestmark = pytest.mark.usefixtures("machine_measured_once")

SMALL = {"data": "digits", "classes": "3,8", "n_train": 40, "n_query": 10, "kernel": "auto"}
"""Options of a choice among kernels; None stands for one that is not given."""
FEW = (("two-layer-relu", {"kernel": "two-layer-relu"}), ("relu, 1 layer", {"kernel": "relu", "depth": 1}))


def arguments_of(**options):
    return AuditArguments.from_options(
        **{name: value for name, value in (SMALL | options).items() if value is not None}
    )


def resolve(**options):
    return resolve_kernel(arguments_of(**options))


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(choosing, "CANDIDATES", FEW)


def made(name, *losses, **more):
    return Candidate(name, lo.kernels.ReLU(1), torch.tensor(losses, dtype=torch.float64), None, **more)


def test_the_best_by_exact_leave_one_out_is_taken(few):
    found = resolve()
    names = {one.name for one in found.selection.candidates}
    assert {name for name, _ in FEW} < names
    assert len(names) == 4, "and the best of them, with labels seen by two estimators"
    for one in found.selection.with_losses:
        # Each kernel has its own scaling of inputs, and is judged with it.
        scale = "unit" if one.name.startswith("two-layer") else "sphere"
        train, _ = lo.load("digits", classes=["3", "8"], n_train=40, n_query=10, normalise=scale)
        off = lo.out_of_sample(lo.fit(one.kernel, train)) - train.targets
        assert one.loss == pytest.approx(float(off.square().sum(1).mean() / 2), rel=1e-6)
    assert found.selection.best.loss == min(one.loss for one in found.selection.with_losses)
    assert found.kernel is found.selection.best.kernel


def test_what_would_take_too_long_is_skipped_and_said(few):
    with pytest.raises(OptionError, match=r"two-layer-relu.*: would take about .* --minutes 1e-09"):
        resolve(minutes=1e-9)


def test_pictures_are_tried_with_convolutions_and_rows_of_numbers_are_not(tmp_path, monkeypatch):
    names = ("two-layer-relu", "conv-relu, 2 layers")
    tried = tuple(one for one in choosing.CANDIDATES if one[0] in names)
    assert len(tried) == 2
    monkeypatch.setattr(choosing, "CANDIDATES", tried)
    monkeypatch.setattr(choosing, "ESTIMATORS", ())
    assert {one.name for one in resolve().selection.candidates} == set(names)
    rows = np.random.default_rng(0).normal(size=(30, 4))
    path = tmp_path / "table.npz"
    np.savez(path, x=rows, y=np.arange(30) % 2)
    table = resolve(data=str(path), classes=None, n_train=None, n_query=None)
    assert [one.name for one in table.selection.candidates] == ["two-layer-relu"]


def test_data_are_loaded_once_for_each_scaling(monkeypatch):
    scalings = []
    load = default_model.load
    monkeypatch.setattr(
        default_model,
        "load",
        lambda *words, **more: scalings.append(more["normalise"]) or load(*words, **more),
    )
    some = (*FEW, ("erf, 2 layers", {"kernel": "erf", "depth": 2}))
    monkeypatch.setattr(choosing, "CANDIDATES", some)
    monkeypatch.setattr(choosing, "ESTIMATORS", ())
    assert len(resolve().selection.candidates) == 3
    assert scalings == ["unit", "sphere"]
    scalings.clear()
    resolve(normalise="unit")
    assert set(scalings) == {"unit"}, "what was asked for stands above what a kernel wants"


def test_a_forecast_is_priced_by_the_machine_and_takes_the_rule_and_the_time(monkeypatch):
    label_fits = LabelFitTimings(SecondsBySize((1,), (1.0,)), fit=0.0, refit=0.0, at_input=0.0, at_pair=0.0)
    price = dataclasses.replace(FREE, label_fits=label_fits, eigh=SecondsBySize((1,), (10.0,)))
    plain = dataclasses.replace(FREE, cholesky=SecondsBySize((1,), (1.0,)), eigh=SecondsBySize((1,), (10.0,)))
    monkeypatch.setattr(
        choosing,
        "with_kernel",
        lambda _, kernel, *__, **___: plain if isinstance(kernel, lo.kernels.ReLU) else price,
    )
    train, _ = lo.load("digits", n_train=40, n_query=10, normalise="sphere")
    relu, n, s = lo.kernels.ReLU(1), 40, len(STRENGTHS)
    taught = s - STRENGTHS.count(0)
    aware = lo.kernels.LabelAware(relu, "kr-v1", None)
    end, finite = (
        choosing._Trial(arguments, rule_of(arguments), FREE)
        for arguments in (arguments_of(), arguments_of(at=(3.0,)))
    )
    # n cubed in each: of a plain kernel once; and no factor where a spectrum is what is made.
    assert end.seconds(relu, train) == pytest.approx(n**3)
    assert finite.seconds(relu, train) == pytest.approx(10 * n**3)
    # Each strength has a spectrum besides.
    assert end.seconds(aware, train) == pytest.approx((n * taught + 10 * s) * n**3)
    assert finite.seconds(aware, train) == pytest.approx((n * POSITIVE_SHARE * taught + s) * 10 * n**3)


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
        resolve(**more)


def test_a_kernel_that_is_named_is_taken_as_it_is():
    found = resolve(kernel="relu")
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


def strong(strength, loss, **more):
    kernel = lo.kernels.LabelAware(lo.kernels.ReLU(1), "kr-v1", strength)
    losses = torch.tensor([loss, loss + 1], dtype=torch.float64)
    return Candidate(f"strength {strength:g}", kernel, losses, smallest=-0.1, condition=9.0, **more)


EDGE = "Its strength, 10, is the largest that was tried; more may be better."


def test_labels_that_do_not_help_are_said_not_to():
    said = selection_verdict(Selection((strong(0.0, 1.0), strong(0.1, 2.0))))
    assert said.endswith("Labels do not help: strength 0 is the kernel that ignores them.")


def test_errors_of_auto_say_each_reason_once(few):
    with pytest.raises(OptionError) as failed:
        resolve(minutes=1e-9, n_train=20)
    said = str(failed.value)
    assert said.startswith("`--kernel auto` must hold one that can be fitted; got ")
    assert "about 0 minutes" not in said
    assert said.count("must hold") == 1


def test_a_limit_for_no_choice_is_refused():
    with pytest.raises(OptionError, match="--minutes belongs to --kernel auto"):
        resolve(kernel="relu", minutes=1.0)
    with pytest.raises(OptionError, match="--minutes belongs to --kernel auto"):
        FittedArguments.from_options(kernel="relu", minutes=5.0).check()


def test_a_strength_at_the_edge_is_said_to_be_there():
    plain = made("relu", 3.0, 4.0)
    assert selection_verdict(Selection((strong(10.0, 1.0), plain))).endswith(EDGE)
    assert selection_verdict(Selection((strong(10.0, 1.0),))).endswith(EDGE)
    assert "largest that was tried" not in selection_verdict(Selection((strong(3.0, 1.0), plain)))
    # Other strengths were asked for, or larger ones were skipped.
    some = Selection((strong(0.3, 1.0), strong(0.1, 2.0)))
    assert "0.3, is the largest that was tried" in selection_verdict(some)
    inside = Selection((strong(0.1, 1.0), strong(0.3, 2.0)))
    assert "largest" not in selection_verdict(inside)
    # A strength that was given was not chosen.
    given = dataclasses.replace(strong(10.0, 1.0), smallest=None)
    assert "largest" not in selection_verdict(Selection((given, plain)))
    assert "largest" not in selection_verdict(Selection((plain, strong(10.0, 5.0))))


def test_the_edge_is_said_where_the_choice_is_printed_and_on_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(choosing, "choose_strength", lambda *_, **__: Selection((strong(10.0, 1.0),)))
    words = ["--classes", "3,8", "--n-train", "40", "--n-query", "10", "--kernel", "relu", "--depth", "1"]
    done = CliRunner().invoke(
        app, ["audit", "digits", *words, "--label-aware", "kr-v1", "--out", str(tmp_path / "run")]
    )
    assert done.exit_code == 0, done.output
    assert EDGE in " ".join(done.output.split())
    assert EDGE in (tmp_path / "run" / "report.html").read_text()


def test_a_run_repeated_says_when_another_kernel_is_chosen(few, leftout, tmp_path, monkeypatch):
    monkeypatch.setattr(choosing, "ESTIMATORS", ())
    words = ["--classes", "3,8", "--n-train", "30", "--n-query", "5", "--kernel", "auto"]
    assert leftout("audit", "digits", *words)[0] == 0
    took = json.loads((tmp_path / "run/run.json").read_text())["computation"]["fitted"]["kernel"]
    code, _, err = leftout("audit", "--repeat", "run/run.json", "--out", "same")
    assert (code, err) == (0, ""), "the same was chosen"
    monkeypatch.setattr(choosing, "CANDIDATES", (("erf", {"kernel": "erf"}),))
    code, _, err = leftout("audit", "--repeat", "run/run.json", "--out", "other")
    assert code == 0
    choice, change = err.splitlines()
    assert "leave-one-out chose another kernel than in the run to repeat, " in choice
    assert "since that run was made, these changed: the kernel or the network." in change
    assert "erf" in err.split(" and not ")[0]
    assert describe_kernel(took) in err.split(" and not ")[1]
    assert "erf" in json.dumps(lo.open(tmp_path / "other").record["computation"]["fitted"]["kernel"])


def test_another_strength_is_another_choice_and_what_was_learned_is_not():
    train, query = lo.load("digits", classes=["3", "8"], n_train=20, n_query=5, normalise="sphere")
    aware = lo.kernels.LabelAware(lo.kernels.ReLU(1), "kr-v1", 0.1)
    taught = aware.fit_labels(train.inputs, train.labels)
    record = {"computation": {"fitted": {"kernel": json.loads(json.dumps(taught.record))}}}
    picked = Selection((made("a", 1.0),))
    same = ResolvedKernel(aware, train, query, picked)
    assert choosing.kernel_change(same, record) == ""
    other = dataclasses.replace(same, kernel=dataclasses.replace(aware, strength=0.3))
    said = choosing.kernel_change(other, record)
    assert "strength 0.3" in said.split(" and not ")[0]
    assert "strength 0.1" in said.split(" and not ")[1]
    assert choosing.kernel_change(dataclasses.replace(other, selection=None), record) == ""
    for none in (None, {}, {"computation": None}, {"computation": {"fitted": {"kernel": "relu"}}}):
        assert choosing.kernel_change(other, none) == "", "nothing is known of the choice before"


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
    record = json.loads((out / "run.json").read_text())
    assert record["command"]["options"]["kernel"] == "auto"
    tried = {one["name"]: one for one in record["selection"]}
    assert {name for name, _ in FEW} < set(tried)
    train, _ = lo.load("digits", classes=["3", "8"], n_train=40, n_query=10, normalise="unit")
    off = lo.out_of_sample(lo.fit(lo.kernels.TwoLayerReLU(), train)) - train.targets
    loss = tried["two-layer-relu"]["loss"]
    assert loss == pytest.approx(float(off.square().sum(1).mean() / 2), rel=1e-6)


def test_a_run_of_a_kernel_that_was_named_is_no_answer_to_which(few, leftout, monkeypatch):
    """It has the same scores, and no word of what else was tried."""
    monkeypatch.setattr(choosing, "ESTIMATORS", ())
    words = ["audit", "digits", "--classes", "3,8", "--n-train", "30", "--n-query", "5", "--kernel"]
    assert leftout(*words, "auto", "--out", "first")[0] == 0
    best = json.loads(Path("first/run.json").read_text())["computation"]["fitted"]["kernel"]
    flags = {"two-layer-relu": ["two-layer-relu"], "relu": ["relu", "--depth", "1"]}
    assert best["name"] in flags, "or the test says nothing"
    assert leftout(*words, *flags[best["name"]], "--out", "second")[0] == 0
    code, _, err = leftout(*words, "auto", "--out", "second")
    assert code == 2
    assert "second" in err


def test_an_audit_of_a_kernel_that_sees_labels_fits_it_again(tmp_path):
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
    assert "fitted again without each example" in page
    assert "The kernel was fitted to the labels." in page
    again = CliRunner().invoke(app, ["audit", "digits", *words, *aware, "--out", str(out)])
    assert again.exit_code == 0, "a finished run is opened, not made again"


def test_a_curve_of_a_kernel_that_sees_labels_says_that_it_is_kept():
    words = ["--n-train", "60", "--kernel", "relu", "--label-aware", "kr-v1", "--strength", "0.01"]
    done = CliRunner().invoke(app, ["curve", "digits", *words, "--n", "120"])
    assert done.exit_code == 0, done.output
    assert "The kernel saw all labels and is kept as they made it" in done.output


def test_a_plan_foresees_the_fits():
    words = ["digits", "--n-train", "60", "--kernel", "relu", "--label-aware", "kr-v1"]
    done = CliRunner().invoke(app, ["plan", *words])
    assert done.exit_code == 0, done.output
    assert "fitting to labels" in done.output
    assert f"{60 * len(STRENGTHS)} fits of 59" in " ".join(done.output.split())
