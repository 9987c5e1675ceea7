"""Do the nodes stand for g, everywhere, and does the bound lie above what they miss?"""

import math

import mpmath
import numpy as np
import pytest
import torch

from leftout.dynamics.rules import GradientDescent, GradientFlow
from leftout.solvers import quadrature as module
from leftout.solvers.quadrature import (
    FEW_STEPS,
    WINDOW,
    Quadrature,
    circle_quadrature,
    descent_quadrature,
    flow_quadrature,
    quadrature_error,
    windows,
)

DECADES = torch.logspace(-20, 4, 24 * 40 + 1, dtype=torch.float64)
"""s from 1e−20 to 1e4, forty to a decade."""

EPS = torch.finfo(torch.float64).eps


def relative(found, exact):
    return float(((found - exact).abs() / exact.abs()).max())


@pytest.mark.parametrize("ridge", [0.0, 1e-12, 1e-3, 50.0])
@pytest.mark.parametrize("first", [1e-8, 1.0, 37.0, 1e12])
def test_a_flow_is_met_over_24_decades_at_all_times_of_a_window(first, ridge) -> None:
    times = [first, 2.2 * first, 10 * first]
    found = flow_quadrature(times, ridge=ridge)(DECADES)
    for time, row in zip(times, found, strict=True):
        assert relative(row, GradientFlow(1.0, ridge).filter(time, 1)(DECADES)) < 4e-14


@pytest.mark.parametrize("rate", [1e-4, 0.3, 1.0, 1.5, 1.99, 1.9999])
@pytest.mark.parametrize("first", [10, 11, 100, 12345, 10**7])
def test_descent_is_met_over_24_decades_at_all_steps_of_a_window(first, rate) -> None:
    steps = [first, first + 1, 3 * first, 10 * first]
    values = DECADES[DECADES <= 1]
    found = descent_quadrature(steps, rate=rate, ridge=0.0, high=1.0)(values)
    # Near the critical rate x = 2 the function itself is only known to eps·t: (1 − x)^t. Relative
    # to 1/s if that is more: after an even number of steps g all but vanishes there.
    noise = 4e-14 + 100 * EPS * min(10 * first, 1 / (2 - rate))
    for count, row in zip(steps, found, strict=True):
        exact = GradientDescent(rate).filter(count, 1)(values)
        scale = torch.minimum(1 / values, torch.tensor(rate * count).double())
        assert float(((row - exact).abs() / scale).max()) < noise


@pytest.mark.parametrize("reach", [0.9, 1.7])
@pytest.mark.parametrize("ridge", [1e-3, 0.4])
def test_a_ridge_moves_the_nodes_of_descent(ridge, reach) -> None:
    steps = [10, 55, 99]
    rule = GradientDescent(reach / (1 + ridge), ridge)
    values = DECADES[DECADES <= 1]
    found = descent_quadrature(steps, rate=rule.rate, ridge=ridge, high=1.0)(values)
    for count, row in zip(steps, found, strict=True):
        assert relative(row, rule.filter(count, 1)(values)) < 1e-13


def test_descent_has_a_mirror_only_where_it_is_needed() -> None:
    def nodes(high, ridge):
        return len(descent_quadrature([20], rate=1.0, ridge=ridge, high=high).nodes)

    assert nodes(0.5, 0.5) == module.NODES
    assert nodes(0.6, 0.5) == 2 * module.NODES


@pytest.mark.parametrize("high", [1e-6, 1.0, 3e4])
@pytest.mark.parametrize("reach", [0.01, 1.0, 1.9999])
def test_a_circle_meets_any_few_steps(high, reach) -> None:
    rule = GradientDescent(reach / high)
    functions = [rule.filter(count, 1) for count in range(1, FEW_STEPS)]
    values = high * DECADES[DECADES <= 1]
    found = circle_quadrature(functions, high=high)(values)
    for count, row in enumerate(found, start=1):
        # The integrand is up to 2^count larger on the circle than g is on the interval.
        error = (row - functions[count - 1](values)).abs().max()
        assert float(error) <= 10 * EPS * 2**count * count * rule.rate


def test_a_circle_around_nothing_is_still_a_circle() -> None:
    found = circle_quadrature([GradientDescent(0.1).filter(3, 1)], high=0.0)
    assert found(torch.zeros(1, dtype=torch.float64)).item() == pytest.approx(0.3, rel=1e-13)


