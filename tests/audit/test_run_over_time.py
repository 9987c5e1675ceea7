"""A run with training time keeps a table of examples, a curve, and when to stop."""

import math
import shutil

import numpy as np
import pytest

import leftout as lo
from leftout.core.errors import StoreError
from problems.runs import digits, small_audit

FILES = {
    "run.json",
    "suspects.csv",
    "redundant.csv",
    "rare.csv",
    "duplicates.csv",
    "learned.csv",
    "curve.csv",
    "corrected.csv",
    "review.json",
    "keep.txt",
    "report.html",
    "scores.zarr",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a finished run of a rule with training time, and what it found."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    return folder, small_audit(folder, rule=lo.GradientFlow(1.0, 0.02), at=[3.0, math.inf]).findings


def test_a_run_with_training_time_says_when_each_example_was_learned(trained) -> None:
    folder, findings = trained
    assert {path.name for path in folder.iterdir()} == FILES
    found, train = findings.learned, digits()[0]
    lines = (folder / "learned.csv").read_text().splitlines()
    assert lines[0] == "id,label,learned_at,understood_at,kind"
    table = lo.open(folder).learned
    rows = list(found.order)
    assert table["id"].tolist() == [train.ids[row] for row in rows]
    assert table["label"].tolist() == [train.classes[train.labels[row]] for row in rows]
    assert table["kind"].tolist() == [str(found.kinds[row]) for row in rows]
    for name in ("learned_at", "understood_at"):
        assert table[name].dtype == float
        want = [getattr(found, name)[row] for row in rows]
        assert [None if np.isnan(time) else time for time in table[name]] == want
    assert table["understood_at"].isna().any(), "all is understood in this problem"


def test_a_run_with_training_time_keeps_its_curve_and_its_stop(trained) -> None:
    folder, findings = trained
    run, found = lo.open(folder), findings.learned
    assert tuple(run.tables["time"].values.tolist()) == found.times
    for name in ("fitted_loss", "left_out_loss", "from_others", "by_heart"):
        assert run.tables[name].dims == ("time",)
        assert tuple(run.tables[name].values.tolist()) == getattr(found, name)
    stop = run.record["stop"]
    assert (stop["suggested"], stop["edge"]) == (found.stop.suggested, found.stop.edge)
    assert float(stop["at"]) == found.stop.at
    assert stop["reason"] == found.stop.reason


def test_a_run_with_training_time_that_lost_its_table_is_refused(trained, tmp_path) -> None:
    folder = shutil.copytree(trained[0], tmp_path / "copied")
    (folder / "learned.csv").unlink()
    with pytest.raises(StoreError, match=r"was changed after it was made: learned.csv \(missing\)"):
        lo.open(folder)
    (folder / "learned.csv").write_text("id,label,kind\n")
    with pytest.raises(StoreError, match=r"was changed after it was made: learned.csv \(changed\)"):
        lo.open(folder)
