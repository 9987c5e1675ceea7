"""Calibration and doubt once more, from their definition: one example at a time, no gradient, no shared
code."""

import math

import numpy as np
from scipy.optimize import minimize


def probabilities_of(a, b, scores):
    """softmax(e^a F + b), row by row."""
    rows = []
    for row in scores:
        powers = [math.exp(a) * score + offset for score, offset in zip(row, b, strict=True)]
        top = max(powers)
        terms = [math.exp(power - top) for power in powers]
        rows.append([term / sum(terms) for term in terms])
    return np.array(rows)


def penalised(a, b, scores, labels):
    """What a and b minimise."""
    q = probabilities_of(a, b, scores)
    likelihood = sum(math.log(q[i][label]) for i, label in enumerate(labels))
    return -likelihood + sum(offset**2 for offset in b) / 2 + 0.05 * (a - 2) ** 2


def calibrated(scores, labels):
    """q at the best a and b, by a search that uses differences alone."""
    classes = len(scores[0])
    found = minimize(
        lambda p: penalised(p[0], p[1:], scores, labels),
        [2.0, *[0.0] * classes],
        method="Powell",
        options={"xtol": 1e-10, "ftol": 1e-14, "maxiter": 20_000, "maxfev": 200_000},
    )
    return probabilities_of(found.x[0], found.x[1:], scores)


def wrong(q, labels, noise=0.1):
    """Probability that each label is wrong, by Bayes' rule.

    The given class is right with probability r. It is then seen with probability 1 − noise, and otherwise
    with noise / (c − 1)^0.75: r is found by halving the interval in which these add up to q.
    """
    mistaken = noise / (len(q[0]) - 1) ** 0.75
    found = []
    for row, given in zip(q, labels, strict=True):
        low, high = 0.0, 1.0
        for _ in range(100):
            r = (low + high) / 2
            seen = (1 - noise) * r + mistaken * (1 - r)
            low, high = (r, high) if seen < row[given] else (low, r)
        right, not_right = (1 - noise) * r, mistaken * (1 - r)
        found.append(not_right / (right + not_right))
    return np.array(found)


def doubted(q, labels):
    """Rows that are doubted, whether all are refused, and the suggestion for every row."""
    n = len(labels)
    share = [list(labels).count(c) / n for c in range(len(q[0]))]
    gains = [math.log(q[i][label] / share[label]) for i, label in enumerate(labels)]
    mean = sum(gains) / n
    refused = not mean > 1 / n
    rows, suggestions, wrongs = set(), [], wrong(q, labels)
    for i, given in enumerate(labels):
        best = max((c for c in range(len(q[i])) if c != given), key=lambda c, i=i: q[i][c])
        suggestions.append(best)
        lifted = share[best] == 0 or q[i][best] / share[best] > q[i][given] / share[given]
        if wrongs[i] > 0.25 and lifted:
            rows.add(i)
    return set() if refused else rows, refused, suggestions
