"""Answers beside a network that is really trained again: the truth is found, and a guess is not."""

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import leftout as lo
from leftout.diagnostics.trust.retrained_answers import check_training, retrained_answers

N, M = 40, 8


def digits():
    return lo.load("digits", classes=[3, 8, 9], n_train=N, n_query=M, normalise="sphere", centre="none")


def training(**changes) -> lo.SGDTraining:
    """Return how a linear model is trained to the end: by full batches, so that seeds differ little."""
    options = {"epochs": 300, "batch_size": N, "learning_rate": 0.05, "momentum": 0.9, "weight_decay": 0.02}
    return lo.SGDTraining(build=build, **options | changes)


def build() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).double()


@pytest.fixture(scope="module")
def answered():
    train, query = digits()
    # The convex problem that this training solves: linear, with weight decay on weights and biases.
    inputs = torch.cat([train.inputs.flatten(1), torch.ones(N, 1)], 1)
    queries = torch.cat([query.inputs.flatten(1), torch.ones(M, 1)], 1)
    fitted = lo.fit(
        lo.kernels.From(lambda a, b: a.flatten(1) @ b.flatten(1).T),
        (inputs, train.labels),
        rule=lo.Logistic(N * 0.02),
    )
    scores = lo.leave_one_out(fitted, (queries, query.labels))
    scores = xr.DataArray(
        scores.values, dims=("query", "train"), coords={"query": list(query.ids), "train": list(train.ids)}
    )
    return train, query, scores


def test_what_retraining_says_is_what_is_true(answered) -> None:
    train, query, scores = answered
    groups, singles = retrained_answers(training(), train, query, scores, subsets=24, examples=10, seed=0)
    # Sums of single effects are not the effects of halves, so this is no 1 even where training has no noise.
    assert groups.low > 0.7
    assert groups.measure == "lds"
    assert groups.low <= groups.estimate <= groups.high
    assert groups.ceiling > 0.99
    assert singles.estimate > 0.95
    assert singles.measure == "leave_one_out"
    assert "on 24 random halves, in 2 seeds each" in groups.sentence
    assert "without each of 10 examples" in singles.sentence


def test_a_guess_is_none(answered) -> None:
    train, query, scores = answered
    guess = scores.copy(data=np.random.default_rng(0).permuted(scores.values, axis=1))
    groups, singles = retrained_answers(training(), train, query, guess, subsets=24, examples=10, seed=0)
    assert abs(groups.estimate) < 0.4
    assert abs(singles.estimate) < 0.5
    turned = retrained_answers(training(), train, query, -scores, subsets=24, examples=0, seed=0)
    assert turned[0].high < -0.7


def test_a_query_that_no_training_moves_is_left_out_and_counted(answered) -> None:
    train, query, scores = answered
    flat = scores.copy(data=scores.values.copy())
    flat[:2] = 0.0
    (groups,) = retrained_answers(training(), train, query, flat, subsets=12, examples=0, seed=0)
    assert groups.queries_left_out == 2
    (none,) = retrained_answers(training(), train, query, 0 * scores, subsets=12, examples=0, seed=0)
    assert none.queries_left_out == M
    assert "moved the loss of no query" in none.sentence


def test_finished_trainings_are_kept(answered, tmp_path) -> None:
    train, query, scores = answered
    options = {"subsets": 12, "examples": 8, "seed": 0}
    first = retrained_answers(training(), train, query, scores, **options, out=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"halves", "examples"}
    assert retrained_answers(training(), train, query, scores, **options, out=tmp_path) == first


def test_a_network_of_another_shape_is_refused() -> None:
    train, _ = digits()
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    optimiser = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    for _ in range(100):
        optimiser.zero_grad()
        nn.functional.cross_entropy(module(train.inputs), train.labels).backward()
        optimiser.step()
    fitted = lo.fit(lo.kernels.Empirical(module), train, rule=lo.Logistic(1.0))
    with pytest.raises(lo.LeftoutError, match=r"'1.bias' has shape \(3,\) there, and \(5,\) here"):
        check_training(training(), fitted)
