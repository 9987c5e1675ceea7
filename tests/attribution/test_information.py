"""Is the information in an example how far a linearised network, trained without it, is from the whole?"""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch

import leftout as lo
import oracles_information as oracle
from laws import assert_same
from leftout.attribution import information as module
from leftout.attribution import smoothing
from leftout.attribution.information import information
from leftout.kernels.base import Kernel
from problems import training

N, M = 9, 4


class OfJacobian(Kernel):
    """J Jᵀ of a network with a few outputs that are told apart, by row numbers."""

    def __init__(self, jacobian):
        self.jacobian = torch.from_numpy(jacobian)

    @property
    def outputs(self):
        return self.jacobian.shape[1]

    def _rows(self, inputs):
        return self.jacobian[inputs.long()].flatten(0, 1)

    def block(self, queries, inputs):
        return self._rows(queries) @ self._rows(inputs).T

    def diagonal(self, inputs):
        return self._rows(inputs).square().sum(1)

    def tiles(self, queries, inputs, work):
        value = self.block(queries, queries if inputs is None else inputs)
        yield slice(0, value.shape[0]), slice(0, value.shape[1]), value

    def check(self, name, inputs):
        pass

    @property
    def record(self):
        return {"name": "of a Jacobian"}


@dataclass(frozen=True)
class Network:
    """A linearised network at n training examples, then m queries."""

    jacobian: np.ndarray
    targets: np.ndarray
    n: int
    apart: bool = False

    @property
    def known(self):
        """Jacobian and residual of the training examples."""
        return self.jacobian[: self.n], self.targets[: self.n]

    @property
    def queries(self):
        return self.jacobian[self.n :]

    def fitted(self, rule, **options):
        if self.apart:
            kernel = OfJacobian(self.jacobian)
        else:  # one kernel for all outputs, each with its copy of the weights
            k = self.targets.shape[1]
            features = self.jacobian[:, 0, : self.jacobian.shape[2] // k]
            kernel = lo.kernels.Precomputed(torch.from_numpy(features @ features.T))
        rows = torch.arange(self.n, dtype=torch.float64)
        return lo.fit(kernel, (rows, torch.from_numpy(self.known[1])), rule=rule, **options)

    @property
    def query(self):
        rows = torch.arange(self.n, len(self.jacobian), dtype=torch.float64)
        return rows, torch.from_numpy(self.targets[self.n :])

    @property
    def itself(self):
        return torch.arange(self.n, dtype=torch.float64), torch.from_numpy(self.known[1])


def network(n=N, m=M, k=1, p=30, *, apart=False, seed=0):
    """Return a network with p weights whose Gram matrix has eigenvalues about 1."""
    draw = np.random.default_rng(seed)
    targets = draw.standard_normal((n + m, k))
    if apart:
        jacobian = draw.standard_normal((n + m, k, p)) / np.sqrt(max(p, n * k))
    else:
        features = draw.standard_normal((n + m, p)) / np.sqrt(max(p, n))
        jacobian = oracle.copies(features, k)
    return Network(jacobian, targets, n, apart)


NETWORKS = {
    "more weights than rows": network(),
    "fewer weights than rows": network(p=5),
    "three outputs, one kernel": network(k=3),
    "three outputs, one kernel, few weights": network(k=3, p=4),
    "two outputs, told apart": network(k=2, apart=True),
    "two outputs, told apart, few weights": network(k=2, p=7, apart=True),
}

RULES = {
    "Ridge": (lo.Ridge(0.05), [None]),
    "mean Ridge": (lo.Ridge(0.02, "mean"), [None]),
    "flow": (lo.GradientFlow(1.0), [0.0, 1e-3, 0.7, 40.0, 300.0]),
    "flow with decay": (lo.GradientFlow(1.0, 0.05), [0.7, 40.0, None]),
    "mean flow": (lo.GradientFlow(float(N), 0.0, "mean"), [1e-3, 0.7, 40.0]),
    "mean flow with decay": (lo.GradientFlow(float(N), 0.01, "mean"), [0.7, 40.0, None]),
    "descent": (lo.GradientDescent(0.3), [0, 1, 7, 60, 600]),
    "mean descent with decay": (lo.GradientDescent(2.0, 0.01, "mean"), [1, 7, 60, 600, None]),
}


def wanted(net, rule, times, groups=None, sigma=1.0):
    """Return weights and function from networks that are trained again."""
    both = []
    for time in times:
        changes = oracle.weight_changes(*net.known, training(rule, time), groups)
        both.append(
            [
                oracle.weight_information(changes),
                oracle.function_information(changes, net.queries, sigma),
            ]
        )
    return np.array(both).transpose(1, 0, 2)


def assert_each(got, want, rtol=1e-8):
    """Every example by itself, not only relative to the largest."""
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-14 * max(np.abs(want).max(), 1e-300))


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("which", NETWORKS)
def test_it_is_what_training_again_without_each_example_shows(which, name) -> None:
    net, (rule, times) = NETWORKS[which], RULES[name]
    got = information(net.fitted(rule), net.query, at=times)
    assert got.weights.dims == got.function.dims == ("at", "train")
    weights, function = wanted(net, rule, times)
    for position, time in enumerate(times):
        if time == 0:
            assert not got.weights.values[position].any()
            assert not got.function.values[position].any()
        else:
            assert_each(got.weights.values[position], weights[position])
            assert_each(got.function.values[position], function[position])


