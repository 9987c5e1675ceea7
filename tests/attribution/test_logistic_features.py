"""Cross-entropy on features: one whole Newton step without each example, from the definition."""

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax

import leftout as lo
from laws import assert_same
from leftout.kernels import Empirical, LinearFeatures

N, D, M, RIDGE = 90, 4, 5, 0.5


def draw(k):
    """Return training examples and queries of k classes that features tell in part."""
    generator = torch.Generator().manual_seed(k)
    x = torch.randn(N + M, D, generator=generator, dtype=torch.float64)
    noise = torch.randn(N + M, k, generator=generator, dtype=torch.float64)
    y = (x @ torch.randn(D, k, generator=generator, dtype=torch.float64) + noise).argmax(1)
    return (x[:N], y[:N]), (x[N:], y[N:])


def newton_steps_without(x, z, logits, targets):
    """Return what one Newton step without each example changes at z: dense, in the weights, one by one."""
    n, k = targets.shape
    p = expit(logits) if k == 1 else softmax(logits, axis=1)
    curvature = [p_i[:, None] * (1 - p_i) if k == 1 else np.diag(p_i) - np.outer(p_i, p_i) for p_i in p]
    parts = [np.kron(w, np.outer(row, row)) for w, row in zip(curvature, x, strict=True)]
    whole = sum(parts) + RIDGE * np.eye(k * x.shape[1])
    changes = []
    for i in range(n):
        gradient = -np.kron(p[i] - targets[i], x[i])  # that of all is zero, of the others minus its own
        step = np.linalg.solve(whole - parts[i], -gradient)
        changes.append(z @ step.reshape(k, -1).T)
    return np.stack(changes, axis=1)  # (m, n, k)


@pytest.mark.parametrize("k", [2, 4])
def test_one_step_has_the_whole_hessian(k) -> None:
    train, query = draw(k)
    fitted = lo.fit(LinearFeatures(), train, rule=lo.Logistic(RIDGE), solver="features")
    x, z = train[0].numpy(), query[0].numpy()
    logits, targets = fitted.predict(train[0]).numpy(), fitted.targets.numpy()
    want = newton_steps_without(x, z, logits, targets)
    assert_same(-lo.leave_one_out(fitted, query, of="prediction").values, want, 1e-7)
    own = newton_steps_without(x, x, logits, targets)
    assert_same(lo.out_of_sample(fitted) - torch.from_numpy(logits), own[range(N), range(N)], 1e-7)
    if k > 2:  # the classes by themselves would be far off
        p = softmax(logits, axis=1)
        alone = sum(
            np.kron(np.diag(p_i * (1 - p_i)), np.outer(row, row)) for p_i, row in zip(p, x, strict=True)
        )
        alone += RIDGE * np.eye(k * D)
        pulled = [np.linalg.solve(alone, np.kron(p[i] - targets[i], x[i])).reshape(k, -1) for i in range(N)]
        blocks = np.stack([z @ step.T for step in pulled], axis=1)
        assert np.abs(blocks - want).max() > 0.1 * np.abs(want).max()


def test_rows_of_each_output_have_the_whole_hessian() -> None:
    k = 3
    train, query = draw(k)
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(D, 5), torch.nn.Tanh(), torch.nn.Linear(5, k)).double()
    kernel = Empirical(module, weights="initial", parameters="last:1")
    fitted = lo.fit(kernel, train, rule=lo.Logistic(RIDGE), solver="features")
    x, z = (kernel.rows(pair[0]).numpy().reshape(len(pair[0]), k, -1) for pair in (train, query))
    p = softmax(fitted.predict(train[0]).numpy(), axis=1)
    curvature = [np.diag(p_i) - np.outer(p_i, p_i) for p_i in p]
    parts = [rows.T @ w @ rows for rows, w in zip(x, curvature, strict=True)]
    whole = sum(parts) + RIDGE * np.eye(x.shape[2])
    steps = [np.linalg.solve(whole - parts[i], x[i].T @ (p[i] - fitted.targets[i].numpy())) for i in range(N)]
    want = np.stack([z @ step for step in steps], axis=1)
    assert_same(-lo.leave_one_out(fitted, query, of="prediction").values, want, 1e-7)
    own = np.stack([x[i] @ steps[i] for i in range(N)])
    assert_same(lo.out_of_sample(fitted) - fitted.predict(train[0]), own, 1e-7)


def test_it_is_near_the_models_without() -> None:
    train, query = draw(4)
    fitted = lo.fit(LinearFeatures(), train, rule=lo.Logistic(RIDGE), solver="features")
    dense = lo.fit(LinearFeatures(), train, rule=lo.Logistic(RIDGE), solver="dense")
    one, exact = (
        lo.leave_one_out(fitted, query).values,
        lo.leave_one_out(dense, query, newton_steps=None).values,
    )
    assert np.corrcoef(one.ravel(), exact.ravel())[0, 1] > 0.98
    assert lo.certify(fitted, query).refit_difference < 0.3
    assert_same(lo.leave_one_out(fitted, query, newton_steps=None).values, exact, 1e-6)


def test_a_mean_of_losses_goes_the_other_way() -> None:
    train, query = draw(2)
    rule = lo.Logistic(RIDGE / N, "mean")
    found, want = (
        lo.leave_one_out(
            lo.fit(LinearFeatures(), train, rule=rule, solver=solver), query, newton_steps=3
        ).values
        for solver in ("features", "dense")
    )
    assert_same(found, want, 1e-5)
