"""When was each example learned, was it understood or only memorised, and when should training stop?

An example is learned from the first time after which the model predicts its label until the last time. It is
understood if the model fitted without it predicts the label too; otherwise it is known by heart: wrong labels
mostly, and examples unlike any other.

No held-out data is needed to choose an early stop: at every time each example is predicted exactly by the
model fitted to all the others. Training should stop where the mean of these losses is lowest.
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
from leftout.dynamics.fitted import Fitted, check_fitted
from leftout.dynamics.rules import At, GradientDescent

HALF = 0.5
"""A number is predicted right if its error is at most this share of the root mean square error before
training: three quarters of the variance are then explained."""

TOLERANCE = 0.01
"""Share of the lowest loss by which the end of the curve must be worse for a stop to be suggested."""


class Kind(StrEnum):
    """Whether an example is predicted right from the other examples, only by heart, or not at all."""

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
        reason: the suggestion in one sentence.
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
        time_index: position in `times` of the time that `kinds` are for.
        fitted_loss, left_out_loss: mean over the training examples of ½ Σ (f − y)², at each time, by
            the model fitted to all of them and by the models fitted without the example itself.
        from_others, by_heart: shares of the training examples at each time; the rest is not learned.
        learned_at: for each example, the first time from which on it is predicted right until the last;
            None where it is not right at the last.
        understood_at: the same for the prediction without it.
        kinds: for each example.
        order: rows, those learned last first; those never learned before all, and of one time those
            with the largest left-out loss at the suggested stop first.
        stop: the early stopping time.
    """

    times: tuple[float, ...]
    time_index: int
    fitted_loss: tuple[float, ...]
    left_out_loss: tuple[float, ...]
    from_others: tuple[float, ...]
    by_heart: tuple[float, ...]
    learned_at: tuple[float | None, ...]
    understood_at: tuple[float | None, ...]
    kinds: tuple[Kind, ...]
    order: tuple[int, ...]
    stop: Stop


def learned(fitted: Fitted, at: At | Sequence[At] = None, *, kinds_at: float | None = None) -> Learned:
    """Return when each training example was learned, whether from the others or by heart, and an early stop.

    A class is predicted right if its margin is above 0; a number, if its error (over all outputs) is at most
    half the root mean square error that the training examples have before training.

    Args:
        fitted: from `fit`, under a rule with training time.
        at: training times of the curve; None for `training_times`.
        kinds_at: the time that `kinds` are for, inf for the end; added to the curve where it is not on it.
            None for the last time of the curve.

    Raises:
        OptionError: a rule without training time, or fewer than two times.

    Cost:
        that of `trajectory`.

    Example:
        >>> import leftout as lo
        >>> train, _ = lo.load("digits", n_train=40, n_query=10)
        >>> fitted = lo.fit(lo.kernels.TwoLayerReLU(), train, rule=lo.GradientFlow())
        >>> found = lo.learned(fitted, [1, 10, 100])
        >>> found.kinds[0].value, found.learned_at[0], found.understood_at[0]
        ('by heart', 1.0, None)
        >>> found.stop.suggested  # the left-out loss still falls at the last time
        False
    """
    check_fitted(fitted)
    times = training_times(fitted) if at is None else fitted.times(at)
    kinds_times = () if kinds_at is None else fitted.times(kinds_at)
    times = tuple(sorted({*times, *kinds_times}))
    if len(times) < 2:
        raise OptionError(f"`at` must hold at least two training times; got {times[0]:g} alone.")
    curves = _learning_curve_rows(fitted, times)
    position = times.index(kinds_times[0]) if kinds_times else len(times) - 1
    fitted_right, left_out_right = (_is_right(fitted, curves, name) for name in ("fitted", "left_out"))
    from_others = fitted_right & left_out_right  # (t, n)
    losses = curves["left_out_loss"].values
    stop = early_stop(times, curves["fitted_loss"].values, losses, unit=_unit(fitted))
    since = _since(fitted_right)
    return Learned(
        times=times,
        time_index=position,
        fitted_loss=tuple(curves["fitted_loss"].values.mean(1).tolist()),
        left_out_loss=tuple(losses.mean(1).tolist()),
        from_others=tuple(from_others.mean(1).tolist()),
        by_heart=tuple((fitted_right & ~left_out_right).mean(1).tolist()),
        learned_at=_times_at(since, times),
        understood_at=_times_at(_since(left_out_right), times),
        kinds=tuple(map(_kind, fitted_right[position].tolist(), left_out_right[position].tolist())),
        order=tuple(np.lexsort((-losses[times.index(stop.at)], -since)).tolist()),
        stop=stop,
    )


