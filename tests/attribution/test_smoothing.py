"""Is information in weights smoothed by the covariance that it names?"""

import numpy as np
import pytest
import torch

import leftout as lo
from laws import assert_same
from leftout.attribution import weight_noise as smoothing
from leftout.attribution.information import information
from oracles import information as oracle
from problems.jacobians import NETWORKS, N, Network, assert_each, network
from problems.small import training

SETTLED = {"ridge": lo.Ridge(0.05), "mean ridge": lo.Ridge(0.02, "mean"), "flow": lo.GradientFlow(1.0, 0.3)}


@pytest.mark.parametrize("name", SETTLED)
@pytest.mark.parametrize(
    "which", ["fewer weights than rows", "more weights than rows", "two outputs, told apart, few weights"]
)
def test_the_steady_state_is_that_of_the_lyapunov_equation_in_weight_space(which, name) -> None:
    net, rule = NETWORKS[which], SETTLED[name]
    got = information(net.fitted(rule), net.query, smoothing=smoothing.SteadyState(0.01, batch=4))
    covariance = oracle.steady_covariance(*net.known, training(rule), rate=0.01, batch=4)
    changes = oracle.weight_changes(*net.known, training(rule))
    # Where weights are more than rows, Σ is singular, but not on the range of Jᵀ.
    rows = net.known[0].reshape(-1, net.jacobian.shape[2])
    basis = np.linalg.svd(rows, full_matrices=False)[2].T
    inside = basis.T @ covariance @ basis
    want = oracle.weight_information(changes @ basis, inside)
    scaled = inside / np.sqrt(np.outer(np.diag(inside), np.diag(inside)))
    # Rounding reaches the inverse of Σ through its condition; Bartels and Stewart's as well as ours.
    assert_each(got.weights, want, rtol=1e-9 + 100 * np.linalg.cond(scaled) * 2e-16)


def test_the_steady_state_smooths_changes_at_any_time_and_of_groups() -> None:
    net, rule = NETWORKS["fewer weights than rows"], lo.GradientFlow(1.0, 0.05)
    options = {"smoothing": smoothing.SteadyState(0.01, batch=4)}
    covariance = oracle.steady_covariance(*net.known, training(rule), rate=0.01, batch=4)
    for groups in (None, [[0, 3], [8]]):
        got = information(net.fitted(rule), net.query, at=[0.7, 40.0], groups=groups, **options)
        for position, time in enumerate([0.7, 40.0]):
            changes = oracle.weight_changes(*net.known, training(rule, time), groups)
            want = oracle.weight_information(changes, covariance)
            assert_each(got.weights[position], want)


def test_without_ridge_noise_is_left_where_weights_are_fewer_than_rows() -> None:
    net, rule = NETWORKS["fewer weights than rows"], lo.GradientFlow(1.0)
    state = smoothing.SteadyState(0.01, batch=2)
    got = information(net.fitted(rule), net.query, at=40.0, smoothing=state)
    covariance = oracle.steady_covariance(*net.known, training(rule), rate=0.01, batch=2)
    changes = oracle.weight_changes(*net.known, training(rule, 40.0))
    assert_each(got.weights, oracle.weight_information(changes, covariance))


@pytest.mark.parametrize("loss", ["sum", "mean"])
def test_the_scale_of_the_steady_state_is_that_of_sgd_as_it_runs(loss) -> None:
    n, p = 12, 2
    net = network(n, 1, p=p, seed=3)
    rule = lo.Ridge(0.5 if loss == "sum" else 0.5 / n, loss)
    unit = n if loss == "sum" else 1
    rate = 0.05 * (1 if loss == "mean" else 1 / unit)
    chains = 4000
    ran = oracle.simulated_covariance(*net.known, training(rule), rate, 3, chains=chains, steps=1500)
    changes = oracle.weight_changes(*net.known, training(rule))
    want = oracle.weight_information(changes, ran)
    state = smoothing.SteadyState(rate, batch=3)
    got = information(net.fitted(rule), net.query, smoothing=state).weights.values
    # Four standard errors of a variance, √(2 / chains), and what a step that is not small adds: of
    # relative order rate · curvature, at most the largest eigenvalue's.
    curvature = np.linalg.eigvalsh(oracle.hessian(net.known[0], training(rule)))[-1]
    allowed = 4 * np.sqrt(2 / chains) + 2 * rate * curvature
    assert allowed < 0.25
    assert np.abs(got / want - 1).max() < allowed


