"""How the dual changes without a group: by a block of the resolvents, or by a fit of what remains.

Both give the same numbers; `refit_is_cheaper` decides by their flops. Without all examples the network stays
at f_0.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.attribution.engine.base import EditEngine
from leftout.attribution.engine.cross_entropy_minimum import CrossEntropyMinimum
from leftout.attribution.engine.edit_engines import edit_engines
from leftout.attribution.engine.refit import refit, refit_bytes, refit_work
from leftout.core.errors import DivergenceError
from leftout.core.progress import with_progress
from leftout.core.work import NO_WORK, Operation, WorkCount, allocation, operations, thin_product
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.rules import Logistic, Rule
from leftout.solvers.resolvent import group_sum_work, resolvents_work


def groups_duals(
    fitted: Fitted,
    times: Sequence[float],
    groups: Sequence[Int64[Tensor, " _"]],
    ready: dict[int, list[EditEngine]],
) -> Float64[Tensor, "t g rows c"]:
    """Return how the dual changes at each time without each group; arguments as for `group_duals`.

    Under cross-entropy groups are fitted together, and share the products with the kernel matrix.
    """
    if fitted.rule.loss == "sum" and isinstance(fitted.rule, Logistic):
        (engine,) = edit_engines(fitted, [math.inf], total=len(fitted))
        assert isinstance(engine, CrossEntropyMinimum)
        changes = engine.group_duals([group.to(fitted.device) for group in groups])
        return changes.expand(len(times), *changes.shape)
    duals = [
        group_duals(fitted, times, group.to(fitted.device), ready)
        for group in with_progress(groups, what="groups")
    ]
    return torch.stack(duals, dim=1)


def group_duals(
    fitted: Fitted, times: Sequence[float], group: Int64[Tensor, " g"], ready: dict[int, list[EditEngine]]
) -> Float64[Tensor, "t rows c"]:
    """Return how the dual changes at each time without a group, by the cheaper way.

    Args:
        ready: the engines of earlier groups, to be used again and added to: one for all under a sum
            loss, the last under a mean, whose filter changes with the size of the group.
    """
    n, size = len(fitted), len(group)
    fitted.check_trainable(times, total=n)
    if isinstance(fitted.rule, Logistic):
        (engine,) = edit_engines(fitted, [math.inf], total=n - size)
        return engine.group_dual(group).expand(len(times), *fitted.dual(math.inf).shape)
    if size == n:
        return torch.stack([-fitted.dual(time) for time in times])
    if refit_is_cheaper(fitted.rule, times, n, size) or not _resolvents_serve(fitted, n - size):
        return _by_refit(fitted, times, group)
    key = size if fitted.rule.loss == "mean" else 0
    if key not in ready:
        ready.clear()
        ready[key] = edit_engines(fitted, times, total=n - size)
    return torch.stack([engine.group_dual(group) for engine in ready[key]])


def refit_is_cheaper(rule: Rule, times: Sequence[float], n: int, size: int) -> bool:
    """Return whether a fit of what remains takes fewer flops than a block of the resolvents.

    Args:
        n, size: rows of the kernel matrix or examples, of all and of the group.
    """
    if not any(0 < time < math.inf for time in times):
        # A block of the inverse, unless the ridge changes with the number of examples.
        return rule.effective_ridge(n - size) != rule.effective_ridge(n)
    return refit_flops(n - size) < block_flops(n, size)


def refit_flops(n: int) -> float:
    """Return the flops of an eigendecomposition of n × n, of which a fit at finite times consists."""
    return 9 * n**3


def block_flops(n: int, size: int) -> float:
    """Return the flops of taking a group out of the resolvents at the 40 nodes of a window of times."""
    return 160 * (size**2 * n + size**3)


def _resolvents_serve(fitted: Fitted, total: int) -> bool:
    """Return whether the resolvents of all examples serve training on fewer.

    Under a mean of losses fewer examples mean larger steps, and what remains of the spectrum bears
    them where the whole of it, in which the resolvents are made, would diverge.
    """
    if not fitted.rule.can_diverge:
        return True
    try:
        fitted.rule.check_converges(fitted.largest, total)
    except DivergenceError:
        return False
    return True


def _by_refit(
    fitted: Fitted, times: Sequence[float], group: Int64[Tensor, " g"]
) -> Float64[Tensor, "t rows c"]:
    """Return the same from a fit of what remains."""
    keep = torch.ones(len(fitted), dtype=torch.bool, device=fitted.device)
    keep[group] = False
    model = refit(fitted, times, keep.nonzero().flatten())
    changes = -torch.stack([fitted.dual(time) for time in times])
    changes[:, fitted.rows.of_examples(model.keep)] += model.duals
    return changes


def group_work(rule: Rule, time: float, n: int, size: int, k: int) -> WorkCount:
    """Return the work of `group_duals` of one group, the model's own resolvents at hand."""
    if refit_is_cheaper(rule, (time,), n, size):
        return refit_work(n - size, time) + 4 * thin_product(n)
    if time == math.inf:
        solve = operations(Operation.FLOP, 2 * size**3 / 3)
        return solve + allocation(2 * size * n) + thin_product(n)
    # Under a mean of losses the nodes change with the size of the group; those without one row are there.
    nodes = resolvents_work(n, k) if rule.loss == "mean" and size > 1 else NO_WORK
    block = operations(Operation.FLOP, block_flops(n, size))
    return nodes + block + group_sum_work(n, k) + thin_product(n)


def group_bytes(rule: Rule, time: float, n: int, size: int) -> int:
    """Return the bytes of fitting what remains without a group; 0 where the resolvents serve."""
    return refit_bytes(n - size, time) if refit_is_cheaper(rule, (time,), n, size) else 0
