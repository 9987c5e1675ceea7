"""What could go without loss? The beginning of the least informative first, in a few shares.

`prune` answers it; these are the shares that an audit looks at, and the tolerance that it allows.
"""

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
    """Return what moves the predictions at the queries least, and the model without the first shares.

    Args:
        fractions: shares of the training set, in (0, 1), to remove together.
        tolerance: relative rise of the mean query loss that is still acceptable.

    Cost:
        one pass of `leave_one_out`, and one `leave_out` group a share.
    """
    for fraction in fractions:
        check_between("fractions", fraction, 0, 1)
    return prune(fitted, query, at=at, shares=fractions, tolerance=tolerance)
