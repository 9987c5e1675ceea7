"""Is the relative ratio that of its definition, pair by pair?"""

import math

import numpy as np
import pytest
import torch
from torch import nn

import leftout as lo
from leftout.core.errors import DataError, OptionError
from leftout.diagnostics.locality import elasticity as module
from leftout.diagnostics.locality.elasticity import elasticity
from leftout.diagnostics.locality.mean_gradients import can_sum_gradients
from leftout.kernels.network.empirical import Empirical
from leftout.kernels.network.projection import Rademacher


def three_classes(n=14, d=4, seed=0):
    draw = np.random.default_rng(seed)
    labels = np.r_[0, 1, 2, draw.integers(0, 3, n - 3)]
    inputs = draw.standard_normal((n, d)) + 1.5 * np.eye(3, d)[labels]
    return torch.from_numpy(inputs), torch.from_numpy(labels)


def written_out(kernel, left, right, a, b):
    """Return RR of two classes by a loop over pairs."""
    same, other = [], []
    for x, i in zip(*left, strict=True):
        for z, j in zip(*right, strict=True):
            if {int(i), int(j)} <= {a, b}:
                value = kernel.block(x[None], z[None])[0, 0]
                value = value / (kernel.diagonal(x[None]) * kernel.diagonal(z[None])).sqrt()
                (same if i == j else other).append(float(value))
    return np.mean(same) / (np.mean(same) + np.mean(other))


@pytest.mark.parametrize("kernel", [lo.kernels.ReLU(1), lo.kernels.Erf(2, bias_variance=0.1)])
def test_it_is_a_mean_over_pairs(kernel, monkeypatch) -> None:
    monkeypatch.setattr(module, "ROWS", 5)
    train, query = three_classes(), three_classes(9, seed=1)
    found = elasticity(kernel, train, query)
    for a, b in [(0, 1), (0, 2), (2, 1)]:
        names = {"class": str(a), "other": str(b)}
        assert float(found["ratio"].sel(names)) == pytest.approx(
            written_out(kernel, train, train, a, b), rel=1e-12
        )
        assert float(found["query_ratio"].sel(names)) == pytest.approx(
            written_out(kernel, query, train, a, b), rel=1e-12
        )


def test_ratios_are_symmetric_and_a_half_where_classes_are_not_told_apart() -> None:
    inputs, labels = three_classes()
    found = elasticity(lo.kernels.ReLU(1), (inputs, labels))["ratio"].values
    np.testing.assert_allclose(found, found.T, rtol=1e-14)
    np.testing.assert_allclose(np.diag(found), 0.5, rtol=1e-15)
    twice = torch.cat([inputs, inputs]), torch.arange(2).repeat_interleave(len(inputs))
    found = elasticity(lo.kernels.ReLU(1), twice)["ratio"].values
    np.testing.assert_allclose(found, 0.5, rtol=1e-13)


def test_the_scale_of_kernel_and_inputs_does_not_count() -> None:
    train = three_classes()
    plain = elasticity(lo.kernels.ReLU(2), train)["ratio"]
    scaled = elasticity(lo.kernels.ReLU(2, weight_variance=5.0), (7 * train[0], train[1]))["ratio"]
    np.testing.assert_allclose(scaled, plain, rtol=1e-12)


def test_a_kernel_that_knows_the_classes_is_wholly_local() -> None:
    _, labels = three_classes()
    rows = torch.arange(len(labels), dtype=torch.float64)
    same = (labels[:, None] == labels).double()
    found = elasticity(lo.kernels.Precomputed(same), (rows, labels))["ratio"].values
    np.testing.assert_allclose(found[~np.eye(3, dtype=bool)], 1)


def small_network(outputs=3, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 7), nn.Tanh(), nn.Linear(7, outputs, bias=False)).double()


