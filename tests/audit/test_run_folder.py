"""The folder of a run is whole, comes back as it went in, and is never overwritten."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import leftout as lo
from leftout.audit import audit_findings as findings_module
from leftout.audit import run_folder as run_module
from leftout.core.errors import StoreError
from leftout.storage import score_store as store
from problems.runs import KERNEL, STRANGE, digits, named, small_audit, tree

ACTIONS = {"corrected.csv", "review.json", "keep.txt"}
TABLES = {"suspects.csv", "redundant.csv", "rare.csv", "duplicates.csv", "curve.csv"}
FILES = {"run.json", "report.html", *TABLES, *ACTIONS}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Return a finished run that no test may change, and what it found."""
    folder = tmp_path_factory.mktemp("kept") / "run"
    found = small_audit(folder)
    before = tree(folder)
    yield folder, found
    assert tree(folder) == before, "a test changed the run of all"


@pytest.fixture
def copied(kept, tmp_path):
    """Return a copy of the finished run that may be harmed."""
    return shutil.copytree(kept[0], tmp_path / "copied")


def edited(folder, **entries):
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | entries))


def test_a_run_holds_what_is_promised_and_nothing_else(kept) -> None:
    folder, found = kept
    assert found.run == folder
    assert {path.name for path in folder.iterdir()} == {*FILES, "scores.zarr"}
    assert [path.name for path in folder.parent.iterdir()] == ["run"]


def test_suspects_are_a_table_of_all_examples_most_doubtful_first(kept) -> None:
    folder, found = kept
    assert found.findings.suspects, "nothing is doubted in this problem"
    lines = (folder / "suspects.csv").read_text().splitlines()
    assert lines[0] == (
        "id,row,given,suggested,label_score,is_label_issue,margin,reason,given_label,predicted_label,"
        "predicted_score"
    )
    table = pd.read_csv(folder / "suspects.csv", dtype=str)
    assert sorted(table["id"]) == sorted(digits()[0].ids)
    assert table["is_label_issue"].tolist() == sorted(table["is_label_issue"], reverse=True), "first"
    assert table["suggested"].notna().all()
    table = table[table["is_label_issue"] == "True"]
    assert table["id"].tolist() == [digits()[0].ids[one.row] for one in found.findings.suspects]
    assert table["given"].tolist() == [one.given for one in found.findings.suspects]
    assert table["suggested"].tolist() == [one.suggested for one in found.findings.suspects]
    assert table["reason"].tolist() == [one.reason for one in found.findings.suspects]
    margins = table["margin"].astype(float).tolist()
    assert margins == [one.margin for one in found.findings.suspects], "to the last bit"
    assert margins == sorted(margins)


def test_redundant_is_the_order_of_removal_with_the_joint_effects(kept) -> None:
    folder, found = kept
    redundant, train = found.findings.redundant, digits()[0]
    table = pd.read_csv(folder / "redundant.csv", dtype={"label": str})
    names = ["rank", "id", "row", "label", "can_go", "share", "query_loss", "query_accuracy"]
    assert table.columns.tolist() == names
    assert table["can_go"].sum() == redundant.stop == table["can_go"].iloc[: redundant.stop].sum()
    assert table["rank"].tolist() == list(range(1, len(train) + 1))
    assert table["id"].tolist() == [train.ids[row] for row in redundant.order]
    assert table["label"].tolist() == [train.classes[train.labels[row]] for row in redundant.order]
    assert np.allclose(table["share"], table["rank"] / len(train), rtol=1e-15)
    said = table[table["query_loss"].notna()]
    assert said["rank"].tolist() == list(redundant.counts[1:])
    assert said["query_loss"].tolist() == pytest.approx(redundant.loss[1:], rel=1e-15)
    assert said["query_accuracy"].tolist() == pytest.approx(redundant.accuracy[1:], rel=1e-15)


def test_the_record_says_everything_in_json_that_any_reader_takes(kept) -> None:
    folder, found = kept

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    record = json.loads((folder / "run.json").read_text(), parse_constant=refuse)
    train, query = digits()
    assert record["leftout"] == lo.__version__
    assert record["command"] == {}
    computation = record["computation"]
    assert computation["fitted"]["kernel"] == KERNEL.record
    assert computation["fitted"]["rule"] == lo.Ridge(0.1).record
    assert computation["fitted"]["train"] == train.fingerprint
    assert computation["query"] == query.fingerprint
    assert (computation["at"], computation["refit_examples"], computation["seed"]) == ([None], 3, 0)
    assert record["preparation"]["train"] == train.preparation
    assert record["at_times"][0]["at"] == "inf"
    assert record["at_times"][0]["query_accuracy"] == found.findings.at_times[0].query_accuracy
    assert record["certificate"]["condition"] == found.findings.certificate.condition
    assert len(record["certificate"]["refits"]) == 3
    assert {"made", "torch", "threads", "identity"} <= set(record)


