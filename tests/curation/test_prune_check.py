"""Does a predicted removal curve stand beside that of networks trained again on what remains?"""

import json

import numpy as np
import pytest
import torch

import leftout as lo
from laws import assert_same
from leftout.core.errors import NotConvergedWarning, OptionError
from leftout.curation.prune import prune
from leftout.curation.prune_check import prune_check
from leftout.dynamics.train import train
from leftout.kernels.network.empirical import Empirical
from problems.networks import linear, network, sphere

N, D = 12, 5


def classes(k, *, n=N, m=6):
    """Unit inputs of k classes, whose labels depend on them: training pair and query pair."""
    x, y = sphere(n + m, D, k)
    labels = (y[:, 0] > 0).long() if k == 1 else y.argmax(1)
    labels[: max(k, 2)] = torch.arange(max(k, 2))
    labels[n : n + max(k, 2)] = torch.arange(max(k, 2))
    return (x[:n], labels[:n]), (x[n:], labels[n:])


@pytest.mark.parametrize("k", [1, 3])
def test_a_linear_network_trained_again_is_what_its_linearisation_predicts(k) -> None:
    pair, query = classes(k)
    module = linear(D, k)
    rule = lo.Ridge(0.3)
    predicted = prune(
        lo.fit(Empirical(module, weights="initial"), pair, rule=rule), query, shares=(0.25, 0.5)
    )
    # Predictions are within the tolerance of training of the minimiser's.
    found = prune_check(predicted, train(module, pair, rule=rule, tolerance=1e-10), query, jobs=1)
    assert (found.counts, found.shares) == ((0, 3, 6), (0, 0.25, 0.5))
    assert (found.predicted_loss, found.predicted_accuracy) == (predicted.loss, predicted.accuracy)
    assert_same(found.retrained_loss, predicted.loss, rtol=1e-8)
    assert found.retrained_accuracy == predicted.accuracy
    assert found.not_converged == 0


def test_steps_of_training_again_are_those_that_were_asked_about() -> None:
    pair, query = classes(1)
    module, steps = linear(D), 40
    rule = lo.GradientDescent(0.2, 0.05, "mean")
    fitted = lo.fit(Empirical(module, weights="initial"), pair, rule=rule)
    predicted = prune(fitted, query, at=steps, order="iterative", shares=(0.5,))
    trained = train(module, pair, rule=rule, steps=steps, tolerance=None)
    found = prune_check(predicted, trained, query, jobs=1)
    assert_same(found.retrained_loss, predicted.loss)


def test_only_some_counts_are_trained_and_kept(tmp_path) -> None:
    pair, query = classes(1)
    module = linear(D)
    rule = lo.Ridge(0.3)
    predicted = prune(lo.fit(Empirical(module, weights="initial"), pair, rule=rule), query, order="random")
    trained = train(module, pair, rule=rule, tolerance=1e-8)
    found = prune_check(predicted, trained, query, counts=[6, 3], jobs=1, out=tmp_path / "kept")
    assert found.counts == (3, 6)
    assert found.predicted_loss == tuple(predicted.loss[predicted.counts.index(c)] for c in (3, 6))
    assert len(list((tmp_path / "kept").glob("*.npz"))) == 2
    assert json.loads((tmp_path / "kept/of.json").read_text())["query"] == predicted.query
    alone = prune_check(predicted, trained, query, counts=[0])
    assert alone.counts == (0,)
    error = trained.predict(query[0]) - (2.0 * query[1][:, None] - 1)
    assert_same(alone.retrained_loss, [float(error.square().sum(1).mean() / 2)])


def test_both_curves_as_a_table() -> None:
    (x, y), (asked, wanted) = sphere(8, D), sphere(4, D, seed=1)
    module, rule = linear(D), lo.Ridge(0.3)
    predicted = prune(
        lo.fit(Empirical(module, weights="initial"), (x, y), rule=rule), (asked, wanted), shares=(0.5,)
    )
    table = prune_check(predicted, train(module, (x, y), rule=rule), (asked, wanted), jobs=1).to_frame()
    assert list(table.columns) == ["counts", "shares", "predicted_loss", "retrained_loss"]
    assert table["counts"].tolist() == [0, 4]
    np.testing.assert_allclose(table["predicted_loss"], table["retrained_loss"], rtol=1e-4)


