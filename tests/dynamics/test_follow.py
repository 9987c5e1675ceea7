"""Is a network trained as the kernel model that stands for it was?"""

import math

import pytest
import torch

import leftout as lo
from leftout.core.errors import OptionError
from leftout.dynamics.follow import TOLERANCE, check_followed, follow
from leftout.kernels.network.empirical import Empirical
from problems.networks import linear, small_tanh, sphere

D = 4


def fitted_to(module, rule):
    return lo.fit(Empirical(module, weights="initial"), sphere(12, D), rule=rule)


def test_steps_are_the_steps_that_were_asked_for() -> None:
    rule = lo.GradientDescent(0.01)
    trained = follow(fitted_to(small_tanh(D), rule), small_tanh(D), 30)
    by_hand = lo.train(small_tanh(D), sphere(12, D), rule=rule, steps=30, tolerance=None)
    assert torch.equal(trained.predict(sphere(5, D)[0]), by_hand.predict(sphere(5, D)[0]))
    assert trained.as_asked
    assert not trained.converged


@pytest.mark.parametrize("rule", [lo.Ridge(0.5), lo.GradientDescent(0.05, ridge=0.5)])
def test_a_linear_network_ends_where_its_kernel_model_does(rule) -> None:
    fitted = fitted_to(linear(D), rule)
    trained = follow(fitted, linear(D), math.inf)
    assert trained.converged
    assert trained.as_asked
    # A gradient of 1e-5 of the first one over a curvature of at least the ridge, 1/2, beside largest
    # predictions of size 1.
    scale = float(fitted.gram.diagonal().sum())
    apart = trained.predict(sphere(5, D)[0]) - fitted.predict(sphere(5, D)[0])
    assert float(apart.abs().max()) < TOLERANCE * scale / 0.5


def test_the_module_given_is_not_trained_itself() -> None:
    module = small_tanh(D)
    before = [one.detach().clone() for one in module.parameters()]
    follow(fitted_to(module, lo.GradientDescent(0.01)), module, 5)
    for one, then in zip(module.parameters(), before, strict=True):
        assert torch.equal(one, then)


def test_what_a_network_cannot_follow_is_refused() -> None:
    with pytest.raises(OptionError, match="flow is descent at a small rate"):
        follow(fitted_to(linear(D), lo.GradientFlow(0.1)), linear(D), 5)
    with pytest.raises(OptionError, match="at least one step; got at = 0"):
        check_followed(lo.GradientDescent(0.1), 0)
