"""How do changes of the dual show at the queries? f changes by K(x, X) Δ, and the loss with it."""

from collections.abc import Sequence
from typing import Any

import torch
import xarray as xr
from jaxtyping import Float64
from torch import Tensor

from leftout.attribution.engine.labelled_result import Of, attributes, labelled
from leftout.attribution.engine.query_blocks import is_scalar, query_blocks
from leftout.data.examples import Examples
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.rules import At


def effects(
    fitted: Fitted,
    query: Examples,
    duals: Float64[Tensor, "t e rows c"],
    *,
    times: Sequence[float],
    of: Of,
    new: tuple[Tensor, Float64[Tensor, "t erows c"]] | None = None,
) -> Float64[Tensor, "t m e ..."]:
    """Return what each of `e` edits changes: edited minus as it is.

    Args:
        duals: changes of the dual, at each time and for each edit.
        new: inputs (e, …) of examples that the edits add, and their dual entries.

    Cost:
        2mnk flops an edit and time; k times that where the kernel tells k outputs apart.
    """
    as_fitted = torch.stack([fitted.dual(time) for time in times])  # (t, rows, c)
    each = fitted.outputs_per_example
    parts = []
    for block in query_blocks(fitted, query):
        cross = torch.unflatten(block.features.cross, 0, (-1, each))  # (m, b, rows)
        change = torch.einsum("mbn,tenc->tmebc", cross, duals)
        if new is not None:
            inputs, own = new
            beside = fitted.kernel_between(query.inputs[block.rows], inputs)  # (m·b, e·b)
            beside = torch.unflatten(torch.unflatten(beside, 1, (-1, each)), 0, (-1, each))  # (m, b, e, b)
            own = torch.unflatten(own, 1, (-1, each))
            change = change + torch.einsum("mbea,teac->tmebc", beside, own)
        change = change.flatten(3)  # (t, m, e, k)
        if of == "loss":
            said = torch.einsum("mbn,tnc->tmbc", cross, as_fitted).flatten(2)  # (t, m, k)
            error = block.features.initial + said - block.targets
            change = (change * (error[:, :, None] + change / 2)).sum(-1)
        parts.append(change)
    return torch.cat(parts, dim=1)


def effect_array(
    fitted: Fitted,
    query: Examples,
    values: Tensor,
    *,
    at: At | Sequence[At],
    of: Of,
    axis: str,
    names: Sequence[Any],
    method: str,
    sign: str,
) -> xr.DataArray:
    """Return effects (t, m, e[, k]) under their axes."""
    axes: dict[str, Sequence] = {"query": query.ids, axis: names}
    if of == "prediction":
        axes["output"] = fitted.output_names
    return labelled(
        values.cpu().numpy(),
        times=fitted.times(at),
        scalar=is_scalar(at),
        coordinates=axes,
        attrs=attributes(fitted, query, of=of, method=method, sign=sign),
        name="influence",
    )
