"""Effects of edits at the queries, under their axes."""

from collections.abc import Sequence
from typing import Any

import xarray as xr
from torch import Tensor

from leftout.attribution.engine.labelled_result import Of, attributes, labelled_array
from leftout.attribution.engine.query_blocks import is_scalar
from leftout.data.examples import Examples
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.rules import At


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
    return labelled_array(
        values.cpu().numpy(),
        times=fitted.times(at),
        scalar=is_scalar(at),
        coordinates=axes,
        attrs=attributes(fitted, query, of=of, method=method, sign=sign),
        name="influence",
    )
