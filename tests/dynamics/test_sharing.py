"""Modules that share weights, buffers or submodules, from every entry point, against plain autograd."""

import copy

import numpy as np
import pytest
import torch

import leftout as lo
from laws import assert_same
from problems.shared_modules import SHARING, D, PartlyShared, SharedScalar, shared_module
from problems.tangent_networks import drawn

RIDGE, RATE, STEPS = 0.3, 0.02, 20
X, Y = drawn(7, D, seed=1), drawn(7, 2, seed=2)
QUERY, QUERY_TARGETS = drawn(4, D, seed=3), drawn(4, 2, seed=4)

pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop because")


OFTEN = (PartlyShared, SharedScalar)
KINDS = [kind if kind in OFTEN else pytest.param(kind, marks=pytest.mark.slow) for kind in SHARING]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def module(request):
    """A module, which no entry point may change."""
    shared = shared_module(request.param)
    before = {name: tensor.clone() for name, tensor in shared.state_dict().items()}
    slots = {name: id(tensor) for name, tensor in shared.named_parameters(remove_duplicate=False)}
    yield shared
    assert all(torch.equal(before[name], tensor) for name, tensor in shared.state_dict().items())
    assert slots == {name: id(p) for name, p in shared.named_parameters(remove_duplicate=False)}


def weights(module):
    return [weight for weight in module.parameters() if weight.requires_grad and weight.numel()]


def plain_jacobian(module, inputs):
    """Return (n k, p), one derivative a time."""
    module = unwrapped(module)
    rows = []
    for x in inputs:
        for o in range(2):
            gradients = torch.autograd.grad(module(x[None])[0, o], weights(module), allow_unused=True)
            rows.append(
                torch.cat(
                    [
                        torch.zeros(w.numel()).double() if g is None else g.flatten()
                        for g, w in zip(gradients, weights(module), strict=True)
                    ]
                )
            )
    return torch.stack(rows).numpy()


def unwrapped(module):
    """Return a copy of a module that may keep activations."""
    if hasattr(module, "history"):
        module.kept, module.history, module.by_layer = None, [], {"body": []}
    return copy.deepcopy(module)


def descended(module, inputs, targets, steps=STEPS, ridge=RIDGE, rate=RATE):
    """Return the module after steps of torch.optim.SGD on ½ Σ (f − y)² + ½ λ ‖w − w_0‖²."""
    module = unwrapped(module)
    start = [weight.detach().clone() for weight in weights(module)]
    optimiser = torch.optim.SGD(module.parameters(), lr=rate)
    for _ in range(steps):
        optimiser.zero_grad()
        pull = sum((w - w0).square().sum() for w, w0 in zip(weights(module), start, strict=True))
        ((module(inputs) - targets).square().sum() / 2 + ridge / 2 * pull).backward()
        optimiser.step()
    return module


def plain_dual(module):
    """Return J, f_0 and (J Jᵀ + λ)⁻¹ (y − f_0)."""
    rows, start = plain_jacobian(module, X), unwrapped(module)(X).detach().numpy()
    shifted = rows @ rows.T + RIDGE * np.eye(len(rows))
    return rows, start, np.linalg.solve(shifted, (Y.numpy() - start).ravel())


@pytest.mark.parametrize("method", ["auto", "layers", "jacobian"])
def test_kernels_are_products_of_plain_derivatives(module, method) -> None:
    kernel = lo.kernels.Empirical(module, method=method, weights="initial")
    rows, others = plain_jacobian(module, X), plain_jacobian(module, QUERY)
    assert_same(kernel.block(QUERY, X), others @ rows.T, 1e-10)
    assert_same(kernel.diagonal(X), (rows**2).sum(1), 1e-10)


@pytest.mark.parametrize("method", ["auto", "layers", "jacobian"])
def test_projections_that_lose_nothing_change_nothing(module, method) -> None:
    projection = lo.kernels.RandomCoordinates(size=sum(weight.numel() for weight in weights(module)))
    kernel = lo.kernels.Empirical(module, method=method, projection=projection, weights="initial")
    rows = plain_jacobian(module, X)
    assert_same(kernel.block(X, X), rows @ rows.T, 1e-10)
    short = lo.kernels.Gaussian(size=40, seed=1)
    by_rows = lo.kernels.Empirical(module, method="jacobian", projection=short, weights="initial").block(X, X)
    assert_same(
        lo.kernels.Empirical(module, method=method, projection=short, weights="initial").block(X, X),
        by_rows,
        1e-10,
    )


