"""One number that decides what is said of all others is said to; honest numbers with heavy tails are not."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

import leftout as lo
from leftout.curation.mislabelled import FENCE, ROBUST, find_mislabelled

N, WRONG = 120, 17
KERNEL = lo.kernels.ReLU(2, bias_variance=0.3)
START = "One target decides what is said of the others: "


def inputs(seed=0):
    return np.random.default_rng(seed).normal(size=(N, 3))


def prices(seed=0, *, wrong=1e7):
    """Return prices that follow the inputs, one of which is a hundred times too large."""
    draw = np.random.default_rng(1000 + seed)
    x = inputs(seed)
    numbers = np.round(4e5 + 5e4 * (x @ [2, -1, 0.5]) + 1.5e4 * draw.normal(size=N))
    if wrong is not None:
        numbers[WRONG] = wrong
    return x, numbers


def by_definition(x, y, ridge):
    """Return which are doubted with everyone, and which of these without WRONG, from fits in numpy."""
    k = KERNEL.block(torch.from_numpy(x), torch.from_numpy(x)).numpy()

    def left_out(row, without):
        keep = np.setdiff1d(np.arange(len(y)), [row, *without])
        return k[row, keep] @ np.linalg.solve(k[np.ix_(keep, keep)] + ridge * np.eye(len(keep)), y[keep])

    off = y - [left_out(row, []) for row in range(len(y))]
    fence = FENCE * ROBUST * np.median(np.abs(off - np.median(off)))
    doubted = np.flatnonzero(np.abs(off - np.median(off)) > fence)
    again = {row: y[row] - left_out(row, [WRONG]) - np.median(off) for row in doubted if row != WRONG}
    return doubted.tolist(), [row for row, residual in again.items() if abs(residual) > fence], off


@pytest.mark.parametrize("seed", [0, 1])
def test_a_price_a_hundred_times_too_large_is_named_with_what_it_did_to_the_others(seed) -> None:
    x, y = prices(seed)
    found = find_mislabelled(lo.fit(KERNEL, (x, y), rule=lo.Ridge(0.1)))
    doubted, still, off = by_definition(x, y, 0.1)
    assert sorted(one.row for one in found.suspects) == doubted
    others = len(doubted) - 1
    assert others - len(still) > others / 2, "or the test says nothing"
    share = round(100 * off[WRONG] ** 2 / (off**2).sum())
    assert found.dominant == (
        f"{START}that of {WRONG}, 10000000, is {share}\u202f% of the squared error of the examples left out. "
        f"Without it {others - len(still)} of the {others} others would not be doubted. If it is wrong, "
        "correct it or drop the row; if it is right, predict the logarithm."
    )


def test_where_numbers_are_not_positive_no_logarithm_is_advised() -> None:
    x, y = prices()
    found = find_mislabelled(lo.fit(KERNEL, (x, y - 5e5), rule=lo.Ridge(0.1)))
    assert found.dominant.endswith("if it is right, predict on a scale without such distances.")


def test_the_row_is_that_of_the_table() -> None:
    x, y = prices()
    frame = pd.DataFrame(x, columns=list("abc")).assign(price=y)
    train, _ = lo.load(frame, target="price", n_query=20, normalise="standard", seed=1)
    assert WRONG in train.source_rows
    found = find_mislabelled(lo.fit(KERNEL, train, rule=lo.Ridge(0.1)))
    assert found.dominant.startswith(f"{START}that of row {WRONG}, 10000000, ")


@pytest.mark.parametrize("at", [3.0, 30.0])
def test_it_is_found_at_finite_times(at) -> None:
    x, y = prices()
    fitted = lo.fit(KERNEL, (x, y), rule=lo.GradientFlow(1.0, 0.1))
    assert find_mislabelled(fitted, at=at).dominant.startswith(START)


HONEST = {
    "normal": lambda draw: draw.normal(size=N),
    "Laplace": lambda draw: draw.laplace(size=N),
    "Student, 3 degrees of freedom": lambda draw: draw.standard_t(3, N),
    "lognormal": lambda draw: draw.lognormal(0, 1, N),
}
"""Each has a variance; where there is none, one number does decide now and then."""


@pytest.mark.parametrize("name", HONEST)
def test_honest_numbers_with_heavy_tails_are_left_alone(name) -> None:
    said = []
    for seed in range(10):
        x, noise = inputs(seed), HONEST[name](np.random.default_rng(500 + seed))
        found = find_mislabelled(lo.fit(KERNEL, (x, x @ [2, -1, 0.5] + 0.5 * noise), rule=lo.Ridge(0.1)))
        said.append(found.dominant)
    assert said == [""] * 10


def test_a_gross_error_that_harms_nobody_is_doubted_and_no_more() -> None:
    x, y = prices()
    alone = lo.kernels.From(lambda a, b: torch.exp(-50 * torch.cdist(a, b) ** 2))  # nobody has neighbours
    y = np.where(np.arange(N) == WRONG, 1e7, 1e3 * np.random.default_rng(0).normal(size=N))
    found = find_mislabelled(lo.fit(alone, (x, y), rule=lo.Ridge(0.1)))
    assert found.dominant == ""


def test_without_the_error_and_with_a_twin_of_it_nothing_is_said() -> None:
    x, y = prices(wrong=None)
    assert find_mislabelled(lo.fit(KERNEL, (x, y), rule=lo.Ridge(0.1))).dominant == ""
    x, y = prices()
    y[WRONG + 1] = 1e7  # neither has more than half of the squared error
    assert find_mislabelled(lo.fit(KERNEL, (x, y), rule=lo.Ridge(0.1))).dominant == ""


def test_an_audit_says_it_first_on_the_page_in_the_record_and_in_the_terminal(leftout, tmp_path) -> None:
    x, y = prices()
    pd.DataFrame(x, columns=list("abc")).assign(price=y).to_csv(tmp_path / "t.csv", index=False)
    words = ("--task", "regression", "--n-query", "20", "--seed", "1", "--ridge", "0.1", "--kernel", "relu")
    status, out, _ = leftout("audit", "t.csv", *words, "--normalise", "standard", "--refit-examples", "0")
    assert status == 0
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["dominant"].startswith(START)
    assert " ".join(record["dominant"].split()) in " ".join(out.split())
    assert 'id="dominant"' in (tmp_path / "run/report.html").read_text()


def test_classes_have_none() -> None:
    audit = lo.audit("digits", n_train=60, n_query=20, refit_examples=0)
    assert audit.findings.dominant == ""
    assert "One target" not in str(audit)
