"""Problems with classes, and what curation says of them, once more from refits."""

import numpy as np
import torch

import leftout as lo
from oracles import definitions as oracles
from problems.small import problem

BINARY, THREE = 2, 3


def classified(classes, n=24, seed=0):
    """Return a problem whose targets are what the engine codes from class numbers, and these."""
    draw = np.random.default_rng(seed)
    made = problem(n=n, m=6, k=1, seed=seed)
    labels = np.concatenate([np.arange(classes), draw.integers(0, classes, n + 6 - classes)])
    labels = np.concatenate([draw.permutation(labels[:n]), labels[n:]])
    return made, labels


def learnable(classes, n=60, seed=0, wrong=3):
    """Return the same where the kernel knows the classes, but for a few labels that are wrong."""
    draw = np.random.default_rng(seed)
    made = problem(n=n, m=6, k=1, seed=seed)
    vectors = np.linalg.eigh(made.whole)[1][:, ::-1]
    if classes == BINARY:
        labels = (vectors[:, 0] > np.median(vectors[:, 0])).astype(int)
    else:
        labels = vectors[:, :classes].argmax(1)
    rows = draw.choice(n, wrong, replace=False)
    labels[rows] = (labels[rows] + 1) % classes
    return made, labels, set(rows.tolist())


def coded(labels, classes):
    """Two classes are −1 and +1 in one column, more one column each, minus 1 / classes."""
    if classes == BINARY:
        return 2.0 * labels[:, None] - 1
    return np.eye(classes)[labels] - 1 / classes


def fitted_to(made, labels, rule):
    rows = torch.arange(made.n, dtype=torch.float64)
    return lo.fit(made.kernel, (rows, torch.from_numpy(labels[: made.n])), rule=rule)


def query_of(made, labels):
    return torch.from_numpy(made.queries).double(), torch.from_numpy(labels[made.queries])


def scores_without(made, labels, classes, training):
    """(n, c): score of each class at each training point, by the model fitted without it."""
    found = oracles.out_of_sample(made.gram, coded(labels[: made.n], classes), training)
    return np.hstack([-found, found]) if classes == BINARY else found + 1 / classes


def margin(scores, given):
    """Score of the given class minus the best of the others."""
    others = np.delete(scores, given)
    return scores[given] - others.max()
