"""How long does a kernel take? A trial on inputs that are enough to say what a pair of many takes."""

from collections.abc import Callable

ENOUGH = 0.04
"""Seconds of a trial that is well above the grain of clocks and calls."""

LONG = 0.5
"""Seconds of a trial after which there is no longer one."""

GROWTH = 3.0
"""Twice as many inputs take four times as long where all work is in pairs, twice where it is in inputs."""


def tried_inputs(seconds: Callable[[int], float], first: int, most: int) -> tuple[int, float]:
    """Return how many inputs were tried, and the seconds they took: about those of a large matrix, a pair.

    Twice as many until they take long enough, and most of it is in pairs: what a kernel makes of each
    input, such as series of activations, is work that few pairs share in a small trial.

    Args:
        seconds: that so many inputs take.
        first, most: inputs.

    Example:
        >>> tried_inputs(lambda n: 0.1 + 1e-6 * n**2, 2, 4096)
        (1024, 1.148576)
        >>> tried_inputs(lambda n: 0.3 * n**2, 2, 4096)
        (2, 1.2)
    """
    tried, before = min(first, most), float("inf")
    while True:
        took = seconds(tried)
        in_pairs = took > ENOUGH and took > GROWTH * before
        if tried >= most or took > LONG or in_pairs:
            return tried, took
        tried, before = min(2 * tried, most), took
