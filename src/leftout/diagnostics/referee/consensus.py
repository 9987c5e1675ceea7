"""What do several methods say together? The mean of their scores, each in units of its spread.

For every query the scores of a method lose their mean over training examples (or groups) and are divided by
their standard deviation; then methods are averaged. The result has no unit: signs and orders remain.
"""

import json
from collections.abc import Sequence

import numpy as np
import xarray as xr

from leftout.core.checks import shown
from leftout.core.errors import DataError, OptionError, ShapeError
from leftout.data.conversion import doubles
from leftout.diagnostics.retraining.agreement import (
    Scores,
    array_with_names,
    check_about_the_same,
    select_names,
)


def consensus(scores: Sequence[Scores]) -> xr.DataArray:
    """Return the mean of several score arrays, z-scored for each query over training examples or groups.

    Args:
        scores: two or more arrays (query, train) or (query, group), positive = the example helped. Arrays
            with names are matched by those of the first, in any order; without names by place.

    Returns:
        A DataArray with the axes of the first, without unit, as its attributes say.

    Raises:
        OptionError: fewer than two arrays; names that one lacks; arrays about other examples or effects.
        ShapeError: arrays of other shapes or with more axes.
        DataError: NaN, infinity, or a query whose scores are all equal; names array and query.

    Cost:
        a few passes over the numbers.

    Example:
        >>> import leftout as lo, numpy as np
        >>> both = lo.consensus([np.array([[1.0, 2.0, 3.0]]), np.array([[10.0, 20.0, 30.0]])])
        >>> both.values.round(3).tolist(), both.attrs["units"].split(":")[0]
        ([[-1.225, 0.0, 1.225]], 'none')
    """
    if (
        isinstance(scores, np.ndarray | xr.DataArray)
        or not isinstance(scores, Sequence)
        or isinstance(scores, str)
    ):
        raise OptionError(f"`scores` must be a list of two or more score arrays; got {shown(scores)}.")
    arrays = [array_with_names(f"scores[{i}]", array) for i, array in enumerate(scores)]
    if len(arrays) < 2:
        raise OptionError(f"`scores` must be a list of two or more score arrays; got {len(arrays)}.")
    first = arrays[0]
    standard = [_standard_scores(i, _match(i, array, first)) for i, array in enumerate(arrays)]
    methods = [str(array.attrs.get("method", f"scores[{i}]")) for i, array in enumerate(arrays)]
    shared = {
        name: text
        for name, text in first.attrs.items()
        if name in ("sign", "orientation", "train_fingerprint", "query_fingerprint", "of")
        and all(array.attrs.get(name) == text for array in arrays)
    }
    attrs = shared | {
        "method": "consensus",
        "units": "none: for each query mean 0 and standard deviation 1 over columns, then the mean of the "
        "methods",
        "methods": json.dumps(methods),
    }
    return xr.DataArray(
        np.mean(standard, axis=0), dims=first.dims, coords=first.coords, attrs=attrs, name="consensus"
    )


def _match(place: int, array: xr.DataArray, first: xr.DataArray) -> np.ndarray:
    """Return the numbers of an array in the order of the names of the first."""
    check_about_the_same(array, first)
    for axis in set(array.dims) & set(first.dims) & set(array.coords) & set(first.coords):
        array = select_names(array, first, axis)
    if array.shape != first.shape:
        raise ShapeError(
            f"`scores` must all have the shape of the first, {first.shape}, or names by which to match them; "
            f"scores[{place}] is {array.shape}."
        )
    return doubles(array.values)


def _standard_scores(place: int, values: np.ndarray) -> np.ndarray:
    """Return the numbers of each row less their mean, over their standard deviation."""
    finite = np.isfinite(values).all(1)
    if not finite.all():
        raise DataError(
            f"`scores` must be finite; row {int(np.argmin(finite))} of scores[{place}] holds NaN or infinity."
        )
    # Scaled first, so that squares of tiny or huge numbers stay numbers.
    largest = np.abs(values).max(axis=1, keepdims=True)
    flat = (values == values[:, :1]).all(1)
    if flat.any():
        row = int(np.argmax(flat))
        raise DataError(
            f"`scores` of a query must not all be equal; row {row} of scores[{place}] is {values[row, 0]:g} "
            f"throughout ({int(flat.sum())} of {len(flat)} rows are): it has no standard scores. Leave such "
            "queries out."
        )
    scaled = values / largest
    centred = scaled - scaled.mean(axis=1, keepdims=True)
    standard: np.ndarray = centred / centred.std(axis=1, keepdims=True)
    return standard
