"""The learning curve on the command line: what it prints and saves is what the library says."""

import re

import pandas as pd
import pytest

import leftout as lo
from leftout.diagnostics.learning_curve.learning_curve import learning_curve
from leftout.storage.result_tables import CURVE_COLUMNS as COLUMNS

SMALL = ("digits", "--n-train", "80", "--n-query", "10", "--ridge", "0.1", "--kernel", "two-layer-relu")


@pytest.fixture(scope="module")
def model():
    train, _ = lo.load("digits", n_train=80, n_query=10)
    return lo.fit(lo.kernels.TwoLayerReLU(), train, rule=lo.Ridge(0.1))


def test_help_shows_an_example_that_works(leftout) -> None:
    code, out, err = leftout("curve", "--help")
    assert (code, err) == (0, "")
    example = re.search(r"Example: leftout (.*)", out).group(1).split()
    assert example[0] == "curve"
    smaller = [{"500": "120", "5000": "1200"}.get(word, word) for word in example]
    code, out, err = leftout(*smaller)
    assert (code, err) == (0, "")
    assert "1200" in out


def test_the_curve_is_saved_measured_then_predicted(leftout, tmp_path, model) -> None:
    code, out, err = leftout("curve", *SMALL, "--n", "160", "--n", "800", "--out", "curve.csv")
    assert (code, err) == (0, "")
    found = pd.read_csv(tmp_path / "curve.csv")
    assert tuple(found.columns) == COLUMNS
    wanted = learning_curve(model, [160, 800])
    assert found["n"].tolist() == [20, 40, 80, 160, 800]
    assert found["kind"].tolist()[:3] == ["measured"] * 3
    # Another number of threads may round sums otherwise: 1e-9 is the promise.
    for name in COLUMNS[2:]:
        want = pytest.approx(getattr(wanted, name), rel=1e-9)
        assert tuple(found[name].iloc[3:]) == want
    assert tuple(found["error"].iloc[:3]) == pytest.approx([one.error for one in wanted.measured], rel=1e-9)
    assert wanted.verdict.split(";")[0] in " ".join(out.split())


def test_without_sizes_it_goes_to_ten_times_what_there_is(leftout) -> None:
    code, out, err = leftout("curve", *SMALL)
    assert (code, err) == (0, "")
    for size in ("160", "400", "800"):
        assert re.search(rf"\b{size}\b", out)
    assert "Which classes carry the unlearned part" in out
    assert "Learned and not yet learned" in out


def test_an_interval_of_less_confidence_is_narrower(leftout, tmp_path) -> None:
    width = {}
    for confidence in ("0.5", "0.99"):
        out = f"{confidence[2:]}.csv"
        words = ("--n", "160", "--confidence", confidence, "--out", out)
        assert leftout("curve", *SMALL, *words)[0] == 0
        last = pd.read_csv(tmp_path / out).iloc[-1]
        width[confidence] = last["error_high"] / last["error_low"]
    assert 1 < width["0.5"] < width["0.99"]


def test_numbers_to_predict_have_no_accuracy(leftout, tmp_path) -> None:
    train, _ = lo.load("digits", n_train=60, n_query=10)
    rows = train.inputs.flatten(1)[:, 20:24].numpy() + 0.1  # no row is zero
    frame = pd.DataFrame(rows, columns=list("abcd")).assign(y=rows.sum(1) + 0.25)
    frame.to_csv(tmp_path / "table.csv", index=False)
    words = ("table.csv", "--n-train", "48", "--n-query", "12", "--n", "96")
    code, out, err = leftout("curve", *words, "--out", "curve.csv")
    assert (code, err) == (0, "")
    assert "accuracy" not in out
    assert pd.read_csv(tmp_path / "curve.csv")["accuracy"].isna().all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--n", "801"), "--n must lie in 2 … 800, ten times the 80 examples at hand; got 801"),
        (("--confidence", "1"), "`--confidence` must lie in (0, 1); got 1.0"),
        (("--out", "curve.txt"), "--out must end in .csv"),
        (("--at", "3"), "--at must be left out here: the learning curve is for the end of training"),
        (("--n-train", "30"), "`fitted` must hold 40 examples or more"),
    ],
)
def test_what_cannot_be_is_one_sentence(leftout, words, message) -> None:
    code, out, err = leftout("curve", *SMALL, *words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
