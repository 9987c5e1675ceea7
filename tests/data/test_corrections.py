"""Corrected labels: the right examples get them, what changed is said, and anything unclear is refused."""

import json

import pytest
import torch

import leftout as lo
from leftout.data.corrections import read_corrections

SIZE = {"n_train": 30, "n_query": 10}


def write(path, *rows, header="id,label"):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_labels_of_a_table_take_the_place_of_those_of_the_data(tmp_path) -> None:
    train, query = lo.load("digits", **SIZE)
    wrong = (int(train.labels[3]) + 1) % 10
    asked = int(query.labels[0] + 1) % 10
    rows = (f"{train.ids[3]},{wrong}", f"{query.ids[0]},{asked}", f"{train.ids[5]},{int(train.labels[5])}")
    path = write(tmp_path / "fixed.csv", *rows)
    again, asked_again = lo.load("digits", **SIZE, labels=path)
    expected = train.labels.clone()
    expected[3] = wrong
    assert torch.equal(again.labels, expected)
    assert torch.equal(again.targets, train.encoding.encode(expected))
    assert again.ids == train.ids
    assert again.fingerprint != train.fingerprint
    assert int(asked_again.labels[0]) == asked
    before = {train.ids[3]: str(int(train.labels[3]))}
    assert again.preparation["corrected"] == {"file": str(path), "changed": 1, "before": before}


def test_numbers_are_corrected_in_their_own_units(tmp_path) -> None:
    data = ((torch.eye(6), torch.arange(6).float()), (torch.eye(6)[:2], torch.tensor([1.0, 2.0])))
    train, _ = lo.load(data)
    again, _ = lo.load(data, labels=write(tmp_path / "fixed.csv", f"{train.ids[4]},-2.5"))
    units = again.encoding.in_target_units(again.targets)[:, 0]
    assert units.tolist() == pytest.approx([0, 1, 2, 3, -2.5, 5])
    assert again.preparation["corrected"]["before"] == {train.ids[4]: "4"}


TASKS = [
    {
        "id": 1,
        "data": {"example": "digits/0001"},
        "annotations": [
            {"was_cancelled": False, "result": [{"from_name": "label", "value": {"choices": ["3"]}}]},
            {"was_cancelled": True, "result": [{"from_name": "label", "value": {"choices": ["9"]}}]},
        ],
    },
    {"id": 2, "data": {"example": "digits/0002"}, "annotations": [{"was_cancelled": True, "result": []}]},
    {
        "id": 3,
        "data": {"example": "digits/0003"},
        "annotations": [
            {"result": [{"from_name": "other", "value": {"choices": ["8"]}}]},
            {"result": [{"from_name": "label", "value": {"choices": ["5"]}}]},
        ],
    },
]
MIN = [{"id": 7, "example": "digits/0001", "label": "3"}, {"id": 8, "example": "digits/0002"}]


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [(TASKS, {"digits/0001": "3", "digits/0003": "5"}), (MIN, {"digits/0001": "3"}), ([], {})],
)
def test_exports_of_label_studio_are_read(tasks, expected, tmp_path) -> None:
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks))
    assert read_corrections(path) == expected


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("fixed.txt", "", "csv with columns id and label, or a .json"),
        ("no.csv", None, "must be a file"),
        ("fixed.csv", "id,class\na,b\n", "must have the columns 'id' and 'label'; it has 'id', 'class'"),
        ("fixed.csv", "id,label\ndigits/0001\n", "row 2 ends early"),
        ("fixed.csv", "id,label\ndigits/0013,3\ndigits/0013,4\n", "one label; 'digits/0013' has '3' and '4'"),
        ("fixed.csv", "id,label\nother,3\n", "1 of its 1 ids are none of them, the first 'other'"),
        ("fixed.json", "{", "must hold JSON"),
        ("fixed.json", "{}", "a list of tasks"),
        ("fixed.json", '[{"data": {"image": "a.png"}}]', "task 0 has none"),
    ],
)
def test_what_is_not_clear_is_refused(name, text, words, tmp_path) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(lo.LeftoutError, match=words):
        lo.load("digits", **SIZE, labels=tmp_path / name)


def test_a_label_that_is_no_class_is_refused(tmp_path) -> None:
    train, _ = lo.load("digits", **SIZE)
    path = write(tmp_path / "fixed.csv", f"{train.ids[0]},eleven")
    with pytest.raises(lo.LeftoutError, match=r"are classes of the data, .*is 'eleven'"):
        lo.load("digits", **SIZE, labels=path)
    data = ((torch.eye(6), torch.arange(6).float()), (torch.eye(6)[:2], torch.tensor([1.0, 2.0])))
    for text, words in (("many", "must give numbers"), ("inf", "finite")):
        with pytest.raises(lo.LeftoutError, match=words):
            lo.load(data, labels=write(tmp_path / "fixed.csv", f"{lo.load(data)[0].ids[0]},{text}"))
