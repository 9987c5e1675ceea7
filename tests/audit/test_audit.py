"""An audit gives the same findings in memory and on disk, or one clear error."""

import json
import math
import re

import numpy as np
import pytest
import torch

import leftout as lo
from leftout.attribution.trajectory import training_times
from leftout.audit import audit_findings as findings_module
from leftout.audit.audit import run_audit
from leftout.audit.request import audit_request
from leftout.core.errors import (
    DataError,
    DivergenceError,
    LeftoutError,
    MemoryBudgetError,
    NotPositiveError,
    OptionError,
    StoreError,
)
from leftout.curation.duplicates import duplicates
from leftout.curation.learned import learned
from leftout.curation.mislabelled import find_mislabelled
from leftout.curation.rare import outliers, rare
from leftout.curation.redundant import redundant
from leftout.curation.verdicts import verdict_of_rows
from leftout.data.planted import flip_labels, plant_duplicates, plant_outliers
from leftout.kernels.precomputed import Precomputed
from leftout.storage import score_store as store
from problems.runs import KERNEL, STRANGE, digits, named, small_audit, tree

CASES = {
    "ridge": (lo.Ridge(0.1), None),
    "mean": (lo.Ridge(0.001, "mean"), None),
    "flow": (lo.GradientFlow(1.0, 0.1), [1.0, 50.0, math.inf]),
    "descent": (lo.GradientDescent(0.02), [0, 30]),
}


@pytest.mark.sample(2)
@pytest.mark.parametrize(("rule", "at"), CASES.values(), ids=CASES)
def test_in_memory_and_on_disk_the_findings_are_the_same(tmp_path, rule, at) -> None:
    inside = small_audit(rule=rule, at=at).findings
    found = small_audit(tmp_path / "run", rule=rule, at=at)
    disk = found.findings
    assert found.run == tmp_path / "run"
    assert disk.scores.identical(inside.scores), "values, labels, name and attributes"
    for name in ("suspects", "rare", "outliers", "duplicates", "redundant", "settings", "learned"):
        assert getattr(disk, name) == getattr(inside, name), name
    assert disk.certificate == inside.certificate
    for one, other in zip(disk.at_times, inside.at_times, strict=True):
        assert torch.equal(one.predictions, other.predictions)
        assert torch.equal(one.out_of_sample, other.out_of_sample)
        assert one.query_loss == other.query_loss
        assert one.left_out_accuracy == other.left_out_accuracy


@pytest.mark.parametrize(("rule", "at"), CASES.values(), ids=CASES)
def test_findings_are_those_of_the_parts_at_the_last_time(rule, at) -> None:
    train, query = digits()
    found = small_audit(rule=rule, at=at)
    findings, fitted = found.findings, found.fitted
    last = None if at is None else max(at)
    times = [last] if at is None else at
    assert np.array_equal(findings.scores.values, lo.leave_one_out(fitted, query, at=times).values)
    assert findings.suspects == find_mislabelled(fitted, at=last).suspects
    verdicts = verdict_of_rows(
        len(train),
        suspects=findings.suspects,
        duplicates=findings.duplicates,
        outliers=outliers(fitted),
        rare=rare(fitted, at=last),
    )
    assert findings.redundant == redundant(fitted, query, at=last, keep=verdicts.rows_to_look_at)
    assert findings.rare == verdicts.only("rare", rare(fitted, at=last))
    assert findings.outliers == verdicts.only("outlier", outliers(fitted))
    assert findings.duplicates == duplicates(train)
    if at is None:
        assert findings.learned is None, "ridge has no training time"
    else:
        curve = [*training_times(fitted), *at]
        assert findings.learned == learned(fitted, curve, kinds_at=last)
        assert set(at) <= set(findings.learned.times)
        assert findings.learned.times[findings.learned.time_index] == last
    assert findings.certificate.at == (math.inf if last is None else last)
    assert findings.at_last_time.at == findings.certificate.at


