"""Numbers to predict that differ look different, on the page and in the terminal."""

import numpy as np
import pandas as pd
import pytest

import leftout as lo
from leftout.core.wording import target_number
from leftout.data.pairs import examples_of
from leftout.report.wording import label_text

N = 200
DRAW = np.random.default_rng(0)
NUMBERS = {
    "prices": 1_000_000.0 + DRAW.permutation(N),
    "normal": DRAW.normal(size=N),
    "two decimals": DRAW.normal(size=N).round(2),
    "small": 1e-9 * DRAW.random(N),
    "large": 1e18 * DRAW.random(N),
    "close": -1e6 - DRAW.random(N),
    "negative": -1e7 * DRAW.random(N).round(3),
}


@pytest.mark.parametrize("centre", ["none", "mean"])
@pytest.mark.parametrize("name", NUMBERS)
def test_different_targets_look_different_and_are_read_back(name, centre) -> None:
    numbers = NUMBERS[name]
    train, _ = lo.load((DRAW.normal(size=(N, 2)), numbers), centre=centre, n_query=20)
    given = numbers[train.source_rows]
    texts = [label_text(train, row) for row in range(len(train))]
    assert len(set(texts)) == len(set(given))
    read = np.array([float(text.replace("−", "-")) for text in texts])
    np.testing.assert_allclose(read, given, rtol=0.5 * 10.0 ** (1 - train.target_digits))


def test_numbers_that_differ_by_rounding_alone_need_no_more_digits() -> None:
    numbers = np.array([0.25, np.nextafter(0.25, 1), 0.5, 0.75])
    assert examples_of((np.eye(4), numbers)).target_digits == 6
    assert examples_of((np.eye(4), np.array([0.25, 0.25 + 2e-8, 0.5, 0.75]))).target_digits == 8


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (1234567.0, 3, "1234567"),
        (-1234567.0, 3, "-1234567"),
        (1234567.4, 3, "1234567"),
        (0.0, 3, "0"),
        (-0.0, 3, "0"),
        (0.30471, 3, "0.305"),
        (1e15, 3, "1e+15"),
        (float("inf"), 3, "∞"),
    ],
)
def test_a_whole_number_has_all_of_its_digits(value, digits, text) -> None:
    assert target_number(value, digits) == text


def test_a_price_is_said_to_the_last_digit(leftout, tmp_path) -> None:
    draw = np.random.default_rng(1)
    size = draw.normal(size=60)
    prices = 1_234_567.0 + np.round(1000 * size + 10 * draw.normal(size=60))
    prices[7] += 9_000
    pd.DataFrame({"size": size, "price": prices}).to_csv(tmp_path / "t.csv", index=False)
    words = ("--n-query", "10", "--seed", "1", "--task", "regression", "--refit-examples", "0")
    status, out, _ = leftout("audit", "t.csv", *words)
    page = (tmp_path / "run" / "report.html").read_text()
    assert status == 0
    assert f"where {prices[7]:.0f} is given" in out
    assert f"given {prices[7]:.0f}" in page
    assert "× 10⁶" not in page.split("<script")[0]
