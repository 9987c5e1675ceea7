"""Joint intervals of paired differences, and the sign test, from their definitions."""

import math

import mpmath


def student(p, freedom):
    """The quantile of Student's t: where the incomplete beta function says that 1 − p lies beyond."""

    def beyond(x):
        return mpmath.betainc(freedom / 2, 0.5, 0, freedom / (freedom + x * x), regularized=True) / 2

    low, high = 0.0, 1.0
    while beyond(high) > 1 - p:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if beyond(middle) > 1 - p else (low, middle)
    return low


def interval(differences, tests, level=0.95):
    """Mean, and bounds that hold with all the others."""
    m = len(differences)
    mean = sum(differences) / m
    spread = math.sqrt(sum((one - mean) ** 2 for one in differences) / (m - 1))
    half = student(1 - (1 - level) / tests, m - 1) * spread / math.sqrt(m)
    return mean, mean - half, mean + half


def chance(lost, won):
    """Probability that of lost + won changes so many or more are losses, if each is as often a gain."""
    changed = lost + won
    return sum(math.comb(changed, j) for j in range(lost, changed + 1)) / 2**changed
