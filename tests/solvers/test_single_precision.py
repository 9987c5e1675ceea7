"""Is a Newton step, most of it in single precision, the step of the definition to its tolerance?"""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from leftout.core.errors import SolveError
from leftout.solvers import single_precision as steps
from leftout.solvers.logistic import LogisticFit, fit_logistic, refit_logistic
from leftout.solvers.newton_equation import LogisticProblem, NewtonEquation

N, K, D = 520, 3, 40
RIDGE = 0.05
EXTRA = 0.01


@dataclass(frozen=True)
class Solved:
    """A fit to features Φ (n, d), of which the kernel matrix is Φ Φᵀ."""

    features: np.ndarray
    fit: LogisticFit


def solved(unit: float = 1.0) -> Solved:
    """Return a fit to random features; the kernel, and with it the ridge, in some unit."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((N, D)) * np.geomspace(1, 0.03, D)
    labels = (features @ rng.standard_normal((D, K)) + rng.gumbel(size=(N, K))).argmax(1)
    targets = torch.eye(K, dtype=torch.float64)[torch.from_numpy(labels)]
    gram = torch.from_numpy(features @ features.T) * unit
    # A kernel that sees more than the features: none of its directions is zero.
    gram.diagonal().add_(EXTRA * unit)
    return Solved(
        features, fit_logistic(LogisticProblem(gram, torch.zeros_like(targets), targets, RIDGE * unit))
    )


def without_each(count: int) -> torch.Tensor:
    weights = torch.ones(N, count, dtype=torch.float64)
    weights[torch.arange(count) * 7, torch.arange(count)] = 0
    return weights


def changes(made: Solved, count: int = 6) -> np.ndarray:
    """Return how the logits change, (n, b, k)."""
    fit = made.fit
    duals = refit_logistic(fit, weights=without_each(count), newton_steps=1)
    return fit.problem.product(duals - fit.dual[:, None]).numpy()


def by_definition(made: Solved, count: int = 6) -> np.ndarray:
    """Return the same by H⁻¹ ∇ in the weights, (d k) of them, dense and in double precision."""
    fit = made.fit
    features = np.concatenate([made.features, EXTRA**0.5 * np.eye(N)], axis=1)  # Φ Φᵀ with its diagonal
    p = fit.logits.softmax(1).numpy()
    targets = fit.problem.targets.numpy()
    reduced, inside, _ = np.linalg.svd(features, full_matrices=False)
    phi = reduced * inside  # (n, r)
    r = phi.shape[1]
    theta = (phi.T @ fit.dual.numpy()).ravel()
    curved = np.einsum("nr,nab,ns->arbs", phi, p[:, :, None] * np.eye(K) - p[:, :, None] * p[:, None], phi)
    found = []
    for example in range(count):
        row = 7 * example
        own = np.einsum(
            "r,ab,s->arbs", phi[row], np.diag(p[row]) - np.outer(p[row], p[row]), phi[row]
        ).reshape(K * r, K * r)
        hessian = curved.reshape(K * r, K * r) - own + RIDGE * np.eye(K * r)
        weights = np.ones(N)
        weights[row] = 0
        gradient = (phi.T @ (weights[:, None] * (p - targets))).T.ravel()
        gradient += RIDGE * theta.reshape(r, K).T.ravel()
        found.append(phi @ np.linalg.solve(hessian, -gradient).reshape(K, r).T)
    return np.stack(found, axis=1)


def assert_close(got: np.ndarray, want: np.ndarray, tolerance: float) -> None:
    size = np.abs(want).max((0, 2))
    assert (np.abs(got - want).max((0, 2)) <= tolerance * size).all()


@pytest.fixture(scope="module")
def made() -> Solved:
    return solved()


@pytest.fixture(scope="module")
def defined(made) -> np.ndarray:
    return by_definition(made)


def test_a_step_is_that_of_the_definition_and_most_of_it_is_in_single_precision(
    made, defined, monkeypatch
) -> None:
    kinds = []
    gradients = NewtonEquation.conjugate_gradients

    def seen(self, gradient, *arguments):
        kinds.append(gradient.dtype)
        return gradients(self, gradient, *arguments)

    monkeypatch.setattr(NewtonEquation, "conjugate_gradients", seen)
    got = changes(made)
    assert kinds == [torch.float32]
    # |H δ + ∇| ≤ 1.2e-3 |∇|: what that leaves of f depends on the curvature along it; measured 2e-3.
    assert_close(got, defined, 5e-3)


def test_it_is_as_near_to_the_definition_as_double_precision(made, defined, monkeypatch) -> None:
    errors = [np.abs(changes(made) - defined).max()]
    monkeypatch.setattr(steps, "LEAST_ROWS", 10**9)
    errors.append(np.abs(changes(made) - defined).max())
    assert errors[0] <= 1.5 * errors[1]


@pytest.mark.parametrize("unit", [2.0**-332, 2.0**332])
def test_the_unit_of_the_kernel_changes_nothing(made, unit) -> None:
    assert_close(changes(solved(unit)), changes(made), 1e-4)  # a tenth of the tolerance of both


def test_what_single_precision_leaves_goes_on_in_double(made, defined, monkeypatch) -> None:
    monkeypatch.setattr(steps, "ROUNDED", 0.0)  # nothing is near enough
    finished = changes(made)
    assert_close(finished, defined, 5e-3)


def test_a_step_that_is_wrong_by_a_few_hundredths_in_single_precision_is_finished(
    made, defined, monkeypatch
) -> None:
    gradients, kinds = NewtonEquation.conjugate_gradients, []

    def wrong(self, gradient, *arguments):
        move, change = gradients(self, gradient, *arguments)
        kinds.append((gradient.dtype, gradient.shape[1]))
        if gradient.dtype == torch.float32:
            move[:, [1, 4]] *= 1.03
        return move, change

    monkeypatch.setattr(NewtonEquation, "conjugate_gradients", wrong)
    assert_close(changes(made), defined, 5e-3)
    assert kinds == [(torch.float32, 6), (torch.float64, 2)], "only the two go on"


def test_where_single_precision_fails_the_step_is_that_of_double(made, monkeypatch) -> None:
    monkeypatch.setattr(steps, "LEAST_ROWS", 10**9)
    want = changes(made)
    monkeypatch.undo()
    gradients = NewtonEquation.conjugate_gradients

    def fails(self, gradient, *arguments):
        if gradient.dtype == torch.float32:
            raise SolveError("not solved")
        return gradients(self, gradient, *arguments)

    monkeypatch.setattr(NewtonEquation, "conjugate_gradients", fails)
    np.testing.assert_array_equal(changes(made), want)


def test_another_ridge_keeps_what_was_made_of_the_kernel_and_is_the_step_there(made, monkeypatch) -> None:
    fit, copies = made.fit, []
    assert fit.problem.with_ridge(RIDGE) is fit.problem
    sizes = torch.empty_like

    def seen(*arguments, **options):
        copies.append(options.get("dtype"))
        return sizes(*arguments, **options)

    monkeypatch.setattr(torch, "empty_like", seen)
    ridge = RIDGE * (N - 1) / N  # of a mean of losses, with one example less
    got = refit_logistic(fit, weights=without_each(3), ridge=ridge, newton_steps=1)
    assert torch.float32 not in copies
    monkeypatch.undo()
    monkeypatch.setattr(steps, "LEAST_ROWS", 10**9)
    want = refit_logistic(fit, weights=without_each(3), ridge=ridge, newton_steps=1)
    before = fit.dual[:, None]
    assert_close(fit.problem.product(got - before).numpy(), fit.problem.product(want - before).numpy(), 5e-3)


def test_the_copy_in_single_precision_is_rounded_once() -> None:
    gram = torch.randn(600, 600, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    nothing = torch.zeros(600, 2, dtype=torch.float64)
    problem = LogisticProblem(gram @ gram.T, nothing, nothing, 1.0)
    assert torch.equal(problem.single_gram, (problem.gram / problem.scale).float())
