"""Is the path that a network takes the one that its rule asks for?"""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

import leftout as lo
from laws import assert_same
from leftout.dynamics.descend_module import ModuleObjective
from leftout.dynamics.path import path_of
from problems.networks import linear, small_tanh, sphere

MEMORY = 10**8


def started(module, ridge=0.0, n=8, d=3):
    inputs, targets = sphere(n, d)
    return ModuleObjective(module, inputs, targets, ridge, start=None, memory=MEMORY)


def kernel_values(objective):
    n = len(objective.targets)
    eye = torch.eye(n, dtype=torch.float64)
    gram = torch.cat([objective.tangent(one[:, None]) for one in eye], 1)
    return torch.linalg.eigvalsh(gram).flip(0).clamp(min=0)


def walked(rule, module, steps):
    objective = started(module, rule.effective_ridge(8))
    values = kernel_values(objective)
    path = path_of(rule, objective, values)
    for _ in range(steps):
        path.advance()
    return path, objective


@pytest.mark.parametrize("loss", ["sum", "mean"])
def test_descent_is_that_of_train(loss) -> None:
    rule = lo.GradientDescent(0.03, 0.05, loss)
    path, objective = walked(rule, small_tanh(3), 17)
    wanted = lo.train(small_tanh(3), sphere(8, 3), rule=rule, steps=17, tolerance=None)
    assert path.time == 17
    for one, other in zip(objective.trained_module().parameters(), wanted.module.parameters(), strict=True):
        assert_same(one.detach(), other.detach(), rtol=1e-13)


@pytest.mark.parametrize("rate", [1.0, 3.0])
def test_the_flow_is_followed_to_the_error_that_is_promised(rate) -> None:
    """Against an integrator with a relative error of 1e-11, on a network that is not linear."""
    path, objective = walked(lo.GradientFlow(rate, 0.1), small_tanh(3), 30)
    apart = started(small_tanh(3), 0.1)

    def slope(_, point):
        apart.move(torch.from_numpy(point))
        return -rate * apart.gradient.numpy()

    start = apart.point.numpy().copy()
    wanted = solve_ivp(slope, (0, path.time), start, rtol=1e-11, atol=1e-12).y[:, -1]
    # 1.1e-5 is what a linear model's fastest mode is off by on its way; at its end errors are forgotten.
    assert_same(objective.point, wanted, rtol=2e-5)


@pytest.mark.parametrize("ridge", [0.0, 0.2])
@pytest.mark.parametrize("rule", [lo.GradientFlow, lo.GradientDescent])
def test_a_linear_network_is_left_with_just_what_is_said(rule, ridge) -> None:
    rule = rule(0.1, ridge)
    path, objective = walked(rule, linear(3), 12)
    first = started(linear(3), ridge)
    gram = np.array([first.tangent(one[:, None]).flatten().numpy() for one in torch.eye(8).double()])
    values, vectors = np.linalg.eigh(gram)
    # left belongs to eigenvalues largest first; f − f_0 = −V s/σ (1 − left) Vᵀ (f_0 − y)
    left = path.left.flip(0).numpy()
    sigma = np.clip(values, 0, None) + ridge
    learned = np.divide(np.clip(values, 0, None) * (1 - left), sigma, where=sigma > 1e-12, out=0 * sigma)
    moved = -vectors @ (learned * (vectors.T @ first.residual.flatten().numpy()))
    assert_same((objective.residual - first.residual).flatten(), moved, rtol=1e-12)


def test_the_steps_of_the_flow_miss_a_mode_by_no_more_than_is_said() -> None:
    """1.1e-5 of what there was to learn, for the fastest mode as for slower ones, at any step."""
    objective = started(linear(3))
    values = torch.tensor([1.0, 0.7, 0.3, 0.1, 0.01, 1e-4, 0.0, 0.0], dtype=torch.float64)
    path = path_of(lo.GradientFlow(), objective, values)
    worst = 0.0
    for _ in range(300):
        path.advance()
        worst = max(worst, float((path.left - torch.exp(-values * path.time)).abs().max()))
    assert 0.9e-5 < worst < 1.1e-5


def test_nothing_to_learn_from_takes_a_step_all_the_same() -> None:
    path = path_of(lo.GradientFlow(), started(linear(3)), torch.zeros(8, dtype=torch.float64))
    path.advance()
    assert path.time == pytest.approx(0.2)