@pytest.mark.parametrize("which", ["more weights than rows", "two outputs, told apart"])
def test_ridgeless_training_to_the_end_too(which) -> None:
    net = NETWORKS[which]
    for rule in (lo.Ridge(0.0), lo.GradientFlow(1.0), lo.GradientDescent(0.3, 0.0, "mean")):
        got = information(net.fitted(rule), net.query)
        weights, function = wanted(net, rule, [None])
        assert_each(got.weights, weights[0])
        assert_each(got.function, function[0])


GROUPS = {"two": [3, 7], "more": [7, 2, 0, 5], "one": [4], "all": range(N)}


@pytest.mark.parametrize("name", ["Ridge", "mean Ridge", "flow", "mean flow with decay"])
@pytest.mark.parametrize("which", ["more weights than rows", "two outputs, told apart"])
def test_groups_go_together(which, name) -> None:
    net, (rule, times) = NETWORKS[which], RULES[name]
    times = [time for time in times if time != 0]
    got = information(net.fitted(rule), net.query, at=times, groups=GROUPS)
    assert got.weights.dims == ("at", "group")
    assert got.group.values.tolist() == list(GROUPS)
    weights, function = wanted(net, rule, times, [list(rows) for rows in GROUPS.values()])
    for position in range(len(times)):
        assert_each(got.weights.values[position], weights[position])
        assert_each(got.function.values[position], function[position])


def test_groups_of_one_are_single_examples() -> None:
    net = NETWORKS["three outputs, one kernel"]
    fitted = net.fitted(lo.GradientFlow(1.0, 0.01, "mean"))
    singles = information(fitted, net.query, at=[0.7, None])
    groups = information(fitted, net.query, at=[0.7, None], groups=[[i] for i in range(N)])
    for name in ("weights", "function"):
        assert_same(groups[name], singles[name], 1e-11)


# Smoothings


SETTLED = {
    "ridge": lo.Ridge(0.05),
    "mean ridge": lo.Ridge(0.02, "mean"),
    "flow": lo.GradientFlow(1.0, 0.3),
}


