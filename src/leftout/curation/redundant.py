"""Redundant training examples: `prune`, with the shares and the tolerance of an audit."""

from collections.abc import Iterable, Sequence

from leftout.attribution.engine.group_removal import group_bytes, group_work
from leftout.core.checks import check_between
from leftout.core.work import NO_WORK, WorkCount, product, total_work
from leftout.curation.model_change import model_change_bytes, model_change_work
from leftout.curation.prune import CLASS_TOLERANCE, TOLERANCE, Pruned, prune, removal_counts
from leftout.data.pairs import Data
from leftout.dynamics.fitted import Fitted, dual_work
from leftout.dynamics.rules import At, Rule

GROUP_SHARE = 24
"""Of a model in tiles the inverse within a group takes at most one of so many parts of the memory."""

GROUP_ARRAYS = 6
"""Matrices of the size of a group that its removal takes: 5 were measured, and what smaller ones left."""

FRACTIONS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5)


def redundant(
    fitted: Fitted,
    query: Data,
    *,
    at: At = None,
    fractions: tuple[float, ...] = FRACTIONS,
    tolerance: float = TOLERANCE,
    class_tolerance: float = CLASS_TOLERANCE,
    keep: Iterable[int] = (),
) -> Pruned:
    """Return examples by how little they move the predictions at the queries, and the loss without shares.

    Args:
        fractions: shares of the training set, in (0, 1), to remove together.
        tolerance: relative rise of the mean query loss that is still acceptable.
        class_tolerance: the same of the mean query loss of each class.
        keep: training rows that are not to go: they stand last in the order.

    Cost:
        one pass of `leave_one_out`, and one `leave_out` group for each share.
    """
    for fraction in fractions:
        check_between("fractions", fraction, 0, 1)
    most = most_removed(fitted)
    return prune(
        fitted,
        query,
        at=at,
        shares=[fraction for fraction in fractions if fraction * len(fitted) <= most],
        tolerance=tolerance,
        class_tolerance=class_tolerance,
        keep=keep,
    )


def most_removed(fitted: Fitted) -> int:
    """Return how many examples are removed together at the most: a block of the inverse must fit."""
    return most_removed_of_tiles(fitted.memory) if fitted.is_tiled else len(fitted)


def most_removed_of_tiles(memory: int) -> int:
    """Return how many examples are removed together at the most from a model in tiles."""
    return int((memory / (GROUP_SHARE * 8)) ** 0.5)


def redundant_groups(examples: int) -> tuple[int, ...]:
    """Return the sizes of the groups whose joint removal an audit tries."""
    return tuple(removal_counts(examples, FRACTIONS))


def redundant_work(
    m: int, n: int, k: int, rule: Rule, time: float, groups: Sequence[int], *, memory: int
) -> WorkCount:
    """Return the work of `redundant` with groups of so many rows, the model's resolvents at hand."""
    removals = total_work(group_work(rule, time, n, size, k) for size in groups) if time > 0 else NO_WORK
    effects = product(m, n, k * len(groups))
    return model_change_work(m, n, k, time, memory) + 2 * dual_work(n, time) + removals + effects


def redundant_bytes(
    m: int, n: int, k: int, rule: Rule, time: float, groups: Sequence[int], *, memory: int
) -> int:
    """Return the bytes of a block of changes, or of the largest fit of what remains if that is more."""
    refits = max((group_bytes(rule, time, n, size) for size in groups), default=0)
    return max(model_change_bytes(m, n, k, memory), refits)
