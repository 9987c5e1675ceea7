"""What would be predicted without a whole group? Groups do not add up: each is a removal of its own.

A group takes a block of the resolvents with it, or, where that is cheaper, what remains is fitted
afresh; the numbers are the same. Without all examples the network stays at f_0.
"""

import math
from collections.abc import Sequence
from functools import partial

import torch
import xarray as xr
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.attribution.engine.at_times import instants
from leftout.attribution.engine.base import Instant
from leftout.attribution.engine.dual_effects import effect_array, effects
from leftout.attribution.engine.labelled_result import SIGN, Of, check_of
from leftout.attribution.engine.query_blocks import queries_of
from leftout.attribution.engine.refit import duals_afresh
from leftout.attribution.engine.refit_kernel import relearned_effects, relearned_without
from leftout.attribution.groups import Groups, named_groups
from leftout.core.blocks import blocks
from leftout.core.errors import DivergenceError
from leftout.core.progress import with_progress
from leftout.data.examples import Examples
from leftout.data.pairs import Data
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.rules import At


def leave_out(
    fitted: Fitted, query: Data, groups: Groups, *, at: At | Sequence[At] = None, of: Of = "loss"
) -> xr.DataArray:
    """Return the exact effect on every query of removing each group of training examples.

    Args:
        groups: row numbers of the training examples that go together; a mapping names the groups.
            Groups may overlap: each is removed from the full data, by itself.
        at: training time or a sequence of them; None is the end of training.
        of: "loss": loss without the group minus loss with it; "prediction": with minus without.

    Returns:
        A DataArray (query, group); `of="prediction"` adds `output`.

    Raises:
        OptionError: an empty group, a row number out of range or repeated within a group.

    Cost:
        a group of g examples: g³ at the end of training after the inverse; at finite times
        160·(g²n + g³) flops a window of times or 9(n − g)³, whichever is less. Where the kernel saw
        labels it is taught again, and (n − g)³/3 at the end as well.
    """
    check_of(of)
    names, rows = named_groups(groups, len(fitted))
    examples = queries_of(fitted, query)
    times = fitted.times(at)
    effects_of = _relearned if fitted.depends_on_labels else _edited
    values = effects_of(fitted, examples, rows, times, of)
    return effect_array(
        fitted,
        examples,
        values if of == "loss" else -values,
        at=at,
        of=of,
        axis="group",
        names=names,
        method="leave_out",
        sign=SIGN[of],
    )


def _edited(
    fitted: Fitted, query: Examples, groups: list[Tensor], times: Sequence[float], of: Of
) -> Float64[Tensor, "t m g ..."]:
    """Return the effects of groups that take blocks of the resolvents with them."""
    # As many groups at a time as leave room for their duals, (t, n, k) each.
    one = 8 * len(times) * fitted.residual.numel()
    parts = []
    ready: dict[int, list[Instant]] = {}
    for some in blocks(len(groups), max(1, fitted.memory // (6 * one))):
        going = with_progress(groups[some], what="groups")
        duals = torch.stack([dual_changes(fitted, times, group, ready) for group in going], dim=1)
        parts.append(effects(fitted, query, duals, times=times, of=of))
    return torch.cat(parts, dim=2)


def _relearned(
    fitted: Fitted, query: Examples, groups: list[Tensor], times: Sequence[float], of: Of
) -> Float64[Tensor, "t m g ..."]:
    """Return the effects of groups whose labels the kernel has not seen then either."""
    edits = [partial(relearned_without, fitted, times, group) for group in groups]
    return relearned_effects(fitted, query, edits, times=times, of=of)


def dual_changes(
    fitted: Fitted, times: Sequence[float], group: Int64[Tensor, " g"], ready: dict[int, list[Instant]]
) -> Float64[Tensor, "t rows c"]:
    """Return how the dual changes at each time without a group, by the cheaper way.

    Args:
        ready: the models of earlier groups, to be used again and added to: one for all under a sum
            loss, the last under a mean, whose filter changes with the size of the group.
    """
    n, gone = len(fitted), len(group)
    fitted.check_trainable(times, total=n)
    if gone == n:
        return torch.stack([-fitted.dual(time) for time in times])
    if _afresh_is_cheaper(fitted, times, n, gone) or not _resolves(fitted, n - gone):
        return _afresh(fitted, times, group)
    size = gone if fitted.rule.record["loss"] == "mean" else 0
    if size not in ready:
        ready.clear()
        ready[size] = instants(fitted, times, total=n - gone)
    return torch.stack([moment.without(group) for moment in ready[size]])


def _afresh_is_cheaper(fitted: Fitted, times: Sequence[float], n: int, gone: int) -> bool:
    finite = len({time for time in times if 0 < time < math.inf})
    if not finite:
        # A block of the inverse, unless the ridge changes with the number of examples.
        return fitted.rule.effective_ridge(n - gone) != fitted.rule.effective_ridge(n)
    return 9 * (n - gone) ** 3 < 160 * (gone**2 * n + gone**3)


def _resolves(fitted: Fitted, total: int) -> bool:
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


def _afresh(
    fitted: Fitted, times: Sequence[float], group: Int64[Tensor, " g"]
) -> Float64[Tensor, "t rows c"]:
    """Return the same from a fit of what remains."""
    keep = torch.ones(len(fitted.gram), dtype=torch.bool, device=fitted.device)
    keep[fitted.kernel_rows(group)] = False
    total = len(fitted) - len(group)
    found = duals_afresh(
        fitted,
        fitted.gram[keep][:, keep],
        fitted.residual[keep],
        times,
        total=total,
        definite=fitted.kernel.definite,
    )
    changes = -torch.stack([fitted.dual(time) for time in times])
    changes[:, keep] += found
    return changes
