"""What could go without loss? An order of removal, and what removing the first so many really does.

Examples go first whose absence moves the predictions at the queries least. Single effects do not add
up - of two copies each alone is redundant, both together are not - so the effect of removing the first
1 %, 5 %, … *together* is computed exactly, and the suggested stop is read off that.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.attribution.instants import instants
from leftout.attribution.leave_out import leave_out
from leftout.attribution.queries import prediction_changes, queries_of, query_blocks
from leftout.core.checks import check_at_least, check_between
from leftout.data.pairs import Data
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.rules import At

FRACTIONS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5)

QUERIES = 256
"""In a block: not as many as the free memory allows, which would round sums otherwise every day."""


@dataclass(frozen=True)
class Redundant:
    """An order of removal and its exact joint effects.

    Attributes:
        order: training rows, first to remove first.
        fractions: shares removed, beginning with 0.
        counts: rows removed at each.
        loss: mean query loss without the first `counts` of the order, exactly.
        accuracy: share of queries right; None for regression.
        stop: rows that can go by the tolerance asked for; 0 = none.
        reason: one sentence for a person.
    """

    order: tuple[int, ...]
    fractions: tuple[float, ...]
    counts: tuple[int, ...]
    loss: tuple[float, ...]
    accuracy: tuple[float, ...] | None
    stop: int
    reason: str


def redundant(
    fitted: Fitted,
    query: Data,
    *,
    at: At = None,
    fractions: tuple[float, ...] = FRACTIONS,
    tolerance: float = 0.01,
) -> Redundant:
    """Return an order of removal with the exact joint effect of removing its first shares.

    Args:
        fractions: shares of the training set, in (0, 1), to remove together.
        tolerance: relative rise of the mean query loss that is still acceptable.

    Cost:
        one pass of `leave_one_out`, and one `leave_out` group a share.
    """
    for fraction in fractions:
        check_between("fractions", fraction, 0, 1)
    check_at_least("tolerance", tolerance, 0)
    examples = queries_of(fitted, query)
    # In float32 exact copies tie, and keep their order, however their sums were rounded.
    order = _moves(fitted, examples, at).float().argsort(stable=True).tolist()
    n = len(fitted)
    counts = [0, *sorted({max(1, min(n - 1, round(f * n))) for f in fractions if n > 1})]
    base = fitted.predict(examples, at).cpu()
    predictions = [base]
    if counts[1:]:
        groups = [order[:count] for count in counts[1:]]
        change = torch.from_numpy(
            leave_out(fitted, examples, groups, at=at, of="prediction").values
        )
        predictions += [base - change[:, j] for j in range(len(groups))]  # (m, k) each
    loss = [float(((p - examples.targets) ** 2).sum(1).mean() / 2) for p in predictions]
    accuracy = None
    if examples.labels is not None:
        right = [(examples.encoding.decode(p) == examples.labels) for p in predictions]
        accuracy = tuple(float(one.double().mean()) for one in right)
    stop = _stop(counts, loss, tolerance)
    shares = tuple(count / n for count in counts)
    reason = "No removal was tried, so nothing is known to be redundant."
    if counts[1:]:
        reason = _reason(n, stop, loss[counts.index(stop)], loss[0], tolerance)
    return Redundant(tuple(order), shares, tuple(counts), tuple(loss), accuracy, stop, reason)


def _moves(fitted: Fitted, examples: Data, at: At) -> Float64[Tensor, " n"]:
    """Return, for each training example, how far its absence moves predictions: mean of ½ ‖Δf‖²."""
    (moment,) = instants(fitted, fitted.times(at), total=len(fitted) - 1)
    total = torch.zeros(len(fitted), dtype=torch.float64)
    queries = queries_of(fitted, examples)
    fitting = max(1, fitted.memory // (8 * 8 * len(fitted) * fitted.residual.shape[1]))
    for block in query_blocks(fitted, queries, size=min(QUERIES, fitting)):
        total += prediction_changes(moment, block).square().sum((0, 2)).cpu() / 2
    return total / len(queries)


def _stop(counts: list[int], loss: list[float], tolerance: float) -> int:
    """Return the last count up to which the loss never rose beyond the tolerance."""
    stop = 0
    for count, value in zip(counts, loss, strict=True):
        if value > loss[0] * (1 + tolerance):
            break
        stop = count
    return stop


def _reason(n: int, stop: int, loss: float, base: float, tolerance: float) -> str:
    if stop == 0:
        return (
            f"Even the smallest share tried raises the mean query loss by more than {tolerance:.0%}: "
            "nothing is redundant at these queries."
        )
    return (
        f"The first {stop} of {n} examples in this order ({stop / n:.0%}) can go together: the mean "
        f"query loss becomes {loss:.4g}, from {base:.4g}, within the tolerance of {tolerance:.0%}."
    )
