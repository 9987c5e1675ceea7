"""Which inputs are there twice? Planted copies, agreeing and conflicting, are found and told apart."""

import numpy as np
import pytest
import torch

import leftout as lo
from leftout.curation.duplicates import Duplicates, duplicates
from leftout.data.pairs import examples_of
from leftout.data.planted import plant_duplicates


@pytest.mark.parametrize("conflicting", [False, True])
def test_planted_copies_are_found_beside_their_originals(conflicting) -> None:
    train, _ = lo.load("digits", n_train=100, n_query=10)
    assert duplicates(train) == ()
    planted = plant_duplicates(train, 7, conflicting=conflicting, generator=torch.Generator().manual_seed(0))
    pairs = zip(planted.originals.tolist(), planted.rows.tolist(), strict=True)
    assert duplicates(planted.examples) == tuple(Duplicates(pair, conflicting) for pair in sorted(pairs))


def test_conflicting_groups_come_first_and_are_of_any_size() -> None:
    inputs = np.array([[1.0], [2.0], [1.0], [3.0], [2.0], [1.0], [4.0]])
    labels = np.array([0, 0, 0, 1, 1, 0, 1])
    assert duplicates(examples_of((inputs, labels))) == (
        Duplicates((1, 4), conflicting=True),
        Duplicates((0, 2, 5), conflicting=False),
    )


def test_numbers_conflict_where_they_differ_in_any_output() -> None:
    inputs = np.array([[1.0], [1.0], [2.0], [2.0]])
    targets = np.array([[0.5, 1.0], [0.5, 1.5], [0.1, 0.2], [0.1, 0.2]])
    assert duplicates(examples_of((inputs, targets))) == (
        Duplicates((0, 1), conflicting=True),
        Duplicates((2, 3), conflicting=False),
    )


def test_what_is_nearly_the_same_is_not_the_same_and_minus_zero_is_zero() -> None:
    inputs = np.array([[1.0, 0.0], [1.0 + 2.0**-52, 0.0], [1.0, -0.0]])
    assert duplicates(examples_of((inputs, np.array([0, 1, 1])))) == (Duplicates((0, 2), conflicting=True),)
