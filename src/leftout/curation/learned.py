"""When was each example learned, was it understood or only memorised, and when should training stop?

An example is learned from the time on at which the model says its label, and stays with it. It is
understood if a model that never saw it says so too: then the others taught it. What is right only because
it was seen is known by heart - wrong labels, mostly, and what is like nothing else.

What training on does for examples that were not seen is known without any held-out data: each is predicted
by the model of all the others, exactly, at every time. Where the mean of those losses is lowest, training
should stop.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float64

from leftout.attribution.trajectory import time_bytes, training_times, trajectory
from leftout.core.blocks import blocks
from leftout.core.errors import OptionError
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.rules import At, GradientDescent

HALF = 0.5
"""A number is said right if the error is below half the root mean square error before training: three
quarters of what there was to explain."""

TOLERANCE = 0.01
"""Share of the lowest loss by which the end of the curve must be worse for a stop to be worth a word."""


class Kind(StrEnum):
    """How an example is known."""

    FROM_OTHERS = "from the others"
    BY_HEART = "by heart"
    NOT_LEARNED = "not learned"


@dataclass(frozen=True)
class Stop:
    """Where the curve of left-out losses is lowest, and whether training should stop there.

    Attributes:
        at: the time of the lowest mean left-out loss.
        fitted_loss, left_out_loss: mean losses there.
        earliest, latest: times around it, without a gap, at which the mean left-out loss is within
            one standard error of the lowest, of differences example by example; no confidence
            interval, as left-out predictions share their training examples.
        edge: "first" or "last" where `at` is that time of the curve, which then has no bottom.
        suggested: whether `at` is within the curve, and the end of the curve is worse by more than one
            standard error and by more than 1 %.
        reason: one sentence for a person.
    """

    at: float
    fitted_loss: float
    left_out_loss: float
    earliest: float
    latest: float
    edge: str | None
    suggested: bool
    reason: str


@dataclass(frozen=True)
class Learned:
    """When every training example was learned, and how.

    Attributes:
        times: of the curve, ascending.
        judged: position in `times` of the time at which `kinds` are told.
        fitted_loss, left_out_loss: mean over the training examples of ½ Σ (f − y)², at each time, by
            the model that saw them and by models that did not see the one that is asked about.
        from_others, by_heart: shares of the training examples at each time; the rest is not learned.
        learned_at: for each example, the first time from which on it is said right until the last;
            None where it is not right at the last.
        understood_at: the same for the prediction without it.
        kinds: for each example.
        order: rows, those learned last first; those never learned before all, and of one time those
            with the largest left-out loss at the suggested stop first.
        stop: the early stopping time.
    """

    times: tuple[float, ...]
    judged: int
    fitted_loss: tuple[float, ...]
    left_out_loss: tuple[float, ...]
    from_others: tuple[float, ...]
    by_heart: tuple[float, ...]
    learned_at: tuple[float | None, ...]
    understood_at: tuple[float | None, ...]
    kinds: tuple[Kind, ...]
    order: tuple[int, ...]
    stop: Stop


def learned(fitted: Fitted, at: At | Sequence[At] = None, *, judged: float | None = None) -> Learned:
    """Return when each training example was learned, from whom, and when training should stop.

    Right is: with classes, a margin above 0; for numbers, an error (over all outputs) of at most half
    the root mean square error that the training examples have before training.

    Args:
        fitted: from `fit`, under a rule with training time.
        at: training times of the curve; None for `training_times`.
        judged: the time at which an example is said to be known from the others or by heart, inf for
            the end; added to the curve where it is not on it. The last of the curve if not said.

    Raises:
        OptionError: a rule without training time, or fewer than two times.

    Cost:
        that of `trajectory`.
    """
    times = training_times(fitted) if at is None else fitted.times(at)
    chosen = () if judged is None else fitted.times(judged)
    times = tuple(sorted({*times, *chosen}))
    if len(times) < 2:
        raise OptionError(f"`at` must hold at least two training times; got {times[0]:g} alone.")
    found = _judged(fitted, times)
    position = times.index(chosen[0]) if chosen else len(times) - 1
    right, understood = (_right(fitted, found, name) for name in ("fitted", "left_out"))
    from_others = right & understood  # (t, n)
    losses = found["left_out_loss"].values
    stop = early_stop(times, found["fitted_loss"].values, losses, unit=_unit(fitted))
    since = _since(right)
    return Learned(
        times=times,
        judged=position,
        fitted_loss=tuple(found["fitted_loss"].values.mean(1).tolist()),
        left_out_loss=tuple(losses.mean(1).tolist()),
        from_others=tuple(from_others.mean(1).tolist()),
        by_heart=tuple((right & ~understood).mean(1).tolist()),
        learned_at=_named(since, times),
        understood_at=_named(_since(understood), times),
        kinds=tuple(map(_kind, right[position].tolist(), understood[position].tolist())),
        order=tuple(np.lexsort((-losses[times.index(stop.at)], -since)).tolist()),
        stop=stop,
    )


def _judged(fitted: Fitted, times: Sequence[float]) -> xr.Dataset:
    """Return losses and margins at all times; as many at once as fit, and usually that is all."""
    parts = []
    for some in blocks(len(times), max(1, fitted.memory // time_bytes(fitted.residual.numel()))):
        part = trajectory(fitted, times[some])
        parts.append(part.drop_vars(["fitted", "left_out"]).drop_dims("output", errors="ignore"))
    return xr.concat(parts, dim="at", data_vars="all")


def early_stop(
    times: Sequence[float],
    fitted_loss: Float64[np.ndarray, "t n"],
    left_out_loss: Float64[np.ndarray, "t n"],
    *,
    unit: str = "time",
) -> Stop:
    """Return the time of the lowest mean left-out loss, and what is within a standard error of it.

    Args:
        times: ascending.
        unit: "time", or "step" for descent, as the sentence says it.
    """
    mean = left_out_loss.mean(1)
    best, last = int(mean.argmin()), len(times) - 1
    change = left_out_loss - left_out_loss[best]  # example by example: what all share cancels
    n = change.shape[1]
    error = change.std(1, ddof=1) / np.sqrt(n) if n > 1 else np.zeros(len(times))
    close = change.mean(1) <= error
    earliest = latest = best
    while earliest > 0 and close[earliest - 1]:
        earliest -= 1
    while latest < last and close[latest + 1]:
        latest += 1
    edge = {0: "first", last: "last"}.get(best)
    worse = not close[last] and mean[last] > (1 + TOLERANCE) * mean[best]
    suggested = edge is None and bool(worse)
    curve = [(times[j], float(fitted_loss[j].mean()), float(mean[j])) for j in (best, last)]
    return Stop(
        *curve[0],
        earliest=times[earliest],
        latest=times[latest],
        edge=edge,
        suggested=suggested,
        reason=_reason(curve, edge, suggested, unit),
    )


def _reason(curve: Sequence[tuple[float, float, float]], edge: str | None, suggested: bool, unit: str) -> str:
    (at, seen, unseen), (end, seen_then, unseen_then) = curve
    if suggested:
        return (
            f"Stop at {_said(at, unit)}: training on, to {_said(end, unit)}, lowers the loss on what it "
            f"has seen, from {_loss(seen)} to {_loss(seen_then)}, and raises it on what it has not, "
            f"from {_loss(unseen)} to {_loss(unseen_then)}."
        )
    lowest = "No early stop: the loss on what it has not seen is lowest at"
    if edge == "last":
        return f"{lowest} the last time of the curve, {_said(at, unit)}."
    if edge == "first":
        return (
            f"{lowest} the first time of the curve, {_said(at, unit)}: what is learned from some "
            "examples does not carry over to the others."
        )
    return (
        f"{lowest} {_said(at, unit)}, {_loss(unseen)}, and training on to {_said(end, unit)} "
        f"leaves it at {_loss(unseen_then)}, no more than a standard error or 1 % above."
    )


def _said(time: float, unit: str) -> str:
    if time == np.inf:
        return "the end of training"
    return f"step {time:g}" if unit == "step" else f"t = {time:g}"


def _loss(value: float) -> str:
    return f"{value:.3g}" if value >= 1e-3 else "below 0.001"


def _unit(fitted: Fitted) -> str:
    return "step" if isinstance(fitted.rule, GradientDescent) else "time"


def _right(fitted: Fitted, found: xr.Dataset, name: str) -> Bool[np.ndarray, "t n"]:
    """Return whether each example is said right at each time."""
    if fitted.train.labels is not None:
        return found[f"{name}_margin"].values > 0
    before = fitted.by_example(fitted.residual).square().sum(1).mean().item()
    return 2 * found[f"{name}_loss"].values <= HALF**2 * before


def _since(right: Bool[np.ndarray, "t n"]) -> np.ndarray:
    """Return the position of the time from which on each example is right; t if it is not at last."""
    wrong = ~right[::-1]
    return len(right) - np.where(wrong.any(0), wrong.argmax(0), len(right))


def _named(since: np.ndarray, times: Sequence[float]) -> tuple[float | None, ...]:
    return tuple(times[j] if j < len(times) else None for j in since.tolist())


def _kind(right: bool, understood: bool) -> Kind:
    if not right:
        return Kind.NOT_LEARNED
    return Kind.FROM_OTHERS if understood else Kind.BY_HEART
