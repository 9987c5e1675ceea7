"""Scores in the order of the truth, by names where both have them, and the losses that they predict."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float64

from leftout.core.errors import DataError, OptionError, ShapeError
from leftout.data.conversion import doubles
from leftout.data.pairs import Data
from leftout.diagnostics.referee.refit_subsets import refit_subsets
from leftout.diagnostics.retraining.agreement import array_with_names, check_about_the_same, select_names
from leftout.dynamics.fitted import Fitted

NO_MATRIX = "`scores` must be (query, train) for this; got losses of subsets, or a model from `fit`."


def predicted_losses(
    scores: Any, truth: xr.Dataset, kept: Bool[np.ndarray, "s n"], query: Data | None
) -> Float64[np.ndarray, "m s"]:
    """Return the loss of each query on each subset that the scores predict, up to a constant of the query."""
    if isinstance(scores, Fitted):
        _check_same_train(scores, truth)
        assert query is not None
        scores = refit_subsets(scores, query, kept)
    if isinstance(scores, xr.Dataset):
        if "loss" not in scores or "subset" not in scores.loss.dims:
            raise ShapeError(
                "`scores` must be (query, train), losses over (subset, query), or a model from `fit`."
            )
        if scores.sizes["subset"] != len(kept) or not np.array_equal(scores.kept.values, kept):
            raise OptionError("`scores` and `truth` must be losses on the same subsets, in the same order.")
        losses = scores.loss.mean("seed") if "seed" in scores.loss.dims else scores.loss
        return matched_values(losses.transpose("query", "subset"), truth, ("query",))
    array = array_with_names("scores", scores)
    values = matched_values(array, truth, ("query", "train"))
    check_varies("scores", values, truth["query"].values.tolist())
    predicted: np.ndarray = -values @ kept.T.astype(float)
    return predicted


def matched_values(
    scores: xr.DataArray, truth: xr.Dataset | xr.DataArray, axes: tuple[Any, ...]
) -> Float64[np.ndarray, "m c"]:
    """Return scores in the order of the truth's names on these axes, or by place where they have none."""
    scores = scores.transpose("query", ...) if "query" in scores.dims else scores
    if isinstance(truth, xr.DataArray):
        check_about_the_same(scores, truth)
    else:
        _check_fingerprints(scores.attrs, truth.attrs)
    for axis in axes:
        if axis in scores.coords and axis in scores.dims and axis in truth.coords:
            scores = select_names(scores, truth[axis], axis)
    wanted = tuple(truth.sizes[axis] for axis in axes)
    if scores.shape[: len(axes)] != wanted:
        raise ShapeError(
            f"`scores` must have {' × '.join(map(str, wanted))} numbers ({', '.join(map(str, axes))}) as the "
            f"truth, or names on both by which to match them; got {scores.shape}."
        )
    values = doubles(scores.values)
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values).all(1)))
        raise DataError(f"`scores` must be finite; row {row} holds NaN or infinity.")
    return values


def check_varies(name: str, values: Float64[np.ndarray, "m c"], queries: Sequence[Any]) -> None:
    """Raise where all numbers of a query are equal: a rank correlation with a constant does not exist."""
    if not np.isfinite(values).all():
        raise DataError(f"`{name}` must be finite; it holds NaN or infinity.")
    flat = np.flatnonzero((values == values[:, :1]).all(1))
    if len(flat):
        raise DataError(
            f"`{name}` of query {str(queries[flat[0]])!r} must not all be equal, {values[flat[0], 0]:g}: no "
            f"correlation exists ({len(flat)} of {len(values)} queries). Leave such queries out."
        )


def score_matrix(scores: Any) -> Float64[np.ndarray, "m n"]:
    """Return scores (query, train) as numbers."""
    if isinstance(scores, Fitted | xr.Dataset):
        raise ShapeError(NO_MATRIX)
    return doubles(array_with_names("scores", scores).values)


def _check_fingerprints(scores: Mapping[Any, Any], truth: Mapping[Any, Any]) -> None:
    for key, subject in (("train_fingerprint", "training examples"), ("query_fingerprint", "queries")):
        if key in scores and key in truth and scores[key] != truth[key]:
            raise OptionError(
                f"`scores` and `truth` must be about the same {subject}; {key} is {scores[key]!r} of "
                f"`scores` and {truth[key]!r} of `truth`. Make both from the same, or pass the `.values` of "
                "the scores if they are to be compared all the same."
            )


def _check_same_train(fitted: Fitted, truth: xr.Dataset) -> None:
    if truth.sizes["train"] != len(fitted) or list(truth["train"].values) != list(fitted.train.ids):
        raise OptionError("`scores` must be a model of the training examples of `truth`, in the same order.")
