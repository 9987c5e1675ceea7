"""Subsets of training examples: as given, drawn, or made by scores."""

import re

import numpy as np
import pytest
import torch

import leftout as lo
from leftout.core.errors import DataError, OptionError, ShapeError
from leftout.diagnostics.retraining.subsets import subset_membership

pytestmark = pytest.mark.usefixtures("as_users_run_it")


def test_random_subsets_are_of_one_size_and_repeat_with_the_seed() -> None:
    first, again, other = (lo.random_subsets(20, count=6, fraction=0.3, seed=seed) for seed in (1, 1, 2))
    assert first.dtype == bool
    assert first.sum(1).tolist() == [6] * 6
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    # The first subsets of many are the subsets of few: more can be trained later.
    assert np.array_equal(lo.random_subsets(20, count=2, fraction=0.3, seed=1), first[:2])


def test_every_example_is_kept_about_as_often_as_any_other() -> None:
    often = lo.random_subsets(50, count=4000).mean(0)
    # Standard deviation √(.25 / 4000) = .008; five of them.
    assert np.abs(often - 0.5).max() < 0.04


@pytest.mark.parametrize(
    "given",
    [
        [[0, 2], [1]],
        [(2, 0), range(1, 2)],
        [[True, False, True], [False, True, False]],
        np.array([[True, False, True], [False, True, False]]),
        torch.tensor([[True, False, True], [False, True, False]]),
        [torch.tensor([0, 2]), np.array([1])],
    ],
    ids=str,
)
def test_subsets_may_be_row_numbers_or_truth_values_in_any_form(given) -> None:
    names, kept = subset_membership(given, 3)
    assert names == ["0", "1"]
    assert kept.tolist() == [[True, False, True], [False, True, False]]


def test_a_mapping_names_the_subsets() -> None:
    names, kept = subset_membership({"first": [0], "rest": [False, True, True]}, 3)
    assert names == ["first", "rest"]
    assert kept.tolist() == [[True, False, False], [False, True, True]]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "`subsets` must hold at least one subset of row numbers; got none"),
        ("ab", "`subsets` must be a list of subsets of row numbers, or a mapping; got 'ab'"),
        ([[]], "`subsets`: subset 0 is empty; name at least one training row"),
        ([[0], [3]], "`subsets`: subset 1 names row 3; rows go from 0 to 2"),
        ({"a": [1, 1]}, "`subsets`: subset 'a' names a row twice"),
        ([[0.5]], "`subsets[0]` must be row numbers, whole and no truth values; got 0.5"),
        ([1], "`subsets`: subset 0 must be a row of row numbers or of truth values; got 1"),
        (
            [[True, False]],
            "`subsets`: subset 0 must have 3 truth values, one for each training example; got 2",
        ),
    ],
)
def test_what_is_no_subset_is_refused(given, words) -> None:
    with pytest.raises((OptionError, ShapeError), match=re.escape(words)):
        subset_membership(given, 3)


def test_scores_say_who_goes_first() -> None:
    scores = np.array([[5.0, -1.0, 0.0, 3.0], [1.0, -3.0, 0.0, 1.0]])
    kept = lo.removal_subsets(scores, shares=[0.25, 0.5], draws=2, seed=3)
    assert list(kept)[:4] == ["helpful 0.25", "harmful 0.25", "random 0.25 #0", "random 0.25 #1"]
    assert kept["helpful 0.25"].tolist() == [False, True, True, True]
    assert kept["helpful 0.5"].tolist() == [False, True, True, False]
    assert kept["harmful 0.5"].tolist() == [True, False, False, True]
    assert kept["random 0.5 #1"].sum() == 2
    with pytest.raises(DataError, match="`scores` must be finite"):
        lo.removal_subsets(scores * np.nan)
    with pytest.raises(OptionError, match=r"`shares` must remove at least one of 4 examples, not all; 0.01"):
        lo.removal_subsets(scores, shares=[0.01])


def test_a_fraction_that_keeps_nobody_is_refused() -> None:
    with pytest.raises(OptionError, match="`fraction` must keep at least one of 3 examples and not all"):
        lo.random_subsets(3, fraction=0.1)
