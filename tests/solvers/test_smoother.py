"""Smoothers against dense linear systems: the bordered one of an intercept, and that of weights and noise."""

import numpy as np
import pytest
import torch

from laws import assert_same
from leftout.core.errors import NotPositiveError
from leftout.solvers.feature_smoother import feature_smoothers
from leftout.solvers.gram_smoother import GramSmoother

N, M = 9, 4
RANDOM = np.random.default_rng(3)
WEIGHTS = RANDOM.uniform(0.3, 2, N)
TARGETS = RANDOM.normal(size=(N, 2))


def tensor(array):
    return torch.from_numpy(np.asarray(array, dtype=float))


def hat_matrix(gram, cross, noise, *, intercept):
    """Return what multiplies the targets: of predictions at queries and at training points.

    With an intercept b the system is bordered: (K + E) a + 1 b = y, 1ᵀa = 0, f(x) = k(x)ᵀ a + b.
    """
    system, queries, here = gram + np.diag(noise), cross, gram
    if intercept:
        ones = np.ones((len(gram), 1))
        system = np.block([[system, ones], [ones.T, np.zeros((1, 1))]])
        queries, here = (np.c_[rows, np.ones(len(rows))] for rows in (cross, gram))
    solved = np.linalg.inv(system)[:, : len(gram)]
    return queries @ solved, here @ solved


FEATURES = [3, 8, 20]


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("intercept", [True, False])
def test_features_are_the_bordered_system(features, intercept):
    x, query = RANDOM.normal(size=(N, features)) + 1, RANDOM.normal(size=(M, features))
    (smoother,) = feature_smoothers(
        tensor(x), scale=tensor(WEIGHTS).sqrt(), ridges=[0.4], intercept=intercept
    )
    hat, here = hat_matrix(x @ x.T, query @ x.T, 0.4 / WEIGHTS, intercept=intercept)
    root = np.sqrt(WEIGHTS)
    unlearned = np.eye(N) - root[:, None] * here / root  # of scaled targets
    assert_same(smoother.diagonal, np.diagonal(unlearned))
    rows = np.array([1, 7, 4])
    assert_same(smoother.block(torch.from_numpy(rows)), unlearned[np.ix_(rows, rows)])
    assert_same(smoother.duals(tensor(TARGETS)), root[:, None] * (TARGETS - here @ TARGETS))
    assert_same(smoother.shares(tensor(query)).numpy() * root, hat)
    assert_same(smoother.predict(tensor(query), tensor(TARGETS)), hat @ TARGETS)


def test_a_kernel_matrix_with_weights_and_noise_is_the_dense_system():
    x, query = RANDOM.normal(size=(N, 3)), RANDOM.normal(size=(M, 3))
    noise = RANDOM.uniform(0.1, 1, N)
    gram, cross = np.exp(x @ x.T), np.exp(query @ x.T)
    smoother = GramSmoother(tensor(gram), scale=tensor(WEIGHTS).sqrt(), noise=tensor(noise))
    hat, here = hat_matrix(gram, cross, noise / WEIGHTS, intercept=False)
    root = np.sqrt(WEIGHTS)
    assert_same(smoother.shares(tensor(cross)).numpy() * root, hat)
    assert_same(smoother.predict(tensor(cross), tensor(TARGETS)), hat @ TARGETS)
    assert_same(
        noise[:, None] * smoother.duals(tensor(TARGETS)).numpy(), root[:, None] * (TARGETS - here @ TARGETS)
    )
    unlearned = np.eye(N) - root[:, None] * here / root
    assert_same(noise * smoother.diagonal.numpy(), np.diagonal(unlearned))
    rows = np.array([2, 5])
    assert_same(
        noise[rows][:, None] * smoother.block(torch.from_numpy(rows)).numpy(), unlearned[np.ix_(rows, rows)]
    )


def test_the_condition_is_that_of_the_matrix_or_above():
    x = RANDOM.normal(size=(N, N))
    gram = x @ x.T
    smoother = GramSmoother(tensor(gram), scale=torch.ones(N).double(), noise=torch.full((N,), 0.1).double())
    true = np.linalg.cond(gram + 0.1 * np.eye(N))
    assert true <= smoother.condition <= N * true
    (linear,) = feature_smoothers(tensor(x), scale=torch.ones(N).double(), ridges=[0.1], intercept=False)
    assert linear.condition == pytest.approx(true)


def test_one_decomposition_serves_all_ridges():
    x = RANDOM.normal(size=(N, 3))
    scale = tensor(WEIGHTS).sqrt()
    together = feature_smoothers(tensor(x), scale=scale, ridges=[0.1, 5.0], intercept=True)
    for smoother, ridge in zip(together, [0.1, 5.0], strict=True):
        (alone,) = feature_smoothers(tensor(x), scale=scale, ridges=[ridge], intercept=True)
        assert_same(smoother.diagonal, alone.diagonal)
    assert together[0].shared is together[1].shared


def test_what_determines_no_model_is_refused():
    x = RANDOM.normal(size=(N, 3))
    with pytest.raises(NotPositiveError, match="have rank 3 to rounding"):
        feature_smoothers(tensor(np.c_[x, x]), scale=torch.ones(N).double(), ridges=[0.0], intercept=False)
    (smoother,) = feature_smoothers(
        tensor(x[:3]), scale=torch.ones(3).double(), ridges=[0.0], intercept=False
    )
    with pytest.raises(NotPositiveError, match="Without example 0 what remains"):
        smoother.checked_diagonal()
