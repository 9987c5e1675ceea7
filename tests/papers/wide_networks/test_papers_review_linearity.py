"""The exhibits of theorem 2.1 and of the critical rate: run in their minute's version, and checked."""

import math

import numpy as np
import pytest
import torch

from laws import assert_same
from leftout.dynamics import WideNetwork
from leftout_papers.material import Material, Size
from leftout_papers.wide_networks import critical_rate, width
from leftout_papers.wide_networks.publication import REVIEW
from oracles import linearity as oracle
from problems.networks import linear

QUICK = Material(size=Size.QUICK)


@pytest.fixture(scope="module")
def sweep():
    return width.sweep(QUICK)


@pytest.fixture(scope="module")
def rates():
    return critical_rate.rates(QUICK)


def test_both_are_exhibits_of_the_review() -> None:
    runs = {one.name: one.run for one in REVIEW.exhibits}
    assert runs["theorem2.1"] is width.sweep
    assert runs["critical-rate"] is critical_rate.rates


def test_all_cases_of_the_theorem_are_swept_and_none_speaks_against_it(sweep) -> None:
    cases = sweep.result["cases"]
    assert len(cases) == 2 * 2 * 2
    assert len(sweep.rows) == 3 * len(cases)
    assert all(row.holds is not False for row in sweep.rows)
    assert {"relu, one hidden layer, descent", "tanh, 2 hidden layers, flow"} <= set(cases)


def test_wider_is_closer_in_every_case(sweep) -> None:
    for name, case in sweep.result["cases"].items():
        times = case["widths"][-1] / case["widths"][0]
        for measure in width.MEASURES:
            near = np.exp(np.log(case[measure]).mean(1))
            # Half the exponent that is claimed, for two seeds.
            assert near[-1] < near[0] * times**-0.25, (name, measure)


def test_the_flow_is_followed_well_below_what_is_measured(sweep) -> None:
    for name, case in sweep.result["cases"].items():
        worst = np.max(np.array(case["step_error"]) / np.array(case["outputs"]))
        assert worst == 0 if name.endswith("descent") else 0 < worst < 0.02


def test_a_number_of_the_sweep_is_that_of_the_definition(sweep) -> None:
    """tanh, one hidden layer, descent, width 64, seed 0: stepped in numpy, compared as eqs. 2 to 4."""
    (x, y), (z, _) = width.problem(QUICK.generator())
    network = WideNetwork(
        64, 10, activation="tanh", weight_variance=1.0, generator=QUICK.independent(1, "tanh", 64, 0)
    )
    # f(x) = V tanh(W x / √d) / √m in the weights of a plain network, whose gradients scale with those.
    into, out = (one.detach().numpy() for one in network.weights)
    scales = 10**-0.5, 64**-0.5

    class Tangent(oracle.Perceptron):
        def outputs(self, w, points):
            into, _, out, _ = self.parts(w)
            return np.tanh(points @ into.T * scales[0]) @ out.T * scales[1]

        def jacobian(self, w, points):
            into, _, out, _ = self.parts(w)
            hidden = np.tanh(points @ into.T * scales[0])
            back = scales[1] * out * (1 - hidden**2) * scales[0]
            first = (back[:, :, None] * points[:, None]).reshape(len(points), -1)
            still = np.zeros((len(points), 1))
            return np.hstack([first, 0 * hidden, scales[1] * hidden, still])

    net = Tangent(10, 64, 1)
    w = np.concatenate([into.ravel(), np.zeros(64), out.ravel(), np.zeros(1)])
    rows = net.jacobian(w, x.numpy())
    rate = 1 / np.linalg.eigvalsh(rows @ rows.T)[-1]
    steps = sweep.result["steps"]["descent"]
    targets = y.numpy() + net.outputs(w, x.numpy())
    network, linearised = oracle.descended(net, w, x.numpy(), targets, rate=rate, ridge=0.0, steps=steps)
    seen = {0, steps} | {round(2 ** (j / 2)) for j in range(20) if round(2 ** (j / 2)) <= steps}
    told = [oracle.compared(net, w, network[t], linearised[t], x.numpy(), z.numpy()) for t in sorted(seen)]
    case = sweep.result["cases"]["tanh, one hidden layer, descent"]
    norms = {
        "outputs": ("gap", 1.0),
        "weights": ("weights", np.linalg.norm(w) / 8),
        "kernel": ("kernel", np.linalg.norm(rows @ rows.T)),
    }
    for measure, (name, scale) in norms.items():
        want = max(one[name] for one in told) * scale
        # The rate is found by Lanczos to 1e-10 of itself, fifty steps of it.
        assert_same(case[measure][0][0], want, rtol=1e-6)


@pytest.mark.slow
def test_rates_are_seen_where_they_are_predicted(rates) -> None:
    """Of the wide networks; of narrow ones above it, for a kernel that falls bears more."""
    for name, runs in rates.result["networks"].items():
        narrow, wide = ([abs(one["seen"] - 1) for one in runs if one["width"] == m] for m in (64, 1024))
        assert np.mean(wide) < 0.1, name
        assert np.mean(wide) < np.mean(narrow), name
    assert all(row.holds is not False for row in rates.rows)


@pytest.mark.slow
def test_below_the_critical_rate_wide_networks_converge_and_far_above_they_are_gone(rates) -> None:
    for runs in rates.result["networks"].values():
        for one in runs:
            assert not one["runs"]["0.5"]["left"]
            assert one["runs"]["0.5"]["loss"] < 0.01
            assert one["runs"]["2.5"]["lost"]
            if one["width"] == 1024:
                assert not one["runs"]["0.9"]["left"]
                assert one["runs"]["1.1"]["left"]


@pytest.fixture
def straight():
    """A linear network, which is its own linearisation: f = w·x, K = x x'."""
    train, _ = width.problem(torch.Generator().manual_seed(3))
    return critical_rate.descent_start(linear(10), train, QUICK), train


def test_a_linear_network_leaves_exactly_where_it_should(straight) -> None:
    start, (x, _) = straight
    values = np.linalg.eigvalsh((x @ x.T).numpy())
    assert_same(start.critical, 2 / values[-1])
    # Ten bisections of two octaves: 2^(2/1024) − 1 = 0.14 %, and a thousand steps tell 1.002 from 1.
    assert start.observed_rate(1000) == pytest.approx(1, abs=0.003)
    assert not start.descend(0.99, 500).left
    above = start.descend(1.3, 500)
    assert above.left
    assert above.lost


def test_above_it_a_linear_network_grows_by_what_is_predicted(straight) -> None:
    start, (x, _) = straight
    values, vectors = np.linalg.eigh((x @ x.T).numpy())
    residual = vectors.T @ next(start.residuals(0.0, 0)).numpy()
    factors = 1 - 1.1 * 2 / values[-1] * values
    want = ((factors[:, None] ** 20 * residual) ** 2).sum() / (residual**2).sum()
    assert_same(start.descend(1.1, 20).loss, want)


def test_the_pace_of_a_linear_network_is_at_most_the_one_promised() -> None:
    (x, y), _ = width.problem(torch.Generator().manual_seed(3))
    # Fewer examples than features, so that no mode stands still.
    start = critical_rate.descent_start(linear(10), (x[:6], y[:6]), QUICK)
    assert float(start.eigenvalues[0]) > 0.1
    assert start.pace(60) == pytest.approx(1, abs=1e-12)
    assert math.isclose(start.pace(0), 1)
