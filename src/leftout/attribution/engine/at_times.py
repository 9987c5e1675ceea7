"""Which models are asked, one per training time? Those of the end, of the beginning, in between."""

import math
from collections.abc import Sequence

from leftout.attribution.engine.base import Instant
from leftout.attribution.engine.end_of_training import Converged
from leftout.attribution.engine.finite_time import Training, Window
from leftout.attribution.engine.initial import Untrained
from leftout.attribution.engine.refit_each import Relearning
from leftout.dynamics.fitted import Fitted
from leftout.solvers.resolvent import resolvents_at_nodes


def instants(fitted: Fitted, times: Sequence[float], *, total: float, beyond: float = 0.0) -> list[Instant]:
    """Return the model at each time, ready for edits after which the weights sum to `total`.

    Args:
        beyond: how far the edits can raise the spectrum above that of the Gram matrix.

    Raises:
        DivergenceError, NotPositiveError: where training would not converge or be resolved.

    Cost:
        n³ for the end of training, 9n³ once for finite times; then 4n²(k + 1) a node, 40 nodes (80
        for descent beyond rate·s = 1) for all times within a factor of 10. A kernel that saw labels: a
        model for each example, n⁴/3 at the end and 9n⁴ at finite times.
    """
    # Without its only example the network stays at f_0, whatever the filter: any total will do.
    total = total or len(fitted)
    fitted.check_trainable(times, total=len(fitted))
    fitted.check_trainable(times, total=total, beyond=beyond)
    if fitted.depends_on_labels:
        return [Relearning(fitted, time, total=total) for time in times]
    made: dict[float, Instant] = {0.0: Untrained(fitted, total=total)}
    finite = sorted({time for time in times if 0 < time < math.inf})
    if math.inf in times:
        made[math.inf] = Converged(fitted, total=total)
    if finite:
        high = fitted.spectrum.largest + beyond
        for group, quadrature in fitted.rule.quadratures(finite, total=total, high=high):
            found = resolvents_at_nodes(
                fitted.spectrum, fitted.residual, quadrature, outputs_per_example=fitted.outputs_per_example
            )
            window = Window(found)
            for position, j in enumerate(group):
                made[finite[j]] = Training(fitted, finite[j], window, position, total=total)
    return [made[time] for time in times]
