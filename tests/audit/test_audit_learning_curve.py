"""The learning curve of an audit is that of all examples, or there is a reason why there is none."""

import json

import pandas as pd

import leftout as lo
from laws import assert_same
from leftout.audit.learning_curve import audit_learning_curve
from leftout.diagnostics.learning_curve.learning_curve import learning_curve
from leftout.report.report import html
from problems.runs import KERNEL, curve_audits, digits, small_audit


def test_under_a_rule_with_training_time_it_is_the_curve_of_all_examples() -> None:
    audit = curve_audits()["flow"]
    wanted = learning_curve(audit.fitted, audit.findings.learning_curve.n)
    assert audit.findings.learning_curve.record == wanted.record


def test_under_ridge_it_starts_at_the_exact_left_out_error_of_all() -> None:
    findings = curve_audits()["ridge"].findings
    curve = findings.learning_curve
    assert curve.examples == 160
    assert_same(curve.measured[-1].error, 2 * findings.at_times[0].left_out_loss, 1e-12)
    assert curve.measured[-1].accuracy == findings.at_times[0].left_out_accuracy
    # From half of the examples, and from all: two estimates of one curve.
    of_all = curve_audits()["flow"].findings.learning_curve
    assert curve.n == of_all.n == (226, 320, 453, 640)
    for low, high, error in zip(curve.error_low, curve.error_high, of_all.error, strict=True):
        assert low < error < high


def test_too_few_examples_or_a_singular_end_have_none() -> None:
    train, query = digits(160, 20)
    assert lo.audit(KERNEL, train.select(range(79)), query).findings.learning_curve is None
    twice = train.select([*range(80), 3])
    findings = lo.audit(KERNEL, twice, query, rule=lo.GradientFlow(1.0), at=1.0).findings
    assert findings.learning_curve is None
    assert 'id="learning-curve"' not in html(findings)


def test_the_run_keeps_the_curve(tmp_path) -> None:
    curve = small_audit(tmp_path / "run").findings.learning_curve
    record = json.loads((tmp_path / "run/run.json").read_text())["learning_curve"]
    assert record["error"] == list(curve.error)
    assert record["verdict"] == curve.verdict
    table = pd.read_csv(tmp_path / "run/curve.csv")
    assert table["n"].tolist() == [*(point.n for point in curve.measured), *curve.n]


def test_the_curve_alone_is_that_of_the_audit() -> None:
    audit = curve_audits()["ridge"]
    curve, reason = audit_learning_curve(audit.fitted, audit.findings.at_times[0].out_of_sample, seed=0)
    assert curve.record == audit.findings.learning_curve.record
    assert reason == audit.findings.no_learning_curve == ""


def test_a_report_without_a_curve_says_why() -> None:
    train, query = lo.load("digits", classes=["3", "8"], n_train=100, n_query=10, normalise="sphere")
    aware = lo.kernels.LabelAware(lo.kernels.ReLU(1), "fjlt-v2", 0.1)
    findings = lo.audit(aware, train, query, rule=lo.Ridge(1.0)).findings
    assert findings.learning_curve is None
    assert "Labels have made the kernel indefinite" in findings.no_learning_curve
    assert "What more data would bring is not said here." in html(findings)
