"""Does the classical influence of a network tend to that of its kernel, and is the distance told?"""

import math
import re

import pytest
import torch

import leftout as lo
from laws import assert_same
from leftout.attribution.first_order import first_order
from leftout.attribution.influence_function import influence_function
from leftout.core.errors import NotConvergedWarning, OptionError
from leftout.diagnostics.influence_error.bounds import limit
from leftout.dynamics.train import train
from leftout.dynamics.two_layer import TwoLayerNetwork
from leftout.solvers.dense_curvature import Exact
from oracles import diagnostics as oracle

N, D = 20, 6


def data(k=1, loss="sum", ridge=0.5):
    draw = torch.Generator().manual_seed(k)
    x = torch.nn.functional.normalize(torch.randn(N + 5, D, generator=draw, dtype=torch.float64))
    y = torch.randn(N + 5, k, generator=draw, dtype=torch.float64)
    rule = lo.Ridge(ridge, loss)
    return lo.fit(lo.kernels.TwoLayerReLU(), (x[:N], y[:N]), rule=rule), (x[N:], y[N:])


def network(fitted, width, seed=0, **options):
    module = TwoLayerNetwork(
        width,
        D,
        fitted.residual.shape[1],
        scale=1.0,
        antisymmetric=True,
        generator=torch.Generator().manual_seed(seed),
    )
    return train(module, fitted.train, rule=fitted.rule, **options)


@pytest.fixture(scope="module")
def asked():
    fitted, query = data()
    return network(fitted, 512), fitted, query


def test_both_are_those_of_the_public_calls_and_their_distance_is_by_the_books(asked) -> None:
    trained, fitted, query = asked
    got = limit(trained, fitted, query)
    finite, wide = influence_function(trained, query), first_order(fitted, query)
    assert got["finite"].dims == got["limit"].dims == ("query", "train")
    assert_same(got["finite"], finite, 1e-12)
    assert_same(got["limit"], wide, 1e-12)
    assert got.coords["status"].values.tolist() == finite.coords["status"].values.tolist()
    want = oracle.measures(finite.values, wide.values, 1)
    for name in ("relative_error", "slope", "pearson"):
        assert_same(got.attrs[name], want[name], 1e-10)
    assert got.attrs["curvature"] == "hessian"
    assert got.attrs["training"].startswith("converged after")


@pytest.mark.parametrize(("k", "loss", "ridge"), [(1, "sum", 0.5), (2, "mean", 0.025)])
def test_the_distance_falls_as_the_root_of_the_width(k, loss, ridge) -> None:
    # The kernel at w_0 is a mean over neurons, so its error halves as their number is fourfold; of
    # six seeds each, at 16 times the neurons, the mean error is 1/4 to within a third or so.
    fitted, query = data(k, loss, ridge)
    errors = []
    for width in (128, 2048):
        found = [limit(network(fitted, width, seed), fitted, query) for seed in range(6)]
        errors.append(sum(one.attrs["relative_error"] for one in found) / len(found))
    assert errors[1] < 0.1
    assert 1 / 6 < errors[1] / errors[0] < 1 / 2.5
    assert all(abs(one.attrs["slope"] - 1) < 0.1 for one in found)


def test_the_curvature_and_its_solver_can_be_chosen(asked) -> None:
    trained, fitted, query = asked
    got = limit(trained, fitted, query, solver=Exact(), curvature="ggn")
    want = influence_function(trained, query, solver=Exact(), curvature="ggn")
    assert_same(got["finite"], want, 1e-12)
    assert "Exact" in got.attrs["solver"]
    assert got.attrs["curvature"] == "ggn"


def test_a_network_that_is_not_trained_to_its_end_is_flagged() -> None:
    fitted, query = data()
    with pytest.warns(NotConvergedWarning, match="not trained to convergence"):
        limit(network(fitted, 64, steps=2), fitted, query)


def test_networks_and_kernels_of_other_things_are_refused(asked) -> None:
    trained, fitted, query = asked
    words = "`trained` and `fitted` must have the same training examples, in one order; these differ "
    less = lo.fit(lo.kernels.TwoLayerReLU(), fitted.train.select(range(N - 1)), rule=fitted.rule)
    with pytest.raises(OptionError, match=re.escape(f"{words}({N} and {N - 1} of them)")):
        limit(trained, less, query)
    words = "`trained` and `fitted` must have the same ridge and loss; got "
    for rule in (lo.Ridge(0.4), lo.Ridge(0.5, "mean")):
        other = lo.fit(lo.kernels.TwoLayerReLU(), fitted.train, rule=rule)
        with pytest.raises(OptionError, match=re.escape(f"{words}{fitted.rule!r} and {rule!r}.")):
            limit(trained, other, query)
    free = lo.fit(lo.kernels.TwoLayerReLU(), fitted.train, rule=lo.Ridge(0.0))
    interpolating = network(free, 64)
    with pytest.raises(OptionError, match="`fitted` must have a ridge > 0: without one the training"):
        limit(interpolating, free, query)


def test_the_kernel_of_another_network_is_refused(asked) -> None:
    trained, fitted, query = asked
    deep = lo.fit(lo.kernels.ReLU(depth=1), fitted.train, rule=fitted.rule)
    words = "`fitted` must have the kernel of the network: of a TwoLayerNetwork, which trains its first"
    with pytest.raises(OptionError, match=words):
        limit(trained, deep, query)
    own = lo.kernels.Precomputed(torch.eye(N + 5, dtype=torch.float64))  # taken at its word
    rows = torch.arange(N, dtype=torch.float64)
    with pytest.raises(OptionError, match="the same training examples"):
        limit(trained, lo.fit(own, (rows, fitted.residual), rule=fitted.rule), query)


def test_a_correlation_that_does_not_exist_is_explained(asked) -> None:
    trained, fitted, (points, _) = asked
    got = limit(trained, fitted, (points, trained.predict(points)))
    assert math.isnan(got.attrs["pearson"])
    assert got.attrs["why"] == "no slope and pearson: finite is the same for all pairs"
    assert "why" not in limit(trained, fitted, (points, torch.zeros(5, 1).double())).attrs


@pytest.mark.usefixtures("as_users_run_it")
def test_what_is_no_network_no_model_or_no_solver_is_refused(asked) -> None:
    trained, fitted, query = asked
    words = "`trained` must be a trained network, from `train`; got Fitted."
    with pytest.raises(OptionError, match=re.escape(words)):
        limit(fitted, trained, query)
    with pytest.raises(OptionError, match="`fitted` must be a model, from `fit`; got Trained"):
        limit(trained, trained, query)
    words = "`solver` must be ConjugateGradients(), LiSSA(), Exact() or None; got "
    for ask in (
        limit,
        lambda trained, fitted, query, solver: influence_function(trained, query, solver=solver),
    ):
        for solver, came in (("cg", "'cg'"), (Exact, "the class Exact; write Exact(…).")):
            with pytest.raises(OptionError, match=re.escape(words + came)):
                ask(trained, fitted, query, solver=solver)
