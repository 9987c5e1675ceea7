"""Numbers, names and intervals are written for a person."""

import math

import pytest

from leftout.report import wording

NUMBERS = {
    0.0: "0",
    1.0: "1.00",
    -0.05: "−0.0500",
    12.345: "12.3",
    999.7: "1\u202f000",
    31_000.0: "31\u202f000",
    1.25e-13: "1.25 × 10⁻¹³",
    -4.0e7: "−4.00 × 10⁷",
    math.inf: "∞",
    -math.inf: "−∞",
    math.nan: "not available",
}


@pytest.mark.parametrize(("value", "text"), NUMBERS.items())
def test_a_number_is_written_for_a_person(value, text) -> None:
    assert wording.number(value) == text


def test_a_name_shows_what_it_is() -> None:
    assert wording.plain("a\u202eb\x00\ud800 \tc") == "a\\u202eb\\u0000\\ud800  c"
    assert wording.plain("größte 类别 🙂") == "größte 类别 🙂"
    long = wording.plain("x" * 500 + "END")
    assert len(long) == wording.NAME_LIMIT
    assert long.startswith("xxx")
    assert long.endswith("END")


def test_an_interval_is_wilsons() -> None:
    low, high = wording.wilson_interval(0.9, 100)
    # Wilson's formula written out: (2·100·0.9 + z² ± z √(z² + 4·100·0.9·0.1)) / (2 (100 + z²))
    z = 1.959964
    half = z * math.sqrt(z * z + 36)
    assert low == pytest.approx((180 + z * z - half) / (2 * (100 + z * z)), rel=1e-12)
    assert high == pytest.approx((180 + z * z + half) / (2 * (100 + z * z)), rel=1e-12)
    assert wording.wilson_interval(1.0, 10)[1] == pytest.approx(1.0, rel=1e-12)
