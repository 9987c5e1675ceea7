"""The engine of a model at each training time: here it is decided which kind.

This is the one place that asks whether the kernel depends on labels: if it does, a model is fitted without
each example, and removing groups and relabelling are refits as well.
"""

from collections.abc import Sequence

from leftout.attribution.engine.base import EngineAtTime
from leftout.attribution.engine.edit_engines import edit_engines
from leftout.attribution.engine.edits import DualEdits, Edits, RefitEdits
from leftout.attribution.engine.refit_each import RefitEach
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.rules import At


def engines(fitted: Fitted, times: Sequence[float], *, newton_steps: int | None = 1) -> list[EngineAtTime]:
    """Return the model at each time, ready to leave single examples out.

    Args:
        newton_steps: from the model to that without an example, under Logistic; None is to convergence.

    Raises:
        DivergenceError, NotPositiveError: where training would not converge or be resolved.

    Cost:
        as `edit_engines`; of a kernel that is fitted to labels, a model for each example: n⁴/3 at the end
        and 9n⁴ at finite times.
    """
    total = len(fitted) - 1 or len(fitted)
    if not fitted.depends_on_labels:
        return list(edit_engines(fitted, times, total=total, newton_steps=newton_steps))
    for remaining in (len(fitted), total):
        fitted.check_trainable(times, total=remaining)
    return [RefitEach(fitted, time, total=total) for time in times]


def engine_at(fitted: Fitted, at: At) -> EngineAtTime:
    """Return the model at one training time, ready to leave single examples out."""
    return engines(fitted, [fitted.rule.time(at)])[0]


def edits(fitted: Fitted, times: Sequence[float]) -> Edits:
    """Return what removes groups and relabels, by changes of the dual or by refits."""
    return (RefitEdits if fitted.depends_on_labels else DualEdits)(fitted, times)