def test_times_are_sorted_and_asked_once() -> None:
    rule = lo.GradientFlow(1.0, 0.1)
    findings = small_audit(rule=rule, at=[50.0, math.inf, 1, 50, None]).findings
    assert [model.at for model in findings.at_times] == [1.0, 50.0, math.inf]
    assert findings.scores["at"].values.tolist() == [1.0, 50.0, math.inf]


def test_training_that_was_asked_about_at_its_beginning_alone_has_no_curve(tmp_path) -> None:
    findings = small_audit(tmp_path / "run", rule=lo.GradientFlow(1.0, 0.1), at=[0]).findings
    assert findings.learned is None
    assert lo.open(tmp_path / "run").learned is None


def test_the_end_of_a_flow_has_a_curve_up_to_it() -> None:
    found = small_audit(rule=lo.GradientFlow(1.0, 0.1)).findings.learned
    assert found.times[-1] == math.inf
    assert found.time_index == len(found.times) - 1 > 20


def test_blocks_of_queries_do_not_show(tmp_path, monkeypatch) -> None:
    whole = small_audit().findings.scores
    monkeypatch.setattr(store, "BLOCK", 7)
    for out in (None, tmp_path / "run"):
        found = small_audit(out).findings.scores
        assert np.allclose(found.values, whole.values, rtol=1e-10, atol=1e-16)
        assert found["query"].equals(whole["query"])


def test_the_model_at_a_time_says_how_well_is_predicted_with_and_without() -> None:
    train, query = digits()
    findings = small_audit().findings
    (model,) = findings.at_times
    fitted = lo.fit(KERNEL, train, rule=lo.Ridge(0.1))
    predicted, left_out = fitted.predict(query), lo.out_of_sample(fitted)
    assert model.query_loss == float(0.5 * ((predicted - query.targets) ** 2).sum(1).mean())
    right = left_out.argmax(1) == train.labels
    assert model.left_out_accuracy == float(right.double().mean())
    assert model.query_accuracy == float((predicted.argmax(1) == query.labels).double().mean())
    assert model.left_out_loss > 0


def test_everything_planted_is_found() -> None:
    train, query = lo.load("digits", n_train=400, n_query=50)
    seeded = torch.Generator().manual_seed(0)
    lonely = plant_outliers(train, 3, generator=seeded)
    flipped = flip_labels(lonely.examples, 0.05, generator=seeded)
    copied = plant_duplicates(flipped.examples, 4, conflicting=True, generator=seeded)
    audit = lo.audit(KERNEL, copied.examples, query, rule=lo.Ridge(0.1))
    findings = audit.findings
    conflicting = {group.rows for group in findings.duplicates if group.conflicting}
    assert conflicting == set(zip(copied.originals.tolist(), copied.rows.tolist(), strict=True))
    assert {one.row for one in lo.outliers(audit.fitted)[:3]} == set(lonely.rows.tolist())
    suspects = {one.row for one in findings.suspects}
    # An outlier whose label is doubted stands among the doubted alone.
    unlike = {one.row for one in findings.outliers}
    assert unlike.isdisjoint(suspects)
    assert set(lonely.rows.tolist()) <= unlike | suspects
    flips = set(flipped.rows.tolist()) - set(lonely.rows.tolist()) - set(copied.originals.tolist())
    assert len(flips & suspects) >= 0.8 * len(flips)
    # Some are told by their order alone: a doubt asks for more than a negative margin.
    assert len(flips & set(findings.margins.argsort()[: 2 * len(flips)].tolist())) >= 0.9 * len(flips)


def test_pairs_of_arrays_and_numbers_to_predict_are_audited(tmp_path) -> None:
    draw = np.random.default_rng(0)
    inputs = draw.standard_normal((60, 4))
    targets = inputs @ draw.standard_normal((4, 2))
    targets[5, 1] += 30
    kernel = lo.kernels.From(lambda x, z: x @ z.T + 1)
    found = lo.audit(
        kernel,
        (inputs[:50], targets[:50]),
        (inputs[50:], targets[50:]),
        rule=lo.Ridge(0.1),
        out=tmp_path / "run",
    )
    assert found.findings.suspects[0].row == 5
    assert found.findings.at_times[0].query_accuracy is None
    assert found.findings.settings["classes"] == "none (regression)"
    suspects = lo.open(tmp_path / "run").suspects
    assert suspects["is_label_issue"].sum() == len(found.findings.suspects)
    assert suspects["row"][0] == 5
    assert suspects["given"][0] == targets[5, 1], "of the output that is furthest off"


