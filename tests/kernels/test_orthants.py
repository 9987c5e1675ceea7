"""Orthants of four normal numbers against closed forms, random draws and their own symmetries."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor

from leftout.kernels.hierarchy import orthants as module
from leftout.kernels.hierarchy.orthants import orthants
from oracles.hierarchy import orthant_by_draws
from problems.networks import seeded


def cosines(count: int, features: int, *, seed: int = 0) -> Tensor:
    """Cosines of four random directions, many times."""
    x = torch.randn(count, 4, features, dtype=torch.float64, generator=seeded(seed))
    x /= x.norm(dim=2, keepdim=True)
    return x @ x.mT


def of(entries: dict[tuple[int, int], float]) -> Tensor:
    found = torch.eye(4, dtype=torch.float64)
    for (i, j), value in entries.items():
        found[i, j] = found[j, i] = value
    return found[None]


@pytest.mark.parametrize("features", [2, 3, 4, 9])
def test_chance_and_moments_are_those_of_random_draws(features: int) -> None:
    for one in cosines(2, features, seed=features):
        chance, moment = orthants(one[None])
        (p, p_error), (m, m_error) = orthant_by_draws(one.numpy(), count=200_000)
        # Four standard errors, from 50 groups, of 11 numbers each time; an empty orthant has error 0.
        assert abs(float(chance) - p) <= 4 * p_error + 1e-7
        assert (np.abs(moment[0].numpy() - m) <= 4 * m_error + 1e-6).all()


def test_independent_numbers_have_products() -> None:
    chance, moment = orthants(torch.eye(4, dtype=torch.float64)[None])
    assert float(chance) == pytest.approx(1 / 16, rel=1e-14)
    # E z² 1{z > 0} = 1/2 and E z 1{z > 0} = 1/√2π, times 1/2 for each of the others.
    want = torch.full((4, 4), 1 / (2 * math.pi) / 4, dtype=torch.float64).fill_diagonal_(1 / 16)
    torch.testing.assert_close(moment[0], want, rtol=1e-14, atol=0)


def test_directions_of_a_plane_are_their_outermost_two() -> None:
    """Between 0 and 2 radians: w·x > 0 for all is w·x > 0 for the two ends."""
    angle = torch.tensor([0.0, 0.5, 1.3, 2.0], dtype=torch.float64)
    theta = 2.0
    r = torch.cos(angle[:, None] - angle)
    for places in ([0, 1, 2, 3], [3, 0, 2, 1], [1, 2, 0, 3]):
        chance, moment = orthants(r[places][:, places][None])
        assert float(chance) == pytest.approx((math.pi - theta) / (2 * math.pi), abs=3e-7)
        first, last = places.index(0), places.index(3)
        arc = (math.sin(theta) + (math.pi - theta) * math.cos(theta)) / (2 * math.pi)
        assert float(moment[0, first, last]) == pytest.approx(arc, abs=1e-6)
    # Of three, where one comes twice.
    chance, moment = orthants(r[[0, 1, 3, 1]][:, [0, 1, 3, 1]][None])
    assert float(chance) == pytest.approx((math.pi - theta) / (2 * math.pi), rel=1e-13)
    assert float(moment[0, 0, 2]) == pytest.approx(arc, rel=1e-12)
    # The same of three, and one that stands upright on their plane: half of it, or of E z 1 = 1/√2π.
    r = r.clone()
    r[2], r[:, 2], r[2, 2] = 0.0, 0.0, 1.0
    chance, moment = orthants(r[None])
    assert float(chance) == pytest.approx((math.pi - theta) / (4 * math.pi), abs=3e-7)
    assert float(moment[0, 0, 3]) == pytest.approx(arc / 2, abs=1e-6)


@pytest.mark.parametrize(("a", "b"), [(0.3, -0.8), (0.999, 0.5), (-0.99, 0.2)])
def test_two_independent_pairs_have_the_product_of_their_chances(a: float, b: float) -> None:
    chance, _ = orthants(of({(0, 2): a, (1, 3): b}))
    one, other = (0.25 + math.asin(r) / (2 * math.pi) for r in (a, b))
    assert float(chance) == pytest.approx(one * other, abs=1e-9)


def test_equally_correlated_by_a_half_four_are_positive_one_time_in_five() -> None:
    """z_i = (u_i + u_0) / √2: all positive if −u_0 is the least of five, one time in five."""
    found = torch.full((1, 4, 4), 0.5, dtype=torch.float64)
    found.diagonal(dim1=1, dim2=2).fill_(1)
    assert float(orthants(found)[0]) == pytest.approx(0.2, abs=1e-9)


def test_equal_directions_are_one() -> None:
    x = torch.randn(3, 5, dtype=torch.float64, generator=seeded(2))
    x /= x.norm(dim=1, keepdim=True)
    r = x @ x.T
    three = 1 / 8 + sum(math.asin(float(r[i, j])) for i, j in ((0, 1), (0, 2), (1, 2))) / (4 * math.pi)
    chances, moments = [], []
    for places in ([0, 1, 2, 2], [2, 0, 2, 1], [1, 0, 0, 2]):
        chance, moment = orthants(r[places][:, places][None])
        assert float(chance) == pytest.approx(three, rel=1e-14)
        # Of z_0, z_1 and z_2 wherever they stand.
        first = [places.index(k) for k in range(3)]
        chances.append(chance)
        moments.append(moment[0][first][:, first])
    torch.testing.assert_close(moments[0], moments[1], rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(moments[0], moments[2], rtol=1e-13, atol=1e-15)
    two, moment = orthants(r[[0, 1, 1, 0]][:, [0, 1, 1, 0]][None])
    theta = math.acos(float(r[0, 1]))
    assert float(two) == pytest.approx((math.pi - theta) / (2 * math.pi), rel=1e-13)
    # The arc-cosine kernel of order one.
    arc = (math.sin(theta) + (math.pi - theta) * math.cos(theta)) / (2 * math.pi)
    assert float(moment[0, 0, 2]) == pytest.approx(arc, rel=1e-13)
    one, moment = orthants(torch.ones(1, 4, 4, dtype=torch.float64))
    assert float(one) == 0.5
    torch.testing.assert_close(moment, torch.full_like(moment, 0.5), rtol=1e-14, atol=0)


def test_opposite_directions_leave_nothing() -> None:
    r = cosines(1, 4)
    r[0, 1], r[0, :, 1] = -r[0, 0], -r[0, :, 0]
    r[0, 1, 1] = 1.0
    chance, moment = orthants(r)
    assert float(chance) == 0
    assert float(moment.abs().max()) == 0


@pytest.mark.parametrize("close", [1e-2, 1e-4, 1e-5, 1e-6])
def test_nearly_equal_directions_are_nearly_one(close: float) -> None:
    x = torch.randn(100, 4, 5, dtype=torch.float64, generator=seeded(3))
    x /= x.norm(dim=2, keepdim=True)
    near = x.clone()
    near[:, 3] = x[:, 2] + close * x[:, 1]
    near /= near.norm(dim=2, keepdim=True)
    x[:, 3] = x[:, 2]
    one, other = orthants(near @ near.mT), orthants(x @ x.mT)
    # Chances differ by at most the chance that two numbers at this angle differ in sign; moments by that of
    # the largest z² there, and by the angle.
    assert float((one[0] - other[0]).abs().max()) <= close / (2 * math.pi) + 1e-8
    rounding = 3 * 2.0**-52  # of a cosine: one of each norm, and one of the product
    assert float((one[1] - other[1]).abs().max()) <= 4 * close + 10 * rounding / max(close, 5e-6) ** 2


def test_the_order_of_the_four_does_not_matter() -> None:
    r = cosines(20, 4)
    chance, moment = orthants(r)
    for order in permutations(range(4)):
        places = list(order)
        turned = orthants(r[:, places][:, :, places])
        torch.testing.assert_close(turned[0], chance, rtol=1e-12, atol=0)
        torch.testing.assert_close(turned[1], moment[:, places][:, :, places], rtol=1e-9, atol=1e-12)


def test_all_sixteen_orthants_make_the_whole() -> None:
    r = cosines(30, 4)
    chance, moment = torch.zeros(30).double(), torch.zeros_like(r)
    for signs in torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * 4):
        turn = signs[:, None] * signs
        one = orthants(r * turn)
        chance += one[0]
        moment += one[1] * turn
    torch.testing.assert_close(chance, torch.ones(30).double(), rtol=0, atol=16e-8)
    torch.testing.assert_close(moment, r, rtol=0, atol=16e-8)


def test_twice_the_nodes_find_what_the_docstring_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    r = torch.cat([cosines(200, features) for features in (3, 4, 9)])
    chance, _ = orthants(r)
    monkeypatch.setattr(module, "NODES", 2 * module.NODES)
    torch.testing.assert_close(orthants(r)[0], chance, rtol=0, atol=1e-8)


def test_blocks_of_orthants_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    r = cosines(50, 4)
    r[7] = 1.0  # of one direction, among those of four
    chance, moment = orthants(r)
    monkeypatch.setattr(module, "CHUNK", 8)
    again = orthants(r)
    # Sums of six terms, and in moments of twice sixteen, of numbers up to 1: a rounding each, also where they
    # cancel.
    torch.testing.assert_close(again[0], chance, rtol=1e-13, atol=6 * 2.0**-52)
    torch.testing.assert_close(again[1], moment, rtol=1e-13, atol=32 * 2.0**-52)
