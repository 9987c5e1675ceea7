"""In which order can examples be removed, and how does the model predict without the first of them?

An order sorts examples by how far the model moves without each of them alone: computed once ("least",
"most"), or again for the remaining examples after every round ("iterative": of two copies either can go, but
not both). The curve is no sum over single examples: each of its points is the exact model without all
examples up to there, without training.

Examples can go as long as the queries exclude that this harms: the mean query loss and that of every class
stay within a tolerance with all their uncertainty (`loss_change`). A rare class has few queries, so its
examples cannot go unnoticed.
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
from leftout.core.checks import (
    check_at_least,
    check_between,
    check_choice,
    check_index,
    check_seed,
    row_numbers,
    shown,
)
from leftout.core.errors import OptionError
from leftout.curation.loss_change import LEVEL, LossChange, loss_changes, worst_change
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


TOLERANCE = 0.01
"""Rise of the mean query loss that is accepted where nothing else is asked, as a share of it."""

CLASS_TOLERANCE = 0.05
"""The same of the mean loss of a class: a removal of no use to anybody moves it by less."""


@dataclass(frozen=True)
class Pruned:
    """An order of removal, and the query loss without its first examples. Made by `prune`.

    Attributes:
        order: training rows, first to go first.
        shares: of the training examples removed, beginning with 0.
        counts: rows removed at each.
        loss: mean query loss without the first `counts` of the order, exactly.
        accuracy: share of queries right; None for regression.
        stop: number of examples that can go, as the queries exclude that this harms them or a class of them
            beyond what is tolerated; 0 = none.
        reason: the result in one sentence.
        kind: "least", "most", "random" or "iterative".
        by: "function" or "weights", the measure of `information`.
        rule, time: of training; inf is the end.
        information: in each row, in the order of removal, in nats, when its place was decided; None
            for a random order.
        train, query: fingerprints of the examples.
        changes: of the loss at each count but 0, over all queries and in every class, with upper bounds that
            hold together at 95 %.
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
    changes: tuple[tuple[LossChange, ...], ...] = ()

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
    tolerance: float = TOLERANCE,
    class_tolerance: float = CLASS_TOLERANCE,
    keep: Iterable[int] = (),
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
        class_tolerance: the same of the mean query loss of each class.
        keep: training rows that are not to go: they stand last in the order, and no share goes that far.

    Raises:
        OptionError: an unknown order or measure; a share, step or tolerance out of range; a row that is none.
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
    check_at_least("class_tolerance", class_tolerance, 0)
    check_seed(seed)
    time = one_time(fitted, at)
    fitted.check_kernel_fixed()
    examples = queries_of(fitted, query)
    n = len(fitted)
    kept = _rows_to_keep(keep, n)
    counts = [0, *(count for count in removal_counts(n, fractions) if count <= n - len(kept))]
    if order == "random":
        generator = torch.Generator().manual_seed(int(seed))
        rows, information = torch.randperm(n, generator=generator, device="cpu").tolist(), None
    elif order == "iterative":
        # Rows that are to stay take part in the rounds, and stand last only afterwards.
        until = min(n - 1, counts[-1] + len(kept))
        rows, information = removal_rounds(fitted, examples, time, by, step=step, until=until)
    else:
        changes = model_change(fitted, examples, time, by)
        rows, information = _order_by_information(changes, most=order == "most")
    if kept:
        last = sorted(range(n), key=lambda place: rows[place] in kept)  # stable
        rows = [rows[place] for place in last]
        information = None if information is None else [information[place] for place in last]
    predictions = _predictions(fitted, examples, rows, counts, time)
    loss, accuracy = loss_and_accuracy(predictions, examples, fitted.rule.example_loss)
    of_loss = _changes(predictions, examples, fitted.rule.example_loss, (tolerance, class_tolerance))
    stop = _stop(counts, of_loss)
    return Pruned(
        order=tuple(rows),
        shares=tuple(count / n for count in counts),
        counts=tuple(counts),
        loss=tuple(loss),
        accuracy=accuracy,
        stop=stop,
        reason=_reason(n, counts, stop, of_loss),
        kind=order,
        by=by,
        rule=fitted.rule,
        time=time,
        information=None if information is None else tuple(information),
        train=fitted.train.fingerprint,
        query=examples.fingerprint,
        changes=of_loss,
    )


def _rows_to_keep(keep: Iterable[int], n: int) -> set[int]:
    """Return the rows that are not to go, each checked."""
    rows = row_numbers("keep", keep)
    for row in rows:
        check_index("keep", row, n)
    return set(rows)


def removal_counts(n: int, shares: Iterable[float]) -> list[int]:
    """Return how many of n examples go for each share: at least one, and never all."""
    return sorted({max(1, min(n - 1, round(share * n))) for share in shares if n > 1})