@pytest.mark.sample(3)
@pytest.mark.parametrize(("outputs", "reading"), [(3, "trace"), (3, "sum"), (1, "full"), (1, "trace")])
@pytest.mark.parametrize("parameters", [None, "0.*"])
def test_of_a_network_mean_gradients_say_what_pairs_say(outputs, reading, parameters) -> None:
    kernel = Empirical(small_network(outputs), outputs=reading, parameters=parameters)
    train, query = three_classes(8), three_classes(7, seed=1)
    query = query[0][query[1] != 1], query[1][query[1] != 1]
    assert can_sum_gradients(kernel, 3, None)
    found = elasticity(kernel, train, (query[0], query[1]))
    for a, b in [(0, 1), (0, 2), (2, 1)]:
        names = {"class": str(a), "other": str(b)}
        want = written_out(kernel, train, train, a, b)
        assert float(found["ratio"].sel(names)) == pytest.approx(want, rel=1e-11)
    want = written_out(kernel, query, train, 0, 2)
    assert float(found["query_ratio"].sel({"class": "0", "other": "2"})) == pytest.approx(want, rel=1e-11)
    assert np.isnan(found["query_similarity"].sel({"class": "1"})).all()


def test_where_gradients_do_not_fit_or_are_projected_pairs_are_looked_at(monkeypatch) -> None:
    train = three_classes()
    kernel = Empirical(small_network(), outputs="trace")
    fast = elasticity(kernel, train)
    monkeypatch.setattr(module, "can_sum_gradients", lambda *_: False)
    slow = elasticity(kernel, train)
    for name in ("similarity", "ratio"):
        np.testing.assert_allclose(fast[name], slow[name], rtol=1e-11)
    assert not can_sum_gradients(kernel, 3, 2 * 64 * 56 - 1)
    assert can_sum_gradients(kernel, 3, 2 * 64 * 56)
    projected = Empirical(small_network(), outputs="trace", projection=Rademacher(size=20))
    assert not can_sum_gradients(projected, 3, None)


def test_training_makes_a_network_more_local() -> None:
    """The paper's finding, on a network that learns its features."""
    torch.manual_seed(0)
    inputs, labels = three_classes(40, 6)
    network = nn.Sequential(nn.Linear(6, 30), nn.ReLU(), nn.Linear(30, 3)).double()
    trained = lo.train(network, (inputs, labels), rule=lo.GradientDescent(0.003), steps=400, tolerance=None)
    before, after = (
        elasticity(Empirical(one, outputs="trace"), (inputs, labels))["ratio"].values
        for one in (network, trained.module)
    )
    others = ~np.eye(3, dtype=bool)
    assert (after > before)[others].all()


def test_what_has_no_classes_or_no_single_value_is_refused() -> None:
    inputs, labels = three_classes()
    with pytest.raises(DataError, match=r"must have classes.*got numbers"):
        elasticity(lo.kernels.ReLU(1), (inputs, labels.double()))
    torch.manual_seed(0)
    with pytest.raises(OptionError, match=r"one value for all outputs.*outputs=\"trace\""):
        elasticity(Empirical(nn.Linear(4, 3).double()), (inputs, labels))
    matrix = torch.eye(len(labels), dtype=torch.float64)
    matrix[2, 2] = 0
    rows = torch.arange(len(labels), dtype=torch.float64)
    with pytest.raises(DataError, match=r"k\(x, x\) = 0.*row 2"):
        elasticity(lo.kernels.Precomputed(matrix), (rows, labels))


@pytest.mark.usefixtures("as_users_run_it")
def test_a_class_is_no_kernel() -> None:
    with pytest.raises(OptionError, match="`kernel` must be a kernel, such as"):
        elasticity(3, three_classes())


def test_where_examples_of_a_class_are_unlike_there_is_no_ratio() -> None:
    """−.2 within and −.3 between would make .4, as if two classes were hardly told apart."""
    inputs = torch.arange(4.0).double()[:, None]
    labels = torch.tensor([0, 0, 1, 1])
    for within, between, ratio in ((-1.5, -1.0, math.nan), (0.5, -0.9, math.nan), (0.5, -0.25, 1.5)):
        gram = torch.full((4, 4), between, dtype=torch.float64)
        gram[:2, :2] = gram[2:, 2:] = within
        gram.fill_diagonal_(1.0)
        mean = (1 + within) / 2
        expected = math.nan if mean + between <= 0 or mean <= 0 else mean / (mean + between)
        assert math.isnan(expected) == math.isnan(ratio)
        found = lo.elasticity(lo.kernels.Precomputed(gram), (inputs, labels))["ratio"]
        np.testing.assert_allclose(float(found[0, 1]), expected, rtol=1e-12)
