"""Redundant training examples: `prune`, with the shares and the tolerance of an audit."""

from leftout.core.checks import check_between
from leftout.curation.prune import Pruned, prune
from leftout.data.pairs import Data
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.rules import At

FRACTIONS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5)


def redundant(
    fitted: Fitted,
    query: Data,
    *,
    at: At = None,
    fractions: tuple[float, ...] = FRACTIONS,
    tolerance: float = 0.01,
) -> Pruned:
    """Return examples by how little they move the predictions at the queries, and the loss without shares.

    Args:
        fractions: shares of the training set, in (0, 1), to remove together.
        tolerance: relative rise of the mean query loss that is still acceptable.

    Cost:
        one pass of `leave_one_out`, and one `leave_out` group for each share.
    """
    for fraction in fractions:
        check_between("fractions", fraction, 0, 1)
    return prune(fitted, query, at=at, shares=fractions, tolerance=tolerance)