def test_a_run_opens_as_it_was_made(kept) -> None:
    folder, found = kept
    findings = found.findings
    run = lo.open(folder)
    assert run.path == folder
    assert run.report == folder / "report.html"
    assert run.scores.dims == ("at", "query", "train")
    assert np.array_equal(run.scores.values, findings.scores.values)
    assert run.scores["train"].values.tolist() == list(digits()[0].ids)
    assert run.scores["query"].values.tolist() == list(digits()[1].ids)
    assert run.scores["at"].values.tolist() == [math.inf]
    assert run.scores.attrs["sign"].endswith("positive = the example helped")
    doubted = run.suspects[run.suspects["is_label_issue"]]
    assert doubted["margin"].tolist() == [one.margin for one in findings.suspects]
    assert run.redundant["query_loss"].dropna().tolist() == list(findings.redundant.loss[1:])
    assert run.redundant["query_loss"].dtype == float
    assert run.redundant["query_accuracy"].dtype == float
    assert run.redundant["rank"].tolist() == list(range(1, len(digits()[0]) + 1))
    assert run.redundant["rank"].dtype.kind == "i"
    model = findings.at_times[0]
    assert np.array_equal(run.tables["prediction"].values[0], model.predictions.numpy())
    left_out = run.tables["left_out_prediction"].values[0]
    assert np.array_equal(left_out, model.out_of_sample.numpy())
    suspects = [one.row for one in findings.suspects]
    assert np.array_equal(run.tables["margin"].values[suspects], doubted["margin"])
    assert run.record["computation"]["query"] == digits()[1].fingerprint


def test_a_run_opens_by_text_from_elsewhere(kept, monkeypatch) -> None:
    monkeypatch.chdir(kept[0].parent)
    assert len(lo.open("run").redundant) == len(digits()[0])


def test_strange_ids_and_classes_survive_the_disk(tmp_path) -> None:
    train, query = digits()
    names = ("<script>", "=a,b", "-7", "NA", "two\nlines", "@bold", "", 'q"', "\r", "\udcfe")
    renamed = [replace(part, encoding=replace(part.encoding, classes=names)) for part in (train, query)]
    train = named(renamed[0], STRANGE)
    # All labels of strange ids are wrong, so that they are doubted and stand in that table too.
    labels = train.labels.clone()
    labels[: len(STRANGE)] = (labels[: len(STRANGE)] + 1) % 10
    train = train.with_labels(labels)
    audit = lo.audit(KERNEL, train, named(renamed[1], STRANGE), rule=lo.Ridge(0.1), out=tmp_path / "run")
    found, run = audit.findings, lo.open(tmp_path / "run")
    for name in ("suspects", "redundant", "rare", "duplicates"):
        pd.testing.assert_frame_equal(getattr(run, name), getattr(audit, name), check_exact=True)
    assert run.scores["train"].values.tolist() == list(train.ids)
    assert run.scores["query"].values.tolist()[: len(STRANGE)] == list(STRANGE)
    assert run.redundant["id"].tolist() == [train.ids[row] for row in found.redundant.order]
    assert run.redundant["label"].tolist() == [names[train.labels[row]] for row in found.redundant.order]
    suspects = run.suspects[run.suspects["is_label_issue"]]
    doubted = suspects["id"].tolist()
    assert doubted == [train.ids[one.row] for one in found.suspects]
    assert len(set(STRANGE) & set(doubted)) > 10, "few strange ids are doubted"
    assert suspects["given"].tolist() == [one.given for one in found.suspects]
    assert suspects["reason"].tolist() == [one.reason for one in found.suspects]
    assert sorted(run.suspects["id"]) == sorted(train.ids)


def test_numbers_to_predict_have_no_label_and_no_accuracy(tmp_path) -> None:
    draw = np.random.default_rng(0)
    inputs = draw.standard_normal((50, 3))
    targets = inputs.sum(1) + draw.standard_t(2, 50)
    kernel = lo.kernels.From(lambda x, z: x @ z.T + 1)
    lo.audit(kernel, (inputs[:40], targets[:40]), (inputs[40:], targets[40:]), out=tmp_path / "run")
    run = lo.open(tmp_path / "run")
    assert set(run.redundant["label"]) == {""}
    assert run.redundant["query_accuracy"].isna().all()
    assert run.record["at_times"][0]["query_accuracy"] is None


