"""In which order can examples be removed, and how does the model predict without the first of them?

An order sorts examples by how far the model moves without each of them alone: computed once ("least",
"most"), or again for the remaining examples after every round ("iterative": of two copies either can go, but
not both). The curve is no sum over single examples: each of its points is the exact model without all
examples up to there, without training.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd
import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.attribution.engine.query_blocks import queries_of
from leftout.attribution.leave_out import leave_out
from leftout.core.checks import check_at_least, check_between, check_choice, check_seed, shown
from leftout.core.errors import OptionError
from leftout.curation.model_change import MEASURES, By, model_change
from leftout.curation.reduced_model import removal_rounds, smallest_first
from leftout.data.examples import Examples
from leftout.data.pairs import Data
from leftout.dynamics.fitted import Fitted, check_fitted
from leftout.dynamics.losses import ExampleLoss
from leftout.dynamics.rules import At, Rule

Order = Literal["least", "most", "random", "iterative"]
ORDERS: tuple[Order, ...] = ("least", "most", "random", "iterative")

SHARES = tuple(0.95 * j / 20 for j in range(1, 21))
"""Shares of the training set at which the curve is computed, those of the paper."""

STEP = 0.05
"""Share of the remaining examples removed in a round of the iterative order, as in the paper's program."""


@dataclass(frozen=True)
class Pruned:
    """An order of removal, and the query loss without its first examples. Made by `prune`.

    Attributes:
        order: training rows, first to go first.
        shares: of the training examples removed, beginning with 0.
        counts: rows removed at each.
        loss: mean query loss without the first `counts` of the order, exactly.
        accuracy: share of queries right; None for regression.
        stop: number of examples that can go within the tolerance; 0 = none.
        reason: the result in one sentence.
        kind: "least", "most", "random" or "iterative".
        by: "function" or "weights", the measure of `information`.
        rule, time: of training; inf is the end.
        information: in each row, in the order of removal, in nats, when its place was decided; None
            for a random order.
        train, query: fingerprints of the examples.
    """

    order: tuple[int, ...]
    shares: tuple[float, ...]
    counts: tuple[int, ...]
    loss: tuple[float, ...]
    accuracy: tuple[float, ...] | None
    stop: int
    reason: str
    kind: Order = "least"
    by: By = "function"
    rule: Rule | None = None
    time: float = math.inf
    information: tuple[float, ...] | None = None
    train: str = ""
    query: str = ""

    @property
    def by_row(self) -> Float64[Tensor, " n"]:
        """Return the information in each training example, in the order of the data.

        Raises:
            OptionError: a random order, which measures no information.
        """
        if self.information is None:
            raise OptionError("A random order measures no information, so there is none by row.")
        by_row = torch.empty(len(self.order), dtype=torch.float64, device="cpu")
        by_row[list(self.order)] = torch.tensor(self.information, dtype=torch.float64, device="cpu")
        return by_row

    def to_frame(self) -> pd.DataFrame:
        """Return the curve as a table: a row for each count."""
        columns = {"count": self.counts, "share": self.shares, "query_loss": self.loss}
        if self.accuracy is not None:
            columns["query_accuracy"] = self.accuracy
        return pd.DataFrame(columns)


