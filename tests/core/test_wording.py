import math

import numpy as np
import pytest

from leftout.core import wording

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


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1.5e6, "1.5 MB"),
        (2e9, "2 GB"),
        (3e12, "3 TB"),
        (5e15, "5e+03 TB"),
    ],
)
def test_sizes_are_written_as_people_read_them(size, text) -> None:
    assert wording.byte_size(size) == text


def test_counts_have_their_noun_and_their_digits_in_groups() -> None:
    assert wording.count(1, "query", "queries") == "1\u00a0query"
    assert wording.count(12_000, "query", "queries") == "12\u202f000\u00a0queries"
    assert wording.count(0, "pair") == "0\u00a0pairs"
    assert wording.whole_number(-1_234_567) == "−1\u202f234\u202f567"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.034, "0.034 s"), (99, "99 s"), (100, "1.7 minutes"), (5400, "1.5 hours")]
)
def test_a_duration_is_written_in_the_unit_that_suits_it(seconds, text) -> None:
    assert wording.duration(seconds) == text


def test_names_are_listed_until_there_are_too_many() -> None:
    assert wording.name_list([]) == "none"
    assert wording.name_list(iter("ab")) == "'a', 'b'"
    assert wording.name_list("abcde", 3) == "'a', 'b', 'c' and 2 more"


def test_times_are_named_alone_and_in_a_sentence() -> None:
    assert wording.time_label(math.inf, "step") == "end of training"
    assert wording.time_phrase(math.inf, "step") == "the end of training"
    assert wording.time_label(10.0, "time") == "time 10"
    assert wording.time_phrase(0.25, "time") == "training time 0.25"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "yes"),
        (None, "none"),
        (np.int64(-3), "−3"),
        (np.float64(-0.1), "−0.1"),
        (math.nan, "not available"),
        ({"depth": 2, "bias": False}, "depth: 2, bias: no"),
        (["a", 1.5], "a, 1.5"),
    ],
)
def test_a_setting_is_written_as_text(value, text) -> None:
    assert wording.value_text(value) == text


def test_a_number_has_its_sign_or_its_interval() -> None:
    assert wording.signed_number(0.5) == "+0.500"
    assert wording.signed_number(-0.5) == "−0.500"
    assert wording.number_with_interval(0.5, 0.4, 0.62) == "0.500 (0.400 to 0.620)"
    assert wording.percent(0.255) == "25.5\u202f%"
