"""What was predicted for each training example at each time, and what follows - from refits.

Beside `oracles`: models fitted again, once with all examples and once without each; loops, no array
tricks, no code shared with the package.
"""

import math

import numpy as np

from oracles import definitions as oracles


def fitted(gram, residual, trainings):
    """(t, n, k): f − f_0 at every training point, of the model trained on all."""
    return np.stack([oracles.predictions(gram, gram, residual, one) for one in trainings])


def left_out(gram, residual, trainings):
    """(t, n, k): f − f_0 at every training point, of the model trained without it."""
    return np.stack([oracles.out_of_sample(gram, residual, one) for one in trainings])


def since(right, times):
    """First time from which on an example is right until the last; None where it is not at last."""
    found = []
    for i in range(len(right[0])):
        time = None
        for j in reversed(range(len(times))):
            if not right[j][i]:
                break
            time = times[j]
        found.append(time)
    return found


def standard_error(values):
    """Of the mean of independent numbers."""
    n = len(values)
    mean = sum(values) / n
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1) / n)


def within_one_standard_error(losses, best):
    """For each time, whether its mean loss is within one of that at `best`, example by example."""
    found = []
    for row in losses:
        differences = [a - b for a, b in zip(row, losses[best], strict=True)]
        found.append(sum(differences) / len(differences) <= standard_error(differences))
    return found