@pytest.mark.parametrize("n", [2, 3, 5])
def test_very_few_examples_are_audited_whole(tmp_path, n) -> None:
    inputs = np.eye(n) + 0.1
    labels = np.arange(n) % 2
    found = lo.audit(
        lo.kernels.From(lambda x, z: x @ z.T), (inputs, labels), (inputs, labels), out=tmp_path / "run"
    )
    assert len(found.findings.certificate.refits) == min(3, n)
    assert lo.open(tmp_path / "run").scores.shape == (1, n, n)


def test_classes_and_ids_that_are_html_stand_in_the_report_as_text(tmp_path) -> None:
    train, query = digits()
    found = lo.audit(
        KERNEL, named(train, STRANGE), named(query, STRANGE), rule=lo.Ridge(0.1), out=tmp_path / "run"
    )
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert "<script>alert(1)" not in page
    again = found.report(tmp_path / "again.html")
    assert again == tmp_path / "again.html"
    assert again.read_text(encoding="utf-8") == page


def test_the_command_is_kept_in_the_record(tmp_path) -> None:
    command = {"options": {"data": "digits", "refit_examples": 2}, "folder": "/somewhere"}
    train, query = digits()
    request = audit_request(
        KERNEL,
        train,
        query,
        rule=lo.Ridge(0.1),
        at=None,
        refit_examples=2,
        retrain_examples=0,
        provenance=None,
        seed=0,
        device=None,
        memory=None,
    )
    run_audit(request, tmp_path / "run", command=command)
    assert json.loads((tmp_path / "run/run.json").read_text())["command"] == command


def test_the_seed_chooses_the_refits_and_nothing_else() -> None:
    one, other = small_audit(seed=0).findings, small_audit(seed=1).findings
    rows = [[refit.train for refit in found.certificate.refits] for found in (one, other)]
    assert rows[0] != rows[1]
    assert one.scores.equals(other.scores)
    assert one.suspects == other.suspects


def test_nothing_given_is_written_to() -> None:
    train, query = digits()
    before = [train.fingerprint, query.fingerprint]
    small_audit()
    assert [train.fingerprint, query.fingerprint] == before


# Bad input: one sentence, and nothing left behind.

BAD = {
    "a rate that diverges": (
        DivergenceError,
        r"`rate` must be below the critical rate 2 / \(s_max \+ ridge\) = 0\.0",
        lambda out: small_audit(out, rule=lo.GradientDescent(5.0), at=[10]),
    ),
    "half a step": (
        OptionError,
        r"`at` must be a whole number of steps ≥ 0, or None for the end; got 1\.5",
        lambda out: small_audit(out, rule=lo.GradientDescent(0.01), at=[1.5]),
    ),
    "a negative time": (
        OptionError,
        r"`at` must be a time ≥ 0, or None for the end; got -1",
        lambda out: small_audit(out, rule=lo.GradientFlow(), at=[1.0, -1.0]),
    ),
    "a time without training": (
        OptionError,
        r"`at` must be None under Ridge\(ridge=0\.1, loss='sum'\), which has no training time",
        lambda out: small_audit(out, at=[1.0]),
    ),
    "no time": (
        OptionError,
        "`at` must hold at least one training time; got none",
        lambda out: small_audit(out, at=[]),
    ),
    "fewer than no refits": (
        OptionError,
        "`refit_examples` must be a whole number ≥ 0; got -1",
        lambda out: small_audit(out, refit_examples=-1),
    ),
    "little memory": (
        MemoryBudgetError,
        r"120 training examples and 40 queries need [\d.]+ MB, more than the budget of 100 kB: (pass|raise)",
        lambda out: small_audit(out, memory="100kB"),
    ),
    "no memory": (
        OptionError,
        "`memory` must be a number of bytes or a size such as '4GB' or '512MiB'; got 'plenty'",
        lambda out: small_audit(out, memory="plenty"),
    ),
    "no device": (
        OptionError,
        "`device` must be one that this machine has, cpu.*; got 'abacus'",
        lambda out: small_audit(out, device="abacus"),
    ),
    "a singular matrix": (
        NotPositiveError,
        "is not positive definite.*Pass a larger `ridge`",
        lambda out: _singular(out),
    ),
    "queries of other classes": (
        DataError,
        "`query targets` must be among the training classes 0, 1; got '2'",
        lambda out: lo.audit(
            Precomputed(torch.eye(4, dtype=torch.float64)),
            (np.arange(2.0), np.array([0, 1])),
            (np.arange(2.0), np.array([0, 2])),
            out=out,
        ),
    ),
    "numbers that are none": (
        DataError,
        "`train inputs` must be finite; row 1 holds NaN",
        lambda out: lo.audit(
            KERNEL,
            (np.array([[1.0], [math.nan]]), np.array([0, 1])),
            (np.array([[1.0]]), np.array([0])),
            out=out,
        ),
    ),
    "inputs that are not of unit norm": (
        LeftoutError,
        "norm",
        lambda out: lo.audit(
            KERNEL, (np.eye(3) * 2, np.array([0, 1, 1])), (np.eye(3), np.array([0, 1, 1])), out=out
        ),
    ),
}


