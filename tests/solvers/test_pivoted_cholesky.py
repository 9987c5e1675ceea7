"""Randomly pivoted Cholesky: a Nyström approximation of its pivots, drawn as one by one."""

import numpy as np
import pytest
import torch

from laws import assert_same
from leftout.solvers.pivoted_cholesky import pivoted_cholesky


def matrix(n=60, decay=0.85, seed=0):
    """Return a positive matrix whose eigenvalues fall by a factor."""
    vectors, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))
    return torch.from_numpy(vectors * decay ** np.arange(n) @ vectors.T)


def drawn(of, rank, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return pivoted_cholesky(of.diagonal(), lambda columns: of[:, columns], rank=rank, generator=generator)


@pytest.mark.parametrize("rank", [1, 7, 30])
def test_it_is_the_projection_onto_its_pivots(rank) -> None:
    of = matrix()
    found = drawn(of, rank)
    pivots = found.pivots.numpy()
    assert len(set(pivots)) == rank
    dense = of.numpy()
    columns = dense[:, pivots]
    want = columns @ np.linalg.solve(dense[np.ix_(pivots, pivots)], columns.T)
    assert_same(found.factor @ found.factor.T, want, 1e-11)
    assert_same(found.lower, np.linalg.cholesky(dense[np.ix_(pivots, pivots)]), 1e-11)
    assert found.missed == pytest.approx(np.trace(dense - want) / np.trace(dense), rel=1e-9)
    assert np.linalg.eigvalsh(dense - want).min() > -1e-13, "it never exceeds the matrix"


def test_it_is_about_as_good_as_the_best_of_half_the_rank() -> None:
    of = matrix(200, 0.9)
    values = np.linalg.eigvalsh(of.numpy())[::-1]
    missed = np.mean([drawn(of, 40, seed).missed for seed in range(5)])
    assert missed < values[20:].sum() / values.sum()
    # Columns drawn at random, without looking at what is left, miss more: rows of unequal length tell.
    scales = torch.logspace(0, -3, 200, dtype=torch.float64)
    uneven = scales[:, None] * of * scales
    rows = torch.randperm(200, generator=torch.Generator().manual_seed(0))[:40].numpy()
    columns = uneven.numpy()[:, rows]
    nystrom = columns @ np.linalg.pinv(uneven.numpy()[np.ix_(rows, rows)]) @ columns.T
    assert drawn(uneven, 40).missed < np.trace(uneven.numpy() - nystrom) / np.trace(uneven.numpy()) / 3


def test_pivots_are_drawn_by_what_is_left() -> None:
    # Two equal rows share a place: once one is taken, nothing is left of the other.
    of = torch.zeros(4, 4, dtype=torch.float64)
    of[:2, :2], of[2, 2], of[3, 3] = 3.0, 2.0, 1.0
    taken = [drawn(of, 2, seed).pivots.tolist() for seed in range(1000)]
    assert not any(set(pivots) == {0, 1} for pivots in taken)
    # First: by the diagonal 3, 3, 2, 1 of 9. Second after the pair: 2 or 1 of 3. Three standard errors.
    first = np.mean([pivots[0] in (0, 1) for pivots in taken])
    assert abs(first - 6 / 9) < 3 * np.sqrt(6 / 9 * 3 / 9 / 1000)
    after = [pivots[1] == 2 for pivots in taken if pivots[0] in (0, 1)]
    assert abs(np.mean(after) - 2 / 3) < 3 * np.sqrt(2 / 9 / len(after))


def test_it_ends_where_nothing_is_left() -> None:
    rows = torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = drawn(rows @ rows.T, 20)
    assert found.factor.shape == (50, 4)
    assert found.missed < 1e-14
    assert drawn(torch.zeros(5, 5, dtype=torch.float64), 2).factor.shape == (5, 0)
