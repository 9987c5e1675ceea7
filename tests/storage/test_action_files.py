"""What a run leaves to act on: it reads back, marks what was changed, and survives hostile names."""

import csv
import json
from dataclasses import replace

import pytest

import leftout as lo
from leftout.data.corrections import read_corrections
from leftout.storage.action_files import corrected_columns, corrected_rows, kept_ids, review_tasks

SIZE = {"n_train": 80, "n_query": 15}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An audit of digits with five labels changed, in a folder."""
    train, query = lo.load("digits", **SIZE)
    labels = train.labels.clone()
    labels[:5] = (labels[:5] + 1) % 10
    folder = tmp_path_factory.mktemp("act") / "run"
    audit = lo.audit(lo.kernels.ReLU(2), train.with_labels(labels), query, rule=lo.Ridge(0.1), out=folder)
    return audit, folder, train


def test_the_corrected_table_has_every_example_and_marks_the_doubted(run) -> None:
    audit, folder, train = run
    with (folder / "corrected.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == list(train.ids)
    suggested = {suspect.row: suspect.suggested for suspect in audit.findings.suspects}
    given = audit.findings.train
    for place, row in enumerate(rows):
        assert row["given"] == given.classes[int(given.labels[place])]
        assert row["label"] == suggested.get(place, row["given"])
        assert (row["changed"] == "yes") == (place in suggested)
    assert suggested


def test_it_reads_back_as_the_data_with_suggestions_applied(run) -> None:
    audit, folder, _ = run
    corrected, _ = lo.load("digits", **SIZE, labels=folder / "corrected.csv")
    expected = audit.findings.train.labels.clone()
    for suspect in audit.findings.suspects:
        expected[suspect.row] = corrected.classes.index(suspect.suggested)
    assert corrected.labels.tolist() == expected.tolist()


def test_review_tasks_carry_suggestion_and_score_and_come_back(run, tmp_path) -> None:
    audit, folder, _ = run
    tasks = json.loads((folder / "review.json").read_text())
    suspects = audit.findings.suspects
    assert [task["data"]["example"] for task in tasks] == [audit.findings.train.ids[s.row] for s in suspects]
    scores = [task["predictions"][0]["score"] for task in tasks]
    assert scores == sorted(scores, reverse=True)
    for task, suspect in zip(tasks, suspects, strict=True):
        (choice,) = task["predictions"][0]["result"]
        assert choice["value"]["choices"] == [suspect.suggested]
        assert task["data"]["given"] == suspect.given
        task["annotations"] = [{"result": task["predictions"][0]["result"], "was_cancelled": False}]
    exported = tmp_path / "export.json"
    exported.write_text(json.dumps(tasks))
    assert list(read_corrections(exported).values()) == [suspect.suggested for suspect in suspects]


def test_what_is_kept_is_what_the_suggested_removal_leaves(run) -> None:
    audit, folder, train = run
    removal = audit.findings.redundant
    gone = {train.ids[row] for row in removal.order[: removal.stop]}
    kept = (folder / "keep.txt").read_text().splitlines()
    assert kept == [name for name in train.ids if name not in gone]


def test_the_next_run_says_what_was_corrected(run) -> None:
    _, folder, _ = run
    train, query = lo.load("digits", **SIZE, labels=folder / "corrected.csv")
    settings = lo.audit(lo.kernels.ReLU(2), train, query, rule=lo.Ridge(0.1)).findings.settings
    changed = train.preparation["corrected"]["changed"]
    assert settings["corrected labels"].startswith(f"{changed} by {folder / 'corrected.csv'}: digits/")
    assert "corrected labels" not in run[0].findings.settings


def test_hostile_names_do_no_harm(run) -> None:
    audit, _, train = run
    names = ["=1+1", 'a"b', "two\nlines", "\ud800", "x.png", *train.ids[5:]]
    hostile = replace(audit.findings.train, ids=tuple(names))
    suspects = audit.findings.suspects
    assert corrected_rows(hostile, suspects)[0][0] == "=1+1"
    assert corrected_columns(hostile) == ("id", "label", "given", "changed")
    tasks = json.loads(review_tasks(hostile, suspects))
    rows = [suspect.row for suspect in suspects]
    assert [task["data"]["example"] for task in tasks] == [names[row] for row in rows]
    assert tasks[rows.index(4)]["data"].get("image") == "x.png" if 4 in rows else True
    removal = replace(audit.findings.redundant, stop=0)
    kept = kept_ids(hostile, removal).splitlines()
    assert len(kept) == len(hostile)
    assert kept[2] == '"two\\nlines"'


def test_columns_of_a_table_keep_their_values_and_their_names_unless_taken(tmp_path) -> None:
    rows = "\n".join(f"{i % 7},{1 + i % 3},{'yes' if i % 2 else 'no'}" for i in range(40))
    (tmp_path / "data.csv").write_text("label,size,kind\n" + rows + "\n")
    train, query = lo.load(tmp_path / "data.csv", target="kind", n_query=10)
    audit = lo.audit(
        lo.kernels.ReLU(2, bias_variance=0.3), train, query, rule=lo.Ridge(1.0), out=tmp_path / "run"
    )
    with (audit.run / "corrected.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == ["id", "label", "given", "changed", "label (feature)", "size"]
    assert [float(row["size"]) for row in table] == [float(cell) for cell in train.table[:, 1]]