def test_ridge_has_no_time_and_no_table_of_it(kept) -> None:
    run = lo.open(kept[0])
    assert run.learned is None
    assert run.record["stop"] is None
    assert "time" not in run.tables


def test_without_a_suspect_all_examples_are_there(tmp_path) -> None:
    inputs = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    pair = (inputs, np.array([0, 0, 1, 1]))
    lo.audit(lo.kernels.From(lambda x, z: x @ z.T), pair, pair, out=tmp_path / "run")
    run = lo.open(tmp_path / "run")
    assert len(run.suspects) == 4
    assert not run.suspects["is_label_issue"].any()
    assert set(run.suspects["reason"]) == {""}


# What is refused.

HARM = {
    "another version": (lambda at: edited(at, leftout="0.0.1"), "was made by leftout 0.0.1, this is"),
    "no version": (lambda at: edited(at, leftout=None), "was made by leftout None, this is"),
    "a list": (lambda at: (at / "run.json").write_text("[]"), "was made by leftout None, this is"),
    "no record": (lambda at: (at / "run.json").unlink(), r"run.json' does not exist"),
    "garbage": (lambda at: (at / "run.json").write_text("{"), r"run.json' is not readable JSON"),
    "another identity": (lambda at: edited(at, identity="0" * 16), "was changed after it was made"),
    "another rule": (lambda at: _ridge(at), "was changed after it was made"),
    "scores of another run": (lambda at: _swap(at), "was changed after it was made"),
    "no scores": (
        lambda at: shutil.rmtree(at / "scores.zarr"),
        r"scores\.zarr/\.zattrs \(missing\), .* more",
    ),
    "a chunk less": (
        lambda at: (at / "scores.zarr/influence/0.0.0").unlink(),
        r"changed after it was made: scores\.zarr/influence/0\.0\.0 \(missing\)\. Make it again",
    ),
    "no suspects": (lambda at: (at / "suspects.csv").unlink(), r"suspects\.csv \(missing\)"),
    "empty": (lambda at: (at / "redundant.csv").write_text(""), r"redundant\.csv \(changed\)"),
    "a file more": (lambda at: (at / "notes.txt").write_text("mine"), r"notes\.txt \(added\)"),
    "no checksums": (lambda at: edited(at, files=None), r"run\.json' holds no checksums of files"),
    "nested": (lambda at: (at / "run.json").write_text("[" * 10**5), r"run.json' is not readable JSON"),
}


def _ridge(folder):
    record = json.loads((folder / "run.json").read_text())
    record["computation"]["fitted"]["rule"]["ridge"] = 99.0
    (folder / "run.json").write_text(json.dumps(record))


def _swap(folder):
    other = folder.with_name("other")
    small_audit(other, rule=lo.Ridge(7.0))
    shutil.rmtree(folder / "scores.zarr")
    shutil.copytree(other / "scores.zarr", folder / "scores.zarr")


@pytest.mark.parametrize(("harm", "message"), HARM.values(), ids=HARM)
def test_a_run_that_is_not_whole_is_refused(copied, harm, message) -> None:
    lo.open(copied)
    harm(copied)
    with pytest.raises(StoreError, match=message):
        lo.open(copied)
    # Nor is it handed back as finished, or written to.
    before = tree(copied)
    with pytest.raises(StoreError):
        small_audit(copied)
    assert tree(copied) == before


def test_no_run_and_a_file_are_no_finished_run(tmp_path) -> None:
    (tmp_path / "file").write_text("mine")
    for name in ("nothing", "file"):
        with pytest.raises(StoreError, match=f"{name}' is no finished run.$"):
            lo.open(tmp_path / name)


