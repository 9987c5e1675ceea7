"""Elasticity on the command line: what it prints and saves is what the library says, and in words."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

import leftout as lo
from leftout.cli.command_elasticity import ClassPair, sentences
from leftout.cli.module_file import network
from leftout.core.wording import number
from leftout.kernels.network.empirical import Empirical

SMALL = ("digits", "--classes", "3,8,1", "--n-train", "40", "--n-query", "15")
NETWORK = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 3)).double()
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NETWORK)
    return tmp_path


def loaded(normalise):
    return lo.load("digits", classes=["3", "8", "1"], n_train=40, n_query=15, normalise=normalise)


def check_table(path, found, built=None):
    """Fail unless every pair is there once, with the numbers of the library."""
    table = pd.read_csv(path, dtype={"class": str, "other": str})
    assert {frozenset(pair) for pair in zip(table["class"], table["other"], strict=True)} == {
        frozenset(pair) for pair in ("38", "31", "81")
    }
    assert table["ratio"].is_monotonic_increasing
    for row in table.to_dict("records"):
        where = {"class": row["class"], "other": row["other"]}
        for name in ("ratio", "query_ratio"):
            assert row[name] == pytest.approx(float(found[name].sel(where)), rel=1e-9)
            if built is not None:
                assert row[f"{name}_as_built"] == pytest.approx(float(built[name].sel(where)), rel=1e-9)
        assert row["between"] == pytest.approx(float(found["similarity"].sel(where)), rel=1e-9)
        for name, of in (("within_class", "class"), ("within_other", "other")):
            own = {"class": row[of], "other": row[of]}
            assert row[name] == pytest.approx(float(found["similarity"].sel(own)), rel=1e-9)
    if built is None:
        assert table["ratio_as_built"].isna().all()


def test_help_shows_an_example_that_works(leftout) -> None:
    code, out, err = leftout("elasticity", "--help")
    assert (code, err) == (0, "")
    example = re.search(r"Example: leftout (.*)", out).group(1).split()
    assert example[0] == "elasticity"
    code, out, err = leftout(*example)
    assert (code, err) == (0, "")
    assert "Local elasticity by pair of classes" in out
    assert out.count(" and ") >= 45


def test_of_a_kernel_it_is_what_the_library_says(leftout, folder) -> None:
    code, out, err = leftout("elasticity", *SMALL, "--kernel", "relu", "--depth", "1", "--out", "all.csv")
    assert (code, err) == (0, "")
    kernel = lo.kernels.ReLU(1)
    found = lo.elasticity(kernel, *loaded(kernel.normalise))
    check_table("all.csv", found)
    assert "as built" not in out
    for value in (found["ratio"].values[0, 1], found["query_ratio"].values[1, 2]):
        assert number(float(value)) in out


def test_of_a_kernel_that_sees_labels_it_is_that_of_the_kernel_taught(leftout, folder) -> None:
    words = ("--kernel", "relu", "--depth", "1", "--label-aware", "kr-v1", "--strength", "0.1")
    code, _, err = leftout("elasticity", *SMALL, *words, "--out", "all.csv")
    assert (code, err) == (0, "")
    base = lo.kernels.ReLU(1)
    train, query = loaded(base.normalise)
    taught = lo.kernels.LabelAware(base, "kr-v1", 0.1).fit_labels(train.inputs, train.labels)
    check_table("all.csv", lo.elasticity(taught, train, query))


def test_of_a_network_with_weights_it_is_that_before_and_with_them(leftout, folder) -> None:
    trained = network("net.py:build")
    with torch.no_grad():
        for one in trained.parameters():
            one.add_(torch.randn(one.shape, generator=torch.Generator().manual_seed(1)) / 8)
    save_file(trained.state_dict(), "net.safetensors")
    words = ("--model", "net.py:build", "--weights", "net.safetensors")
    code, out, err = leftout("elasticity", *SMALL, *words, "--out", "all.csv")
    assert (code, err) == (0, "")
    data = loaded(None)
    found, built = (
        lo.elasticity(Empirical(one, outputs="trace"), *data) for one in (trained, network("net.py:build"))
    )
    check_table("all.csv", found, built)
    assert "ratio as built" in out
    assert re.search(r"more local than as it is built for \d of 3 pairs; on average", out)
    code, out, err = leftout("elasticity", *SMALL, "--model", "net.py:build")
    assert (code, err) == (0, "")
    assert "as built" not in out


def test_words_say_the_ends_of_the_table_and_how_many_rise() -> None:
    one = ClassPair(("a", "b"), 0.51, 0.5, (0.9, 0.8), 0.8, (0.52, 0.5))
    two = ClassPair(("a", "c"), 0.7, 0.7, (0.9, 0.8), 0.4, (0.6, 0.5))
    said = sentences([one, two])
    assert said[0].startswith("Told apart least: a and b, 0.510. Most: a and c, 0.700.")
    assert "for 1 of 2 pairs; on average 0.560 → 0.605" in said[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--ridge", "1"), "--ridge is about training; leftout elasticity looks at the kernel"),
        (("--rule", "flow"), "--rule is about training"),
        (("--at", "3"), "--at is about training"),
        (("--reduction", "mean"), "--reduction is about training"),
        (("--label-aware", "kr-v1"), "needs --strength with --label-aware, a number such as 0.1"),
        (("--out", "all.txt"), "--out must end in .csv"),
        (("--kernel", "auto"), "--kernel auto is for"),
    ],
)
def test_what_it_cannot_say_is_one_sentence(leftout, tmp_path, words, message) -> None:
    code, out, err = leftout("elasticity", *SMALL, *words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_numbers_have_no_classes(leftout, tmp_path) -> None:
    rows = "\n".join(f"{i},{i * 0.37 % 1 + 0.1},{i * 0.11 % 1 + 0.5}" for i in range(20))
    (tmp_path / "table.csv").write_text("a,b,y\n" + rows)
    code, _, err = leftout("elasticity", "table.csv")
    assert code == 2
    assert "must have classes" in err
    words = ("--kernel", "relu", "--label-aware", "kr-v1", "--strength", "0.1")
    code, _, err = leftout("elasticity", "table.csv", *words)
    assert code == 2
    assert "must have classes" in err


def test_where_there_is_no_ratio_that_is_said(leftout, tmp_path):
    """Labels have made examples of one class unlike; a quotient of negative numbers would say 0.38."""
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(60, 4))
    table = pd.DataFrame(rows, columns=list("abcd"))
    table["label"] = np.where(rows[:, 0] * rows[:, 1] > 0, "p", "q")
    table.to_csv(tmp_path / "t.csv", index=False)
    words = ["elasticity", "t.csv", "--kernel", "relu", "--label-aware", "kr-v1", "--strength"]
    code, said, _ = leftout(*words, "5", "--out", "pairs.csv")
    assert code == 0
    assert "not available" in said
    assert re.search("1.pair of classes has no ratio: examples of one class are not alike", said)
    assert "Told apart least" not in said
    assert pd.read_csv(tmp_path / "pairs.csv")["ratio"].isna().all()
    assert "Told apart least" in leftout(*words, "0.1")[1]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--label-aware", "kr-v1", "--strength", "0.1", "--labels-frozen"], "--labels-frozen is about"),
        (["--minutes", "5.0"], "--minutes belongs to --kernel auto"),
    ],
)
def test_flags_that_elasticity_would_have_to_ignore_are_refused(leftout, more, said):
    code, _, err = leftout("elasticity", *SMALL, "--kernel", "relu", *more)
    assert code == 2
    assert said in err
