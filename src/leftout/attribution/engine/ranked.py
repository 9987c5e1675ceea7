"""The most helpful and the most harmful training examples of each query, instead of all of them."""

import math
from collections.abc import Iterable, Sequence
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
    """Return values and row numbers of the largest and of the smallest, as one tensor.

    All of them, sorted, where there are fewer columns than `top`.
    """
    top = min(top, change.shape[1])
    high, low = change.topk(top, dim=1), change.topk(top, dim=1, largest=False)
    four = (high.values, high.indices.double(), low.values, low.indices.double())
    return torch.stack(four, dim=1)


def streamed_extremes(
    changes: Iterable[tuple[slice, Float64[Tensor, "b e"]]], top: int
) -> Float64[Tensor, "b four top"]:
    """Return the same of changes that come for some columns after others."""
    so_far: Tensor | None = None
    for columns, change in changes:
        more = extremes(change, top)
        more[:, 1::2] += columns.start
        so_far = more if so_far is None else _of_both(so_far, more, top)
    assert so_far is not None
    return so_far


def _of_both(
    first: Float64[Tensor, "b four t"], second: Float64[Tensor, "b four u"], top: int
) -> Float64[Tensor, "b four top"]:
    """Return the extremes of two sets of columns from those of each."""
    both = torch.cat([first, second], dim=2)
    sides = []
    for values, numbers, largest in ((both[:, 0], both[:, 1], True), (both[:, 2], both[:, 3], False)):
        best = values.topk(min(top, values.shape[1]), dim=1, largest=largest)
        sides += [best.values, numbers.gather(1, best.indices)]
    return torch.stack(sides, dim=1)


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
