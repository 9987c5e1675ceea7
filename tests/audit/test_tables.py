"""The frames of an audit hold all rows in question, say what the definitions say, and come back from disk."""

import math
import statistics
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import leftout as lo
from laws import assert_same
from leftout.data.planted import flip_labels, plant_duplicates, plant_outliers
from oracles import doubt as oracle
from problems.runs import digits

NAMES = ("suspects", "redundant", "rare", "duplicates")
KERNEL = lo.kernels.ReLU(2)


def numbers(n=60):
    """Return inputs and numbers to predict of them; the eighth is far off, in units of their own."""
    draw = np.random.default_rng(0)
    inputs = draw.standard_normal((n, 3))
    targets = 500 + 40 * (inputs.sum(1) + 0.2 * draw.standard_normal(n))
    targets[7] += 900
    return inputs, targets


@pytest.fixture(scope="module")
def of_classes(tmp_path_factory):
    """Return an audit of digits with wrong labels, copies and noise, of rows in an order of its own."""
    train, query = lo.load("digits", classes=["3", "5", "8"], n_train=72, n_query=20)
    seeded = torch.Generator().manual_seed(0)
    train = flip_labels(plant_outliers(train, 3, generator=seeded).examples, 0.1, generator=seeded).examples
    train = plant_duplicates(train, 4, conflicting=True, generator=seeded).examples
    out = tmp_path_factory.mktemp("tables") / "run"
    return lo.audit(KERNEL, train, query, rule=lo.Ridge(0.1), out=out)


@pytest.fixture(scope="module")
def of_numbers(tmp_path_factory):
    return lo.audit(*numbers(), n_query=10, out=tmp_path_factory.mktemp("tables") / "run")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["of_classes", "of_numbers"])
def test_a_frame_comes_back_from_the_disk_as_it_was(request, kind, name) -> None:
    audit = request.getfixturevalue(kind)
    pd.testing.assert_frame_equal(getattr(lo.open(audit.run), name), getattr(audit, name), check_exact=True)


@pytest.mark.parametrize("kind", ["of_classes", "of_numbers"])
def test_every_example_stands_once_with_its_row_and_issues_first(request, kind) -> None:
    audit = request.getfixturevalue(kind)
    train, suspects = audit.findings.train, audit.suspects
    assert sorted(suspects["id"]) == sorted(audit.redundant["id"]) == sorted(train.ids)
    row_of = dict(zip(train.ids, train.source_rows.tolist(), strict=True))
    for table in (suspects, audit.redundant, audit.rare, audit.duplicates):
        assert table["row"].tolist() == [row_of[name] for name in table["id"]]
    issues = suspects[suspects["is_label_issue"]]
    assert len(issues) > 0
    assert issues.index.tolist() == list(range(len(issues)))
    assert issues["reason"].str.len().min() > 20
    assert set(suspects["reason"][len(issues) :]) == {""}
    for part in (issues, suspects[len(issues) :]):
        assert part["margin"].is_monotonic_increasing
    assert suspects["given_label"].equals(suspects["given"])
    assert suspects["predicted_label"].equals(suspects["suggested"])
    assert suspects.attrs == {"refusal": ""}


def test_scores_of_classes_are_calibrated_probabilities_of_a_model_without_the_example(of_classes) -> None:
    train = of_classes.findings.train
    gram = KERNEL.block(train.inputs, train.inputs).numpy()
    left_out = []
    for i in range(len(train)):
        rest = np.arange(len(train)) != i
        dual = np.linalg.solve(
            gram[np.ix_(rest, rest)] + 0.1 * np.eye(rest.sum()), train.targets.numpy()[rest]
        )
        left_out.append(gram[i, rest] @ dual + 1 / 3)
    q = oracle.calibrated(np.array(left_out).tolist(), train.labels.tolist())
    place = {name: row for row, name in enumerate(train.ids)}
    for suspect in of_classes.suspects.itertuples():
        row = place[suspect.id]
        assert suspect.given == train.classes[train.labels[row]]
        assert abs(suspect.label_score - q[row][train.labels[row]]) < 2e-3
        assert abs(suspect.predicted_score - max(q[row])) < 2e-3
        if sorted(q[row])[-1] - sorted(q[row])[-2] > 4e-3:
            assert suspect.suggested == train.classes[int(np.argmax(q[row]))]


def test_numbers_are_suggested_in_the_units_of_the_data(of_numbers) -> None:
    train, suspects = of_numbers.findings.train, of_numbers.suspects
    _, targets = numbers()
    assert suspects["row"][0] == 7
    assert_same(suspects["given"], targets[suspects["row"]], rtol=1e-12)
    fitted = lo.fit(of_numbers.fitted.kernel, train, rule=of_numbers.fitted.rule)
    place = {name: row for row, name in enumerate(train.ids)}
    for suspect in suspects.head(6).itertuples():
        rest = [row for row in range(len(train)) if row != place[suspect.id]]
        part = lo.fit(fitted.kernel, train.select(rest), rule=fitted.rule)
        alone = part.predict(train.inputs[[place[suspect.id]]]) + torch.tensor(train.encoding.offset)
        assert suspect.suggested == pytest.approx(float(alone), rel=1e-6)
    residuals = (suspects["given"] - suspects["suggested"]).tolist()
    middle = statistics.median(residuals)
    scale = 1.4826 * statistics.median(abs(residual - middle) for residual in residuals)
    tails = [2 * (1 - statistics.NormalDist().cdf(abs(r - middle) / scale)) for r in residuals]
    np.testing.assert_allclose(suspects["label_score"], tails, rtol=1e-6, atol=1e-12)
    assert suspects["predicted_score"].isna().all()


