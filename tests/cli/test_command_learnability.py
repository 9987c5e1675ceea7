"""Learnability on the command line: what it prints and saves is what the library says."""

import re

import pandas as pd
import pytest

import leftout as lo

SMALL = ("digits", "--n-train", "60", "--n-query", "10", "--ridge", "0.1", "--kernel", "two-layer-relu")


def test_help_shows_an_example_that_works(leftout) -> None:
    code, out, err = leftout("learnability", "--help")
    assert (code, err) == (0, "")
    example = re.search(r"Example: leftout (.*)", out).group(1).split()
    code, out, err = leftout(*example, "--n-train", "600")
    assert (code, err) == (0, "")
    assert "target learned" in out


def test_all_modes_are_saved(leftout, tmp_path) -> None:
    code, out, err = leftout("learnability", *SMALL, "--n", "30", "--n", "10", "--out", "modes.csv")
    assert (code, err) == (0, "")
    assert "Which modes" in out
    table = pd.read_csv(tmp_path / "modes.csv")
    train, _ = lo.load("digits", n_train=60, n_query=10)
    gram = lo.fit(lo.kernels.TwoLayerReLU(), train).gram
    for n in (10, 30):
        want = lo.learnability(gram, train.targets, n=n, ridge=0.1, without_replacement=True)
        assert table[f"learned_from_{n}"].tolist() == pytest.approx(want.learnability.tolist(), rel=1e-9)
    assert table["share_of_target"].sum() == pytest.approx(1)
    assert list(table["mode"]) == list(range(1, 61))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--n", "60"), "--n must be below the 60 points of the domain"),
        (("--n", "-1"), "--n must be a finite number ≥ 0; got -1"),
        (("--rule", "flow"), "for the end of training under --rule ridge"),
        (("--reduction", "mean"), "for the end of training under --rule ridge and --reduction sum"),
        (("--out", "modes.txt"), "--out must end in .csv"),
    ],
)
def test_what_it_cannot_say_is_one_sentence(leftout, tmp_path, words, message) -> None:
    given = [word for word in SMALL if word not in ("--ridge", "0.1")]
    code, out, err = leftout("learnability", *given, *words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
