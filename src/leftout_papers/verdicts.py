"""Does a measurement say what is published, the contrary, or nothing yet?

A statement agrees where the measurement excludes its contrary, differs where it excludes the statement,
and is open where it excludes neither: a measurement too coarse to differ cannot agree either.
"""

from collections.abc import Sequence

from scipy.stats import kendalltau

from leftout_papers.exhibit import Holds

SURE = 0.05
"""Chance at which a trend would be no trend."""


def rises(values: Sequence[float]) -> Holds:
    """Return whether values rise along the list: all of it counts, not its ends.

    By the exact distribution of Kendall's tau over all orders: of four values all must rise, of
    three or fewer no order says enough.
    """
    if len(set(values)) < 2:
        return "open"
    found = [
        kendalltau(range(len(values)), values, method=_method(values), alternative=way).pvalue
        for way in ("greater", "less")
    ]
    return True if found[0] < SURE else False if found[1] < SURE else "open"


def _method(values: Sequence[float]) -> str:
    # The exact distribution is known without ties.
    return "exact" if len(set(values)) == len(values) else "auto"


def at_most(limit: float, low: float, high: float, *, beyond: float) -> Holds:
    """Return whether an exponent known to lie in (low, high) is at most `limit`.

    Args:
        beyond: an exponent that would speak against it; to agree the interval must exclude that.
    """
    if low > limit:
        return False
    return True if high < beyond else "open"


def both(one: Holds, other: Holds) -> Holds:
    """Return whether two statements hold together."""
    if one is False or other is False:
        return False
    return True if one is True and other is True else "open"