def _learning_curve_rows(fitted: Fitted, times: Sequence[float]) -> xr.Dataset:
    """Return losses and margins at all times, computed for as many times at once as fit the memory."""
    curves = []
    for block in blocks(len(times), max(1, fitted.memory // time_bytes(fitted.residual.numel()))):
        curve = trajectory(fitted, times[block])
        curves.append(curve.drop_vars(["fitted", "left_out"]).drop_dims("output", errors="ignore"))
    return xr.concat(curves, dim="at", data_vars="all")


def early_stop(
    times: Sequence[float],
    fitted_loss: Float64[np.ndarray, "t n"],
    left_out_loss: Float64[np.ndarray, "t n"],
    *,
    unit: str = "time",
) -> Stop:
    """Return the time of the lowest mean left-out loss, and the times within a standard error of it.

    Args:
        times: ascending.
        unit: "time", or "step" for descent, as worded in the reason.
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
    (at, fitted_loss, left_out_loss), (end, end_fitted, end_left_out) = curve
    if suggested:
        return (
            f"Stop at {_time(at, unit)}: training on, to {_time(end, unit)}, lowers the loss on what it "
            f"has seen, from {_loss(fitted_loss)} to {_loss(end_fitted)}, and raises it on what it has not, "
            f"from {_loss(left_out_loss)} to {_loss(end_left_out)}."
        )
    lowest = "No early stop: the loss on what it has not seen is lowest at"
    if edge == "last":
        return f"{lowest} the last time of the curve, {_time(at, unit)}."
    if edge == "first":
        return (
            f"{lowest} the first time of the curve, {_time(at, unit)}: what is learned from some "
            "examples does not carry over to the others."
        )
    return (
        f"{lowest} {_time(at, unit)}, {_loss(left_out_loss)}, and training on to {_time(end, unit)} "
        f"leaves it at {_loss(end_left_out)}, no more than a standard error or 1 % above."
    )


def _time(time: float, unit: str) -> str:
    if time == np.inf:
        return "the end of training"
    return f"step {time:g}" if unit == "step" else f"t = {time:g}"


def _loss(loss: float) -> str:
    return f"{loss:.3g}" if loss >= 1e-3 else "below 0.001"


def _unit(fitted: Fitted) -> str:
    return "step" if isinstance(fitted.rule, GradientDescent) else "time"


def _is_right(fitted: Fitted, curves: xr.Dataset, name: str) -> Bool[np.ndarray, "t n"]:
    """Return whether each example is predicted right at each time."""
    if fitted.train.labels is not None:
        return curves[f"{name}_margin"].values > 0
    before = fitted.by_example(fitted.residual).square().sum(1).mean().item()
    return 2 * curves[f"{name}_loss"].values <= HALF**2 * before


def _since(right: Bool[np.ndarray, "t n"]) -> np.ndarray:
    """Return the position of the time from which on each example is right; t if it is not at last."""
    wrong = ~right[::-1]
    return len(right) - np.where(wrong.any(0), wrong.argmax(0), len(right))


def _times_at(since: np.ndarray, times: Sequence[float]) -> tuple[float | None, ...]:
    return tuple(times[j] if j < len(times) else None for j in since.tolist())


def _kind(right: bool, understood: bool) -> Kind:
    if not right:
        return Kind.NOT_LEARNED
    return Kind.FROM_OTHERS if understood else Kind.BY_HEART
