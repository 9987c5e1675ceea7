"""A recipe trains what a plain loop over torch.optim trains, alone and many at once."""

import re

import numpy as np
import pytest
import torch
from torch import nn

import leftout as lo
from laws import assert_same
from leftout.core.errors import DivergenceError, OptionError, ShapeError
from leftout.data.pairs import examples_of
from leftout.diagnostics.retraining.sgd_training import (
    SGDTraining,
    outputs_at,
    reason_to_train_alone,
    train_alone,
    train_together,
)

N, D = 30, 6
DOUBLE = 1e-11
"""Relative rounding of some 20 steps in double precision, amplified by training: measured 1e-15 to 1e-13."""


def build(k=3, hidden=8):
    return nn.Sequential(nn.Linear(D, hidden), nn.Tanh(), nn.Linear(hidden, k)).double()


def data(k=3, *, seed=0):
    draws = np.random.default_rng(seed)
    x = torch.from_numpy(draws.normal(size=(N, D)))
    return (
        (x, torch.from_numpy(draws.integers(k, size=N)))
        if k
        else (x, torch.from_numpy(draws.normal(size=(N, 2))))
    )


def recipe(**options):
    usual = {"build": build, "epochs": 4, "batch_size": 7, "learning_rate": 0.1}
    return SGDTraining(**usual | options)


