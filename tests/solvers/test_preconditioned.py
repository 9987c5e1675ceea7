"""Conjugate gradients that know the leading directions, and leverages that know their block."""

import numpy as np
import pytest
import torch

from laws import assert_same
from leftout.core.errors import NotPositiveError, SolveError
from leftout.solvers.block_local import alike_blocks, block_local_inverse_diagonal
from leftout.solvers.conjugate_gradients import ConjugateGradients
from leftout.solvers.pivoted_cholesky import pivoted_cholesky
from leftout.solvers.preconditioned import solve_preconditioned
from leftout.solvers.spectrum import Spectrum

N, RIDGE = 120, 1e-3


def problem():
    """Return a kernel matrix of points on a line, a factor of rank 15, and its spectrum."""
    x = np.sort(np.random.default_rng(0).uniform(-3, 3, N))
    dense = torch.from_numpy(np.exp(-((x[:, None] - x) ** 2) * 4))
    generator = torch.Generator().manual_seed(0)
    factor = pivoted_cholesky(
        dense.diagonal(), lambda columns: dense[:, columns], rank=15, generator=generator
    ).factor
    vectors, values, _ = torch.linalg.svd(factor, full_matrices=False)
    return dense, factor, Spectrum(values.square(), vectors)


def test_it_solves_in_fewer_steps_than_without() -> None:
    dense, _, near = problem()
    rhs = torch.randn(N, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    products = []

    def apply(x):
        products.append(x.shape[1])
        return dense @ x

    found = solve_preconditioned(apply, rhs, near, ridge=RIDGE, rtol=1e-9)
    want = np.linalg.solve(dense.numpy() + RIDGE * np.eye(N), rhs.numpy())
    assert_same(found.value, want, 1e-8)
    plain = ConjugateGradients(rtol=1e-9).solve(lambda x: dense @ x + RIDGE * x, rhs)
    assert int(found.steps.max()) < int(plain.steps.max()) / 2
    assert len(products) <= int(found.steps.max()) + 5


def test_a_solve_that_stops_early_is_refused() -> None:
    dense, _, near = problem()
    rhs = torch.randn(N, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with pytest.raises(SolveError, match=r"was not solved to 1e-09: column 0 of 1 stopped at its limit"):
        solve_preconditioned(lambda x: dense @ x, rhs, near, ridge=RIDGE, rtol=1e-9, max_steps=2)


def test_blocks_hold_every_example_once_and_those_alike_together() -> None:
    _, factor, _ = problem()
    members = alike_blocks(factor, 20)
    assert torch.cat(members).sort().values.tolist() == list(range(N))
    assert max(map(len, members)) <= 20
    # Points on a line: the spread within a block is much less than of all.
    assert np.mean([float(part.double().std()) for part in members]) < N / 6


@pytest.mark.parametrize("size", [1, 20, N])
def test_leverages_are_those_of_the_corrected_matrix(size) -> None:
    dense, factor, _ = problem()
    members = alike_blocks(factor, size)
    found = block_local_inverse_diagonal(
        factor, members, lambda rows: dense[rows[:, None], rows], ridge=RIDGE
    )
    corrected = (factor @ factor.T).numpy().copy()
    for rows in members:
        place = np.ix_(rows.numpy(), rows.numpy())
        corrected[place] = dense.numpy()[place]
    assert_same(found, np.diag(np.linalg.inv(corrected + RIDGE * np.eye(N))), 1e-9)
    exact = np.diag(np.linalg.inv(dense.numpy() + RIDGE * np.eye(N)))
    if size == N:
        assert_same(found, exact, 1e-9)


def test_blocks_bring_leverages_nearer() -> None:
    dense, factor, _ = problem()
    exact = np.diag(np.linalg.inv(dense.numpy() + RIDGE * np.eye(N)))
    off = []
    for size in (1, 20, 60):
        members = alike_blocks(factor, size)
        found = block_local_inverse_diagonal(
            factor, members, lambda rows: dense[rows[:, None], rows], ridge=RIDGE
        )
        off.append(float(np.abs(found.numpy() / exact - 1).mean()))
    assert off[0] > off[1] > off[2]


def test_a_factor_above_the_matrix_is_refused() -> None:
    dense, factor, _ = problem()
    with pytest.raises(NotPositiveError, match="not positive in a block of 120 examples"):
        block_local_inverse_diagonal(
            2 * factor, [torch.arange(N)], lambda rows: dense[rows[:, None], rows], ridge=RIDGE
        )
