"""Is it noticed where weights are not what they are said to be, and is nothing said where they are?"""

import itertools
import warnings
from functools import cache

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn
from torch.nn.functional import cross_entropy, softplus

import leftout as lo
from leftout.audit.retrained_curve import initial_network
from leftout.core.errors import OptionError
from leftout.curation.mislabelled import find_mislabelled
from leftout.dynamics.weights_check import MOST_UNTRAINED, PLAIN, check_weights, knowledge
from leftout.kernels.network.empirical import Empirical


@cache
def digits(classes=None, outputs=None, normalise=None):
    options = {} if classes is None else {"classes": classes}
    train, _ = lo.load("digits", n_train=150, n_query=2, normalise=normalise, centre="none", **options)
    return train if outputs is None else train.in_columns(outputs)


def network(train, seed=0):
    torch.manual_seed(seed)
    layers = nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, train.targets.shape[1])
    return nn.Sequential(*layers).double()


def entropy(outputs, targets):
    if targets.shape[1] == 1:
        return softplus(-targets * outputs).mean()
    return cross_entropy(outputs, targets)


def squared(outputs, targets):
    return (outputs - targets).square().sum(1).mean() / 2


@cache
def trained(train, loss, *, targets=None, steps=200):
    module = network(train)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    targets = train.targets if targets is None else targets
    for step in range(steps):
        rows = torch.arange(step * 50, (step + 1) * 50) % len(train)
        optimiser.zero_grad()
        loss(module(train.inputs[rows]), targets[rows]).backward()
        optimiser.step()
    return module


