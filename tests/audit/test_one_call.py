"""`lo.audit(data)` with nothing else said is `leftout audit DATA`, number for number; what is unclear is
refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import leftout as lo
from laws import assert_same
from leftout.cli.commands import AuditArguments
from leftout.cli.model import KERNELS, kernel_of
from leftout.core.errors import DataError, OptionError
from leftout.data.split_examples import split_examples
from leftout.dynamics.default_model import defaults_for
from problems.runs import digits

N = 60


def people():
    """Return a table with texts, missing cells and a column of one value; some labels are wrong."""
    draw = np.random.default_rng(3)
    size = draw.normal(170, 10, N)
    town = draw.choice(["Rome", "Oslo", "Lima"], N)
    grown = np.where(size + 8 * (town == "Oslo") + draw.normal(0, 4, N) > 172, "tall", "small")
    grown[:4] = np.where(grown[:4] == "tall", "small", "tall")
    frame = pd.DataFrame({"size": size, "town": town, "age": draw.integers(0, 90, N), "unit": 1})
    frame["age"] = frame["age"].astype("Int64").mask(draw.random(N) < 0.1)
    frame.loc[[5, 6], "town"] = None
    frame["grown"] = grown
    return frame


def said(audit):
    """Return suspects by the place of their row in the data, and all that is known of the model."""
    findings = audit.findings
    rows = findings.train.source_rows
    suspects = [(int(rows[one.row]), one.given, one.suggested, one.margin) for one in findings.suspects]
    return suspects, audit.fitted.rule, findings.at_last_time.left_out_accuracy


def assert_same_audit(one, other) -> None:
    assert said(one) == said(other)
    removals = [
        (each.order, each.loss, each.stop) for each in (one.findings.redundant, other.findings.redundant)
    ]
    assert removals[0] == removals[1]
    assert_same(one.findings.scores.values, other.findings.scores.values)


def test_digits_in_python_are_digits_on_the_command_line(leftout) -> None:
    status, _, err = leftout("audit", "digits", "--n-train", "80", "--n-query", "20", "--out", "R")
    assert (status, err) == (0, "")
    audit = lo.audit("digits", n_train=80, n_query=20)
    run = lo.open("R")
    assert_same(run.scores.values, audit.findings.scores.values)
    assert np.array_equal(run.tables["margin"], audit.findings.margins)
    assert run.record["computation"]["fitted"] == audit.fitted.record
    # The same computation: a run of one is a run of the other, and is taken from the folder.
    again = lo.audit("digits", n_train=80, n_query=20, out="R")
    assert again.findings.suspects == audit.findings.suspects
    assert again.run == Path("R")


def test_a_table_is_the_same_from_the_command_line_a_file_and_a_frame(leftout) -> None:
    people().to_csv("people.csv", index=False)
    status, out, err = leftout("audit", "people.csv", "--target", "grown", "--out", "R")
    assert (status, err) == (0, "")
    assert "texts became columns of 0 and 1" in out
    by_name = lo.audit("people.csv", target="grown")
    frame = pd.read_csv("people.csv")
    of_frame = lo.audit(frame, target="grown")
    assert by_name.findings.suspects, "nothing is doubted in this problem"
    assert_same_audit(by_name, of_frame)
    run = lo.open("R")
    assert_same(run.scores.values, by_name.findings.scores.values)
    assert np.array_equal(run.tables["margin"], by_name.findings.margins)
    for audit in (by_name, of_frame):
        train = audit.findings.train
        given = [train.classes[label] for label in train.labels]
        assert given == frame["grown"].iloc[train.source_rows].tolist(), "rows are those of the frame"
        assert train.preparation["dropped_columns"] == ["unit"]


def arrays():
    draw = np.random.default_rng(0)
    inputs = draw.standard_normal((N, 4)) * [1, 10, 0.1, 5] + 3
    return inputs, (inputs[:, 0] + 0.1 * inputs[:, 1] > 3.3).astype(int)


def test_inputs_and_targets_are_arrays_lists_or_tensors_in_any_of_the_ways_to_write_them() -> None:
    inputs, targets = arrays()
    first = lo.audit(inputs, targets)
    for again in (
        lo.audit((inputs, targets)),
        lo.audit(inputs.tolist(), targets.tolist()),
        lo.audit(train=(inputs, targets)),
        lo.audit(torch.from_numpy(inputs), torch.from_numpy(targets)),
        lo.audit({"x": inputs, "y": targets}),
        lo.audit(pd.DataFrame(inputs), pd.Series(targets)),
    ):
        assert_same_audit(first, again)
    findings = first.findings
    assert findings.train.preparation["normalise"] == "standard"
    assert len(findings.query) == round(0.25 * N)
    labels = targets[np.concatenate([findings.train.source_rows, findings.query.source_rows])]
    assert labels.tolist() == [*findings.train.labels.tolist(), *findings.query.labels.tolist()]
    assert sorted([*findings.train.source_rows, *findings.query.source_rows]) == list(range(N))


def test_two_pairs_are_training_examples_and_queries_each_with_rows_of_its_own() -> None:
    inputs, targets = arrays()
    pairs = (inputs[:40], targets[:40]), (inputs[40:], targets[40:])
    first = lo.audit(*pairs)
    for again in (
        lo.audit(pairs),
        lo.audit(train=pairs[0], query=pairs[1]),
        lo.audit(*pairs[0], query=pairs[1]),
        lo.audit(pairs[0], query=pairs[1]),
    ):
        assert_same_audit(first, again)
    findings = first.findings
    assert findings.train.source_rows.tolist() == list(range(40))
    assert findings.query.source_rows.tolist() == list(range(20))
    assert abs(float(findings.train.inputs.mean())) < 1e-12, "scaled by the training rows"


def test_examples_are_used_as_they_are() -> None:
    train, query = digits(40, 12)
    audit = lo.audit(train, query)
    assert audit.findings.train is train
    assert audit.findings.query is query
    assert audit.fitted.ridge_choice is not None
    assert_same_audit(audit, lo.audit(train=train, query=query))
    assert_same_audit(audit, lo.audit(train, query=(query.inputs, query.labels)))
    alone = lo.audit(train, seed=2).findings
    assert (len(alone.train), len(alone.query)) == (30, 10)
    rows = {name: row for row, name in enumerate(train.ids)}
    for part in (alone.train, alone.query):
        taken = [rows[name] for name in part.ids]
        assert torch.equal(part.inputs, train.inputs[taken])
        assert torch.equal(part.targets, train.targets[taken])
    assert {*alone.train.ids, *alone.query.ids} == set(train.ids)
    assert set(alone.train.ids) != set(lo.audit(train).findings.train.ids), "the seed draws"


def test_examples_of_numbers_are_split_too() -> None:
    inputs, _ = arrays()
    examples, _ = lo.load((inputs, inputs[:, 0] * 2.0), n_query=2)
    train, query = split_examples(examples, n_train=30, n_query=10, seed=1)
    assert (len(train), len(query)) == (30, 10)
    assert not set(train.ids) & set(query.ids)
    place = {name: row for row, name in enumerate(examples.ids)}
    assert torch.equal(query.targets, examples.targets[[place[name] for name in query.ids]])


def test_a_kernel_comes_first_or_by_name_and_scales_data_that_are_loaded() -> None:
    kernel = lo.kernels.TwoLayerReLU()
    train, query = lo.load("digits", n_train=40, n_query=12)
    first = lo.audit(kernel, train, query)
    assert first.fitted.rule == lo.Ridge(1.0)
    for again in (
        lo.audit(kernel=kernel, train=train, query=query),
        lo.audit(kernel, train, query=query),
        lo.audit(kernel, "digits", n_train=40, n_query=12),
        lo.audit("digits", kernel=kernel, n_train=40, n_query=12),
    ):
        assert_same_audit(first, again)


def test_a_kernel_by_name_goes_with_inputs_and_targets_too() -> None:
    kernel = lo.kernels.ReLU(1)
    inputs, targets = arrays()
    first = lo.audit(kernel, (inputs, targets))
    assert first.findings.train.preparation["normalise"] == kernel.normalise
    assert_same_audit(first, lo.audit(inputs, targets, kernel=kernel))
    train, query = digits(40, 12)
    assert_same_audit(lo.audit(kernel, train, query), lo.audit(train, query, kernel=kernel))


def test_defaults_are_those_of_the_command_line_also_over_time() -> None:
    for options, over_time in (({}, False), ({"rule": "flow"}, True), ({"at": (3.0,)}, True)):
        arguments = AuditArguments.from_options(**options)
        defaults = defaults_for(None, over_time=over_time)
        assert kernel_of(arguments) == defaults.kernel
    audit = lo.audit("digits", at=3.0, n_train=40, n_query=10)
    assert audit.fitted.kernel == KERNELS["two-layer-relu"]()
    assert audit.fitted.rule == lo.GradientFlow()
    assert audit.findings.train.preparation["normalise"] == "unit"


def test_labels_that_were_corrected_are_taken_with_examples_too(tmp_path) -> None:
    train, _ = digits(40, 12)
    (tmp_path / "fixed.csv").write_text(f"id,label\n{train.ids[0]},{(int(train.labels[0]) + 1) % 10}\n")
    findings = lo.audit(train, labels=tmp_path / "fixed.csv").findings
    changed = [part.preparation["corrected"]["changed"] for part in (findings.train, findings.query)]
    assert sum(changed) == 1


KERNEL = lo.kernels.ReLU(1)
REFUSED = {
    "nothing": (lambda train, query: lo.audit(), r'needs data: lo\.audit\("digits"\)'),
    "a kernel alone": (
        lambda train, query: lo.audit(KERNEL),
        r"needs data with a kernel: lo\.audit\(kernel,",
    ),
    "queries alone": (lambda train, query: lo.audit(query=query), "`query` alone is none"),
    "inputs alone": (
        lambda train, query: lo.audit(arrays()[0]),
        r"the targets of these inputs: lo\.audit\(X",
    ),
    "a list of inputs": (lambda train, query: lo.audit(arrays()[0].tolist()), "the targets of these inputs"),
    "data twice": (lambda train, query: lo.audit(train, train=train), "given twice"),
    "train twice": (
        lambda train, query: lo.audit(KERNEL, train, query, train=train),
        "`train` must be given",
    ),
    "a kernel twice": (
        lambda train, query: lo.audit(KERNEL, train, query, kernel=KERNEL),
        "`kernel` must be",
    ),
    "too many": (lambda train, query: lo.audit(KERNEL, train, query, 1), "and two more without a name"),
    "a column": (lambda train, query: lo.audit(people(), "grown"), r"lo\.audit\(data, target='grown'\)"),
    "a word": (lambda train, query: lo.audit("digits", query), "takes one data set"),
    "a word for y": (lambda train, query: lo.audit(arrays()[0], "y"), "in place of y"),
    "a misspelt option": (lambda train, query: lo.audit(people(), targt="grown"), "Did you mean 'target'"),
    "a misspelt option of its own": (
        lambda train, query: lo.audit(people(), kernal="relu"),
        "Did you mean 'kernel'",
    ),
    "scaling of Examples": (lambda train, query: lo.audit(train, normalise="unit"), "used as they are"),
    "loading of two": (
        lambda train, query: lo.audit(KERNEL, train, query, n_train=3),
        r"lo\.load\(data, n_tra",
    ),
    "a network's data": (
        lambda train, query: lo.audit(lo.kernels.Empirical(torch.nn.Linear(64, 10)), "digits"),
        r"`query` must be given.*then lo\.audit\(kernel, train, query\)",
    ),
    "a number": (lambda train, query: lo.audit(3), "`data` must be a pair"),
}


@pytest.mark.parametrize(("call", "message"), REFUSED.values(), ids=REFUSED)
def test_what_may_mean_two_things_is_refused_in_a_sentence(call, message) -> None:
    with pytest.raises((OptionError, DataError), match=message) as refused:
        call(*digits(40, 12))
    assert "\n" not in str(refused.value)


def test_an_audit_says_what_was_taken_for_granted() -> None:
    frame = people()
    years = np.arange(len(frame)) // 4
    frame["year"] = years
    text = repr(lo.audit(frame, kernel=KERNEL))
    assert "note: the target is 'year', the last column" in text
    assert f"holds integers of {len(set(years))} values, 0, 1, 2, 3, 4, …: each is a class." in text
    assert "note: the target" not in repr(lo.audit(frame, kernel=KERNEL, target="year", task="regression"))