@pytest.mark.parametrize("name", SETTLED)
@pytest.mark.parametrize(
    "which",
    ["fewer weights than rows", "more weights than rows", "two outputs, told apart, few weights"],
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
    ran = oracle.simulated_covariance(
        *net.known, training(rule), rate, 3, chains=chains, steps=1500
    )
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


def test_rates_of_the_sum_and_of_the_mean_that_take_the_same_steps_have_the_same_covariance() -> (
    None
):
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


# Laws


@pytest.mark.parametrize("time", [2.0, None])
def test_doubled_targets_bear_four_times_the_information_but_for_sgd_whose_noise_doubles(
    time,
) -> None:
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


def test_sigma_divides_by_its_square() -> None:
    net = NETWORKS["more weights than rows"]
    fitted = net.fitted(lo.Ridge(0.1))
    plain = information(fitted, net.query)
    scaled = information(fitted, net.query, sigma=3.0, smoothing=smoothing.Isotropic(0.5))
    assert_same(scaled.function, plain.function.values / 9, 1e-14)
    assert_same(scaled.weights, plain.weights.values * 4, 1e-14)


def test_permuted_examples_bear_the_same_information() -> None:
    net = NETWORKS["two outputs, told apart"]
    order = np.random.default_rng(0).permutation(N)
    rows = np.append(order, np.arange(N, N + M))
    other = Network(net.jacobian[rows], net.targets[rows], N, apart=True)
    for rule, time in [(lo.Ridge(0.05), None), (lo.GradientFlow(1.0), 5.0)]:
        got = information(other.fitted(rule), other.query, at=time)
        want = information(net.fitted(rule), net.query, at=time)
        for name in ("weights", "function"):
            assert_same(got[name], want[name].values[order], 1e-11)


def test_of_two_copies_neither_is_unique() -> None:
    draw = network(seed=5)
    rows = np.append([0, 0], np.arange(1, N + M))
    twice = Network(draw.jacobian[rows], draw.targets[rows], N + 1)
    once = information(draw.fitted(lo.Ridge(1e-3)), draw.query)
    copied = information(twice.fitted(lo.Ridge(1e-3)), twice.query)
    both = information(twice.fitted(lo.Ridge(1e-3)), twice.query, groups=[[0, 1]])
    for name in ("weights", "function"):
        assert_same(*copied[name].values[:2], 1e-10)
        # What is left of an example once its copy stays falls with the square of the ridge.
        assert copied[name].values[0] < 1e-4 * once[name].values[0]
        # Together they are the example, which counted twice: as if its ridge were half.
        assert_same(both[name].values, once[name].values[:1], 0.02)


def test_it_is_never_negative_and_null_where_the_target_is_what_is_predicted_anyway() -> None:
    net = NETWORKS["fewer weights than rows"]
    exact = Network(net.jacobian, net.jacobian @ np.ones(5), N)
    # Once all is learned of targets that the network can express, any one of them is dispensable.
    got = information(exact.fitted(lo.GradientFlow(1.0)), net.query, at=1e4)
    assert (got.weights.values >= 0).all()
    assert got.weights.values.max() < 1e-20


def test_a_mode_that_is_zero_to_rounding_moves_no_weights_however_long_the_training() -> None:
    net = NETWORKS["fewer weights than rows"]
    fitted = net.fitted(lo.GradientFlow(1.0))
    late = information(fitted, net.query, at=1e12)
    weights, function = wanted(net, lo.Ridge(0.0), [None])
    # The dual goes on growing in such modes, to 1e12 targets: 1e-4 of them are below its rounding.
    assert_same(late.weights, weights[0], 1e-3)
    assert_same(late.function, function[0], 1e-3)


def test_blocks_of_queries_and_examples_change_nothing(monkeypatch) -> None:
    net = NETWORKS["three outputs, one kernel"]
    fitted = net.fitted(lo.GradientFlow(1.0, 0.01))
    whole = information(fitted, net.query, at=[0.7, None])
    monkeypatch.setattr(module, "COLUMNS", 2)
    parts = information(fitted, net.query, at=[0.7, None])
    for name in ("weights", "function"):
        assert_same(parts[name], whole[name], 1e-13)


@pytest.mark.parametrize("which", ["three outputs, one kernel", "two outputs, told apart"])
def test_many_queries_are_asked_by_their_triangular_factor_with_the_same_answer(
    which, monkeypatch
) -> None:
    apart = which.endswith("apart")
    net = network(m=70, k=2 if apart else 3, apart=apart)
    fitted = net.fitted(lo.GradientFlow(1.0, 0.01))
    at = [0.7, None]
    inputs = torch.as_tensor(net.query[0])
    root = module.query_root(fitted, module.queries_of(fitted, net.query))
    assert len(root) == len(fitted.gram) < len(fitted.cross(inputs))
    by_factor = information(fitted, net.query, at=at).function
    _, want = wanted(net, fitted.rule, at)
    for ours, theirs in zip(by_factor.values, want, strict=True):
        assert_each(ours, theirs)
    monkeypatch.setattr(module, "query_root", lambda fitted, query: fitted.cross(query.inputs))
    assert_same(information(fitted, net.query, at=at).function, by_factor, 1e-13)
    monkeypatch.undo()
    # In many small blocks the factor is that of all the same.
    little = net.fitted(lo.GradientFlow(1.0, 0.01), memory=60_000)
    assert_same(information(little, net.query, at=at).function, by_factor, 1e-12)


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


# What is written on it, and what is refused


def test_one_time_has_no_axis_and_results_say_what_they_are() -> None:
    net = NETWORKS["more weights than rows"]
    fitted = net.fitted(lo.GradientFlow(1.0, 0.1, "mean"))
    got = information(fitted, net.query, at=3.0, smoothing=smoothing.Langevin(0.01, batch=2))
    assert got.weights.dims == ("train",)
    assert got.train.values.tolist() == list(fitted.train.ids)
    assert got.attrs["method"] == "information"
    assert got.attrs["at"] == 3.0
    for name in ("weights", "function"):
        attrs = got[name].attrs
        assert attrs["of"] == name
        assert attrs["units"] == "nats"
        assert attrs["sign"].startswith("≥ 0")
        assert json.loads(attrs["rule"])["loss"] == "mean"
        assert json.loads(attrs["smoothing"]) == {
            "smoothing": "Langevin", "rate": 0.01, "batch": 2, "sigma": 1.0,
        }  # fmt: skip
        for key in ("train_fingerprint", "query_fingerprint", "fitted_fingerprint", "sigma"):
            assert key in attrs
    assert information(fitted, net.query).weights.attrs["at"] == "end of training"


def test_the_end_of_training_needs_no_eigenvalues(monkeypatch) -> None:
    net = NETWORKS["more weights than rows"]
    fitted = net.fitted(lo.Ridge(0.1))
    for one in (smoothing.Isotropic(), smoothing.InverseFisher()):
        information(fitted, net.query, smoothing=one)
    assert "spectrum" not in vars(fitted)


def test_an_only_example_holds_all_information() -> None:
    net = network(1, 3)
    got = information(net.fitted(lo.Ridge(0.1)), net.query)
    weights, function = wanted(net, lo.Ridge(0.1), [None])
    assert_each(got.weights, weights[0])
    assert_each(got.function, function[0])


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


def test_options_that_are_none_are_refused(as_users_run_it) -> None:
    net = NETWORKS["more weights than rows"]
    fitted = net.fitted(lo.Ridge(0.1))
    with pytest.raises(lo.LeftoutError, match=r"`sigma` must be a finite number > 0; got nan"):
        information(fitted, net.query, sigma=float("nan"))
    with pytest.raises(
        lo.LeftoutError, match=r"`smoothing` must be one of Isotropic, .*SteadyState; got 'sgd'"
    ):
        information(fitted, net.query, smoothing="sgd")


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


def test_what_would_not_fit_is_refused_before_it_is_made() -> None:
    net = NETWORKS["three outputs, one kernel"]
    fitted = net.fitted(lo.Ridge(0.1))
    fitted.memory = 20_000
    with pytest.raises(lo.LeftoutError, match="The covariance of SGD in 27 directions needs"):
        information(fitted, net.query, smoothing=smoothing.SteadyState(0.01, batch=2))
    many = network(40, 40)
    fitted = many.fitted(lo.Ridge(0.1))
    fitted.memory = 20_000
    with pytest.raises(lo.LeftoutError, match=r"What the queries see, 40 × 40 numbers, needs"):
        information(fitted, many.query)
