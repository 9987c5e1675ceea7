"""Learnability run again: the quick size runs, its rows keep the laws, its numbers are an oracle's."""

import math
from functools import cache

import numpy as np
import pytest
import torch

from leftout.data import Sphere
from leftout_papers.material import Material, Size
from leftout_papers.wide_networks import competition, conservation, errors, learnability, networks
from leftout_papers.wide_networks.publication import REVIEW
from leftout_papers.wide_networks.setting import KERNEL, SETTINGS, PaperNetwork, kernel_learning
from leftout_papers.wide_networks.training import train_stacked
from oracles.learnability import predict, share, tangent_of_relu
from problems.networks import seeded

QUICK = Material(size=Size.QUICK)
EXHIBITS = {one.name: one for one in REVIEW.exhibits}


@cache
def outcome(name):
    return EXHIBITS[name].run(QUICK)


def held(name, start):
    return {row.quantity: row.holds for row in outcome(name).rows if row.quantity.startswith(start)}


@pytest.mark.parametrize("name", ["learnability", "errors", "conservation", "competition", "networks"])
def test_quick_exhibits_have_rows_notes_and_a_picture(name) -> None:
    found = outcome(name)
    assert found.figure is not None
    assert found.notes
    assert all(row.measured and row.published for row in found.rows)


def test_the_kernel_is_that_of_a_readout_of_variance_one_without_bias() -> None:
    draw = np.random.default_rng(0)
    points = draw.standard_normal((12, 5))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    rows = torch.from_numpy(points)
    want = tangent_of_relu(points, points, 4, 2.0, 0.01, 1.0)
    # The oracle's cosines are rounded, and angles near 0 with their roots: 1e-8 at equal inputs.
    np.testing.assert_allclose(KERNEL.block(rows, rows), want, rtol=1e-7)


def test_the_network_is_that_of_the_kernel_on_the_mean() -> None:
    """Its readout's bias is not there; tangent kernels of 40 networks are within four standard errors."""
    inputs = torch.nn.functional.normalize(torch.randn(4, 5, generator=seeded(), dtype=torch.float64))
    kernels = []
    for seed in range(40):
        network = PaperNetwork(300, 5, depth=2, generator=seeded(seed), dtype=torch.float64)
        gradients = []
        for row in inputs:
            network.zero_grad()
            network(row[None]).sum().backward()
            parts = [p.grad.flatten() for p in network.parameters() if p.grad is not None]
            gradients.append(torch.cat(parts))
        jacobian = torch.stack(gradients)
        kernels.append((jacobian @ jacobian.T).numpy())
    want = tangent_of_relu(inputs.numpy(), inputs.numpy(), 2, 2.0, 0.01, 1.0)
    error = np.std(kernels, axis=0) / math.sqrt(40)
    assert (np.abs(np.mean(kernels, axis=0) - want) < 4 * error + 8 / 300).all()
    last = network.inside.biases[-1]
    assert last.grad is None or float(last.grad.abs().max()) < 1e-12


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda one: one.name)
@pytest.mark.parametrize("ridge", [0.0, 0.7])
def test_what_a_data_set_teaches_is_what_refitting_says(setting, ridge) -> None:
    sample = setting.draw(12, seeded(3))
    got = kernel_learning(setting, sample, ridge=ridge)
    if isinstance(setting.domain, Sphere):
        points = torch.cat([sample.inputs, setting.domain.sample(40_000, generator=seeded(4))])
        functions = torch.stack(
            [setting.domain.eigenfunction(degree, points) for degree in setting.degrees], dim=1
        )
        cross = KERNEL.block(points, points[:12]).numpy()
        chosen, over = range(12), slice(12, None)
    else:
        points = setting.domain.points
        functions = setting.functions
        chosen = [int((points == row).all(1).nonzero()) for row in sample.inputs]
        cross = KERNEL.block(points, points[chosen]).numpy()
        over = slice(None)
    for place, f in enumerate(functions.numpy().T):
        inside = cross[chosen] + ridge * np.eye(12)
        fitted = cross @ np.linalg.solve(inside, f[chosen])
        # 40 000 random points are known to a hundredth or so.
        rough = {"abs": 0.05} if isinstance(setting.domain, Sphere) else {"rel": 1e-8, "abs": 1e-10}
        assert float(got.learnability[place]) == pytest.approx((f * fitted)[over].mean(), **rough)
        wanted = ((f - fitted)[over] ** 2).mean()
        assert float(got.test_error[place]) == pytest.approx(wanted, **rough)
        trained = ((f - fitted)[chosen] ** 2).mean()
        assert float(got.train_error[place]) == pytest.approx(trained, rel=1e-8, abs=1e-10)