def prune(
    fitted: Fitted,
    query: Data,
    *,
    at: At = None,
    order: Order = "least",
    by: By = "function",
    shares: Iterable[float] | None = None,
    seed: int = 0,
    step: float = STEP,
    tolerance: float = 0.01,
) -> Pruned:
    """Return an order of removal with the exact joint effect of removing its first shares.

    Args:
        at: training time; None is the end.
        order: "least" informative first, "most" informative first, "random", or "iterative": least
            informative first, measured again for the remaining examples after every round.
        by: "function", information about the answers at the queries; or "weights".
        shares: of the training set, in (0, 1), to remove together; None for the paper's twenty up to 0.95.
        seed: of the random order.
        step: share of the remaining examples that goes in a round of "iterative", at least one example.
        tolerance: relative rise of the mean query loss that is still acceptable at the stop.

    Raises:
        OptionError: an unknown order or measure; a share, step or tolerance out of range.
        MemoryBudgetError: for "iterative", the matrices of a round would not fit.

    Cost:
        "least", "most": one pass of `leave_one_out` (by weights 2n³k). "iterative": at the end of training
        0.7n³ and 0.7n² for each query, as the inverse is downdated; at finite times, or under a mean loss,
        seven times that of "least", factorisation included. Then one `leave_out` group for each share.

    Source:
        Smooth unique information, section 5 and figure 2c.

    Example:
        >>> import leftout as lo
        >>> train, query = lo.load("digits", n_train=40, n_query=10)
        >>> fitted = lo.fit(lo.kernels.TwoLayerReLU(), train, rule=lo.Ridge(0.1))
        >>> pruned = lo.prune(fitted, query, shares=[0.1, 0.5])
        >>> pruned.counts, [round(loss, 3) for loss in pruned.loss]
        ((0, 4, 20), [0.225, 0.23, 0.305])
        >>> pruned.order[:4]  # the least informative examples, first to go first
        (16, 26, 15, 36)
    """
    check_fitted(fitted)
    check_choice("order", order, ORDERS)
    check_choice("by", by, MEASURES)
    if shares is not None and not isinstance(shares, Iterable):
        raise OptionError(f"`shares` must be several numbers in (0, 1), as [0.1, 0.5]; got {shown(shares)}.")
    fractions = SHARES if shares is None else tuple(shares)
    for share in fractions:
        check_between("shares", share, 0, 1)
    check_between("step", step, 0, 1)
    check_at_least("tolerance", tolerance, 0)
    check_seed(seed)
    time = one_time(fitted, at)
    fitted.check_kernel_fixed()
    examples = queries_of(fitted, query)
    n = len(fitted)
    counts = [0, *removal_counts(n, fractions)]
    if order == "random":
        generator = torch.Generator().manual_seed(int(seed))
        rows, information = torch.randperm(n, generator=generator, device="cpu").tolist(), None
    elif order == "iterative":
        rows, information = removal_rounds(fitted, examples, time, by, step=step, until=counts[-1])
    else:
        rows, information = _order_by_information(fitted, examples, time, by, most=order == "most")
    loss, accuracy = _curve(fitted, examples, rows, counts, time)
    stop = _stop(counts, loss, tolerance)
    return Pruned(
        order=tuple(rows),
        shares=tuple(count / n for count in counts),
        counts=tuple(counts),
        loss=tuple(loss),
        accuracy=accuracy,
        stop=stop,
        reason=_reason(n, counts, stop, loss, tolerance),
        kind=order,
        by=by,
        rule=fitted.rule,
        time=time,
        information=None if information is None else tuple(information),
        train=fitted.train.fingerprint,
        query=examples.fingerprint,
    )


def removal_counts(n: int, shares: Iterable[float]) -> list[int]:
    """Return how many of n examples go for each share: at least one, and never all."""
    return sorted({max(1, min(n - 1, round(share * n))) for share in shares if n > 1})


def one_time(fitted: Fitted, at: At) -> float:
    """Return a training time as a number; raise unless it is one."""
    times = fitted.times(at)
    if len(times) != 1:
        raise OptionError(f"`at` must be one training time; got {len(times)}. Ask for each by itself.")
    return times[0]


def _order_by_information(
    fitted: Fitted, query: Examples, time: float, by: By, *, most: bool
) -> tuple[list[int], list[float]]:
    """Return training rows by their information, first to go first, and that information."""
    changes = model_change(fitted, query, time, by)
    rows = smallest_first(changes).tolist()
    rows = rows[::-1] if most else rows
    return rows, changes[rows].tolist()


def _curve(
    fitted: Fitted, query: Examples, order: list[int], counts: list[int], time: float
) -> tuple[list[float], tuple[float, ...] | None]:
    """Return mean loss, and accuracy where there are classes, without the first so many."""
    at = None if time == math.inf else time
    predictions = [fitted.predict(query, at).cpu()]
    if counts[1:]:
        groups = [order[:count] for count in counts[1:]]
        change = torch.from_numpy(leave_out(fitted, query, groups, at=at, of="prediction").values)
        predictions += [predictions[0] - change[:, j] for j in range(len(groups))]  # (m, k) each
    return loss_and_accuracy(predictions, query, fitted.rule.example_loss)


def loss_and_accuracy(
    predictions: Sequence[Float64[Tensor, "m k"]], query: Examples, loss: ExampleLoss
) -> tuple[list[float], tuple[float, ...] | None]:
    """Return the mean loss of each prediction, and the share that is right where there are classes."""
    losses = [loss.mean(predicted, query.targets) for predicted in predictions]
    right = [query.accuracy(predicted) for predicted in predictions]
    return losses, tuple(predicted for predicted in right if predicted is not None) or None


def _stop(counts: list[int], loss: list[float], tolerance: float) -> int:
    """Return the last count up to which the loss never rose beyond the tolerance."""
    stop = 0
    for count, point in zip(counts, loss, strict=True):
        if point > loss[0] * (1 + tolerance):
            break
        stop = count
    return stop


def _reason(n: int, counts: list[int], stop: int, loss: list[float], tolerance: float) -> str:
    if not counts[1:]:
        return "No removal was tried, so nothing is known to be redundant."
    if stop == 0:
        return (
            f"Even the smallest share tried raises the mean query loss by more than {tolerance:.0%}: "
            "nothing is redundant at these queries."
        )
    return (
        f"The first {stop} of {n} examples in this order ({stop / n:.0%}) can go together: the mean "
        f"query loss becomes {loss[counts.index(stop)]:.4g}, from {loss[0]:.4g}, within the tolerance "
        f"of {tolerance:.0%}."
    )
