"""Does the panel say what the curve says, and is it the curve of all examples?"""

import json
import re

import pandas as pd
import pytest

import leftout as lo
from laws import assert_same
from leftout.diagnostics.learning_curve.learning_curve import learning_curve
from leftout.report import learning_curve_panel as module
from leftout.report.learning_curve_panel import outlook, panel
from leftout.report.learning_curve_plots import outlook_plots
from leftout.report.report import html as report_of


@pytest.fixture(scope="module")
def data():
    return lo.load("digits", n_train=160, n_query=20)


@pytest.fixture(scope="module")
def audits(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    kernel = lo.kernels.TwoLayerReLU()
    return {
        "ridge": lo.audit(kernel, *data, rule=lo.Ridge(0.1), out=folder / "ridge"),
        "flow": lo.audit(kernel, *data, rule=lo.GradientFlow(1.0, 0.1), at=3.0, out=folder / "flow"),
    }


def test_under_a_rule_with_training_time_it_is_the_curve_of_all_examples(audits) -> None:
    found = audits["flow"]
    wanted = learning_curve(found.fitted, found.findings.outlook.n)
    assert found.findings.outlook.record == wanted.record


def test_under_ridge_it_starts_at_the_exact_left_out_error_of_all(audits) -> None:
    found = audits["ridge"].findings
    assert found.outlook.examples == 160
    assert_same(found.outlook.measured[-1].error, 2 * found.moments[0].left_out_loss, 1e-12)
    assert found.outlook.measured[-1].accuracy == found.moments[0].left_out_accuracy
    # From half of the examples, and from all: two estimates of one curve.
    whole = audits["flow"].findings.outlook
    assert found.outlook.n == whole.n == (226, 320, 453, 640)
    for low, high, other in zip(found.outlook.error_low, found.outlook.error_high, whole.error, strict=True):
        assert low < other < high


def test_too_few_examples_or_a_singular_end_have_none(data) -> None:
    train, query = data
    kernel = lo.kernels.TwoLayerReLU()
    assert lo.audit(kernel, train.select(range(79)), query).findings.outlook is None
    twice = train.select([*range(80), 3])
    found = lo.audit(kernel, twice, query, rule=lo.GradientFlow(1.0), at=1.0)
    assert found.findings.outlook is None
    assert 'id="outlook"' not in module_html(found)


def module_html(found):
    from leftout.report.report import html

    return html(found.findings)


def test_the_run_keeps_the_curve(audits) -> None:
    run = audits["ridge"].run
    record = json.loads((run / "run.json").read_text())["outlook"]
    found = audits["ridge"].findings.outlook
    assert record["error"] == list(found.error)
    assert record["verdict"] == found.verdict
    table = pd.read_csv(run / "curve.csv")
    assert table["n"].tolist() == [*(one.n for one in found.measured), *found.n]


def test_the_report_shows_curve_modes_classes_and_examples(audits) -> None:
    page = module_html(audits["ridge"])
    found = audits["ridge"].findings
    said = panel(found)
    section = page[page.index('<section id="outlook"') :]
    section = section[: section.index("</section>")]
    assert said["verdict"] in section
    assert section.count('<svg class="plot"') == 2
    for row in said["rows"]:
        assert f">{row[0]}</th>" in section
    for one in said["classes"]:
        assert one[4] in section
    for row in module.carriers(found.outlook):
        assert found.train.ids[row] in section
    assert page.count('href="#outlook"') == 1
    worst = int(found.outlook.unlearned.argmax())
    assert module.carriers(found.outlook)[0] == worst


def test_the_plot_puts_every_number_where_it_belongs(audits) -> None:
    found = audits["ridge"].findings.outlook
    error = str(outlook_plots(found)[0])
    seen = re.findall(r'<circle class="dot a" cx="([\d.]+)" cy="([\d.]+)"', error)
    told = re.findall(r'<rect class="dot b" x="([\d.]+)" y="([\d.]+)"', error)
    assert len(seen) == len(found.measured)
    assert len(told) == len(found.n) + 1  # it sets out from what was measured last
    heights = [float(y) for _, y in seen]
    assert heights == sorted(heights), "less error stands lower, and y grows downwards"
    band = re.search(r'<polygon class="band" points="([^"]+)"', error).group(1).split()
    assert len(band) == 2 * (len(found.n) + 1)


def test_outlook_alone_is_what_the_audit_has(audits) -> None:
    found = audits["ridge"]
    again, why = outlook(found.fitted, found.findings.moments, seed=0)
    assert again.record == found.findings.outlook.record
    assert why == found.findings.no_outlook == ""


def test_a_report_without_a_curve_says_why() -> None:
    train, query = lo.load("digits", classes=["3", "8"], n_train=100, n_query=10, normalise="sphere")
    aware = lo.kernels.LabelAware(lo.kernels.ReLU(1), "fjlt-v2", 0.1)
    found = lo.audit(aware, train, query, rule=lo.Ridge(1.0)).findings
    assert found.outlook is None
    assert "Labels have made the kernel indefinite" in found.no_outlook
    assert "What more data would bring is not said here." in report_of(found)