def test_rates_of_the_sum_and_of_the_mean_that_take_the_same_steps_have_the_same_covariance() -> None:
    net = NETWORKS["fewer weights than rows"]
    mean, total = lo.Ridge(0.02, "mean"), lo.Ridge(0.02 * N)
    for make in (smoothing.SteadyState, smoothing.Langevin):
        first, second = (
            make(0.09, batch=4).form(net.fitted(mean)),
            make(0.09 / N, batch=4).form(net.fitted(total)),
        )
        side = 5 if make is smoothing.SteadyState else N
        change = torch.randn(side, 3, 1, generator=torch.Generator().manual_seed(0)).double()
        assert_same(first(change, 2 * change), second(change, 2 * change), 1e-12)


@pytest.mark.parametrize("loss", ["sum", "mean"])
@pytest.mark.parametrize("which", NETWORKS)
def test_isotropic_gradient_noise_is_equation_15(which, loss) -> None:
    net, rule, time = NETWORKS[which], lo.GradientFlow(1.0, 0.03, loss), 5.0
    changes = oracle.weight_changes(*net.known, training(rule, time))
    matrix = oracle.hessian(net.known[0], training(rule))
    noise = 1 if loss == "mean" else N**2
    want = np.array([4 / (0.01 * 0.3**2 * noise) * dw @ matrix @ dw for dw in changes])
    langevin = smoothing.Langevin(0.01, batch=4, sigma=0.3)
    got = information(net.fitted(rule), net.query, at=time, smoothing=langevin).weights
    assert_each(got, want)


@pytest.mark.parametrize("time", [0.7, None])
@pytest.mark.parametrize("which", NETWORKS)
def test_smoothed_by_the_fisher_matrix_weights_say_what_the_function_says(which, time) -> None:
    net, rule = NETWORKS[which], lo.GradientFlow(1.0, 0.03)
    got = information(
        net.fitted(rule), net.itself, at=time, sigma=0.4, smoothing=smoothing.InverseFisher(0.4)
    )
    assert_each(got.weights, got.function, 1e-10)


@pytest.mark.parametrize("time", [2.0, None])
def test_doubled_targets_bear_four_times_the_information_but_for_sgd_whose_noise_doubles(time) -> None:
    net = NETWORKS["fewer weights than rows"]
    twice = Network(net.jacobian, 2 * net.targets, N)
    rule = lo.GradientFlow(1.0, 0.05)
    for one, factor in [
        (smoothing.Isotropic(), 4),
        (smoothing.InverseFisher(), 4),
        (smoothing.Langevin(0.01, batch=4), 4),
        (smoothing.SteadyState(0.01, batch=4), 1),
    ]:
        before = information(net.fitted(rule), net.query, at=time, smoothing=one)
        after = information(twice.fitted(rule), net.query, at=time, smoothing=one)
        assert_same(after.weights, factor * before.weights.values, 1e-11)
        assert_same(after.function, 4 * before.function.values, 1e-11)


def test_centred_classes_sum_to_zero_and_the_steady_state_knows() -> None:
    features = network(24, 3, p=6).jacobian[:, 0]
    features = torch.from_numpy(features)
    labels = torch.arange(24) % 3
    kernel = lo.kernels.From(lambda x, z: x @ z.T, "linear")
    fitted = lo.fit(kernel, (features[:24], labels), rule=lo.Ridge(0.5))
    assert_same(fitted.residual.sum(1), np.zeros(24), 1e-14)
    state = smoothing.SteadyState(0.01, batch=4)
    got = information(fitted, (features[24:], labels[:3]), smoothing=state).weights
    # Two combinations of the three columns, orthonormal, say all there is to learn.
    turn = np.linalg.svd(np.eye(3) - 1 / 3)[0][:, :2]
    known = oracle.copies(features.numpy()[:24], 2), fitted.residual.numpy() @ turn
    how = training(fitted.rule)
    covariance = oracle.steady_covariance(*known, how, rate=0.01, batch=4)
    want = oracle.weight_information(oracle.weight_changes(*known, how), covariance)
    assert_each(got, want)


