"""Without flags, a table as people have it is encoded, scaled, fitted and judged by the defaults, and it is
said."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import leftout as lo
from laws import assert_same
from report.test_report import Page

N = 80


def frame(seed=0, *, known=True):
    """Return a table with texts, missing cells and a constant column; the target goes with it or with
    nothing."""
    draw = np.random.default_rng(seed)
    size = draw.normal(size=N)
    colour = np.where(size > 0.3, "red", np.where(draw.random(N) < 0.5, "blue", "green"))
    kind = np.where(size + 0.2 * draw.normal(size=N) > 0, "large", "small")
    table = pd.DataFrame(
        {"size": 1000 * size, "colour": colour, "age": draw.integers(0, 90, N), "unit": 1, "kind": kind}
    )
    table["age"] = table["age"].astype("Int64")
    table.loc[[2, 9], "age"] = pd.NA
    if not known:
        table["kind"] = draw.permutation(np.where(np.arange(N) < 60, "large", "small"))
    return table


@pytest.fixture
def audited(leftout):
    frame().to_csv("t.csv", index=False)
    status, out, err = leftout("audit", "t.csv", "--refit-examples", "1")
    assert (status, err) == (0, "")
    return out, json.loads(Path("run/run.json").read_text())


def test_the_model_is_that_of_the_library_and_everything_is_said(audited) -> None:
    out, record = audited
    train, query = lo.load("t.csv", normalise="standard", drop_constant=True)
    fitted = lo.fit(lo.kernels.ReLU(2, bias_variance=0.3), train, rule=lo.Ridge("auto"))
    assert record["computation"]["fitted"]["train"] == train.fingerprint
    assert record["computation"]["fitted"]["kernel"] == fitted.kernel.record
    assert record["ridge_choice"]["ridge"] == fitted.rule.ridge
    preparation = record["preparation"]["train"]
    assert preparation["normalise"] == "standard"
    assert preparation["dropped_columns"] == ["unit"]
    run = lo.open("run")
    assert_same(run.scores[0], lo.leave_one_out(fitted, query))
    for said in (
        "the target is 'kind', the last column",
        "texts became columns of 0 and 1",
        "missing numbers became the median of the training rows",
        "one value in all training rows: 'unit'",
    ):
        assert said in out
        assert any(said in note for note in preparation["notes"])
    assert record["refusal"] is None


def test_flags_mean_what_they_meant(leftout) -> None:
    few = (
        "digits",
        "--n-train",
        "60",
        "--n-query",
        "10",
        "--kernel",
        "two-layer-relu",
        "--refit-examples",
        "0",
    )
    assert leftout("audit", *few)[0] == 0
    train, query = lo.load("digits", n_train=60, n_query=10)
    fitted = lo.fit(lo.kernels.TwoLayerReLU(), train, rule=lo.Ridge(1.0))
    assert_same(lo.open("run").scores[0], lo.leave_one_out(fitted, query))


def test_a_model_that_knows_nothing_accuses_nobody_and_this_is_said_first(leftout) -> None:
    frame(1, known=False).to_csv("t.csv", index=False)
    status, out, _ = leftout("audit", "t.csv", "--refit-examples", "0")
    assert status == 0
    beginning = next(line for line in out.splitlines() if not line.startswith("note: "))
    assert beginning.startswith("The model knows nothing of the labels: ")
    assert "none: the model knows nothing" in out.replace("\n", " ")
    run = lo.open("run")
    assert run.record["refusal"].startswith("The model knows nothing of the labels: ")
    assert len(run.suspects) == len(run.redundant)
    assert not run.suspects["is_label_issue"].any()
    assert run.suspects.attrs["refusal"] == run.record["refusal"]
    assert not run.redundant["can_go"].any()
    words = Page(Path("run/report.html").read_text()).words
    page = words[words.index("Audit of") :]
    assert page.index("The model knows nothing of the labels") < page.index("No label is accused.")
    assert "Nothing is called removable." in page
