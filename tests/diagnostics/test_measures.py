"""Is a measure of a resample what it is of the pairs written down as often as they were drawn?"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leftout.diagnostics.retraining.measures import MEASURES, Resamples, ScoredPairs
from oracles import diagnostics as oracle

NAMES = list(MEASURES)
EPS = np.finfo(float).eps


def measured(name, scores, truth, weights, top=3):
    pairs = ScoredPairs(torch.as_tensor(scores).double(), torch.as_tensor(truth).double())
    return MEASURES[name](Resamples(pairs, torch.as_tensor(weights).double(), top)).numpy()


def lists(data, n):
    """Two lists: without ties, with some, with many."""
    draw = np.random.default_rng(data.draw(st.integers(0, 9999)))
    levels = data.draw(st.sampled_from([None, 9, 3, 2]))
    if levels is None:
        truth = draw.standard_normal(n)
        return truth + draw.standard_normal(n) * draw.uniform(0, 2), truth
    return draw.integers(0, levels, n) - 1.0, draw.integers(0, levels, n) - 1.0


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.data())
def test_every_measure_of_a_resample_is_that_of_the_pairs_it_holds(data) -> None:
    n = data.draw(st.integers(2, 40))
    scores, truth = lists(data, n)
    draw = np.random.default_rng(data.draw(st.integers(0, 9999)))
    weights = np.stack([np.bincount(draw.integers(0, n, n), minlength=n) for _ in range(4)])
    top = data.draw(st.integers(1, n))
    for row in weights:
        s, t = oracle.resampled(scores, row), oracle.resampled(truth, row)
        if np.ptp(s) == 0 or np.ptp(t) == 0:
            continue
        want = oracle.measures(s, t, top)
        for name in NAMES:
            got = measured(name, scores, truth, row[None], top)[0]
            # A few roundings of sums of n terms; the least squares of numpy has its own.
            assert abs(got - want[name]) <= 1e-10 * max(1, abs(want[name])), name


@pytest.mark.parametrize("n", [1000, 1024, 1025])
def test_tau_of_many_pairs_counts_every_one(n) -> None:
    draw = np.random.default_rng(n)
    for levels in (10**9, 30):
        truth = draw.integers(0, levels, n).astype(float)
        scores = truth + draw.integers(0, levels, n)
        want = oracle.measures(scores, truth, 3)["kendall"]
        got = measured("kendall", scores, truth, np.ones((1, n)))[0]
        # ScoredPairs are counted: whole numbers below 2^53, so only the last division rounds.
        assert abs(got - want) <= 4 * EPS


def test_resamples_in_one_call_do_not_mix() -> None:
    draw = np.random.default_rng(0)
    scores, truth = draw.standard_normal(20), draw.standard_normal(20)
    weights = draw.integers(0, 3, (6, 20))
    for name in NAMES:
        together = measured(name, scores, truth, weights)
        alone = [measured(name, scores, truth, row[None])[0] for row in weights]
        assert np.abs(together - alone).max() <= 1e-14


@pytest.mark.parametrize("name", NAMES)
def test_pairs_that_were_not_drawn_do_not_count(name) -> None:
    draw = np.random.default_rng(1)
    scores, truth = draw.standard_normal(15), draw.standard_normal(15)
    weights = draw.integers(0, 3, (1, 15))
    there = weights[0] > 0
    all_of_them = measured(name, scores, truth, weights)
    # All but the largest: a common factor is taken out before anything is drawn.
    some = measured(name, scores[there], truth[there], weights[:, there])
    assert np.abs(all_of_them - some).max() <= 1e-13


@pytest.mark.parametrize("name", ["pearson", "spearman", "kendall"])
def test_a_correlation_with_equal_numbers_does_not_exist(name) -> None:
    # Their mean is often a rounding off, and what is left of a variance is not 0: over 50 draws of
    # value and weights the numbers drawn tell, and the variance would not.
    draw = np.random.default_rng(2)
    for value in (0.0, *draw.standard_normal(50)):
        scores, truth = (np.append(np.full(6, value), draw.standard_normal(6)), draw.standard_normal(12))
        weights = np.append(draw.integers(1, 4, 6), np.zeros(6))[None]
        assert math.isnan(measured(name, scores, truth, weights)[0])
        assert math.isnan(measured(name, truth, scores, weights)[0])
        weights[0, -1] = 1
        assert math.isfinite(measured(name, scores, truth, weights)[0])


def test_a_slope_needs_scores_that_differ_and_a_relative_error_some_truth() -> None:
    weights = np.ones((1, 4))
    assert math.isnan(measured("slope", np.full(4, 0.3), np.arange(4.0), weights)[0])
    assert measured("slope", np.arange(4.0), np.full(4, 0.3), weights)[0] == 0
    assert math.isnan(measured("relative_error", np.arange(4.0), np.zeros(4), weights)[0])
    assert measured("relative_error", np.zeros(4), np.arange(4.0), weights)[0] == 1


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e200])
def test_tiny_and_huge_numbers_have_the_same_measures(scale) -> None:
    draw = np.random.default_rng(3)
    scores, truth = draw.standard_normal(15), draw.standard_normal(15)
    weights = draw.integers(0, 3, (2, 15))
    for name in NAMES:
        want = measured(name, scores, truth, weights)
        got = measured(name, scores * scale, truth * scale, weights)
        assert np.abs(got - want).max() <= 1e-13


def test_a_common_offset_costs_no_more_digits_than_it_must() -> None:
    draw = np.random.default_rng(4)
    scores, truth = draw.standard_normal(30), draw.standard_normal(30)
    weights = draw.integers(0, 3, (3, 30))
    for name in ("pearson", "spearman", "kendall", "slope"):
        want = measured(name, scores, truth, weights)
        got = measured(name, scores + 1e8, truth + 1e8, weights)
        # The numbers themselves lose 1e8 · eps = 2e-8; their squares would lose all.
        assert np.abs(got - want).max() <= 1e-6


def test_of_equal_sizes_the_first_given_is_the_larger() -> None:
    scores, truth = np.array([2.0, -2.0, 2.0, 1.0]), np.array([0.0, 5.0, -5.0, 5.0])
    one = np.ones((1, 4))
    assert measured("top_overlap", scores, truth, one, 2)[0] == 0.5  # {0, 1} and {1, 2}
    assert measured("top_overlap", scores, truth, one, 1)[0] == 0.0
    # Drawn three times, an example fills the first three places.
    assert measured("top_overlap", scores, truth, np.array([[0, 3, 1, 0]]), 3)[0] == 1.0
