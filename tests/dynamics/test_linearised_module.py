"""Are these the weights that training the linearised network gives? It is trained, in weight space."""

import copy

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn

import leftout as lo
from laws import assert_same
from leftout.core.errors import OptionError
from leftout.dynamics.linearised_module import linearised_module, weight_change
from leftout.kernels.network.empirical import Empirical
from leftout.kernels.network.projection import Gaussian

N, D, K = 7, 4, 2


def network(width=6, outputs=K, seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(D, width), nn.Tanh(), nn.Linear(width, outputs)).to(dtype)


def points(n=N, outputs=K, seed=1):
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, D, generator=draw, dtype=torch.float64)
    return inputs, torch.randn(n, outputs, generator=draw, dtype=torch.float64)


def jacobian(module, inputs):
    """(n·k, p), row by row, by plain backward passes; and f_0 in one column."""
    rows, values = [], []
    for one in inputs:
        for value in module(one[None])[0]:
            grads = torch.autograd.grad(value, list(module.parameters()), retain_graph=True)
            rows.append(torch.cat([grad.flatten() for grad in grads]))
            values.append(value.detach())
    return torch.stack(rows).numpy(), torch.stack(values).numpy()


def trained_weights(module, inputs, targets, rule, at):
    """w_t − w_0 of ½ Σ (f_0 + J w − y)² + ½ λ w², by steps, an exponential or a solve in weight space."""
    J, start = jacobian(module, inputs)
    missing = targets.numpy().reshape(-1) - start
    total = len(inputs) if rule.loss == "mean" else 1
    hessian = J.T @ J / total + rule.ridge * np.eye(J.shape[1])
    drive = J.T @ missing / total
    if at is None:
        return np.linalg.lstsq(hessian, drive, rcond=1e-13)[0]
    if isinstance(rule, lo.GradientDescent):
        w = np.zeros_like(drive)
        for _ in range(at):
            w = w - rule.rate * (hessian @ w - drive)
        return w
    p = len(drive)
    block = np.zeros((p + 1, p + 1))
    block[:p, :p], block[:p, p] = -hessian, drive
    return scipy.linalg.expm(rule.rate * at * block)[:p, p]


RULES = {
    "ridge": (lo.Ridge(0.3), None),
    "mean ridge": (lo.Ridge(0.05, "mean"), None),
    "flow": (lo.GradientFlow(0.5, 0.1), 3.0),
    "mean flow": (lo.GradientFlow(2.0, 0.0, "mean"), 4.0),
    "descent": (lo.GradientDescent(0.01, 0.2), 25),
    "mean descent": (lo.GradientDescent(0.05, 0.02, "mean"), 60),
    "interpolation": (lo.GradientDescent(0.01), None),
}


@pytest.mark.parametrize("name", RULES)
def test_the_weights_are_those_of_the_linearised_network_trained(name) -> None:
    rule, at = RULES[name]
    module, (inputs, targets) = network(), points()
    fitted = lo.fit(Empirical(module, weights="initial"), (inputs, targets), rule=rule)
    got = torch.cat([one.flatten() for one in weight_change(fitted, at).values()])
    assert_same(got, trained_weights(module, inputs, targets, rule, at), rtol=1e-8)


def test_the_linearised_network_predicts_from_these_weights() -> None:
    """f_0(x) + J(x) (w_t − w_0) is what `predict` says: the two views are one model."""
    module, (inputs, targets) = network(), points()
    kernel = Empirical(module, weights="initial")
    fitted = lo.fit(kernel, (inputs, targets), rule=lo.GradientFlow(1.0, 0.01))
    query = points(5, seed=3)[0]
    change = weight_change(fitted, 2.0)
    said = kernel.initial(query) + kernel.push_forward(query, change)
    assert_same(said, fitted.predict(query, at=2.0))


def test_the_module_moves_and_the_given_one_stays() -> None:
    module, data = network(), points()
    before = copy.deepcopy(module.state_dict())
    fitted = lo.fit(Empirical(module, weights="initial"), data, rule=lo.Ridge(0.1))
    moved = linearised_module(fitted)
    change = weight_change(fitted)
    for name, one in moved.named_parameters():
        torch.testing.assert_close(one, before[name] + change[name])
        assert torch.equal(module.state_dict()[name], before[name])
    assert all(torch.equal(one, before[name]) for name, one in fitted.kernel.module.state_dict().items())


def test_a_linear_network_is_its_own_linearisation() -> None:
    torch.manual_seed(0)
    module, data = nn.Linear(D, K).double(), points()
    fitted = lo.fit(Empirical(module, weights="initial"), data, rule=lo.Ridge(0.1))
    query = points(5, seed=3)[0]
    assert_same(linearised_module(fitted)(query).detach(), fitted.predict(query))


def test_a_wide_network_really_trained_is_near_and_a_wider_one_nearer() -> None:
    """Standard parameters with first-layer gradients of order 1: what is nonlinear falls as 1/√width."""
    inputs, targets = points(outputs=1)
    query = points(6, seed=3)[0]
    gaps = []
    for width in (256, 4096):
        torch.manual_seed(5)
        module = nn.Sequential(nn.Linear(D, width), nn.Tanh(), nn.Linear(width, 1)).double()
        with torch.no_grad():
            module[2].weight.normal_(0, width**-0.5)
            module[0].weight.normal_()
        fitted = lo.fit(
            Empirical(module, weights="initial"), (inputs, targets), rule=lo.GradientDescent(0.5 / width)
        )
        network = lo.train(
            module, (inputs, targets), rule=lo.GradientDescent(0.5 / width), steps=200, tolerance=None
        )
        really = network.predict(query)
        gaps.append(float((fitted.predict(query, at=200) - really).norm() / really.norm()))
    # 16 times the width: a quarter of the gap; half of it leaves room for the draw of two networks.
    assert gaps[1] < gaps[0] / 2
    assert gaps[1] < 0.05


@pytest.mark.parametrize(
    "kernel",
    [
        lo.kernels.Erf(1),
        Empirical(network(), "trace", weights="initial"),
        Empirical(network(), "sum", weights="initial"),
        Empirical(network(), projection=Gaussian(size=10, seed=0), weights="initial"),
    ],
)
def test_only_the_kernel_of_a_linearised_network_has_its_weights(kernel) -> None:
    fitted = lo.fit(kernel, points(), rule=lo.Ridge(1.0))
    with pytest.raises(OptionError, match=r"outputs='full'\) without projection"):
        linearised_module(fitted)