def test_nodes_stand_for_g_in_exact_arithmetic_too() -> None:
    # The accuracy above is not a lucky cancellation of rounding with truncation.
    for count in (1.0, 10.0):
        found = flow_quadrature([1.0, count], ridge=0.0)
        with mpmath.workdps(40):
            pairs = [
                (mpmath.mpc(z), mpmath.mpc(w))
                for z, w in zip(found.nodes.tolist(), found.weights[1].tolist(), strict=True)
            ]
            for power in range(-18, 4):
                s = mpmath.mpf(10) ** power
                exact = -mpmath.expm1(-count * s) / s
                stands = mpmath.fsum((w / (z - s)).real for z, w in pairs)
                assert abs(stands - exact) < 3e-14 * exact


def test_windows_are_ten_wide_cover_all_and_keep_positions() -> None:
    times = [5.0, 1e4, 0.2, 49.9, 2.0, 0.2, 51.0, 1.99e4, 1e-9]
    found = windows(times)
    assert sorted(j for group in found for j in group) == list(range(len(times)))
    for group in found:
        some = [times[j] for j in group]
        assert max(some) <= WINDOW * min(some)
    assert [[times[j] for j in group] for group in found] == [
        [1e-9],
        [0.2, 0.2, 2.0],
        [5.0, 49.9],
        [51.0],
        [1e4, 1.99e4],
    ]
    assert windows([]) == []


def dense(found, exact, high):
    """√s |g − quadrature| at a hundred times as many points as the bound looks at."""
    # … and from the other end too, where descent near its critical rate is just as steep.
    points = high * torch.logspace(-22, 0, 100_001, dtype=torch.float64)
    points = torch.cat([points, high - points])
    worst = torch.zeros(len(found.weights), dtype=torch.float64)
    for part in points.split(10_000):
        missed = (found(part) - exact(part)).abs() * part.sqrt()
        worst = torch.maximum(worst, missed.amax(1))
    return worst


NONE = torch.zeros(0, dtype=torch.float64)


@pytest.mark.parametrize("nodes", [4, 8, 16, 24])
@pytest.mark.parametrize("high", [1e-5, 1.0, 1e8])
def test_the_bound_lies_above_a_denser_look(nodes, high, monkeypatch) -> None:
    # With fewer nodes the error is far above rounding, and the bound has something to bound.
    monkeypatch.setattr(module, "NODES", nodes)
    times = [3.0, 8.0, 30.0]
    found = flow_quadrature(times, ridge=0.0)

    def exact(values):
        return torch.stack([GradientFlow(1.0).filter(time, 1)(values) for time in times])

    bound = quadrature_error(found, exact, high=high, extra=NONE)
    worst = dense(found, exact, high)
    assert bool((worst <= bound).all())
    assert bool((bound <= 4 * worst).all()), "within a factor of what it bounds"


@pytest.mark.parametrize("nodes", [8, 16, 24])
@pytest.mark.parametrize("rate", [0.9, 1.7, 1.9999])
def test_the_bound_lies_above_a_denser_look_at_descent(nodes, rate, monkeypatch) -> None:
    monkeypatch.setattr(module, "NODES", nodes)
    steps = [1200, 6001, 11999]
    found = descent_quadrature(steps, rate=rate, ridge=0.0, high=1.0)

    def exact(values):
        return torch.stack([GradientDescent(rate).filter(count, 1)(values) for count in steps])

    bound = quadrature_error(found, exact, high=1.0, extra=NONE)
    assert bool((dense(found, exact, 1.0) <= bound).all())


@pytest.mark.parametrize("seed", range(5))
def test_the_bound_sees_damage_to_any_node(seed) -> None:
    draw = np.random.default_rng(seed)
    good = flow_quadrature([4.0, 31.0], ridge=0.0)
    weights = good.weights.clone()
    weights[:, int(draw.integers(30))] *= 1 + 10 ** draw.uniform(-9, -2)
    found = Quadrature(good.nodes, weights)

    def exact(values):
        return torch.stack([GradientFlow(1.0).filter(time, 1)(values) for time in (4.0, 31.0)])

    bound = quadrature_error(found, exact, high=1.0, extra=NONE)
    assert bool((dense(found, exact, 1.0) <= bound).all())


def test_the_bound_looks_at_the_points_it_is_given() -> None:
    # A pole between two grid points: only the spectrum itself can tell.
    gap = math.exp(-0.02)
    pole = torch.tensor([gap + 1e-9j], dtype=torch.complex128)
    found = Quadrature(pole, torch.tensor([[1e-9]], dtype=torch.complex128))

    def nothing(values):
        return torch.zeros(1, len(values), dtype=torch.float64)

    blind = quadrature_error(found, nothing, high=1.0, extra=NONE)
    extra = torch.tensor([gap - 1e-9], dtype=torch.float64)
    seen = quadrature_error(found, nothing, high=1.0, extra=extra)
    assert float(seen) > 0.9
    assert float(blind) < 1e-6
    assert float(quadrature_error(found, nothing, high=0.0, extra=NONE)) == 0
