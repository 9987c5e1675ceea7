"""Wording that only reports need: the interval of a share, times beside numbers."""

import math

import pytest

from leftout.report import wording


def test_an_interval_is_wilsons() -> None:
    low, high = wording.wilson_interval(0.9, 100)
    # Wilson's formula written out: (2·100·0.9 + z² ± z √(z² + 4·100·0.9·0.1)) / (2 (100 + z²))
    z = 1.959964
    half = z * math.sqrt(z * z + 36)
    assert low == pytest.approx((180 + z * z - half) / (2 * (100 + z * z)), rel=1e-12)
    assert high == pytest.approx((180 + z * z + half) / (2 * (100 + z * z)), rel=1e-12)
    assert wording.wilson_interval(1.0, 10)[1] == pytest.approx(1.0, rel=1e-12)


def test_times_are_said_beside_their_unit() -> None:
    assert wording.short_time(None, "time") == "never"
    assert wording.short_time(0.092, "time") == "t\u00a0=\u00a00.092"
    assert wording.short_time(3000.0, "step") == "step\u00a03000"
    assert wording.short_time(math.inf, "step") == "the end"