def told(module, train, weights, rule=None):
    """Return what is warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_weights(Empirical(module, weights=weights), train, rule or lo.Ridge(1.0))
    return [str(warning.message) for warning in caught]


TASKS = {"ten": (None, None), "two columns": (("3", "8"), 2), "one column": (("7", "9"), 1)}


@pytest.mark.parametrize("task", TASKS)
def test_weights_that_have_seen_the_labels_are_no_initial_ones(task) -> None:
    train = digits(*TASKS[task])
    for loss in (entropy, squared):
        (message,) = told(trained(train, loss), train, "initial")
        assert 'called initial: if it was trained on these examples, pass weights="trained"' in message
        assert "is right on 100% of them" in message or "is right on 9" in message


@pytest.mark.parametrize("normalise", [None, "standard"])
@pytest.mark.parametrize("task", TASKS)
def test_of_random_weights_called_initial_nothing_is_said(task, normalise) -> None:
    train = digits(*TASKS[task], normalise=normalise)
    assert not any(told(network(train, seed), train, "initial") for seed in range(8))


def test_chance_alone_makes_random_weights_right_too_often_but_not_to_know_most() -> None:
    train = digits(("0", "1"), 2, normalise="standard")
    known = [knowledge(network(train, seed)(train.inputs).detach(), train) for seed in range(60)]
    lucky = [max(one.explained, one.entropy_explained) for one in known if one.tail <= PLAIN]
    assert lucky
    assert max(lucky) < MOST_UNTRAINED


@pytest.mark.parametrize("task", TASKS)
def test_squared_loss_on_the_outputs_of_a_classifier_is_refused(task) -> None:
    train = digits(*TASKS[task])
    classifier = trained(train, entropy)
    with pytest.raises(OptionError, match=r"trained by cross-entropy: .* Pass rule=lo\.Logistic\(ridge\)"):
        lo.fit(Empirical(classifier), train, rule=lo.Ridge(1.0))


@pytest.mark.parametrize("task", TASKS)
def test_cross_entropy_of_outputs_that_squared_loss_has_trained_is_doubted(task) -> None:
    train = digits(*TASKS[task])
    coded = lo.Logistic(1.0).example_loss.coded(train, train.targets.shape[1], "train")
    (message,) = told(trained(train, squared, steps=400), coded, "trained", lo.Logistic(1.0))
    assert "are the targets themselves" in message
    assert "Pass rule=lo.Ridge(ridge) (--loss squared)" in message
    for steps in (5, 10, 20, 50, 200):
        assert told(trained(train, entropy, steps=steps), coded, "trained", lo.Logistic(1.0)) == []


@pytest.mark.parametrize("centre", ["uniform", "mean"])
def test_targets_that_were_centred_after_the_training_are_noticed(centre) -> None:
    train = digits()
    centred, _ = lo.load("digits", n_train=150, n_query=2, normalise=None, centre=centre)
    module = trained(train, squared)
    with pytest.raises(OptionError, match=rf'those before centring \("{centre}"\). Load with centre="none"'):
        lo.fit(Empirical(module), centred, rule=lo.Ridge(1.0))
    assert told(trained(train, squared, targets=centred.targets), centred, "trained") == []
    pair = train.inputs, train.labels
    with pytest.raises(OptionError, match="of a pair, pass one-hot columns of floats"):
        lo.fit(Empirical(module), pair, rule=lo.Ridge(1.0))
    lo.fit(Empirical(module), (train.inputs, train.targets), rule=lo.Ridge(1.0))


@pytest.mark.parametrize("steps", [20, 200])
@pytest.mark.parametrize("task", TASKS)
def test_a_network_trained_by_squared_loss_is_taken_as_it_is(task, steps) -> None:
    train = digits(*TASKS[task])
    assert told(trained(train, squared, steps=steps), train, "trained") == []


@pytest.mark.parametrize("task", TASKS)
def test_trained_weights_that_know_nothing_are_doubted(task) -> None:
    train = digits(*TASKS[task])
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    # Trained on other labels: as one whose inputs are prepared otherwise here.
    module = trained(train, squared, targets=train.targets[order], steps=60)
    shuffled = train.select(order)
    mixed = lo.Examples(train.inputs, shuffled.targets, train.encoding, shuffled.labels)
    assert told(module, mixed, "trained") == []
    third = order[torch.randperm(len(train), generator=torch.Generator().manual_seed(5))]
    again = train.select(third)
    others = lo.Examples(train.inputs, again.targets, train.encoding, again.labels)
    (message,) = told(module, others, "trained")
    assert "at weights that are called trained, knows nothing of the training targets" in message


def test_of_numbers_to_predict_the_correlation_tells() -> None:
    inputs = torch.randn(80, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    targets = inputs[:, :1] - 2 * inputs[:, 1:2]
    train = lo.fit(lo.kernels.ReLU(1), (inputs, targets)).train
    module = nn.Linear(5, 1).double()
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, -2.0, 0.1, 0.0, 0.0]]))
        module.bias.zero_()
    assert told(module, train, "trained") == []
    (message,) = told(module, train, "initial")
    assert "explains" in message
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[0.0, 0.0, 1.0, -1.0, 0.5]]))
    (message,) = told(module, train, "trained")
    assert "knows nothing" in message
    assert told(module, train, "initial") == []


@pytest.mark.parametrize("seed", range(3))
def test_tails_are_those_of_scipy(seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    train = digits()
    outputs = torch.randn(150, 10, dtype=torch.float64, generator=generator) + train.targets * seed
    answers = outputs.argmax(1)
    chance = sum(
        float((answers == c).double().mean()) * float((train.labels == c).double().mean()) for c in range(10)
    )
    right = int((answers == train.labels).sum())
    want = scipy.stats.binomtest(right, 150, chance, "greater").pvalue
    assert knowledge(outputs, train).tail == pytest.approx(want, rel=1e-9)
    numbers = lo.fit(lo.kernels.ReLU(1), (train.inputs, outputs[:, :1] * seed + outputs[:, 1:2])).train
    want = scipy.stats.pearsonr(outputs[:, 0], numbers.targets[:, 0], alternative="greater").pvalue
    found = knowledge(outputs[:, :1], numbers)
    assert found.tail == pytest.approx(want, rel=1e-6) or (want > 0.5 and found.tail == 1)
    np.testing.assert_allclose(found.entropy_explained, -np.inf)


def test_one_class_or_few_examples_are_no_evidence() -> None:
    train = digits()
    for rows, weights in itertools.product(
        (train.labels == 3, torch.arange(150) < 4), ("trained", "initial")
    ):
        few = train.select(rows.nonzero()[:, 0][:20])
        assert told(network(train), few, weights) == []


@pytest.fixture(scope="module")
def at_trained_weights():
    train = digits()
    return lo.fit(Empirical(trained(train, squared)), train, rule=lo.Ridge(1.0))


@pytest.mark.parametrize(
    ("ask", "question"),
    [
        (lambda fitted: lo.learning_curve(fitted, [300]), "a learning curve"),
        (lambda fitted: lo.choose_kernel([fitted.kernel], fitted.train), "a choice by leave-one-out"),
        (lo.rare, "under-sampled examples"),
        (find_mislabelled, "doubted labels"),
    ],
    ids=["learning curve", "choice", "rare", "doubted"],
)
def test_what_needs_a_kernel_that_has_not_seen_the_labels_says_so(at_trained_weights, ask, question) -> None:
    with pytest.raises(
        OptionError, match=f"must not have seen the labels for {question}, and trained weights"
    ):
        ask(at_trained_weights)


@pytest.mark.parametrize(
    ("ask", "question"),
    [
        (lo.linearised_module, "its linearised training"),
        (lambda fitted: lo.linearisation_gap(fitted, fitted.train), "its linearised training"),
        (lambda fitted: lo.complexity(fitted, [[0, 1]]), "what it has to learn"),
        (lambda fitted: initial_network(fitted, width=9, seed=0), "training it again"),
        (
            lambda fitted: lo.bounds.limit(
                lo.train(network(digits()), digits(), rule=lo.GradientDescent(1e-3), steps=1, tolerance=None),
                fitted,
                digits(),
            ),
            "the limit of a network",
        ),
    ],
    ids=["module", "gap", "complexity", "again", "limit"],
)
def test_what_trains_from_initial_weights_says_so(at_trained_weights, ask, question) -> None:
    with pytest.raises(
        OptionError, match=f"must start from initial weights for {question}; .*--linearised-at"
    ):
        ask(at_trained_weights)