def test_a_run_left_half_way_is_named_as_such(tmp_path, monkeypatch) -> None:
    def fails(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(run_module, "write_report", fails)
        with pytest.raises(KeyboardInterrupt):
            small_audit(tmp_path / "run")
    half_way = "is no finished run. It was stopped half-way: run it again to finish it.$"
    for name in ("run", "run.part"):
        with pytest.raises(StoreError, match=f"{name}' {half_way}"):
            lo.open(tmp_path / name)
    small_audit(tmp_path / "run")
    lo.open(tmp_path / "run")


OTHER = {
    "rule": lambda out: small_audit(out, rule=lo.Ridge(0.2)),
    "loss": lambda out: small_audit(out, rule=lo.Ridge(0.1, "mean")),
    "times": lambda out: small_audit(out, rule=lo.GradientFlow(1.0, 0.1), at=[1.0]),
    "refits": lambda out: small_audit(out, refit_examples=2),
    "kernel": lambda out: lo.audit(
        lo.kernels.From(lambda x, z: x.flatten(1) @ z.flatten(1).mT), *digits(), rule=lo.Ridge(0.1), out=out
    ),
    "queries": lambda out: lo.audit(
        KERNEL, digits()[0], digits()[1].select(range(39)), rule=lo.Ridge(0.1), out=out
    ),
    "ids": lambda out: lo.audit(
        KERNEL, named(digits()[0], ("other",)), digits()[1], rule=lo.Ridge(0.1), out=out
    ),
}


@pytest.mark.parametrize("other", OTHER.values(), ids=OTHER)
def test_a_folder_of_another_computation_is_refused_and_untouched(copied, other) -> None:
    before = tree(copied)
    with pytest.raises(StoreError, match="copied' holds another computation"):
        other(copied)
    assert tree(copied) == before
    assert [path.name for path in copied.parent.iterdir()] == ["copied"]


def test_a_function_of_the_same_name_with_other_values_is_another_computation(tmp_path) -> None:
    def kernel(slope):
        return lo.kernels.From(lambda x, z: slope * x.flatten(1) @ z.flatten(1).mT + 1)

    assert kernel(1.0).record == kernel(1.01).record, "the record tells them apart by itself"
    lo.audit(kernel(1.0), *digits(), out=tmp_path / "run")
    with pytest.raises(StoreError, match="holds another computation"):
        lo.audit(kernel(1.01), *digits(), out=tmp_path / "run")


def test_half_a_run_of_another_computation_is_refused_and_untouched(tmp_path, monkeypatch) -> None:
    def fails(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(run_module, "write_report", fails)
        with pytest.raises(KeyboardInterrupt):
            small_audit(tmp_path / "run")
    before = tree(tmp_path)
    with pytest.raises(StoreError, match=r"run\.part' holds another computation"):
        small_audit(tmp_path / "run", rule=lo.Ridge(0.2))
    assert tree(tmp_path) == before


def test_what_is_no_run_is_never_written_to(tmp_path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/run.json").write_text('{"mine": 1}')
    (tmp_path / "new.part").mkdir()
    (tmp_path / "new.part/thesis.tex").write_text("mine")
    (tmp_path / "other.part").write_text("mine")
    before = tree(tmp_path)
    for name, blamed in [
        ("file", "file"),
        ("empty", "empty"),
        ("full", "full"),
        ("new", "new.part"),
        ("other", "other.part"),
    ]:
        with pytest.raises(StoreError, match=f"{blamed}' exists and is no run of leftout. Choose"):
            small_audit(tmp_path / name)
    assert tree(tmp_path) == before


def test_a_folder_without_a_name_of_its_own_is_taken_or_refused_like_any_other(copied, monkeypatch) -> None:
    with pytest.raises(StoreError, match=r"'/' exists and is no run of leftout. Choose"):
        small_audit(Path("/"))
    for place, out in ((copied, "."), (copied, ""), (copied / "scores.zarr", "..")):
        monkeypatch.chdir(place)
        assert small_audit(out).run.samefile(copied)


def test_a_run_is_not_written_into_another_run(copied) -> None:
    before = tree(copied.parent)
    for name in ("inner", "scores.zarr/deeper/inner"):
        with pytest.raises(StoreError, match=r"inner' lies in '.*copied', which is a run itself"):
            small_audit(copied / name)
    assert tree(copied.parent) == before


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreError, match=r"file/run.part' cannot be made: '.*file' is a file"):
        small_audit(tmp_path / "file/run")


def test_folders_above_are_made(tmp_path) -> None:
    assert small_audit(tmp_path / "a/b/run").run == tmp_path / "a/b/run"


def test_another_version_does_not_go_on_with_half_a_run(copied) -> None:
    edited(copied, leftout="0.0.1")
    with pytest.raises(StoreError, match=r"copied' was made by leftout 0\.0\.1, this is"):
        small_audit(copied)


def test_a_finished_run_asked_again_is_neither_computed_nor_written_again(kept, monkeypatch) -> None:
    folder, found = kept
    before = tree(folder)

    def fails(*given, **more):
        raise AssertionError("computed again")

    monkeypatch.setattr(findings_module, "loss_changes", fails)
    for module in (run_module, store):
        monkeypatch.setattr(module, "write_json", fails)
    monkeypatch.setattr(run_module, "write_report", fails)
    again = small_audit(folder)
    assert tree(folder) == before
    assert again.run == folder
    assert np.array_equal(again.findings.scores.values, found.findings.scores.values)
    assert again.findings.suspects == found.findings.suspects
