"""The most helpful and the most harmful training examples of each query, instead of all of them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float64
from torch import Tensor

from leftout.attribution.engine.labelled_result import Of, labelled_array
from leftout.core.checks import is_whole, shown
from leftout.core.errors import OptionError


def check_top(top: Any, n: int, *, mean: bool, of: Of) -> None:
    """Raise unless `top` is None, or a number of training examples of each query's influences."""
    if top is None:
        return
    if mean or of != "loss":
        raise OptionError("`top` ranks influences on single queries: use it alone, with of='loss'.")
    if not (is_whole(top) and 1 <= top <= n):
        raise OptionError(f"`top` must lie in 1 … {n}, the training examples; got {shown(top)}.")


def extremes(change: Float64[Tensor, "b n"], top: int) -> Float64[Tensor, "b four top"]:
    """Return values and row numbers of the largest and of the smallest, as one tensor."""
    high, low = change.topk(top, dim=1), change.topk(top, dim=1, largest=False)
    four = (high.values, high.indices.double(), low.values, low.indices.double())
    return torch.stack(four, dim=1)


def by_rank(
    values: np.ndarray, times: Sequence[float], scalar: bool, ids: Sequence[str], attrs: dict[str, Any]
) -> xr.Dataset:
    """Return what `extremes` gives at each time as a Dataset, influences and row numbers by rank."""
    axes = {"query": ids, "rank": range(1, values.shape[-1] + 1)}
    names = ("helpful", "helpful_train", "harmful", "harmful_train")
    arrays = {}
    for place, name in enumerate(names):
        ranks = values[:, :, place]
        ranks = ranks.astype(np.int64) if name.endswith("train") else ranks
        arrays[name] = labelled_array(
            ranks, times=times, scalar=scalar, coordinates=axes, attrs=dict(attrs), name=name
        )
    at = {"at": "end of training" if times[0] == math.inf else times[0]} if scalar else {}
    return xr.Dataset(arrays, attrs=dict(attrs) | at)
