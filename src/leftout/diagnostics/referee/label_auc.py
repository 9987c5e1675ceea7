"""Do scores find labels that are known to be wrong? A wrong one should have the lower mean score."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from leftout.core.checks import as_list, row_numbers, shown
from leftout.core.errors import OptionError


def label_auc(wrong: Float64[np.ndarray, " w"], right: Float64[np.ndarray, " r"]) -> float:
    """Return the probability that a wrong label has a lower score than a right one; ties count half."""
    ordered = np.sort(right)
    above = len(right) - np.searchsorted(ordered, wrong, side="right")
    equal = np.searchsorted(ordered, wrong, side="right") - np.searchsorted(ordered, wrong, side="left")
    return float((above + equal / 2).mean() / len(right))


def wrong_label_mask(rows: Any, n: int) -> Bool[np.ndarray, " n"]:
    """Return which labels are wrong, from row numbers or truth values."""
    listed = as_list("wrong_labels", rows)
    listed = list(listed) if isinstance(listed, list | tuple) else []
    if len(listed) == n and all(isinstance(flag, bool) for flag in listed):
        mask = np.asarray(listed)
    else:
        numbers = row_numbers("wrong_labels", rows)
        outside = [row for row in numbers if not 0 <= row < n]
        if outside:
            raise OptionError(f"`wrong_labels` must be rows from 0 to {n - 1}; got {outside[0]}.")
        mask = np.isin(np.arange(n), numbers)
    if not mask.any() or mask.all():
        raise OptionError(
            f"`wrong_labels` must name at least one of {n} training examples and not all; got {shown(rows)}."
        )
    return mask
