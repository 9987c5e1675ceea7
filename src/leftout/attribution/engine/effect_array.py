"""Influence and effects of edits as labelled arrays: of a model, or of the estimator of another library."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

from leftout.attribution.engine.labelled_result import Of, attributes, estimator_attributes, labelled_array
from leftout.attribution.engine.query_blocks import is_scalar
from leftout.data.examples import Examples
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.fitted_estimator import FittedEstimator
from leftout.dynamics.rules import At


def effect_array(
    fitted: Fitted | FittedEstimator,
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
    if isinstance(fitted, FittedEstimator):
        attrs = estimator_attributes(fitted, query, of=of, method=method, sign=sign)
    else:
        attrs = attributes(fitted, query, of=of, method=method, sign=sign)
    return labelled_array(
        values.cpu().numpy(),
        times=fitted.times(at),
        scalar=is_scalar(at),
        coordinates=axes,
        attrs=attrs,
        name="influence",
    )


def influence_array(
    fitted: Fitted | FittedEstimator,
    query: Examples,
    values: np.ndarray,
    *,
    at: At | Sequence[At],
    of: Of,
    mean: bool,
    attrs: dict[str, Any],
) -> xr.DataArray:
    """Return influence (t, m, n[, k]) under its axes; of a mean over queries, m is 1 and has no axis."""
    axes: dict[str, Sequence] = {} if mean else {"query": query.ids}
    axes["train"] = fitted.train.ids
    if of == "prediction":
        axes["output"] = fitted.output_names
    return labelled_array(
        values[:, 0] if mean else values,
        times=fitted.times(at),
        scalar=is_scalar(at),
        coordinates=axes,
        attrs=attrs | ({"mean_over": "query"} if mean else {}),
        name="influence",
    )
