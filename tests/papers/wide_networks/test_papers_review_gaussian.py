"""Exhibits of Gaussian processes: run, and their numbers against other ways to them."""

import math

import numpy as np
import pytest
import torch

import leftout as lo
from leftout.dynamics import WideNetwork
from leftout_papers.material import Material, Size
from leftout_papers.wide_networks import ensembles, gaussian

QUICK = Material(size=Size.QUICK)


@pytest.fixture(scope="module")
def neal():
    return gaussian.simulate_networks(QUICK)


@pytest.fixture(scope="module")
def ensemble():
    return ensembles.simulate_ensembles(QUICK)


@pytest.mark.parametrize("name", ["neal", "ensemble"])
def test_the_quick_version_agrees_with_the_limit_or_says_that_it_cannot_tell(name, request) -> None:
    outcome = request.getfixturevalue(name)
    assert outcome.figure is not None
    held = [row.holds for row in outcome.rows]
    assert False not in held
    assert held.count(True) > len(held) / 2


def test_exponents_are_those_of_the_central_limit_theorem(neal) -> None:
    for sigma in gaussian.SIGMA:
        kernels = np.mean(neal.result[sigma]["kernel"], axis=1)
        slope = np.polyfit(np.log(neal.result["widths"]), np.log(kernels), 1)[0]
        assert slope == pytest.approx(-0.5, abs=0.02)


@pytest.mark.parametrize("sigma", gaussian.SIGMA)
def test_kurtosis_by_formula_is_that_of_many_hidden_units(sigma) -> None:
    """Of a network of width 3: f given k̂ is normal, and k̂ is a mean of three units' squares."""
    points = gaussian.draw_points(torch.Generator().manual_seed(0))
    draw = np.random.default_rng(0)
    count = 400_000
    variance = 2.0 * float(points[0].square().mean()) + 0.1
    units = {"tanh": np.tanh, "erf": lambda u: torch.erf(torch.from_numpy(u)).numpy()}[sigma](
        draw.standard_normal((count, 3)) * math.sqrt(variance)
    )
    own = 2.0 * (units**2).mean(1) + 0.1
    found = 3 * own.var() / own.mean() ** 2
    # The variance of a bounded number: known to better than 1 % of 400 000 draws.
    assert float(gaussian.kurtosis(sigma, points, 3)[0]) == pytest.approx(found, rel=0.01)


def test_random_networks_are_those_of_the_library() -> None:
    """The kernel of a layer, of many networks of one unit: its mean and E[h⁴] of WideNetwork's."""
    points = gaussian.draw_points(torch.Generator().manual_seed(1))
    drawn = gaussian.draw_networks("tanh", 5, points, 20_000, torch.Generator().manual_seed(2))
    outputs = torch.stack(
        [
            WideNetwork(
                5,
                gaussian.FEATURES,
                activation="tanh",
                bias_variance=0.1,
                generator=torch.Generator().manual_seed(seed),
            )(points).detach()[:, 0]
            for seed in range(1_000)
        ]
    )
    for power in (2, 4):
        ours, theirs = drawn.outputs.pow(power), outputs.pow(power)
        error = (ours.var(0) / len(ours) + theirs.var(0) / len(theirs)).sqrt()
        assert bool(((ours.mean(0) - theirs.mean(0)).abs() < 4 * error).all())


@pytest.mark.parametrize(
    ("low", "high", "holds"), [(-0.51, -0.49, True), (-0.7, -0.6, False), (-0.9, -0.1, "open")]
)
def test_an_exponent_is_agreed_with_as_well_as_it_is_known(low, high, holds) -> None:
    assert gaussian.exponent_is(-0.5, low, high) == holds


def test_networks_side_by_side_are_trained_as_one_is() -> None:
    (inputs, targets), (points, _) = ensembles.circle(4)
    rule = lo.GradientDescent(0.05, ensembles.RIDGE)
    fitted = lo.fit(ensembles.KERNEL, (inputs, targets), rule=rule)
    runs = ensembles.train_networks(QUICK, 8, fitted, points, (0, 7))
    for member in (0, 5):
        network = WideNetwork(
            8, 2, activation="erf", bias_variance=0.1, generator=QUICK.independent("ensemble", 8, member)
        )
        torch.testing.assert_close(runs.everyone[0, member], network(points).detach()[:, 0])
        for left, values in ((None, runs.everyone), (1, runs.without[1])):
            kept = [row for row in range(len(inputs)) if row != left]
            one = lo.train(
                network, (inputs[kept], targets[kept]), rule=rule, steps=7, tolerance=None
            ).predict(points)
            torch.testing.assert_close(values[1, member], one[:, 0])


def test_a_jackknife_is_leaving_each_member_out() -> None:
    values = torch.randn(9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ratio, error = ensembles.jackknife_ratio(values, 2.0)
    parts = np.array([np.delete(values.numpy(), s, axis=0).var(0, ddof=1).sum() / 2 for s in range(9)])
    assert ratio == pytest.approx(values.numpy().var(0, ddof=1).sum() / 2)
    assert error == pytest.approx(math.sqrt(8 / 9 * ((parts - parts.mean()) ** 2).sum()))


def test_means_of_draws_are_as_far_from_the_closed_form_as_said() -> None:
    (inputs, targets), (points, _) = ensembles.circle(6)
    fitted = lo.fit(ensembles.KERNEL, (inputs, targets), rule=lo.GradientDescent(0.05, 0.5))
    said = lo.ensemble(fitted, points, at=[0, 9], covariance=True)
    draw = np.random.default_rng(0)
    mean, covariance = said.mean[1, :, 0].numpy(), said.covariance[1].numpy()
    found = []
    for _ in range(2_000):
        values = draw.multivariate_normal(mean, covariance, size=20)
        ratio, doubt = ensembles.distance_of_means(torch.from_numpy(values), said, 1)
        found.append(ratio)
    assert np.mean(found) == pytest.approx(1, abs=4 * doubt / math.sqrt(2_000))
    assert np.std(found) == pytest.approx(doubt, rel=0.2)


def test_a_ratio_is_one_differs_or_is_open() -> None:
    assert [ensembles.is_one(*one) for one in ((1.1, 0.1), (2.0, 0.1), (1.1, 0.4))] == [True, False, "open"]
