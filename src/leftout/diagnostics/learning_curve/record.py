"""The record of a learning curve: sizes, errors with intervals, and the learned share of the target."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from jaxtyping import Float64
from torch import Tensor

from leftout.data.examples import Examples


@dataclass(frozen=True)
class MeasuredError:
    """The measured error at a size up to the number of examples.

    Attributes:
        samples: number of disjoint parts that were fitted, each measured on all examples outside it; 1 for
            all examples, each measured by the model without it.
    """

    n: int
    error: float
    accuracy: float | None
    samples: int


@dataclass(frozen=True)
class Mode:
    """Modes of the kernel, one or a few of neighbouring rank.

    Attributes:
        first, last: ranks, from 1.
        eigenvalue: of the kernel as an operator under the mean over examples; of the first.
        share: of the target's mean square that lies in them (`target_modes`).
        now: learnability λ/(λ + κ) at the present size.
        later: the same at each requested size.
    """

    first: int
    last: int
    eigenvalue: float
    share: float
    now: float
    later: tuple[float, ...]


@dataclass(frozen=True)
class ClassCurve:
    """The left-out error of one class.

    Attributes:
        count: examples.
        error: mean left-out squared error of its examples.
        share: of the total left-out squared error.
        later: its error at each requested size.
    """

    name: str
    count: int
    error: float
    share: float
    later: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """Predicted error and accuracy at sample sizes, on examples that the model never saw.

    Attributes:
        examples: the present number of examples.
        n: the requested sizes.
        error: mean over examples of Σ (prediction − target)², summed over outputs: twice the loss.
        error_low, error_high: interval of the expected error.
        accuracy, accuracy_low, accuracy_high: likewise; None for regression.
        extrapolated: whether κ is smaller than the examples reach, so that powers of κ are used.
        confidence: of the intervals.
        measured: errors at sizes up to n.
        modes: the target by mode; the rest of their shares, up to 1, lies in modes that the examples do not
            resolve, or is noise.
        left: share of the target's mean square that is not learned, at the present size: Σ (1 − L)² v² and
            noise, without over-fitting.
        left_later: the same at each requested size.
        unlearned: left-out squared error of each training example, (n,).
        classes: the same by class; () for regression.
        backtest: relative error of the forecasts for the present size from halves and quarters, by their
            size.
    """

    examples: int
    n: tuple[int, ...]
    error: tuple[float, ...]
    error_low: tuple[float, ...]
    error_high: tuple[float, ...]
    accuracy: tuple[float, ...] | None
    accuracy_low: tuple[float, ...] | None
    accuracy_high: tuple[float, ...] | None
    extrapolated: tuple[bool, ...]
    confidence: float
    measured: tuple[MeasuredError, ...]
    modes: tuple[Mode, ...]
    left: float
    left_later: tuple[float, ...]
    unlearned: Float64[Tensor, " n"]
    classes: tuple[ClassCurve, ...]
    backtest: dict[int, float]

    def rescale_to(self, left_out: Float64[Tensor, "n k"], train: Examples) -> "LearningCurve":
        """Return the curve of a part of the examples, rescaled to the left-out error of all of them.

        Args:
            left_out: predictions of all examples, each by the model without it, at the end of training; their
                number must be among the sizes `n`.
            train: all examples.
        """
        n = len(train)
        errors = (left_out - train.targets).square().sum(1)
        now = MeasuredError(n, float(errors.mean()), train.accuracy(left_out), 1)
        position = self.n.index(n)
        factor = now.error / self.error[position]
        curve = _at_sizes(self, [j for j, size in enumerate(self.n) if size > n])
        scaled: dict[str, Any] = {
            name: tuple(factor * share for share in getattr(curve, name))
            for name in ("error", "error_low", "error_high", "left_later")
        }
        if self.accuracy is not None and now.accuracy is not None:
            # Ratio of the shares of wrong answers, each with half a one added, as there may be none.
            ratio = (1 - now.accuracy + 0.5 / n) / (1 - self.accuracy[position] + 0.5 / n)
            for name in ("accuracy", "accuracy_low", "accuracy_high"):
                values = getattr(curve, name)
                scaled[name] = tuple(1 - min(1.0, ratio * (1 - share)) for share in values)
        return replace(
            curve,
            examples=n,
            measured=(*self.measured, now),
            modes=tuple(
                replace(mode, now=mode_before.later[position])
                for mode, mode_before in zip(curve.modes, self.modes, strict=True)
            ),
            left=factor * self.left_later[position],
            unlearned=errors,
            classes=_rescaled_classes(self.classes, curve.classes, position, errors, train),
            **scaled,
        )

    @property
    def verdict(self) -> str:
        """Return the effect of more data in a sentence or two."""
        now = self.measured[-1]
        beyond = [j for j, size in enumerate(self.n) if size > self.examples]
        if not beyond:
            return f"From {now.n} examples the mean squared error is {now.error:.3g}."
        last = beyond[-1]
        fall = 1 - self.error[last] / now.error
        ways = [1 - self.error_high[last] / now.error, 1 - self.error_low[last] / now.error]
        text = (
            f"{self.n[last]} examples instead of {now.n} would take the mean squared error from "
            f"{now.error:.3g} to {self.error[last]:.3g} ({self.error_low[last]:.3g} to "
            f"{self.error_high[last]:.3g}), {abs(fall):.0%} {'less' if fall >= 0 else 'more'}"
        )
        if self.accuracy is not None and now.accuracy is not None:
            text += f", and accuracy from {now.accuracy:.1%} to {self.accuracy[last]:.1%}"
        if ways[0] <= 0 <= ways[1]:
            text += "; the interval holds no change at all"
        end = "a power law carries it there" if self.extrapolated[last] else "nothing is extrapolated"
        return f"{text}; {end}."

    @property
    def record(self) -> dict[str, Any]:
        """Return everything but the numbers of single examples, JSON-like."""
        names = (
            "examples",
            "n",
            "error",
            "error_low",
            "error_high",
            "accuracy",
            "accuracy_low",
            "accuracy_high",
            "extrapolated",
            "confidence",
        )
        return {name: getattr(self, name) for name in names} | {
            "left": self.left,
            "left_later": self.left_later,
            "measured": [asdict(error) for error in self.measured],
            "modes": [asdict(mode) for mode in self.modes],
            "classes": [asdict(curve) for curve in self.classes],
            "backtest": {str(size): error for size, error in self.backtest.items()},
            "verdict": self.verdict,
        }


def _at_sizes(curve: LearningCurve, positions: list[int]) -> LearningCurve:
    """Return a curve at the sizes of these positions."""
    names = (
        "n",
        "error",
        "error_low",
        "error_high",
        "accuracy",
        "accuracy_low",
        "accuracy_high",
        "extrapolated",
        "left_later",
    )
    changes: dict[str, Any] = {}
    for name in names:
        values = getattr(curve, name)
        changes[name] = None if values is None else tuple(values[j] for j in positions)
    for name in ("modes", "classes"):
        changes[name] = tuple(
            replace(group, later=tuple(group.later[j] for j in positions)) for group in getattr(curve, name)
        )
    return replace(curve, **changes)


def _rescaled_classes(
    all_before: tuple[ClassCurve, ...],
    curves: tuple[ClassCurve, ...],
    position: int,
    errors: Float64[Tensor, " n"],
    train: Examples,
) -> tuple[ClassCurve, ...]:
    """Return the classes with the errors of all examples, and their forecasts rescaled to them."""
    if train.labels is None or train.classes is None:
        return ()
    rows = []
    for curve, before in zip(curves, all_before, strict=True):
        members = train.labels == train.classes.index(curve.name)
        error = float(errors[members].mean())
        rows.append(
            replace(
                curve,
                count=int(members.sum()),
                error=error,
                share=float(errors[members].sum() / errors.sum()),
                later=tuple(error * later_error / before.later[position] for later_error in curve.later),
            )
        )
    return tuple(rows)
