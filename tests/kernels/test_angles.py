import math

import pytest
import torch

from leftout.kernels.layers import angles
from oracles.kernels import ANGLES, EPS, exact_angle, pair_at_angle


def found_angle(x, z) -> float:
    gap, total = angles.gap_and_total(torch.from_numpy(x)[None], torch.from_numpy(z)[None])
    return float(angles.angle(gap, total))


@pytest.mark.parametrize("crowded", [0.0, 2.0], ids=["all differences", "picked differences"])
@pytest.mark.parametrize("d", [2, 784])
@pytest.mark.parametrize("angle", ANGLES)
def test_an_angle_is_right_to_the_last_digits_from_0_to_pi(
    angle: float, d: int, crowded: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(angles, "CROWDED", crowded)
    x, z = pair_at_angle(angle, d, seed=1)
    truth = exact_angle(x, z)
    error = abs(found_angle(x, z) - truth)
    # Near pairs: each unit row is off by one rounding of the norm and one of the quotient, and near
    # π the rounding of π itself counts. Others: √d roundings of the product, over sin θ.
    near = 1 - abs(math.cos(angle)) < angles.NEAR
    bound = 4 * EPS if near else (2 + math.sqrt(d)) * EPS / math.sin(angle)
    assert error <= bound, f"{float(error):.2e} > {bound:.2e}"


@pytest.mark.parametrize("d", [2, 784])
def test_a_plain_arccos_would_not_pass_the_test_above(d: int) -> None:
    x, z = pair_at_angle(1e-8, d, seed=1)
    plain = math.acos(min(1.0, float(x @ z)))
    assert abs(plain - exact_angle(x, z)) > 1e-9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_rows_are_exactly_0_apart_and_opposite_rows_exactly_pi(dtype: torch.dtype) -> None:
    rows = torch.randn(40, 91, dtype=dtype, generator=torch.Generator().manual_seed(3))
    gap, total = angles.gap_and_total(rows, rows)
    assert bool((gap.diagonal() == 0).all())
    assert bool((angles.angle(gap, total).diagonal() == 0).all())
    gap, total = angles.gap_and_total(rows, -rows)
    assert bool((total.diagonal() == 0).all())


def test_picked_and_crowded_pairs_have_the_same_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(4)
    rows = 1 + 1e-3 * torch.randn(60, 5, dtype=torch.float64, generator=generator)
    rows[::3] *= -1
    found = {}
    for share in (0.0, 2.0):
        monkeypatch.setattr(angles, "CROWDED", share)
        found[share] = angles.gap_and_total(rows, rows)
    for crowded, picked in zip(found[0.0], found[2.0], strict=True):
        # Both sum the same five squares; only the order may differ.
        torch.testing.assert_close(crowded, picked, rtol=8 * EPS, atol=1e-32)


def test_gathering_in_many_chunks_changes_only_the_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(6)
    rows = 1 + 1e-3 * torch.randn(30, 5, dtype=torch.float64, generator=generator)
    monkeypatch.setattr(angles, "CROWDED", 2.0)
    whole = angles.gap_and_total(rows, rows)
    monkeypatch.setattr(angles, "CHUNK", 35)
    for small, large in zip(angles.gap_and_total(rows, rows), whole, strict=True):
        # A square and four additions, none of them negative, perhaps in another order: each of the two
        # is within 5 half ulps, which is 5 ulps apart at the most.
        torch.testing.assert_close(small, large, rtol=5 * EPS, atol=0)


def test_a_zero_row_has_no_nan() -> None:
    rows = torch.zeros(2, 3, dtype=torch.float64)
    rows[1, 0] = 1
    gap, total = angles.gap_and_total(rows, rows)
    assert bool(torch.isfinite(gap).all())
    assert bool(torch.isfinite(total).all())
