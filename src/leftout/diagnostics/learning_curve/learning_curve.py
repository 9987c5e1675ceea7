"""What would more data bring? The error at smaller and larger sample sizes, with intervals.

More data acts as less ridge: the κ that n' examples reach at the rule's ridge, the present n reach at a
smaller one, where their exact left-out error is measured (`population_curve`). So

    error(n') = error(n) · [E0 B(κ)]_n' / [E0 B(κ)]_n

needs no coefficient of the target, and no extrapolation while κ is within reach; beyond, B and the number of
modes are extended as powers of κ. The share of wrong answers is forecast likewise (`forecast`).

The error of a forecast has three parts, added in quadrature: that of the examples (left-out errors vary from
example to example), that of the theory (forecasts for n from halves and quarters against the measured error,
for each factor e in n), and that of the tail (half the bend in the window).

The curve is for the end of training. The share of the target in the kernel's modes comes from the same
measured B (`target_modes`): it shows how much is learned, and is not used for the curve.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

from leftout.core.checks import check_between, row_numbers
from leftout.core.errors import OptionError
from leftout.diagnostics.learning_curve.forecast import Forecaster
from leftout.diagnostics.learning_curve.record import ClassCurve, LearningCurve, MeasuredError, Mode
from leftout.diagnostics.learning_curve.subsamples import Backtest, backtest
from leftout.diagnostics.learning_curve.target_modes import mode_groups, target_power
from leftout.dynamics.fitted import Fitted, check_fitted
from leftout.dynamics.weights_check import check_unseen

FEWEST = 40
"""Fewest examples, so that quarters of them can be fitted."""

FARTHEST = 10
"""Largest sample size of a forecast, as a multiple of the number of examples."""


def learning_curve(
    fitted: Fitted, n: int | Sequence[int], *, confidence: float = 0.95, seed: int = 0
) -> LearningCurve:
    """Return the expected error and accuracy of models fitted to n examples, at the end of training.

    Args:
        fitted: from `fit`; of 40 examples or more, drawn like future ones, in any order.
        n: sample sizes, from 2 to ten times the number of examples.
        confidence: of the intervals.
        seed: divides the examples into halves and quarters.

    Raises:
        OptionError: sizes out of reach, or too few examples.
        NotPositiveError: ridge 0 and a Gram matrix that is singular to rounding.

    Cost:
        the spectrum, 9n³, if it is not known yet; then 9n³ for halves, quarters and products.

    Accuracy:
        that of the intervals, which are for the expected error over samples of n examples; a single
        measurement scatters around it.

    Source:
        eigenlearning (Simon, Dickens & DeWeese 2021) for κ and E0; that it holds along the ridge, Wei, Hu
        & Steinhardt 2022, "More than a toy".

    Example:
        >>> import leftout as lo
        >>> train, _ = lo.load("digits", n_train=40, n_query=10)
        >>> fitted = lo.fit(lo.kernels.TwoLayerReLU(), train, rule=lo.Ridge(0.1))
        >>> curve = lo.learning_curve(fitted, [40, 80])
        >>> [round(error, 2) for error in curve.error], curve.extrapolated
        ([0.57, 0.43], (False, True))
    """
    check_fitted(fitted)
    fitted.check_kernel_fixed()
    check_unseen("fitted", fitted.kernel, "a learning curve")
    check_between("confidence", confidence, 0, 1)
    sizes = _sizes(n, len(fitted))
    if not bool(fitted.residual.any()):
        raise OptionError(
            "`fitted` must have a target that differs from f_0 somewhere; here nothing is left to learn."
        )
    deviations = NormalDist().inv_cdf(0.5 + confidence / 2)
    samples = backtest(fitted, seed=seed)
    errors = Forecaster(fitted, samples, sizes, "errors")
    error = errors.forecast(deviations)
    power = float(fitted.residual.square().sum()) / len(fitted)
    wrong = None
    if fitted.train.labels is not None:
        wrong = Forecaster(fitted, samples, sizes, "wrong").forecast(deviations)
    return LearningCurve(
        examples=len(fitted),
        n=sizes,
        error=error.values,
        error_low=error.low,
        error_high=error.high,
        accuracy=None if wrong is None else _accuracy(wrong.values),
        accuracy_low=None if wrong is None else _accuracy(wrong.high),
        accuracy_high=None if wrong is None else _accuracy(wrong.low),
        extrapolated=tuple(point.extrapolated for point in errors.points),
        confidence=float(confidence),
        measured=_measured_errors(samples),
        modes=_modes(fitted, samples, errors),
        left=samples.full.error / math.exp(errors.here.log_excess) / power,
        left_later=tuple(
            size_error / math.exp(point.log_excess) / power
            for size_error, point in zip(error.values, errors.points, strict=True)
        ),
        unlearned=samples.full.at_rule.errors[0],
        classes=_classes(fitted, samples, errors),
        backtest={size: math.expm1(error) for size, error in errors.backtest_errors.items()},
    )


def _accuracy(wrong: tuple[float, ...]) -> tuple[float, ...]:
    """Return the shares of right answers."""
    return tuple(1 - min(1.0, share) for share in wrong)


def _sizes(n: int | Sequence[int], examples: int) -> tuple[int, ...]:
    """Return the sizes as a tuple; raise where one is out of reach."""
    if examples < FEWEST:
        raise OptionError(
            f"`fitted` must hold {FEWEST} examples or more for a learning curve; got {examples}."
        )
    sizes = tuple(row_numbers("n", n))
    if not sizes:
        raise OptionError("`n` must hold at least one sample size; got none.")
    for size in sizes:
        if not 2 <= size <= FARTHEST * examples:
            raise OptionError(
                f"`n` must lie in 2 … {FARTHEST * examples}, ten times the {examples} examples at hand; "
                f"got {size}."
            )
    return sizes


def _measured_errors(samples: Backtest) -> tuple[MeasuredError, ...]:
    """Return the errors of quarters, halves and all examples, each at the rule's ridge for their number."""
    rows = []
    for group in (*samples.parts.values(), [samples.full]):
        wrong = [sample.wrong for sample in group if sample.wrong is not None]
        rows.append(
            MeasuredError(
                n=group[0].n,
                error=sum(sample.error for sample in group) / len(group),
                accuracy=1 - sum(wrong) / len(wrong) if wrong else None,
                samples=len(group),
            )
        )
    return tuple(rows)