def test_learnability_is_measured_as_the_mean_of_refitted_data_sets() -> None:
    """Of the hypercube at n = 32, by an oracle with draws of its own: within four standard errors."""
    setting = SETTINGS[1]
    result = outcome("learnability").result
    one, place = result["domains"]["hypercube"], result["examples"].index(32)
    gram = KERNEL.block(setting.domain.points, setting.domain.points).numpy()
    f = setting.functions[:, 1].numpy()
    draw = np.random.default_rng(5)
    shares = [
        share(f, predict(gram, rows, f[rows], 0.0))
        for rows in (draw.permutation(256)[:32] for _ in range(60))
    ]
    error = math.hypot(one["error"][1][place], np.std(shares) / math.sqrt(60))
    assert abs(one["measured"][1][place] - np.mean(shares)) < 4 * error


def test_on_the_hypercube_theory_and_measurement_agree_and_low_degrees_come_first() -> None:
    assert all(held("learnability", "hypercube: largest difference").values()) or (
        "open" in held("learnability", "hypercube: largest difference").values()
    )
    for domain in ("circle", "hypercube", "sphere"):
        assert list(held("learnability", f"{domain}: lower degrees").values()) == [True]
    assert list(held("learnability", "sphere: learnability at").values()) == [True]
    assert len(learnability.EXAMPLES[Size.USUAL]) == 8


def test_from_all_points_of_a_domain_everything_is_learned() -> None:
    found = outcome("learnability").result
    for name in ("circle", "hypercube"):
        last = np.array(found["domains"][name]["measured"])[:, -1]
        np.testing.assert_allclose(last, 1, atol=1e-9)
        assert np.array(found["domains"][name]["predicted"])[:, -1].tolist() == [1.0] * 4


def test_errors_agree_on_the_hypercube_and_the_covariance_is_diagonal() -> None:
    assert all(held("errors", "hypercube").values())
    assert all(held("errors", "sphere, ridge 1").values())
    kept = outcome("errors").result
    assert kept["sets"] >= 30
    for one in kept["errors"]:
        # Without ridge the examples are met; of different points a ridge predicts no worse.
        if one["ridge"] == 0:
            assert one["train"] < 1e-12
            assert one["printed_test"] == one["finite_test"]


def test_sums_are_n_and_the_ridge_takes_its_share() -> None:
    for row in outcome("conservation").rows:
        if "hidden" not in row.quantity:
            assert row.holds is True
    for one in outcome("conservation").result["networks"]:
        assert one["sum"] == pytest.approx(sum(one["learnability"]), rel=1e-9)
        assert one["sum"] == pytest.approx(one["n"], rel=0.25)


def test_every_sign_is_as_the_lemma_says() -> None:
    for row in outcome("competition").rows:
        assert row.holds in (True, None)
    assert set(competition.DOMAINS) == set(outcome("competition").result["domains"])


def test_trained_networks_gain_what_their_own_tangent_kernel_says() -> None:
    """Of width 2000, after convergence: kernel regression with the kernel of the weights drawn."""
    inputs = torch.nn.functional.normalize(torch.randn(3, 4, generator=seeded(1)))
    targets = torch.tensor([0.3, -0.2, 0.1])
    queries = torch.nn.functional.normalize(torch.randn(5, 4, generator=seeded(2)))
    made = [PaperNetwork(2000, 4, depth=1, generator=seeded(seed)) for seed in (1, 2)]
    done = train_stacked(
        made, inputs.expand(2, -1, -1), targets.expand(2, -1), queries, steps=2000, tolerance=1e-9
    )
    assert done.unfinished == 0
    assert float(done.train_error.max()) <= 1e-9
    rows = torch.cat([inputs, queries]).double().numpy()
    kernel = tangent_of_relu(rows, rows, 1, 2.0, 0.01, 1.0)
    want = kernel[3:, :3] @ np.linalg.solve(kernel[:3, :3], targets.double().numpy())
    # Of order 1/√width = 0.02 times the targets' size, and the kernel's condition.
    np.testing.assert_allclose(done.queries.numpy(), np.tile(want, (2, 1)), atol=0.03)
    assert networks.PLANS[Size.USUAL].sets >= 30
    assert conservation.EXAMPLES == (3, 6)
    assert errors.SETS[Size.USUAL] >= 30


def test_networks_that_do_not_get_there_are_counted() -> None:
    inputs = torch.nn.functional.normalize(torch.randn(1, 3, 4, generator=seeded(1)), dim=2)
    targets = torch.tensor([[1.0, -1.0, 2.0]])
    made = [PaperNetwork(20, 4, generator=seeded())]
    done = train_stacked(made, inputs, targets, inputs[0], steps=3, tolerance=1e-9)
    assert (done.unfinished, done.steps) == (1, 3)
    assert float(done.train_error[0]) > 1e-9
