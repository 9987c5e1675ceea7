"""What audits, runs, models and examples show of themselves: few lines, and HTML in which names are text."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

import leftout as lo
from problems.runs import STRANGE, digits, named, small_audit

HOSTILE = ("<script>alert(1)</script>", "</td><img src=x onerror=alert(1)>", "a&b", "\u202eevil", "x" * 5000)
TAGS = {"div", "strong", "table", "thead", "tbody", "tr", "th", "td"}


class Tags(HTMLParser):
    """The names of all tags of a piece of HTML, and its text."""

    def __init__(self, html) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs) -> None:
        self.names.add(tag)

    def handle_data(self, data) -> None:
        self.text += data


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Return an audit whose ids, classes and data are named to be markup; strange ids are doubted."""
    train, query = digits()
    encoding = replace(train.encoding, classes=(*HOSTILE, *"56789"))
    labels = train.labels.clone()
    labels[: len(STRANGE)] = (labels[: len(STRANGE)] + 1) % 10
    train = replace(named(train, STRANGE), encoding=encoding, preparation={"data": HOSTILE[0]})
    query = replace(query, encoding=encoding)
    folder = tmp_path_factory.mktemp("shown") / "run"
    return lo.audit(
        lo.kernels.TwoLayerReLU(), train.with_labels(labels), query, rule=lo.Ridge(0.1), out=folder
    )


def shown_objects(audit):
    return {
        "audit": audit,
        "run": lo.open(audit.run),
        "examples": audit.findings.train,
        "fitted": audit.fitted,
    }


@pytest.mark.parametrize("kind", ["audit", "run", "examples", "fitted"])
def test_hostile_names_are_text_and_lines_are_few_and_short(hostile, kind) -> None:
    shown = shown_objects(hostile)[kind]
    lines = repr(shown).split("\n")
    assert 1 <= len(lines) <= 6
    assert max(map(len, lines)) < 500
    assert not re.search(r"array\(|tensor\(|[\x00-\x09\x0b-\x1f\u202e]", repr(shown))
    html = shown._repr_html_()
    assert len(html) < 8000
    assert Tags(html).names <= TAGS
    if kind in ("audit", "run"):
        assert "<script>" in Tags(html).text, "the first of the strange ids, as text"


def test_an_audit_says_data_model_accuracy_and_what_to_do(tmp_path) -> None:
    audit = lo.audit("digits", n_train=80, n_query=20, out=tmp_path / "run")
    findings = audit.findings
    title, *lines = repr(audit).split("\n")
    assert title == "Audit of digits: 80 training examples, 20 queries drawn by seed 0"
    told = dict(line.strip().split(": ", 1) for line in lines)
    assert list(told) == ["model", "how good", "to do", "report"]
    assert told["model"].startswith("a wide ReLU network with 2 hidden layers and biases; Ridge (ridge ")
    assert told["model"].endswith(", of least left-out loss")
    model = findings.at_last_time
    assert f"left-out accuracy {model.left_out_accuracy:.1%}" in told["how good"]
    assert f"on queries {model.query_accuracy:.1%}" in told["how good"]
    assert told["to do"].startswith(f"{len(findings.suspects)} labels to check (")
    assert f"; {findings.redundant.stop} examples could go (" in told["to do"]
    assert told["report"] == str(tmp_path / "run" / "report.html")
    run = repr(lo.open(tmp_path / "run")).split("\n")
    assert run[0] == title.replace("Audit", "Run")
    assert {line for line in run[1:]} == {line for line in lines if "how good" not in line}
    table = Tags(audit._repr_html_()).text
    for name in audit.suspects["id"][audit.suspects["is_label_issue"]][:5]:
        assert name in table


def test_what_must_be_known_first_stands_first(tmp_path) -> None:
    draw = np.random.default_rng(2)
    audit = lo.audit(draw.standard_normal((60, 4)), draw.integers(0, 2, 60), out=tmp_path / "run")
    assert repr(lo.open(audit.run)).split("\n")[1:3] == repr(audit).split("\n")[1:3]
    assert "could go" not in repr(lo.open(audit.run))
    lines = repr(replace(audit, run=None)).split("\n")
    assert lines[1].startswith("  take care: The model knows nothing of the labels")
    assert not any("could go" in line for line in lines)
    assert lines[-1] == '  report: audit.report("report.html")'
    assert "<table border" not in audit._repr_html_(), "no list where nothing is doubted"


def test_numbers_to_predict_have_a_loss_and_a_range() -> None:
    draw = np.random.default_rng(0)
    inputs = draw.standard_normal((40, 3))
    audit = lo.audit(inputs, inputs.sum(1))
    assert f"left-out loss {audit.findings.at_last_time.left_out_loss:.4g}" in repr(audit)
    assert "numbers from " in repr(audit.findings.train)
    assert "1 an example" in repr(audit.findings.train)


def test_a_trained_network_says_its_verdict_within_six_lines() -> None:
    train, query = lo.load("digits", classes=[3, 8], n_train=40, n_query=12, normalise=None, centre="none")
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2)).double()
    optimiser = torch.optim.SGD(module.parameters(), lr=0.01)
    for _ in range(100):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(module(train.inputs), train.labels).backward()
        optimiser.step()
    audit = lo.audit(lo.kernels.Empirical(module), train, query, rule=lo.Logistic(1.0), refit_examples=0)
    lines = repr(audit).split("\n")
    assert len(lines) <= 6
    assert lines[1].startswith(f"  take care: {audit.findings.verdict[:40]}")


def test_small_audits_are_shown_too() -> None:
    assert "120 training examples, 40 queries drawn by seed 0" in repr(small_audit())
