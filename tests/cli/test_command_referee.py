"""`leftout referee`: its numbers are the library's, and what would have to be ignored is refused."""

import re

import numpy as np
import pandas as pd
import pytest

import leftout as lo

SMALL = ("digits", "--n-train", "40", "--n-query", "12", "--kernel", "relu", "--depth", "1", "--ridge", "0.1")
QUICK = ("--subsets", "20", "--resamples", "60")


@pytest.fixture
def by_library():
    train, query = lo.load("digits", n_train=40, n_query=12, normalise="sphere")
    return lo.fit(lo.kernels.ReLU(1), train, rule=lo.Ridge(0.1)), train, query


def test_help_shows_an_example_that_works(leftout) -> None:
    code, out, err = leftout("referee", "--help")
    assert (code, err) == (0, "")
    example = re.search(r"Example: leftout (.*)", out).group(1).split()
    code, out, err = leftout(*[*example, *QUICK, "--n-query", "10"])
    assert (code, err) == (0, "")
    assert "Truth: 20 random halves of 200 examples, the kernel fitted to each exactly" in re.sub(
        r"\s", " ", out
    )
    assert "as good as the truth can tell" in out


def test_the_table_is_what_the_library_says(leftout, tmp_path, by_library) -> None:
    fitted, _train, query = by_library
    code, out, err = leftout("referee", *SMALL, *QUICK, "--out", "table.csv")
    assert (code, err) == (0, ""), err
    table = pd.read_csv(tmp_path / "table.csv")
    want = lo.referee(lo.leave_one_out(fitted, query), fitted, query=query, subsets=20, resamples=60)
    assert table.measure.tolist() == want.measure.values.tolist()
    for column in ("estimate", "low", "high", "ceiling"):
        assert table[column].tolist() == pytest.approx(want[column].values.tolist(), rel=1e-12)
    assert "lds" in out
    assert table.verdict[0] == str(want.verdict.values[0])


def test_scores_of_files_against_truth_of_files(leftout, tmp_path, by_library) -> None:
    fitted, train, query = by_library
    scores = lo.leave_one_out(fitted, query)
    np.save(tmp_path / "trak.npy", scores.values.T)
    np.save(tmp_path / "noise.npy", np.random.default_rng(0).normal(size=(40, 12)))
    truth = lo.refit_subsets(fitted, query, lo.random_subsets(40, count=20))
    truth.to_zarr(tmp_path / "truth.zarr", zarr_format=2, consolidated=False)
    (tmp_path / "wrong.txt").write_text("\n".join(train.ids[:4]) + "\n")
    code, _, err = leftout(
        *("referee", *SMALL, "--resamples", "60", "--truth", "truth.zarr", "--source", "trak"),
        *(
            "--scores",
            "trak.npy",
            "--scores",
            "noise.npy",
            "--wrong-labels",
            "wrong.txt",
            "--out",
            "table.csv",
        ),
    )
    assert (code, err) == (0, ""), err
    table = pd.read_csv(tmp_path / "table.csv").set_index(["scores", "measure"])
    want = lo.referee(scores, truth, resamples=60, wrong_labels=range(4))
    for measure in ("lds", "wrong_labels_auc"):
        assert table.estimate["trak.npy", measure] == pytest.approx(float(want.estimate.sel(measure=measure)))
    assert table.estimate["noise.npy", "lds"] < 0.5
    code, _out, err = leftout(
        "referee", *SMALL, "--resamples", "60", "--truth", "truth.zarr", "--out", "own.csv"
    )
    assert (code, err) == (0, ""), err
    own = pd.read_csv(tmp_path / "own.csv").set_index("scores").estimate
    assert own["exact refits of the kernel"] == pytest.approx(1)
    assert own["leave-one-out of the kernel"] == pytest.approx(float(want.estimate.sel(measure="lds")))


@pytest.mark.slow
def test_a_run_is_truth_too(leftout, tmp_path, by_library) -> None:
    fitted, _, query = by_library
    assert leftout("audit", *SMALL, "--out", "run")[0] == 0
    np.save(tmp_path / "scores.npy", lo.leave_one_out(fitted, query).values)
    code, _out, err = leftout(
        "referee", *SMALL, "--truth", "run", "--scores", "scores.npy", "--out", "table.csv"
    )
    assert (code, err) == (0, ""), err
    table = pd.read_csv(tmp_path / "table.csv").set_index("measure")
    assert table.estimate["leave_one_out"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--source", "trak"), "--source belongs to --scores; give the file, or leave it out."),
        (
            ("--truth", "no.zarr", "--subsets", "9"),
            "--subsets is for exact refits; leave it out with --truth.",
        ),
        (
            ("--truth", "no.zarr"),
            "--truth must be a folder .zarr or that of a run; there is no folder 'no.zarr'.",
        ),
        (("--scores", "no.npy"), "`no.npy` must be a file; there is none of this name. Check the path."),
        (("--at", "3"), "--at must be left out here: scores are judged at the end of training."),
        (("--resamples", "3"), "--resamples must be at least 2 / (1 − level) = 40; got 3."),
    ],
)
def test_what_cannot_be_is_one_sentence(leftout, words, sentence) -> None:
    code, _out, err = leftout("referee", *SMALL, *words)
    assert code == 2
    assert err.strip() == f"leftout: {sentence}"


def test_damaged_truth_and_unknown_ids_are_one_sentence(leftout, tmp_path) -> None:
    (tmp_path / "empty.zarr").mkdir()
    code, _, err = leftout("referee", *SMALL, "--truth", "empty.zarr")
    assert code == 2
    assert "--truth 'empty.zarr' must" in err
    assert err.count("\n") == 1
    (tmp_path / "wrong.txt").write_text("nobody\n")
    code, _, err = leftout("referee", *SMALL, "--wrong-labels", "wrong.txt")
    assert (code, "'nobody' is none. They are such as 'digits/" in err) == (2, True)
