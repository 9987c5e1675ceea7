"""At trained weights the model is the network, and edits move it as a dense solve in the weights says.

With the Jacobian J of every example, residuals r = f_0 − y and weights ω of the examples, the edited model is

    w = argmin ½ Σ_j ω_j |f_0j + J_j w − y_j|² + ½ λ |w − c|²,        c = Σ_j J_jᵀ r_j / λ

so that w = 0 where all ω are 1, whatever gradient training has left. Under a mean of losses λ changes with
the sum of the weights, and c stays.
"""

import numpy as np
import pytest
import torch
from torch import nn

import leftout as lo
from laws import assert_same
from leftout.core.errors import OptionError
from leftout.kernels.network.empirical import Empirical
from oracles.empirical import jacobian

N, M, D, K, RIDGE = 14, 6, 4, 2, 0.3


def points(n, seed):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, D, dtype=torch.float64, generator=generator)
    return inputs, torch.randn(n, K, dtype=torch.float64, generator=generator)


(X, Y), (QX, QY) = points(N, 0), points(M, 1)


def module():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(D, 5), nn.Tanh(), nn.Linear(5, K)).double()


def flat_jacobian(inputs):
    """Return (n, k, p)."""
    return np.asarray(jacobian(module(), inputs)).reshape(len(inputs), K, -1)


def outputs(inputs):
    return module()(inputs).detach().numpy()


def edited(weights, targets=None, ridge=RIDGE, more=None):
    """Return predictions at the queries of the model in which examples have these weights and targets."""
    inputs, labels = (X, Y) if more is None else (torch.cat([X, more[0]]), torch.cat([Y, more[1]]))
    rows, start = flat_jacobian(inputs), outputs(inputs)
    slope = np.einsum("nkp,nk->p", rows[:N], start[:N] - Y.numpy())
    labels = labels.numpy() if targets is None else targets
    curvature = np.einsum("n,nkp,nkq->pq", weights, rows, rows) + ridge * np.eye(rows.shape[2])
    right = slope * ridge / RIDGE - np.einsum("n,nkp,nk->p", weights, rows, start - labels)
    change = np.linalg.solve(curvature, right)
    return outputs(QX) + flat_jacobian(QX) @ change


def loss(predicted):
    return ((predicted - QY.numpy()) ** 2).sum(1) / 2


def without(*rows):
    weights = np.ones(N)
    weights[list(rows)] = 0
    return weights


@pytest.fixture(scope="module")
def fitted():
    return lo.fit(Empirical(module()), (X, Y), rule=lo.Ridge(RIDGE))


@pytest.mark.parametrize("reading", ["full", "sum", "trace"])
@pytest.mark.parametrize("rule", [lo.Ridge(RIDGE), lo.Ridge(RIDGE, "mean"), lo.Logistic(RIDGE)], ids=repr)
def test_the_fitted_model_is_the_network(rule, reading) -> None:
    labels = torch.arange(N) % K
    targets = Y if isinstance(rule, lo.Ridge) else labels
    fitted = lo.fit(Empirical(module(), reading), (X, targets), rule=rule)
    assert_same(fitted.predict(QX), outputs(QX), 1e-14)
    assert_same(fitted.predict(X), outputs(X), 1e-14)


def test_the_oracle_itself_does_not_move_with_all_examples() -> None:
    assert_same(edited(np.ones(N)), outputs(QX), 1e-12)


@pytest.mark.parametrize("reading", ["sum", "mean"])
def test_leaving_out_moves_it_as_a_solve_in_the_weights_does(reading) -> None:
    # A ridge of a mean stands for N times as much of a sum, and for fewer examples that much less.
    share = 1 / N if reading == "mean" else 0
    rule = lo.Ridge(RIDGE * (share or 1), reading)
    fitted = lo.fit(Empirical(module()), (X, Y), rule=rule)
    moved = lo.leave_one_out(fitted, (QX, QY), of="prediction").values
    influence = lo.leave_one_out(fitted, (QX, QY)).values
    for i in range(N):
        after = edited(without(i), ridge=RIDGE * (1 - share))
        assert_same(moved[:, i], outputs(QX) - after, 1e-10)
        assert_same(influence[:, i], loss(after) - loss(outputs(QX)), 1e-10)
    group = lo.leave_out(fitted, (QX, QY), [[0, 3, 7]], of="prediction").values[:, 0]
    assert_same(group, outputs(QX) - edited(without(0, 3, 7), ridge=RIDGE * (1 - 3 * share)), 1e-10)