def _modes(fitted: Fitted, samples: Backtest, ahead: Forecaster) -> tuple[Mode, ...]:
    """Return the groups of modes that the examples resolve."""
    values = fitted.spectrum.values.cpu() / len(fitted.gram)
    target_square = float(fitted.residual.square().sum()) / len(fitted)
    power = target_power(samples.full.curve, values, target_square)
    kappas = [math.exp(point.log_kappa) for point in (ahead.here, *ahead.points)]
    rows = []
    for (first, last), share in zip(mode_groups(len(values)), (power / target_square).tolist(), strict=True):
        group = values[first - 1 : last].clamp_min(0)
        now, *later = (float((group / (group + kappa)).mean()) for kappa in kappas)
        rows.append(Mode(first, last, float(group[0]), share, now, tuple(later)))
    return tuple(rows)


def _classes(fitted: Fitted, samples: Backtest, ahead: Forecaster) -> tuple[ClassCurve, ...]:
    """Return the error of each class, now and at each size."""
    train = fitted.train
    if train.labels is None or train.classes is None:
        return ()
    errors, labels = samples.full.at_rule.errors[0], train.labels.cpu()
    rows = []
    for number, name in enumerate(train.classes):
        members = labels == number
        if not bool(members.any()):
            continue
        error = float(errors[members].mean())
        rows.append(
            ClassCurve(
                name=name,
                count=int(members.sum()),
                error=error,
                share=float(errors[members].sum() / errors.sum()),
                later=ahead.forecast(0.0, members).values,
            )
        )
    return tuple(rows)
