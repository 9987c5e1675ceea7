"""Hoeffding's decomposition from its definition: conditional expectations, by loops over all labellings."""

import itertools

import numpy as np


def labellings(law):
    """Return all labellings, and the probability of each."""
    n, classes = law.shape
    every = np.array(list(itertools.product(range(classes), repeat=n)))
    return every, np.array([np.prod([law[i, y[i]] for i in range(n)]) for y in every])


def expected_given(values, every, chance, known):
    """Return E[K | y_B] for the labels of a dict {position: class}."""
    agrees = np.all([every[:, i] == a for i, a in known.items()], axis=0) if known else chance > -1
    weights = chance * agrees
    return np.tensordot(weights, values, 1) / weights.sum()


def part(values, every, chance, labels, subset):
    """Return K_A at the labels: Σ over subsets B of A of (−1)^(|A| − |B|) E[K | y_B]."""
    total = 0
    for size in range(len(subset) + 1):
        for inside in itertools.combinations(subset, size):
            known = {i: labels[i] for i in inside}
            sign = (-1) ** (len(subset) - size)
            total = total + sign * expected_given(values, every, chance, known)
    return total


def parts_of_level(values, law, level):
    """Return K_A at every labelling, for each A of so many labels: a dict."""
    every, chance = labellings(law)
    return {
        subset: np.array([part(values, every, chance, labels, subset) for labels in every])
        for subset in itertools.combinations(range(len(law)), level)
    }
