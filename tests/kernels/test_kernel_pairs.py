"""Are matrices of pairs, their parts and what an appended constant does to them what loops give?"""

import numpy as np
import pytest
import torch

from laws import assert_same
from leftout.core.errors import MemoryBudgetError
from leftout.kernels import ReLU
from leftout.kernels.assemble import gram
from leftout.kernels.pairwise import pairs as module
from leftout.kernels.pairwise.pairs import Pairs, pairs_among, pairs_between, pixels_of

EPS = torch.finfo(torch.float64).eps


def rows(n, d=6, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d)))


def distances(left, right):
    return [[float((x - z).abs().sum()) for z in right] for x in left]


def test_pairs_are_those_of_a_loop(monkeypatch) -> None:
    monkeypatch.setitem(module.TILE, "cpu", 4)
    x = rows(11)
    found = pairs_among(ReLU(1), x, pixels=True)
    assert torch.equal(found.kernel, gram(ReLU(1), x))
    assert_same(found.products, x @ x.T, 20 * EPS)
    assert_same(found.l1, distances(x, x), 20 * EPS)
    for matrix in (found.kernel, found.products, found.l1):
        assert torch.equal(matrix, matrix.T)
    assert torch.equal(found.products.diagonal(), found.left.squares)


def test_pairs_between_agree_with_pairs_among() -> None:
    x = rows(11)
    among, between = (pairs_among(ReLU(1), x, pixels=True), pairs_between(ReLU(1), x[:5], x, pixels=True))
    for name in ("kernel", "products", "l1"):
        assert_same(getattr(between, name), getattr(among, name)[:5], 50 * EPS)
    assert_same(between.left.spreads, among.left.spreads[:5], 20 * EPS)


def test_what_is_known_of_each_input_is_that_of_numpy() -> None:
    x = rows(9)
    found = pixels_of(x.reshape(9, 2, 3))
    assert_same(found.means, np.mean(x.numpy(), axis=1), 20 * EPS)
    assert_same(found.spreads, 6 * np.var(x.numpy(), axis=1), 20 * EPS)
    assert found.features == 6
    assert len(pixels_of(x[:0]).squares) == 0


def test_an_appended_constant_needs_no_pixels() -> None:
    x, z = rows(7), rows(5, seed=1)
    found = pairs_between(ReLU(1), x, z, pixels=True).with_constant()
    longer = [torch.cat([one, torch.ones(len(one), 1)], dim=1) for one in (x, z)]
    expected = pairs_between(ReLU(1), *longer, pixels=True)
    assert_same(found.products, expected.products, 20 * EPS)
    assert_same(found.l1, expected.l1, 20 * EPS)
    for side in ("left", "right"):
        for name in ("squares", "means", "spreads", "features"):
            got, want = getattr(getattr(found, side), name), getattr(getattr(expected, side), name)
            assert_same(got, want, 50 * EPS)


def test_parts_are_rows_and_columns() -> None:
    whole = pairs_between(ReLU(1), rows(7), rows(5, seed=1), pixels=True)
    i, j = torch.tensor([3, 0]), torch.tensor([4, 1, 2])
    part = whole.of(i, j)
    for name in ("kernel", "products", "l1"):
        assert torch.equal(getattr(part, name), getattr(whole, name)[i][:, j])
    assert torch.equal(part.left.means, whole.left.means[i])
    assert torch.equal(part.right.means, whole.right.means[j])
    assert torch.equal(whole.of(None, j).kernel, whole.kernel[:, j])
    assert torch.equal(whole.of(slice(1, 3), slice(None)).l1, whole.l1[1:3])
    assert Pairs(whole.kernel).of(i, None).products is None


def test_pairs_that_do_not_fit_are_refused() -> None:
    x = rows(10)
    with pytest.raises(MemoryBudgetError, match=r"What is known of 10 × 10 pairs needs 2\.4 kB"):
        pairs_among(ReLU(1), x, pixels=True, memory=2000)
    with pytest.raises(MemoryBudgetError, match="What is known of 4 × 10 pairs needs 320 B"):
        pairs_between(ReLU(1), x[:4], x, pixels=False, memory=300)