def test_left_out_predictions_are_those_of_the_same_solve(fitted) -> None:
    found = lo.out_of_sample(fitted)
    rows, start = flat_jacobian(X), outputs(X)
    for i in range(0, N, 3):
        curvature = np.einsum("n,nkp,nkq->pq", without(i), rows, rows) + RIDGE * np.eye(rows.shape[2])
        change = np.linalg.solve(curvature, rows[i].T @ (start[i] - Y[i].numpy()))
        assert_same(found[i], start[i] + rows[i] @ change, 1e-10)


def test_other_edits_are_those_of_the_same_solve(fitted) -> None:
    base, query = outputs(QX), (QX, QY)
    targets = Y.numpy().copy()
    targets[4] = [1.0, -1.0]
    relabelled = lo.relabel(fitted, query, 4, torch.tensor([[1.0, -1.0]]), of="prediction").values[:, 0]
    assert_same(relabelled, base - edited(np.ones(N), targets), 1e-10)
    half = np.ones(N)
    half[2] = 0.5
    reweighted = lo.reweight(fitted, query, 2, 0.5, of="prediction").values[:, 0]
    assert_same(reweighted, base - edited(half), 1e-10)
    new = points(1, 5)
    added = lo.add(fitted, query, *new, of="prediction").values[:, 0]
    assert_same(added, edited(np.ones(N + 1), more=new) - base, 1e-10)
    heavier = lo.leave_one_out(fitted, query).values
    assert_same(lo.reweight(fitted, query, 2, 0.0).values[:, 0], heavier[:, 2], 1e-10)


def test_what_training_left_undone_does_not_leak_into_answers() -> None:
    far = Y + 5.0
    answers = [
        lo.leave_one_out(
            lo.fit(Empirical(module()), (X, targets), rule=lo.Ridge(RIDGE)), (QX, QY), of="prediction"
        ).values
        for targets in (Y, torch.cat([Y[:1], far[1:]]))
    ]
    # The targets of the others have not been learned here: an answer about example 0 does not depend on them.
    assert_same(answers[0][:, 0], answers[1][:, 0], 1e-12)


def test_the_certificate_of_trained_weights_holds(fitted) -> None:
    certificate = lo.certify(fitted, (QX, QY), refit_examples=5)
    assert certificate.refit_difference < 1e-10


def test_information_is_of_the_change_of_weights(fitted) -> None:
    rows, start = flat_jacobian(X), outputs(X)
    told = lo.information(fitted, (QX, QY))
    for i in range(0, N, 5):
        curvature = np.einsum("n,nkp,nkq->pq", without(i), rows, rows) + RIDGE * np.eye(rows.shape[2])
        change = np.linalg.solve(curvature, rows[i].T @ (start[i] - Y[i].numpy()))
        assert float(told["weights"][i]) == pytest.approx(change @ change / 2, rel=1e-9)


def test_the_classical_influence_is_the_slope_of_the_same_solve(fitted) -> None:
    rows, start = flat_jacobian(X), outputs(X)
    curvature = np.einsum("nkp,nkq->pq", rows, rows) + RIDGE * np.eye(rows.shape[2])
    slopes = np.einsum("nkp,nk->pn", rows, start - Y.numpy())
    moved = np.einsum("mkp,pn->mnk", flat_jacobian(QX), np.linalg.solve(curvature, slopes))
    want = np.einsum("mnk,mk->mn", moved, outputs(QX) - QY.numpy())
    assert_same(lo.first_order(fitted, (QX, QY)), want, 1e-10)
    assert_same(lo.first_order(fitted, (QX, QY), mean=True), want.mean(0), 1e-10)


def test_the_posterior_around_trained_weights_has_the_network_as_its_mean(fitted) -> None:
    assert_same(lo.posterior(fitted, QX).mean, outputs(QX), 1e-10)


def test_training_that_is_over_has_no_finite_times() -> None:
    for rule in (lo.GradientFlow(1.0), lo.GradientDescent(0.01), lo.Ridge(0.0)):
        with pytest.raises(
            OptionError, match=r"trained weights .* with a ridge > 0, such as `training_ridge`"
        ):
            lo.fit(Empirical(module()), (X, Y), rule=rule)
