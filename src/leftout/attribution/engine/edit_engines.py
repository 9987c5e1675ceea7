"""The engines that edit the dual at given training times, with the kernel as it is."""

import math
from collections.abc import Sequence

from leftout.attribution.engine.base import EditEngine
from leftout.attribution.engine.cross_entropy_minimum import CrossEntropyMinimum
from leftout.attribution.engine.end_of_training import EndOfTraining
from leftout.attribution.engine.finite_time import FiniteTime, SharedNodes
from leftout.attribution.engine.initial import BeforeTraining
from leftout.core.work import WorkCount
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.rules import Logistic
from leftout.solvers.quadrature import windows
from leftout.solvers.resolvent import resolvents_at_nodes, resolvents_bytes, resolvents_work


def edit_engines(
    fitted: Fitted, times: Sequence[float], *, total: float, beyond: float = 0.0, newton_steps: int | None = 1
) -> list[EditEngine]:
    """Return the engine at each time, ready for edits after which the weights sum to `total`.

    Nodes and resolvents are made once for a model, for the same times asked together.

    Args:
        beyond: how far the edits can raise the spectrum above that of the Gram matrix.
        newton_steps: to the models without single examples under Logistic; None is to convergence.

    Raises:
        OptionError: the kernel depends on labels, and changes with the edits.
        DivergenceError, NotPositiveError: where training would not converge or be resolved.

    Cost:
        n³ for the end of training, 9n³ once for finite times; then 4n²(k + 1) a node, 40 nodes (80
        for descent beyond rate·s = 1) for all times within a factor of 10.
    """
    fitted.check_kernel_fixed()
    # Without its only example the network stays at f_0, whatever the filter: any total will do.
    total = total or len(fitted)
    fitted.check_trainable(times, total=len(fitted))
    fitted.check_trainable(times, total=total, beyond=beyond)
    if isinstance(fitted.rule, Logistic):
        engine = CrossEntropyMinimum(fitted, total=total, newton_steps=newton_steps)
        return [engine for _ in times]
    made: dict[float, EditEngine] = {0.0: BeforeTraining(fitted, total=total)}
    finite = finite_times(times)
    if math.inf in times:
        made[math.inf] = EndOfTraining(fitted, total=total)
    if finite:
        # Under a sum of losses the filter does not depend on the sum of weights.
        key = (finite, beyond, total if fitted.rule.loss == "mean" else None)
        nodes = fitted.memo(("nodes", *key), lambda: _shared_nodes(fitted, finite, total, beyond))
        for place, (time, (shared, position)) in enumerate(zip(finite, nodes, strict=True)):
            made[time] = FiniteTime(fitted, time, shared, position, total=total, key=(place, *key))
    return [made[time] for time in times]


def _shared_nodes(
    fitted: Fitted, times: Sequence[float], total: float, beyond: float
) -> list[tuple[SharedNodes, int]]:
    """Return the nodes that serve each time, and its place among the times that share them."""
    by_time: dict[int, tuple[SharedNodes, int]] = {}
    high = fitted.spectrum.largest + beyond
    for group, quadrature in fitted.spectral_rule.quadratures(times, total=total, high=high):
        outputs = fitted.outputs_per_example
        shared = SharedNodes(
            resolvents_at_nodes(fitted.spectrum, fitted.residual, quadrature, outputs_per_example=outputs)
        )
        by_time |= {j: (shared, position) for position, j in enumerate(group)}
    return [by_time[j] for j in range(len(times))]


def finite_times(times: Sequence[float]) -> tuple[float, ...]:
    """Return the times that need the spectrum and share nodes, ascending, each once."""
    return tuple(sorted({time for time in times if 0 < time < math.inf}))


def nodes_work(n: int, k: int, times: Sequence[float]) -> WorkCount:
    """Return the work of the resolvents at these times together, made once for a model."""
    return len(windows(finite_times(times))) * resolvents_work(n, k)


def nodes_bytes(n: int, k: int, times: Sequence[float]) -> int:
    """Return the bytes of the resolvents at these times together."""
    return len(windows(finite_times(times))) * resolvents_bytes(n, k)