def plain_loop(
    x, y, rows, seed, *, make, optimizer, epochs=4, batch=7, loss=nn.functional.cross_entropy, rate=None
):
    """Train as a tutorial does: nothing of the package."""
    torch.manual_seed(seed)
    network = make()
    steps = optimizer(network.parameters())
    order = torch.Generator().manual_seed(seed)
    done, total = 0, epochs * -(-len(rows) // batch)
    for _ in range(epochs):
        for chosen in rows[torch.randperm(len(rows), generator=order)].split(batch):
            if rate is not None:
                steps.param_groups[0]["lr"] = rate(done / total)
            steps.zero_grad()
            loss(network(x[chosen]), y[chosen]).backward()
            steps.step()
            done += 1
    return network


NETWORKS = [(torch.arange(20), 0), (torch.arange(5, 25), 1), (torch.arange(10, 30), 1)]

OPTIMIZERS = {
    "plain": ({}, lambda w: torch.optim.SGD(w, lr=0.1)),
    "momentum and decay": (
        {"momentum": 0.9, "weight_decay": 0.01},
        lambda w: torch.optim.SGD(w, lr=0.1, momentum=0.9, weight_decay=0.01),
    ),
    "adam": (
        {"optimizer": "adam", "weight_decay": 0.1},
        lambda w: torch.optim.Adam(w, lr=0.1, weight_decay=0.1),
    ),
    "adamw": (
        {"optimizer": "adamw", "weight_decay": 0.1},
        lambda w: torch.optim.AdamW(w, lr=0.1, weight_decay=0.1),
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_alone_and_together_are_the_plain_loop(name) -> None:
    options, optimizer = OPTIMIZERS[name]
    x, y = data()
    train, training = examples_of((x, y)), recipe(**options)
    together = train_together(training, train, NETWORKS)
    for network, stacked in zip(NETWORKS, together, strict=True):
        want = plain_loop(x, y, *network, make=build, optimizer=optimizer)(x).detach()
        assert_same(outputs_at(train_alone(training, train, network), x), want, DOUBLE)
        assert_same(outputs_at(stacked, x), want, DOUBLE)


def test_squared_loss_is_half_the_sum_over_outputs() -> None:
    x, y = data(0)
    train = examples_of((x, y))
    training = recipe(build=lambda: build(2), schedule="cosine")

    def half(f, target):
        return (f - target).square().sum(1).mean() / 2

    def rate(share):
        return 0.1 * (1 + np.cos(np.pi * share)) / 2

    for network in NETWORKS:
        want = plain_loop(
            x,
            y,
            *network,
            make=lambda: build(2),
            optimizer=lambda w: torch.optim.SGD(w, lr=0.1),
            loss=half,
            rate=rate,
        )
        assert_same(outputs_at(train_alone(training, train, network), x), want(x).detach(), DOUBLE)
    assert_same(outputs_at(train_together(training, train, NETWORKS)[2], x), want(x).detach(), DOUBLE)


def test_one_output_for_two_classes_is_logistic_regression() -> None:
    x, y = data(2)

    def loss(f, label):
        return nn.functional.binary_cross_entropy_with_logits(f[:, 0], label.double())

    want = plain_loop(
        x, y, *NETWORKS[0], make=lambda: build(1), optimizer=lambda w: torch.optim.SGD(w, lr=0.1), loss=loss
    )
    trained = train_alone(recipe(build=lambda: build(1)), examples_of((x, y)), NETWORKS[0])
    assert_same(outputs_at(trained, x), want(x).detach(), DOUBLE)


def test_a_network_given_is_where_every_training_starts_and_stays_as_it_is() -> None:
    x, y = data()
    start = build()
    before = [weight.clone() for weight in start.parameters()]
    pristine = _copy(start)
    want = plain_loop(
        x, y, *NETWORKS[1], make=lambda: pristine, optimizer=lambda w: torch.optim.SGD(w, lr=0.1)
    )
    trained = train_together(recipe(build=start), examples_of((x, y)), NETWORKS)
    assert_same(outputs_at(trained[1], x), want(x).detach(), DOUBLE)
    assert all(torch.equal(a, b) for a, b in zip(before, start.parameters(), strict=True))


def _copy(network):
    copied = build()
    copied.load_state_dict(network.state_dict())
    return copied


def test_the_random_numbers_of_the_caller_stay_as_they_were() -> None:
    torch.manual_seed(5)
    want = torch.rand(3)
    torch.manual_seed(5)
    train_alone(recipe(), examples_of(data()), NETWORKS[0])
    train_together(recipe(), examples_of(data()), NETWORKS)
    assert torch.equal(torch.rand(3), want)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (build, ""),
        (lambda: nn.Sequential(nn.Linear(D, 4), nn.Dropout(0.5), nn.Linear(4, 3)), "answers at random"),
        (lambda: nn.Sequential(nn.Linear(D, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)), "has buffers"),
        (lambda: Branching(), "cannot stack"),
    ],
    ids=["plain", "dropout", "batch norm", "branch"],
)
def test_why_networks_are_trained_alone_is_said(make, why) -> None:
    reason = reason_to_train_alone(recipe(build=make), examples_of(data()))
    assert (why in reason) if why else reason == ""


class Branching(nn.Module):
    """A network that looks at a number, which a batch of networks has none of."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(D, 3)

    def forward(self, x):
        return self.layer(x) if float(self.layer.bias.sum()) < 100 else self.layer(-x)


def test_dropout_is_drawn_by_the_seed() -> None:
    make = lambda: nn.Sequential(nn.Linear(D, 4), nn.Dropout(0.5), nn.Linear(4, 3))  # noqa: E731
    train = examples_of(data())
    first, again = (train_alone(recipe(build=make), train, NETWORKS[0]) for _ in range(2))
    assert torch.equal(outputs_at(first, train.inputs), outputs_at(again, train.inputs))


def test_rates_follow_the_schedule() -> None:
    assert recipe(epochs=2, batch_size=5, schedule="linear").rates(10) == pytest.approx(
        [0.1, 0.075, 0.05, 0.025]
    )
    assert recipe(epochs=1, batch_size=5, schedule=lambda share: share).rates(10) == pytest.approx([0, 0.05])
    with pytest.raises(OptionError, match="`schedule` must return a number ≥ 0; of 0 it is -1"):
        recipe(schedule=lambda share: -1).rates(10)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"build": nn.Linear}, "`build` must be a network, or a function without arguments that returns one"),
        ({"build": 3}, "`build` must be a network, or a function"),
        ({"epochs": 0}, "`epochs` must be a whole number ≥ 1"),
        ({"batch_size": 1.5}, "`batch_size` must be a whole number ≥ 1"),
        ({"learning_rate": -1}, "`learning_rate` must be a finite number > 0"),
        ({"momentum": 1.0}, "`momentum` must lie in (0, 1)"),
        ({"momentum": 0.5, "optimizer": "adam"}, "`momentum` belongs to optimizer='sgd'"),
        ({"weight_decay": float("nan")}, "`weight_decay` must be a finite number ≥ 0"),
        ({"schedule": "step"}, "`schedule` must be one of 'constant', 'linear', 'cosine'"),
        ({"optimizer": "lbfgs"}, "`optimizer` must be one of 'sgd', 'adam', 'adamw'"),
        ({"loss": "hinge"}, "`loss` must be one of 'cross-entropy', 'squared'"),
    ],
)
def test_options_out_of_range_are_refused(options, words) -> None:
    with pytest.raises(OptionError, match=re.escape(words)):
        recipe(**options)


def test_what_cannot_be_trained_is_refused() -> None:
    train = examples_of(data())
    with pytest.raises(OptionError, match=r"`build` must return a network; it raised ZeroDivisionError"):
        train_alone(recipe(build=lambda: 1 / 0), train, NETWORKS[0])
    with pytest.raises(OptionError, match=r"`build` must be a function that returns a network"):
        train_alone(recipe(build=lambda: 3), train, NETWORKS[0])
    with pytest.raises(ShapeError, match=r"an output for each of 3 classes; got 5 outputs"):
        train_alone(recipe(build=lambda: build(5)), train, NETWORKS[0])
    with pytest.raises(ShapeError, match=r"take inputs of shape \(2, 6\); one raised RuntimeError"):
        train_alone(recipe(build=lambda: nn.Linear(7, 3)), train, NETWORKS[0])
    with pytest.raises(OptionError, match="parameters that are trained; it has none"):
        train_alone(recipe(build=lambda: nn.Identity()), train, NETWORKS[0])
    big = recipe(learning_rate=1e200, build=lambda: nn.Linear(D, 2).double(), epochs=50)
    with pytest.raises(DivergenceError, match="the loss of the network of seed 0 became NaN or infinite"):
        train_together(big, examples_of(data(0)), NETWORKS)


def test_the_record_says_how() -> None:
    record = recipe(momentum=0.9, schedule=lambda share: 1.0).record
    assert record["momentum"] == 0.9
    assert "lambda" in record["schedule"]
    assert lo.SGDTraining is SGDTraining