def _singular(out):
    inputs = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    kernel = lo.kernels.From(lambda x, z: x @ z.T)
    pair = (inputs, np.array([0, 1, 1]))
    return lo.audit(kernel, pair, pair, rule=lo.Ridge(0.0), out=out)


@pytest.mark.parametrize(("kind", "message", "asked"), BAD.values(), ids=BAD)
def test_bad_input_is_one_sentence_and_leaves_nothing(tmp_path, kind, message, asked) -> None:
    for out in (None, tmp_path / "run"):
        with pytest.raises(kind, match=message):
            asked(out)
    assert list(tmp_path.iterdir()) == []


def test_bad_input_leaves_what_was_done_by_a_good_one(tmp_path, monkeypatch) -> None:
    def stopped(*given, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(findings_module, "certify", stopped)
        with pytest.raises(KeyboardInterrupt):
            small_audit(tmp_path / "run")
    before = tree(tmp_path)
    with pytest.raises(OptionError):
        small_audit(tmp_path / "run", refit_examples=-1)
    with pytest.raises(MemoryBudgetError):
        small_audit(tmp_path / "run", memory="100kB")
    assert tree(tmp_path) == before


def test_scores_that_would_not_fit_are_refused_in_memory_and_kept_on_disk(tmp_path) -> None:
    rule = lo.GradientFlow(1.0, 0.1)
    times = [float(time) for time in range(1, 31)]
    with pytest.raises(MemoryBudgetError) as refused:
        small_audit(tmp_path / "run", rule=rule, at=times, memory="1MB")
    # Three digits are said; 30 × 40 × 120 scores held twice are 2.3 MB.
    needed = float(re.search(r"need ([\d.]+) MB", str(refused.value))[1]) + 0.1
    with pytest.raises(MemoryBudgetError, match=r"or pass `out=` to keep the scores on disk, or raise"):
        small_audit(rule=rule, at=times, memory=f"{needed}MB")
    found = small_audit(tmp_path / "run", rule=rule, at=times, memory=f"{needed}MB")
    assert found.findings.scores.shape == (30, 40, 120)


@pytest.mark.parametrize("name", ["", "no/such/folder/report.html", "file/report.html", "x" * 300, "zero\0"])
def test_a_report_that_cannot_be_written_is_a_sentence_and_leaves_nothing(tmp_path, name) -> None:
    folder = tmp_path / "reports"
    folder.mkdir()
    (folder / "file").write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(StoreError, match=r"The report cannot be written.*\. Name a file in"):
        small_audit().report(folder / name)
    assert tree(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["reports"]
