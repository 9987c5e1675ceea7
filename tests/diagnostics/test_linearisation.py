"""Is the gap between model and network what it is called? Against both, asked directly."""

import math

import pytest
import torch
from torch import nn

import leftout as lo
from laws import assert_same
from leftout.core.errors import OptionError
from leftout.diagnostics.linearity.linearisation_gap import linearisation_gap
from leftout.dynamics.linearised_module import linearised_module
from leftout.kernels.network.empirical import Empirical

D = 3


def classes(n=12, seed=0):
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, D, generator=draw, dtype=torch.float64)
    return inputs, (inputs[:, 0] > 0).long() + (inputs[:, 1] > 0).long()


def network(width=30):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(D, width), nn.Tanh(), nn.Linear(width, 3)).double()


def test_gap_and_moves_are_those_of_the_predictions() -> None:
    rule = lo.GradientDescent(0.002)
    fitted = lo.fit(Empirical(network(), weights="initial"), classes(), rule=rule)
    query = classes(9, seed=1)
    got = linearisation_gap(fitted, query, at=50)
    said, start = fitted.predict(query[0], at=50), network()(query[0]).detach()
    really = linearised_module(fitted, 50)(query[0]).detach()
    assert_same(got.moved, (said - start).square().mean().sqrt())
    assert_same(got.gap, (said - really).square().mean().sqrt())
    assert got.relative_gap == got.gap / got.moved
    assert got.agreement == float((said.argmax(1) == really.argmax(1)).double().mean())
    right = [float((one.argmax(1) == query[1]).double().mean()) for one in (start, said, really)]
    assert [got.accuracy_before, got.accuracy_linearised, got.accuracy_network] == right
    assert got.record["relative_gap"] == got.relative_gap


def test_a_linear_network_has_no_gap_and_an_untrained_one_has_not_moved() -> None:
    torch.manual_seed(0)
    fitted = lo.fit(
        Empirical(nn.Linear(D, 3).double(), weights="initial"), classes(), rule=lo.GradientFlow(0.1, 0.1)
    )
    # Rounding of predictions of size 1, beside moves of the same size.
    assert linearisation_gap(fitted, classes(9, 1), at=2.0).relative_gap < 1e-12
    assert linearisation_gap(fitted, classes(9, 1), at=0).relative_gap == 0


def test_the_gap_shrinks_as_nothing_is_learned() -> None:
    """Second order in the change of weights: half the way has about half the relative gap."""
    fitted = lo.fit(Empirical(network(), weights="initial"), classes(), rule=lo.Ridge(1.0))
    gaps = [
        linearisation_gap(lo.fit(fitted.kernel, classes(), rule=lo.Ridge(ridge)), classes(9, 1)).relative_gap
        for ridge in (1e4, 2e4)
    ]
    assert gaps[0] / gaps[1] == pytest.approx(2, rel=0.01)


def test_the_network_is_really_trained_and_trained_again(tmp_path) -> None:
    rule, data, query = lo.GradientDescent(0.002), classes(), classes(9, seed=1)
    fitted = lo.fit(Empirical(network(), weights="initial"), data, rule=rule)
    got = linearisation_gap(
        fitted, query, at=40, retrain_examples=[0, 3, 7, 8], jobs=1, out=tmp_path / "again"
    )
    assert got.retraining is not None
    really = lo.train(network(), data, rule=rule, steps=40, tolerance=None).predict(query[0])
    said = fitted.predict(query[0], at=40)
    assert_same(got.retraining.gap, (said - really).square().mean().sqrt())
    assert got.retraining.left_out == (0, 3, 7, 8)
    assert got.retraining.pearson > 0.99
    assert got.retraining.slope == pytest.approx(1, abs=0.1)
    assert got.retraining.converged


def test_random_examples_are_chosen_by_seed() -> None:
    fitted = lo.fit(Empirical(network(), weights="initial"), classes(), rule=lo.GradientDescent(0.002))
    chosen = [
        linearisation_gap(fitted, classes(5, 1), at=5, retrain_examples=3, seed=seed, jobs=1).retraining
        for seed in (1, 1, 2)
    ]
    assert chosen[0].left_out == chosen[1].left_out != chosen[2].left_out


def test_regression_has_no_classes() -> None:
    inputs, labels = classes()
    fitted = lo.fit(
        Empirical(network(), weights="initial"), (inputs, torch.eye(3)[labels].double()), rule=lo.Ridge(1.0)
    )
    got = linearisation_gap(fitted, (inputs[:4], torch.eye(3)[labels[:4]].double()))
    assert got.at == math.inf
    assert got.agreement is got.accuracy_before is got.accuracy_network is None


@pytest.mark.parametrize(
    ("rule", "options", "message"),
    [
        (lo.GradientFlow(), {"at": 1.0, "retrain_examples": 3}, "which it can follow; got GradientFlow"),
        (lo.Ridge(1.0), {"retrain_examples": 2}, r"must be 0, or 3 … 12 examples"),
        (lo.Ridge(1.0), {"retrain_examples": [0, 1]}, "must name 3 examples or more, each once"),
        (lo.Ridge(1.0), {"retrain_examples": [0, 0, 1, 2]}, "must name 3 examples or more, each once"),
        (lo.Ridge(1.0), {"retrain_examples": 13}, r"must be 0, or 3 … 12 examples"),
        (lo.GradientDescent(0.001), {"at": 0, "retrain_examples": 3}, "at least one step; got at = 0"),
    ],
)
def test_what_cannot_be_retrained_is_refused(rule, options, message) -> None:
    fitted = lo.fit(Empirical(network(), weights="initial"), classes(), rule=rule)
    with pytest.raises(OptionError, match=message):
        linearisation_gap(fitted, classes(5, 1), **options)