def test_pushing_forward_and_pulling_back_are_products_with_plain_derivatives(module) -> None:
    kernel, rows = lo.kernels.Empirical(module, weights="initial"), plain_jacobian(module, X)
    dual = drawn(7, 2, seed=5)
    pulled = kernel.pull_back(X, dual)
    flat = torch.cat([change.flatten() for change in pulled.values()])
    assert_same(flat, dual.flatten().numpy() @ rows, 1e-10)
    assert_same(kernel.push_forward(X, pulled).flatten(), rows @ flat.numpy(), 1e-10)


def test_fits_and_linearised_modules_are_those_of_plain_derivatives(module) -> None:
    fitted = lo.fit(lo.kernels.Empirical(module, weights="initial"), (X, Y), rule=lo.Ridge(RIDGE))
    rows, start, dual = plain_dual(module)
    assert_same(fitted.predict(X).ravel(), start.ravel() + rows @ rows.T @ dual, 1e-10)
    want = unwrapped(module)
    change = torch.from_numpy(rows.T @ dual)
    torch.nn.utils.vector_to_parameters(
        torch.nn.utils.parameters_to_vector(weights(want)).detach() + change, weights(want)
    )
    assert_same(lo.linearised_module(fitted)(QUERY).detach(), want(QUERY).detach(), 1e-10)


def test_training_takes_the_steps_of_torch(module) -> None:
    rule = lo.GradientDescent(RATE, ridge=RIDGE)
    trained = lo.train(module, (X, Y), rule=rule, steps=STEPS, tolerance=None)
    want = descended(module, X, Y)
    assert_same(trained.module(QUERY).detach(), want(QUERY).detach(), 1e-10)
    assert_same(trained.predict(QUERY), want(QUERY).detach(), 1e-10)
    for name, weight in want.named_parameters(remove_duplicate=False):
        if weight.numel():
            assert_same(trained.module.get_parameter(name).detach(), weight.detach(), 1e-10)


def test_retraining_takes_the_steps_of_torch_on_what_remains(module) -> None:
    rule = lo.GradientDescent(RATE, ridge=RIDGE)
    trained = lo.train(module, (X, Y), rule=rule, steps=STEPS, tolerance=None)
    change = lo.retrain(trained, (QUERY, QUERY_TARGETS), [[0]], of="prediction", jobs=1)
    with_it, without = (descended(module, X[keep:], Y[keep:])(QUERY).detach() for keep in (0, 1))
    assert_same(np.squeeze(change.values), with_it - without, 1e-9)


def test_a_linearity_test_trains_as_torch_does(module) -> None:
    rule = lo.GradientDescent(RATE, ridge=RIDGE)
    test = lo.linearity_test(module, (X, Y), (QUERY, QUERY_TARGETS), rule=rule, steps=3)
    want = descended(module, X, Y, steps=3)
    assert_same(test.path[-1].loss, float((want(X) - Y).detach().square().sum()) / 2, 1e-10)
    rows, later = plain_jacobian(module, X), plain_jacobian(want, X)
    moved = np.linalg.norm(later @ later.T - rows @ rows.T) / np.linalg.norm(rows @ rows.T)
    assert_same(test.path[-1].kernel, moved, 1e-9)


def test_the_influence_function_is_that_of_the_plain_hessian(module) -> None:
    rule = lo.GradientDescent(RATE, ridge=RIDGE)
    trained = lo.train(module, (X, Y), rule=rule, steps=STEPS, tolerance=None)
    with pytest.warns(lo.NotConvergedWarning):
        scores = lo.influence_function(
            trained, (QUERY, QUERY_TARGETS), solver=lo.Exact(), curvature="ggn", damping=0.1
        )
    rows = plain_jacobian(trained.module, X)
    errors = (unwrapped(trained.module)(X).detach() - Y).numpy().reshape(7, 2, 1)
    gradients = (errors * rows.reshape(7, 2, -1)).sum(1)
    query_errors = (unwrapped(trained.module)(QUERY).detach() - QUERY_TARGETS).numpy().reshape(4, 2, 1)
    query_gradients = (query_errors * plain_jacobian(trained.module, QUERY).reshape(4, 2, -1)).sum(1)
    curvature = rows.T @ rows + (RIDGE + 0.1) * np.eye(rows.shape[1])
    assert_same(scores, query_gradients @ np.linalg.solve(curvature, gradients.T), 1e-9)
