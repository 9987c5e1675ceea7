"""Influence and effects of edits as labelled arrays: of a model, or of the estimator of another library."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

from leftout.attribution.engine.labelled_result import Of, attributes, estimator_attributes, labelled_array
from leftout.data.examples import Examples
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.fitted_estimator import FittedEstimator


def effect_array(
    fitted: Fitted | FittedEstimator,
    query: Examples,
    values: Tensor,
    *,
    times: Sequence[float],
    scalar: bool,
    of: Of,
    axis: str,
    names: Sequence[Any],
    method: str,
    sign: str,
) -> xr.DataArray:
    """Return effects (t, m, e[, k]) under their axes; of one time, `scalar`, without that of times."""
    axes: dict[str, Sequence] = {"query": query.ids, axis: names}
    if of == "prediction":
        axes["output"] = fitted.output_names
    if isinstance(fitted, FittedEstimator):
        attrs = estimator_attributes(fitted, query, of=of, method=method, sign=sign)
    else:
        attrs = attributes(fitted, query, of=of, method=method, sign=sign)
    return labelled_array(
        values.cpu().numpy(), times=times, scalar=scalar, coordinates=axes, attrs=attrs, name="influence"
    )


def influence_array(
    fitted: Fitted | FittedEstimator,
    query: Examples,
    values: np.ndarray,
    *,
    times: Sequence[float],
    scalar: bool,
    of: Of,
    mean: bool,
    attrs: dict[str, Any],
) -> xr.DataArray:
    """Return influence (t, m, n[, k]) under its axes; of a mean over queries, m is 1 and has no axis.

    Of one time, `scalar`, there is no axis of times either.
    """
    axes: dict[str, Sequence] = {} if mean else {"query": query.ids}
    axes["train"] = fitted.train.ids
    if of == "prediction":
        axes["output"] = fitted.output_names
    return labelled_array(
        values[:, 0] if mean else values,
        times=times,
        scalar=scalar,
        coordinates=axes,
        attrs=attrs | ({"mean_over": "query"} if mean else {}),
        name="influence",
    )