def one_time(fitted: Fitted, at: At) -> float:
    """Return a training time as a number; raise unless it is one."""
    times = fitted.times(at)
    if len(times) != 1:
        raise OptionError(f"`at` must be one training time; got {len(times)}. Ask for each by itself.")
    return times[0]


def _order_by_information(changes: Float64[Tensor, " n"], *, most: bool) -> tuple[list[int], list[float]]:
    """Return training rows by their information, first to go first, and that information."""
    rows = smallest_first(changes).tolist()
    rows = rows[::-1] if most else rows
    return rows, changes[rows].tolist()


def _predictions(
    fitted: Fitted, query: Examples, order: list[int], counts: list[int], time: float
) -> list[Float64[Tensor, "m k"]]:
    """Return predictions with everyone, and without the first so many."""
    at = None if time == math.inf else time
    predictions = [fitted.predict(query, at).cpu()]
    if counts[1:]:
        groups = [order[:count] for count in counts[1:]]
        change = torch.from_numpy(leave_out(fitted, query, groups, at=at, of="prediction").values)
        predictions += [predictions[0] - change[:, j] for j in range(len(groups))]  # (m, k) each
    return predictions


def loss_and_accuracy(
    predictions: Sequence[Float64[Tensor, "m k"]], query: Examples, loss: ExampleLoss
) -> tuple[list[float], tuple[float, ...] | None]:
    """Return the mean loss of each prediction, and the share that is right where there are classes."""
    losses = [loss.mean(predicted, query.targets) for predicted in predictions]
    right = [query.accuracy(predicted) for predicted in predictions]
    return losses, tuple(predicted for predicted in right if predicted is not None) or None


def _changes(
    predictions: Sequence[Float64[Tensor, "m k"]],
    query: Examples,
    loss: ExampleLoss,
    tolerances: tuple[float, float],
) -> tuple[tuple[LossChange, ...], ...]:
    """Return what each removal does to the loss, over all queries and in every class."""
    everyone, *without = predictions
    labels = None if query.labels is None else query.labels.numpy()
    classes = () if labels is None or query.classes is None else query.classes
    right = None if labels is None else query.is_right(everyone).numpy()
    before = loss.of(everyone, query.targets).numpy()
    return tuple(
        loss_changes(
            before,
            loss.change(everyone, predicted - everyone, query.targets).numpy(),
            tolerances=tolerances,
            tests=len(without) * (1 + len(classes)),
            labels=labels,
            classes=classes,
            right=None if right is None else (right, query.is_right(predicted).numpy()),
        )
        for predicted in without
    )


def _stop(counts: list[int], changes: tuple[tuple[LossChange, ...], ...]) -> int:
    """Return the last count up to which every harm beyond what is tolerated is excluded."""
    stop = 0
    for count, of_count in zip(counts[1:], changes, strict=True):
        if not all(change.is_harmless for change in of_count):
            break
        stop = count
    return stop


def _reason(n: int, counts: list[int], stop: int, changes: tuple[tuple[LossChange, ...], ...]) -> str:
    if not counts[1:]:
        return "No removal was tried, so nothing is known to be redundant."
    together = f"All upper ends hold together at {LEVEL:.0%}."
    if stop == 0:
        fault = next(change for change in changes[0] if not change.is_harmless)
        first = "first example" if counts[1] == 1 else f"first {counts[1]} examples"
        return f"Nothing is redundant at these queries: without the {first}, {_harm(fault)}. {together}"
    mean, worst = changes[counts.index(stop) - 1][0], worst_change(changes[counts.index(stop) - 1])
    of_class = "" if worst is None else f", and {_loss_name(worst)} by {worst.text}{_tolerance_text(worst)}"
    return (
        f"The first {stop} of {n} examples in this order ({stop / n:.0%}) can go together: "
        f"{_loss_name(mean)} changes by {mean.text}{_tolerance_text(mean)}{of_class}. {together}"
    )


def _loss_name(change: LossChange) -> str:
    """Return which loss changes."""
    if not change.of:
        return "the mean query loss"
    queries = "1 query" if change.queries == 1 else f"{change.queries} queries"
    return f"the loss of class {change.of!r} ({queries})"


def _tolerance_text(change: LossChange) -> str:
    """Return the rise that would be accepted."""
    share = change.tolerated / change.before if change.before > 0 else 0.0
    return f", where {share:.0%} is accepted"


def _harm(change: LossChange) -> str:
    """Return what speaks against a removal."""
    if change.queries < 2:
        return f"how {_loss_name(change)} changes cannot be told from so few queries"
    if change.less_accurate:
        of_class = f" of class {change.of!r}" if change.of else ""
        return f"more queries{of_class} turn wrong than chance explains"
    return f"{_loss_name(change)} changes by {change.text}{_tolerance_text(change)}"
