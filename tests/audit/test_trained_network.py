"""An audit of a network at its trained weights: what have they seen, and who doubts the labels then?"""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

import leftout as lo
from leftout.core.errors import OptionError
from leftout.curation.label_model import label_model
from leftout.data.encoding import encoding_of_classes
from leftout.diagnostics.retraining.sgd_training import train_alone
from leftout.dynamics.ridge_choice import SHARES
from leftout.kernels.network.empirical import Empirical
from leftout.planning.plan import plan
from leftout.planning.planned_audit import planned_audit
from leftout.report.report import html
from report.test_report import Page

N = 60


def digits():
    """Return examples, five of them with a wrong label, and queries."""
    train, query = lo.load("digits", classes=[3, 8, 9], n_train=N, n_query=12, normalise=None, centre="none")
    labels = train.labels.clone()
    labels[:5] = (labels[:5] + 1) % 3
    return train.with_labels(labels), query


def trained_network(train):
    """Return a network that squared loss has taught every label, wrong ones too."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 3)).double()
    for _ in range(1500):
        module.zero_grad()
        (module(train.inputs) - train.targets).square().sum(1).mean().backward()
        with torch.no_grad():
            for weight in module.parameters():
                weight -= 0.2 * weight.grad
    return module


@pytest.fixture(scope="module")
def audited():
    train, query = digits()
    kernel = Empirical(trained_network(train))
    return lo.audit(kernel, train, query, rule=lo.Ridge(1.0), refit_examples=1)


def left_out_by_refits(train, ridge):
    """Return what a kernel that has not seen the labels says of each example, really fitted without it."""
    inputs = (train.inputs - train.inputs.mean()) / train.inputs.std(correction=0)
    predicted = []
    for row in range(N):
        rest = torch.arange(N) != row
        fitted = lo.fit(
            lo.kernels.ReLU(2, bias_variance=0.3), (inputs[rest], train.targets[rest]), rule=lo.Ridge(ridge)
        )
        predicted.append(fitted.predict(inputs[row : row + 1])[0] + 0)
    return torch.stack(predicted)


def test_labels_are_doubted_by_a_kernel_that_has_not_seen_them(audited) -> None:
    findings, train = audited.findings, audited.findings.train
    model = label_model(audited.fitted).fitted
    predicted = left_out_by_refits(train, model.rule.ridge)
    own = predicted[torch.arange(N), train.labels]
    others = predicted.clone()
    others[torch.arange(N), train.labels] = -math.inf
    np.testing.assert_allclose(findings.margins, own - others.amax(1), atol=1e-9)
    np.testing.assert_allclose(findings.at_last_time.out_of_sample, predicted, atol=1e-9)
    # The network itself has learned nearly all of the wrong labels by heart.
    assert train.accuracy(audited.fitted.kernel.initial(train.inputs)) > 1 - 2 / N
    assert {suspect.row for suspect in findings.suspects} >= set(range(5))


def test_the_ridge_of_that_kernel_has_the_least_left_out_loss(audited) -> None:
    train, model = audited.findings.train, label_model(audited.fitted).fitted
    losses = [
        train.mean_loss(
            lo.out_of_sample(model.with_rule(lo.Ridge(share * model.gram.diagonal().mean().item())))
        )
        for share in SHARES
    ]
    best = SHARES[int(np.argmin(losses))] * float(model.gram.diagonal().mean())
    assert model.rule.ridge == pytest.approx(best, rel=1e-3)  # a ridge has four digits


def test_the_report_calls_nothing_of_trained_weights_without_itself(audited) -> None:
    words = Page(html(audited.findings)).words
    assert "This is your network at its trained weights" in words
    assert "The trained weights have seen every label, so labels are doubted" in words
    assert "each predicted without itself, by a kernel that has not seen it" in words
    assert "how sure a kernel that has not seen the labels is of each training example, without it" in words
    assert "had that example never been there" not in words
    assert "What more data would bring is not said here. Trained weights have seen all examples" in words


def test_what_cannot_be_compared_as_numbers_is_not_doubted_at_all(tmp_path) -> None:
    words = torch.randint(0, 9, (40, 4), generator=torch.Generator().manual_seed(0))
    labels = (words[:, 0] > 4).long()
    torch.manual_seed(0)
    module = nn.Sequential(nn.Embedding(9, 3), nn.Flatten(), nn.Linear(12, 2)).double()
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(200):
        optimiser.zero_grad()
        (module(words) - nn.functional.one_hot(labels, 2)).square().sum(1).mean().backward()
        optimiser.step()

    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = module

        def forward(self, inputs):
            return self.network(inputs.long())

    encoding = encoding_of_classes(labels, ("low", "high"), centre="none", outputs=2)
    train = lo.Examples(words.double(), encoding.encode(labels), encoding, labels)
    audit = lo.audit(
        Empirical(Words()), train, train.select(range(6)), rule=lo.Ridge(1.0), out=tmp_path / "run"
    )
    assert not audit.findings.doubts_labels
    assert audit.findings.suspects == audit.findings.rare == ()
    for suspects in (audit.suspects, lo.open(tmp_path / "run").suspects):
        assert suspects["id"].tolist() == list(train.ids)
        assert suspects["given"].tolist() == [train.classes[label] for label in labels]
        assert set(suspects["suggested"]) == {""}
        assert not suspects["is_label_issue"].any()
        assert suspects["label_score"].isna().all()
        assert suspects.attrs["refusal"] == audit.findings.label_note
    page = Page(html(audit.findings)).words
    assert "Labels are not doubted here, nor are examples predicted without themselves" in page
    assert "No label was asked about." in page
    assert "each predicted without itself" not in page
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert lo.open(tmp_path / "run").tables.attrs["labels"] == audit.findings.label_note
    assert record["labels"] == audit.findings.label_note
    assert record["computation"]["fitted"]["kernel"]["weights"] == "trained"


@pytest.mark.parametrize("columns", [1, 2])
def test_a_network_trained_by_cross_entropy_is_audited_in_its_own_units(columns) -> None:
    train, query = lo.load("digits", classes=[3, 8], n_train=N, n_query=12, normalise=None, centre="none")
    labels = train.labels.clone()
    labels[:5] = 1 - labels[:5]
    train = train.with_labels(labels)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, columns)).double()
    optimiser = torch.optim.SGD(module.parameters(), lr=0.2, momentum=0.9)
    for _ in range(100):
        optimiser.zero_grad()
        logits = module(train.inputs)
        if columns == 1:
            logits = nn.functional.pad(logits, (1, 0))
        nn.functional.cross_entropy(logits, labels).backward()
        optimiser.step()
    findings = lo.audit(Empirical(module), train, query, rule=lo.Logistic(1.0), refit_examples=0).findings
    assert len({suspect.row for suspect in findings.suspects} & set(range(5))) >= 4
    assert set(findings.margins.argsort()[:8].tolist()) >= set(range(5))
    model = findings.at_last_time
    # Predictions are logits of the network; left-out ones numbers of another model, around 0 and 1 or ∓1.
    np.testing.assert_allclose(model.predictions, module(query.inputs).detach(), rtol=1e-9)
    assert model.left_out_accuracy > 0.8
    assert model.out_of_sample.abs().max() < 2
    assert "in target units" in Page(html(findings)).words


def classifier(train, *, activation=nn.ReLU):
    """Return a network that cross-entropy has taught, as `recipe` says."""
    return train_alone(recipe(activation), train, (torch.arange(len(train)), 7))


def recipe(activation=nn.ReLU) -> lo.SGDTraining:
    def build() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), activation(), nn.Linear(16, 3)).double()

    return lo.SGDTraining(build=build, epochs=20, batch_size=20, learning_rate=0.05, momentum=0.9)


def test_the_verdict_stands_first_and_at_every_query(tmp_path) -> None:
    train, query = digits()
    audit = lo.audit(
        Empirical(classifier(train)),
        train,
        query,
        rule=lo.Logistic(0.5),
        refit_examples=1,
        out=tmp_path / "run",
    )
    found = lo.trust(audit.fitted, query)
    findings = audit.findings
    np.testing.assert_allclose(findings.trust.agreement, found.agreement, rtol=1e-12)
    assert findings.verdict == found.attrs["verdict"]
    page = html(findings)
    words = Page(page).words
    assert words.index(findings.verdict) < words.index("This is your network at its trained weights")
    assert f"{int(found.trusted.sum())} of {len(query)}" in words
    assert page.count(": agreement ") == len(query)
    run = lo.open(tmp_path / "run")
    np.testing.assert_allclose(run.tables.agreement, found.agreement, rtol=1e-12)
    np.testing.assert_array_equal(run.tables.trusted, found.trusted)
    assert run.record["verdict"] == findings.verdict
    assert run.record["trust"]["threshold"] == found.attrs["threshold"]


def test_without_a_second_model_the_report_says_that_there_is_no_verdict() -> None:
    train, query = digits()
    kernel = Empirical(classifier(train, activation=nn.Tanh))
    findings = lo.audit(kernel, train, query, rule=lo.Logistic(0.5), refit_examples=0).findings
    assert findings.trust is None
    assert findings.verdict.startswith("No verdict: ")
    assert "this one has Tanh" in findings.verdict
    assert findings.verdict in Page(html(findings)).words


def test_a_network_at_its_trained_weights_is_trained_again_as_it_was(tmp_path) -> None:
    train, query = digits()
    kernel = Empirical(classifier(train, activation=nn.Tanh))
    options = {"rule": lo.Logistic(0.5), "refit_examples": 0, "retrain_subsets": 12, "retrain_examples": 8}
    audit = lo.audit(kernel, train, query, **options, training=recipe(nn.Tanh), out=tmp_path / "run")
    groups, singles = audit.findings.measured
    assert (groups.measure, singles.measure) == ("lds", "leave_one_out")
    assert audit.findings.verdict.startswith("No verdict but the measurement. ")
    words = Page(html(audit.findings)).words
    for measured in (groups, singles):
        assert measured.sentence in words
    halves = lo.random_subsets(N, count=12, seed=0)
    truth = lo.retrain_subsets(recipe(nn.Tanh), train, query, halves, seeds=(0, 1))
    judged = lo.referee(lo.leave_one_out(audit.fitted, query), truth)
    assert groups.estimate == pytest.approx(float(judged.estimate.sel(measure="lds")), rel=1e-9)
    record = lo.open(tmp_path / "run").record
    assert [each["measure"] for each in record["retrained"]] == ["lds", "leave_one_out"]
    assert record["computation"]["training"]["epochs"] == 20


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"retrain_examples": 8}, "`training` must say how"),
        ({"retrain_subsets": 8}, "`training` must say how"),
        ({"retrain_subsets": 3, "training": recipe()}, "at least 8"),
        ({"retrain_examples": 3, "training": recipe()}, "at least 8"),
        ({"retrain_examples": N + 1, "training": recipe()}, f"at most {N}"),
        ({"training": recipe()}, "is for `retrain_subsets` or"),
        ({"retrain_subsets": 8, "training": "sgd"}, "an SGDTraining"),
        (
            {
                "retrain_subsets": 8,
                "training": lo.SGDTraining(
                    build=lambda: nn.Linear(64, 3), epochs=1, batch_size=8, learning_rate=0.1
                ),
            },
            "build networks like the one that is audited",
        ),
    ],
)
def test_trained_weights_are_not_trained_again_without_saying_how(options, words) -> None:
    train, query = digits()
    with pytest.raises(OptionError, match=words):
        lo.audit(Empirical(classifier(train)), train, query, rule=lo.Logistic(0.5), **options)


@pytest.mark.parametrize("options", [{"retrain_subsets": 8}, {"training": recipe()}])
def test_what_belongs_to_trained_weights_is_refused_elsewhere(options) -> None:
    train, query = digits()
    with pytest.raises(OptionError, match="none of trained weights"):
        lo.audit(lo.kernels.ReLU(1), train, query, rule=lo.Ridge(1.0), **options)


@pytest.mark.usefixtures("machine_measured_once")
def test_a_plan_says_which_kernel_doubts_labels() -> None:
    train, query = digits()
    steps = {
        step.name: step
        for step in plan(Empirical(trained_network(train)), train, query, rule=lo.Ridge(1.0)).steps
    }
    assert steps["labels"].method.startswith(f"by a kernel that has not seen them, {N} × {N}, ")
    assert steps["predictions"].method == "at queries"
    assert "verdict" not in steps  # squared loss: there is none


@pytest.mark.usefixtures("machine_measured_once")
def test_a_plan_counts_the_second_model_of_a_verdict() -> None:
    train, query = digits()
    steps = plan(Empirical(classifier(train)), train, query, rule=lo.Logistic(0.5)).steps
    (verdict,) = [step for step in steps if step.name == "verdict"]
    assert verdict.method == f"a second model to agree with: {N} × {N}, 3 outputs"
    assert verdict.seconds > 0
    assert verdict.memory > 8 * N * N


def test_the_other_kernel_is_planned_for() -> None:
    train, query = digits()
    module = trained_network(train)
    options = {"rule": lo.Ridge(1.0), "at": None, "refit_examples": 0, "budget": 10**9}
    rows = []
    for weights in ("trained", "initial"):
        kernel = Empirical(module, weights=weights)
        kernel.check("inputs", train.inputs)
        rows.append(planned_audit(kernel, train, query, **options).label_rows)
    assert rows == [N, 0]
