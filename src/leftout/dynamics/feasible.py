"""Can this training lead anywhere, and how would one know? Asked before a step is taken.

A rate below the critical one, 2 / (s_max + λ); steps that can bring the fastest mode to the tolerance,
|1 − η(s_max + λ)|^steps ≤ tolerance; numbers whose squares do not overflow.
"""

import math

from leftout.core.checks import check_between, check_count, shown
from leftout.core.errors import DataError, OptionError
from leftout.dynamics.descend import Goal, settling_rate
from leftout.dynamics.objective import Look, Objective
from leftout.dynamics.rules import GradientDescent, Ridge, Rule

PAPER_STEPS = 5000
"""Steps of GradientDescent if not said: the epochs of the paper."""

MANY_STEPS = 20_000
"""The same for a minimiser, which stops when it is there."""

MARGIN = 4
"""Times the kernel at w_0 that one in training is allowed to become, before a run is refused."""


def check_rule(rule: object, tolerance: float | None) -> None:
    """Raise unless a finite network can follow the rule, and the tolerance is one for it."""
    if not isinstance(rule, Ridge | GradientDescent):
        raise OptionError(
            "`rule` must be Ridge or GradientDescent, which finite networks can follow; got "
            f"{shown(rule)}. GradientDescent with a small rate takes the place of a flow."
        )
    rule.check_scales()
    if tolerance is not None:
        check_between("tolerance", tolerance, 0, 1)
    elif isinstance(rule, Ridge):
        raise OptionError(
            "`tolerance` must be given under Ridge, which asks for the minimiser; got None. For a "
            "number of steps use GradientDescent."
        )


def limit_of(rule: Ridge | GradientDescent, steps: int | None) -> int:
    """Return the most steps that may be taken."""
    if steps is None:
        return MANY_STEPS if isinstance(rule, Ridge) else PAPER_STEPS
    check_count("steps", steps)
    return int(steps)


def rate_of(
    objective: Objective, rule: Ridge | GradientDescent, limit: int, tolerance: float | None
) -> float:
    """Return the rate as it multiplies the gradient of the sum, once it can lead anywhere.

    Args:
        tolerance: None where nothing can be said beforehand of how many steps it takes.
    """
    if isinstance(rule, Ridge):
        return settling_rate(objective)
    n = len(objective.targets)
    high = objective.largest(rtol=1e-6)
    rule.check_converges(high, n)
    rate = rule.step(n)
    reach = rate * (high + objective.ridge)
    if tolerance is not None and 0 < MARGIN * reach < 1:
        fewest = math.log(tolerance) / math.log1p(-MARGIN * reach)
        if limit < fewest:
            alone = math.ceil(math.log(tolerance) / math.log1p(-reach))
            raise OptionError(
                f"`steps` = {limit} at `rate` = {rule.rate:g} cannot bring the gradient to the "
                f"tolerance {tolerance:g}: the fastest of all modes takes {alone} steps, and slow "
                f"ones many more. Raise the rate (critical: {2 * rule.rate / reach:.3g}) or the "
                "steps, or pass tolerance=None to take the steps and no more."
            )
    return rate


def goal_of(objective: Objective, rule: Rule, limit: int, tolerance: float | None) -> Goal:
    """Return what is to be reached, in units of what there is at the initial weights."""
    first = objective.look()
    # Where f_0 = y but for rounding there is nothing to learn, and no gradient to compare with.
    known = float(objective.residual.abs().max()) <= objective.rounding_error
    _check_overflow(objective, first)
    reference = 0.0 if known else first.gradient_norm
    unit = float(len(objective.targets)) if rule.loss == "mean" else 1.0
    return Goal(limit, tolerance, reference, first.loss, unit)


def _check_overflow(objective: Objective, first: Look) -> None:
    """Raise where there is no number to descend from: every gradient is small beside infinity."""
    if math.isfinite(first.loss) and math.isfinite(first.gradient_norm):
        return
    what = "the gradient" if math.isfinite(first.loss) else "the objective"
    raise DataError(
        "`train` targets must be of a size whose squares are numbers; they are up to "
        f"{float(objective.residual.abs().max()):.3g} from the outputs at the initial weights, and "
        f"{what} overflows. Divide them by a constant, or train in float64 if that is float32."
    )
