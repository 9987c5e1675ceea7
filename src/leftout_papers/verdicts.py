"""Whether a measurement supports a published statement, contradicts it, or leaves it open.

A statement agrees where the measurement excludes its contrary, differs where it excludes the statement,
and is open where it excludes neither: a measurement too coarse to contradict cannot agree either.
"""

from collections.abc import Sequence

from scipy.stats import kendalltau

from leftout_papers.exhibit import Holds

SURE = 0.05
"""Significance level of a trend."""


def rises(values: Sequence[float]) -> Holds:
    """Return whether values rise along the list, by Kendall's tau over all of them.

    Its distribution over all orders is exact: of four values all must rise, and three or fewer are too
    few for a verdict.
    """
    if len(set(values)) < 2:
        return "open"
    rising, falling = (
        kendalltau(range(len(values)), values, method=_method(values), alternative=way).pvalue
        for way in ("greater", "less")
    )
    return True if rising < SURE else False if falling < SURE else "open"


def _method(values: Sequence[float]) -> str:
    # The exact distribution is known only without ties.
    return "exact" if len(set(values)) == len(values) else "auto"


def at_most(limit: float, low: float, high: float, *, beyond: float) -> Holds:
    """Return whether an exponent with the confidence interval (low, high) is at most `limit`.

    Args:
        beyond: an exponent that contradicts the statement; the interval of one that agrees excludes it.
    """
    if low > limit:
        return False
    return True if high < beyond else "open"


def both(first: Holds, second: Holds) -> Holds:
    """Return whether two statements hold together."""
    if first is False or second is False:
        return False
    return True if first is True and second is True else "open"