def test_equal_residuals_have_a_score_and_no_number_that_is_none() -> None:
    inputs = np.eye(12)
    findings = lo.audit(lo.kernels.From(lambda x, z: x @ z.T), (inputs, np.ones(12)), (inputs, np.ones(12)))
    assert findings.suspects["label_score"].tolist() == [1.0] * 12


def test_removal_says_the_exact_loss_up_to_its_ranks(of_classes) -> None:
    findings, table = of_classes.findings, of_classes.redundant
    train, query = findings.train, findings.query
    place = {name: row for row, name in enumerate(train.ids)}
    assert table["rank"].tolist() == list(range(1, len(train) + 1))
    at = table[table["query_loss"].notna()]
    assert at["rank"].tolist() == list(findings.redundant.counts[1:])
    for entry in at.itertuples():
        gone = {place[name] for name in table["id"][: entry.rank]}
        rest = [row for row in range(len(train)) if row not in gone]
        part = lo.fit(KERNEL, train.select(rest), rule=lo.Ridge(0.1))
        assert entry.query_loss == pytest.approx(query.mean_loss(part.predict(query)), rel=1e-8)
        assert entry.query_accuracy == query.accuracy(part.predict(query))


def test_rare_and_duplicates_are_those_of_the_findings(of_classes) -> None:
    findings = of_classes.findings
    kinds = of_classes.rare["kind"].value_counts().to_dict()
    expected = {"under-sampled": len(findings.rare), "outlier": len(findings.outliers)}
    assert kinds == {kind: count for kind, count in expected.items() if count}
    outliers = of_classes.rare[of_classes.rare["kind"] == "outlier"]
    assert outliers["similarity"].tolist() == [outlier.similarity for outlier in findings.outliers]
    assert outliers["loss"].isna().all()
    table = of_classes.duplicates
    assert len(table) == sum(len(group.rows) for group in findings.duplicates) >= 8
    for number, group in enumerate(findings.duplicates):
        members = table[table["group"] == number]
        assert members["id"].tolist() == [findings.train.ids[row] for row in group.rows]
        assert set(members["conflicting"]) == {group.conflicting}


def test_a_split_column_and_unused_rows_keep_the_rows_of_the_table() -> None:
    draw = np.random.default_rng(1)
    frame = pd.DataFrame(draw.standard_normal((48, 3)), columns=list("abc"))
    frame["y"] = np.where(frame["a"] + frame["b"] > 0, "yes", "no")
    frame["split"] = [("train", "train", "val", "test")[row % 4] for row in range(48)]
    audit = lo.audit(frame, target="y")
    rows = audit.suspects.sort_values("row")["row"].tolist()
    assert rows == frame.index[frame["split"] == "train"].tolist()
    given = audit.suspects.set_index("row")["given"]
    assert given.to_dict() == frame.loc[frame["split"] == "train", "y"].to_dict()
    assert audit.findings.query.source_rows.tolist() == frame.index[frame["split"] == "test"].tolist()


def test_a_file_without_names_and_blank_lines_counts_data_rows(tmp_path) -> None:
    draw = np.random.default_rng(1)
    lines = [f"{x:.4f},{'up' if x > 0 else 'down'}" for x in draw.standard_normal(40)]
    (tmp_path / "t.csv").write_text("\n".join([*lines[:7], "", *lines[7:]]) + "\n")
    suspects = lo.audit(str(tmp_path / "t.csv"), header=False).suspects
    assert all(
        lines[row].endswith(given) for row, given in zip(suspects["row"], suspects["given"], strict=True)
    )


def test_shuffled_labels_are_refused_and_all_rows_are_there() -> None:
    draw = np.random.default_rng(2)
    audit = lo.audit(draw.standard_normal((60, 4)), draw.integers(0, 2, 60))
    suspects = audit.suspects
    assert suspects.attrs["refusal"] == audit.findings.refusal != ""
    assert len(suspects) == len(audit.findings.train)
    assert not suspects["is_label_issue"].any()
    assert suspects["suggested"].isin(["0", "1"]).all()
    assert not audit.redundant["can_go"].any()


def test_frames_are_new_each_time_so_that_nobody_changes_those_of_others(of_classes) -> None:
    first = of_classes.suspects
    first.loc[0, "given"] = "changed"
    assert of_classes.suspects.loc[0, "given"] != "changed"


def test_rows_of_examples_are_selected_with_them() -> None:
    train, _ = digits()
    assert train.select([5, 2]).source_rows.tolist() == [train.source_rows[5], train.source_rows[2]]
    assert [int(name.partition("/")[2]) for name in train.ids] == train.source_rows.tolist()
    bare = replace(train, source_rows=None)
    assert bare.source_rows.tolist() == list(range(len(train)))
    assert not math.isnan(float(bare.source_rows.sum()))
