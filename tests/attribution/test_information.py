"""Is the information in an example how far a linearised network, trained without it, is from the whole?"""

import json

import numpy as np
import pytest
import torch

import leftout as lo
from laws import assert_same
from leftout.attribution import information as module
from leftout.attribution import weight_noise as smoothing
from leftout.attribution.information import information
from problems.jacobians import NETWORKS, RULES, M, N, Network, assert_each, network, wanted

EPS = float(np.finfo(float).eps)


@pytest.mark.sample(24)
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


# Laws


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
    fitted = twice.fitted(lo.Ridge(1e-3))
    once = information(draw.fitted(lo.Ridge(1e-3)), draw.query)
    copied = information(fitted, twice.query)
    both = information(fitted, twice.query, groups=[[0, 1]])
    # A solution is known to n eps times the condition number, of what the example does; squared, and of what
    # its copy leaves of that it is so many times more.
    known = 2 * (N + 1) * EPS * (1 + np.linalg.norm(fitted.gram.numpy(), 2) / 1e-3)
    for name in ("weights", "function"):
        left = np.sqrt(copied[name].values[0] / once[name].values[0])
        assert_same(*copied[name].values[:2], known / left)
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
def test_many_queries_are_asked_by_their_triangular_factor_with_the_same_answer(which, monkeypatch) -> None:
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
            "smoothing": "Langevin",
            "rate": 0.01,
            "batch": 2,
            "sigma": 1.0,
        }
        for key in ("train_fingerprint", "query_fingerprint", "fitted_fingerprint", "sigma"):
            assert key in attrs
    assert information(fitted, net.query).weights.attrs["at"] == "end of training"


def test_the_end_of_training_needs_no_eigenvalues(monkeypatch) -> None:
    net = NETWORKS["more weights than rows"]
    fitted = net.fitted(lo.Ridge(0.1))
    for one in (smoothing.Isotropic(), smoothing.InverseFisher()):
        information(fitted, net.query, smoothing=one)
    assert not fitted.factorisations.has_spectrum


def test_an_only_example_holds_all_information() -> None:
    net = network(1, 3)
    got = information(net.fitted(lo.Ridge(0.1)), net.query)
    weights, function = wanted(net, lo.Ridge(0.1), [None])
    assert_each(got.weights, weights[0])
    assert_each(got.function, function[0])


def test_options_that_are_none_are_refused(as_users_run_it) -> None:
    net = NETWORKS["more weights than rows"]
    fitted = net.fitted(lo.Ridge(0.1))
    with pytest.raises(lo.LeftoutError, match=r"`sigma` must be a finite number > 0; got nan"):
        information(fitted, net.query, sigma=float("nan"))
    with pytest.raises(
        lo.LeftoutError, match=r"`smoothing` must be one of Isotropic, .*SteadyState; got 'sgd'"
    ):
        information(fitted, net.query, smoothing="sgd")


def test_what_would_not_fit_is_refused_before_it_is_made() -> None:
    net = NETWORKS["three outputs, one kernel"]
    fitted = net.fitted(lo.Ridge(0.1))
    fitted.rows.memory = 20_000
    with pytest.raises(lo.LeftoutError, match="The covariance of SGD in 27 directions needs"):
        information(fitted, net.query, smoothing=smoothing.SteadyState(0.01, batch=2))
    many = network(40, 40)
    fitted = many.fitted(lo.Ridge(0.1))
    fitted.rows.memory = 20_000
    with pytest.raises(lo.LeftoutError, match=r"What the queries see, 40 × 40 numbers, needs"):
        information(fitted, many.query)
