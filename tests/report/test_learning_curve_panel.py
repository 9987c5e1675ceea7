"""The panel on more data says what the learning curve says, and its plots show it."""

import re

import pytest

from leftout.report.learning_curve_panel import panel
from leftout.report.learning_curve_plots import learning_curve_plots
from leftout.report.report import html
from problems.runs import curve_audits


@pytest.fixture(scope="module")
def findings():
    return curve_audits()["ridge"].findings


def test_the_report_shows_curve_modes_classes_and_examples(findings) -> None:
    page = html(findings)
    content = panel(findings)
    section = page[page.index('<section id="learning-curve"') :]
    section = section[: section.index("</section>")]
    assert content["verdict"] in section
    assert section.count('<svg class="plot"') == 2
    for row in content["rows"]:
        assert f">{row[0]}</th>" in section
    for of_class in content["classes"]:
        assert of_class[4] in section
    for example in content["carriers"]:
        assert findings.train.ids[example["row"]] in section
    assert page.count('section id="learning-curve"') == 1
    worst = int(findings.learning_curve.unlearned.argmax())
    assert content["carriers"][0]["row"] == worst


def test_the_plot_puts_every_number_where_it_belongs(findings) -> None:
    curve = findings.learning_curve
    error = str(learning_curve_plots(curve)[0])
    measured = re.findall(r'<circle class="dot a" cx="([\d.]+)" cy="([\d.]+)"', error)
    predicted = re.findall(r'<rect class="dot b" x="([\d.]+)" y="([\d.]+)"', error)
    assert len(measured) == len(curve.measured)
    assert len(predicted) == len(curve.n) + 1  # it sets out from what was measured last
    heights = [float(y) for _, y in measured]
    assert heights == sorted(heights), "less error stands lower, and y grows downwards"
    band = re.search(r'<polygon class="band" points="([^"]+)"', error).group(1).split()
    assert len(band) == 2 * (len(curve.n) + 1)