REFUSED = {
    "sigma": (lambda: smoothing.Isotropic(0.0), r"`sigma` must be a finite number > 0; got 0"),
    "fisher": (lambda: smoothing.InverseFisher(-1.0), r"`sigma` must be a finite number > 0"),
    "rate": (lambda: smoothing.SteadyState(0.0, batch=1), r"`rate` must be a finite number > 0"),
    "batch": (lambda: smoothing.SteadyState(0.1, batch=0), r"`batch` must be a whole number ≥ 1"),
    "langevin rate": (lambda: smoothing.Langevin(-1.0, batch=1), r"`rate` must be a finite"),
    "langevin batch": (lambda: smoothing.Langevin(0.1, batch=0), r"`batch` must be a whole"),
    "langevin sigma": (lambda: smoothing.Langevin(0.1, batch=1, sigma=0.0), r"`sigma` must be"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_smoothings_that_are_none_are_refused_when_made(name) -> None:
    make, message = REFUSED[name]
    with pytest.raises(lo.LeftoutError, match=message):
        make()


def test_no_noise_is_refused_with_advice() -> None:
    state = smoothing.SteadyState(0.01, batch=2)
    message = r"SteadyState\(rate=0.01, batch=2\) needs gradient noise.*Fit with a `ridge` > 0"
    net = NETWORKS["more weights than rows"]
    for rule, time in [(lo.Ridge(0.0), None), (lo.GradientFlow(1.0), 3.0)]:
        with pytest.raises(lo.LeftoutError, match=message):
            information(net.fitted(rule), net.query, at=time, smoothing=state)
    # Targets that so few weights can meet leave no noise either.
    few = NETWORKS["fewer weights than rows"]
    exact = Network(few.jacobian, few.jacobian @ np.ones(5), N)
    with pytest.raises(lo.LeftoutError, match=message):
        information(exact.fitted(lo.GradientFlow(1.0)), few.query, at=3.0, smoothing=state)


def test_a_covariance_that_is_singular_where_weights_move_is_refused_with_its_numbers() -> None:
    state = smoothing.SteadyState(0.01, batch=2)
    # One example has no spread about its mean: gradients are all alike.
    net = network(1, 3)
    with pytest.raises(lo.LeftoutError, match=r"singular to rounding in the 1 directions.*zero in"):
        information(net.fitted(lo.Ridge(0.1)), net.query, smoothing=state)
    # Two modes of the same eigenvalue, and noise in one direction of them only.
    jacobian = np.zeros((3, 1, 2))
    jacobian[0, 0, 0] = jacobian[1, 0, 1] = 1.0
    net = Network(jacobian, np.array([[1.0], [1.0], [0.0]]), 2)
    with pytest.raises(
        lo.LeftoutError,
        match=r"2 directions.*eigenvalues reach from 2 to .* 2 examples spread in 1.* No jitter",
    ):
        information(net.fitted(lo.Ridge(0.1)), net.query, smoothing=state)


@pytest.mark.parametrize("loss", ["sum", "mean"])
def test_a_rate_at_which_sgd_does_not_settle_is_refused(loss) -> None:
    net = NETWORKS["more weights than rows"]
    rule = lo.Ridge(0.1, loss)
    critical = 2 / np.linalg.eigvalsh(oracle.hessian(net.known[0], training(rule)))[-1]
    for make in (smoothing.SteadyState, smoothing.Langevin):
        information(net.fitted(rule), net.query, smoothing=make(0.99 * critical, batch=2))
        with pytest.raises(lo.LeftoutError, match=f"rate {critical:.6g} of the {loss} loss"):
            information(net.fitted(rule), net.query, smoothing=make(1.01 * critical, batch=2))
