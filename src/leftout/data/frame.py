"""The columns of a DataFrame of pandas, and DataFrames of columns by name."""

from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from leftout.core.errors import DataError, ShapeError
from leftout.data.columns import Column, RawTable, date_or_text, integer_array
from leftout.data.conversion import as_array, doubles, kind_of
from leftout.data.dates import MICROSECONDS

KINDS_OF_COLUMNS: dict[str | None, Any] = {
    "integers": "integer",
    "floats": "number",
    "truth values": "truth",
    "texts": "text",
}


def frame_of_columns(columns: Mapping[str, Any], source: str) -> pd.DataFrame:
    """Return columns by name as a DataFrame: arrays, tensors, lists or Series, in which nothing is rounded.

    Raises:
        ShapeError: a column that is none, or has another length.
    """
    series = {}
    for name, cells in columns.items():
        if isinstance(cells, Tensor):
            cells = as_array(f"{source} column {name}", cells)
        if not isinstance(cells, pd.Series | np.ndarray | list | tuple | pd.Categorical):
            raise ShapeError(f"`{name}` in `{source}` must be a column of cells; got {type(cells).__name__}.")
        if isinstance(cells, np.ndarray) and cells.ndim != 1:
            raise ShapeError(f"`{name}` in `{source}` must be one column; it has shape {cells.shape}.")
        # Lists as objects: an integer beside a gap would become a float.
        kind = object if isinstance(cells, list | tuple) else getattr(cells, "dtype", None)
        series[str(name)] = pd.Series(cells, dtype=kind).infer_objects().reset_index(drop=True)
        first = next(iter(series))
        if len(series[str(name)]) != len(series[first]):
            raise ShapeError(
                f"`{source}` must have columns of one length; {first!r} has {len(series[first])} cells, "
                f"{name!r} {len(series[str(name)])}."
            )
    return pd.DataFrame(series)


def frame_table(frame: Any) -> RawTable:
    """Return the columns of a DataFrame of pandas, and the name of every row: its index.

    Raises:
        DataError: names of columns or rows that repeat; a column of lists or mixtures.
    """
    headings = list(map(str, frame.columns))
    for what, names in (("columns", headings), ("rows (its index)", list(map(str, frame.index)))):
        if len(set(names)) < len(names):
            raise DataError(
                f"`data` must name its {what} once each; some repeat. Rename them, or use "
                "`.reset_index(drop=True)` for rows."
            )
    if not headings or not len(frame):
        raise DataError(f"`data` must hold columns and rows; it has {frame.shape}.")
    columns = []
    for place, name in enumerate(headings):
        cells = frame.iloc[:, place]
        gaps = np.asarray(cells.isna(), dtype=bool)
        if gaps.all():
            columns.append(Column(name, "text", np.zeros(len(cells)), gaps, empty=True))
            continue
        if isinstance(cells.dropna().iloc[0], date):
            cells = _moments(name, cells)
            columns.append(_date_column(name, cells, gaps))
            continue
        present = as_array(f"data column {name}", cells.dropna())
        kind = KINDS_OF_COLUMNS.get(kind_of(present))
        if kind is None:
            raise DataError(
                f"`{name}` in `data` must hold numbers or texts; it holds {present.dtype}. Convert it."
            )
        if kind == "integer":
            present = integer_array(present.tolist())
        values = present
        if gaps.any():
            values = np.zeros(len(cells), dtype=present.dtype)
            values[~gaps] = present
        if kind == "text":
            columns.append(date_or_text(name, np.where(gaps, "", values).astype(object), gaps))
            continue
        columns.append(Column(name, kind, doubles(values) if kind == "number" else values, gaps))
    return RawTable(columns, [f"row {label}" for label in frame.index])


def _moments(name: str, cells: Any) -> Any:
    """Return a column of moments or days, which may be objects of Python, as one of pandas."""
    try:
        return pd.to_datetime(cells)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"`{name}` in `data` must hold dates of one kind; got {error}.") from error


def _date_column(name: str, cells: Any, gaps: np.ndarray) -> Column:
    """Return a column of moments, of UTC where they have a zone."""
    moments = cells.dt.tz_convert("UTC").dt.tz_localize(None) if getattr(cells.dtype, "tz", None) else cells
    values = moments.to_numpy().astype(MICROSECONDS)
    values[gaps] = np.datetime64(0, "us")
    return Column(name, "date", values, gaps)
