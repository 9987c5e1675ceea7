"""Scores as a plot: which training examples help and harm most, with sign and unit on the axis."""

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from leftout.core.checks import check_count, check_kind
from leftout.core.errors import DataError, OptionError
from leftout.core.wording import name_list, plain
from leftout.report.axes import HARMFUL, HELPFUL, Bar, axes_for, bars_height, draw_bars, label_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = ("train", "group")
"""What scores are of."""

NO_SIGN = "the array says neither sign nor unit: keep its attrs"


def plot(scores: Any, *, top: int = 10, ax: "Axes | None" = None) -> "Axes":
    """Return axes with the examples that help and harm most, as bars sorted by influence.

    Of scores (query, train) the mean over queries is shown, of several times the last. Sign and unit are
    those that the scores say of themselves.

    Args:
        scores: from `leave_one_out`, `leave_out`, `first_order` and their like: dims (query, train) or
            (query, group), with or without `at`; or their mean over queries; or one query.
        top: so many from each end; with fewer examples than twice that, all.
        ax: axes of matplotlib to draw on; None makes a figure.

    Raises:
        OptionError: no such array, or one with several outputs.
        DataError: scores that are NaN or infinite.

    Cost:
        a mean over the scores, and a sort.

    Example:
        >>> import leftout as lo
        >>> train, query = lo.load("digits", n_train=60, n_query=20)
        >>> scores = lo.leave_one_out(lo.fit(lo.kernels.ReLU(2), train), query)
        >>> ax = lo.plot(scores, top=3)
        >>> ax.get_title(loc="left")
        'Mean influence over 20 queries: 6 of 60 examples'
        >>> print(ax.get_xlabel())
        influence (½ Σ (prediction − target)² over outputs)
        loss without the example minus loss with it
        positive = the example helped
    """
    check_kind("scores", scores, xr.DataArray, what="scores with their axes, as from `leave_one_out`")
    check_count("top", top)
    column = _column(scores)
    title, scores = _over_queries(scores, column)
    values = np.asarray(scores.values, dtype=float)
    if not np.isfinite(values).all():
        raise DataError(
            f"`scores` must be finite to be drawn; {int((~np.isfinite(values)).sum())} of {values.size} are "
            "not."
        )
    names = scores[column].values.tolist() if column in scores.coords else range(len(values))
    order = np.argsort(-values, kind="stable").tolist()
    bars = [Bar(str(names[j]), float(values[j]), HELPFUL if values[j] >= 0 else HARMFUL) for j in order]
    n, whole = len(bars), len(bars) <= 2 * top
    shown = "" if whole else f": {2 * top:,} of {n:,} {'groups' if column == 'group' else 'examples'}"
    ax = axes_for(ax, height=bars_height(n if whole else 2 * top + 1))
    draw_bars(
        ax, bars if whole else bars[:top], [] if whole else bars[-top:], between=0 if whole else n - 2 * top
    )
    units, sign = scores.attrs.get("units", ""), scores.attrs.get("sign", NO_SIGN)
    across = [f"influence ({plain(units)})" if units else "influence", *plain(sign, 200).split(": ")]
    label_axes(ax, title + shown, across)
    return ax


def _column(scores: xr.DataArray) -> str:
    """Return the axis of examples or groups; raise at an axis that a bar does not say."""
    dims = list(map(str, scores.dims))
    column = next((name for name in COLUMNS if name in dims), None)
    if column is None:
        raise OptionError(
            f"`scores` must have the axis 'train' or 'group'; it has {name_list(dims) or 'none'}. Tables of "
            "an audit are drawn by audit.plot."
        )
    others = [name for name in dims if name not in (column, "query", "at")]
    if others:
        raise OptionError(
            f"`scores` must be of one {others[0]}; choose it: scores.isel({{{others[0]!r}: 0}})."
        )
    if scores.size == 0:
        raise OptionError(f"`scores` must hold at least one number; their shape is {scores.shape}.")
    return column


def _over_queries(scores: xr.DataArray, column: str) -> tuple[str, xr.DataArray]:
    """Return what is shown of scores, in words, and as one number for each example."""
    scores = scores.isel(at=-1) if "at" in scores.dims else scores
    at = scores["at"].item() if "at" in scores.coords else scores.attrs.get("at")
    time = f" at time {at:g}" if isinstance(at, float) and np.isfinite(at) else ""
    if "query" in scores.dims:
        count = scores.sizes["query"]
        queries = "1 query" if count == 1 else f"{count:,} queries"
        return f"Mean influence over {queries}{time}", scores.mean("query", keep_attrs=True)
    if scores.attrs.get("mean_over") == "query":
        return f"Mean influence over queries{time}", scores
    if "query" in scores.coords:
        return f"Influence on {plain(scores['query'].item(), 40)}{time}", scores
    return f"Influence of each {'group' if column == 'group' else 'example'}{time}", scores