def test_training_that_ends_short_is_said() -> None:
    (x, y), query = sphere(8, D), sphere(4, D, seed=1)
    rule = lo.Ridge(0.01)
    module = network(64, D)
    predicted = prune(lo.fit(lo.kernels.TwoLayerReLU(), (x, y), rule=rule), query, shares=(0.5,))
    trained = train(module, (x, y), rule=rule, steps=2)
    with pytest.warns(NotConvergedWarning):
        found = prune_check(predicted, trained, query, jobs=1)
    assert found.not_converged == 1


@pytest.mark.parametrize(("counts", "came"), [([5], "5"), ([], "none")])
def test_a_count_that_the_curve_does_not_have_is_refused(counts, came) -> None:
    pair, query = classes(1)
    module, rule = linear(D), lo.Ridge(0.3)
    predicted = prune(lo.fit(Empirical(module, weights="initial"), pair, rule=rule), query, shares=(0.5,))
    with pytest.raises(OptionError, match=f"`counts` must be among those of `pruned`, 0, 6; got {came}"):
        prune_check(predicted, train(module, pair, rule=rule), query, counts=counts)


def test_other_examples_or_queries_are_refused() -> None:
    pair, query = classes(1)
    module, rule = linear(D), lo.Ridge(0.3)
    predicted = prune(lo.fit(Empirical(module, weights="initial"), pair, rule=rule), query, shares=(0.5,))
    fewer = train(module, (pair[0][1:], pair[1][1:]), rule=rule)
    with pytest.raises(OptionError, match="`trained` must hold the examples that `pruned` was made"):
        prune_check(predicted, fewer, query)
    with pytest.raises(OptionError, match="`query` must hold the examples that `pruned` was made"):
        prune_check(predicted, train(module, pair, rule=rule), (query[0][:5], query[1][:5]))


@pytest.mark.usefixtures("as_users_run_it")
def test_what_is_no_order_and_no_network_is_refused() -> None:
    pair, query = classes(1)
    module, rule = linear(D), lo.Ridge(0.3)
    fitted = lo.fit(Empirical(module, weights="initial"), pair, rule=rule)
    trained = train(module, pair, rule=rule)
    with pytest.raises(OptionError, match="`pruned` must be an order of removal, from `prune`; got"):
        prune_check([1, 2], trained, query)
    with pytest.raises(OptionError, match="`trained` must be a trained network, from `train`; got"):
        prune_check(prune(fitted, query), fitted, query)


@pytest.mark.parametrize(
    ("rule", "steps", "other", "others"),
    [
        (lo.Ridge(0.3), None, lo.Ridge(0.4), None),
        (lo.Ridge(0.3, "mean"), None, lo.Ridge(0.3), None),
        (lo.GradientDescent(0.1), 40, lo.GradientDescent(0.1), 41),
        (lo.GradientDescent(0.1), 40, lo.GradientDescent(0.2), 20),
        (lo.GradientDescent(0.1, 0.3), None, lo.GradientDescent(0.1, 0.3), 5),
    ],
)
def test_a_network_trained_in_another_way_is_refused(rule, steps, other, others) -> None:
    """Its curve would differ for a reason that has nothing to do with the order."""
    pair, query = classes(1)
    predicted = prune(
        lo.fit(Empirical(linear(D), weights="initial"), pair, rule=rule), query, at=steps, shares=(0.5,)
    )
    ends = {"tolerance": 1e-3} if others is None else {"tolerance": None, "steps": others}
    with pytest.raises(OptionError, match="must be trained as the model of `pruned` was, by"):
        prune_check(predicted, train(linear(D), pair, rule=other, **ends), query)


def test_a_flow_is_judged_by_descent_for_as_long_and_a_ridge_by_descent_to_its_end() -> None:
    pair, query = classes(1)
    flow = prune(
        lo.fit(Empirical(linear(D), weights="initial"), pair, rule=lo.GradientFlow(1.0)),
        query,
        at=4,
        shares=(0.5,),
    )
    steps = train(linear(D), pair, rule=lo.GradientDescent(0.01), steps=400, tolerance=None)
    ridge = prune(
        lo.fit(Empirical(linear(D), weights="initial"), pair, rule=lo.Ridge(0.3)), query, shares=(0.5,)
    )
    end = train(linear(D), pair, rule=lo.GradientDescent(0.1, 0.3), tolerance=1e-8)
    found = prune_check(flow, steps, query, jobs=1)
    # Euler's step error: η s² t / 2 of a mode's residual, s at most the 12 of unit inputs.
    assert_same(found.retrained_loss, flow.loss, rtol=0.1)
    assert_same(prune_check(ridge, end, query, jobs=1).retrained_loss, ridge.loss, rtol=1e-6)
