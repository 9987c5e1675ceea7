"""What a program holds as one table: a DataFrame, one beside its targets, columns by name, or two of these.

frame                          a table; `target` names what is predicted, or the last column is
(frame, y), a Bunch            its columns, and the target as one more; (texts, y) has one column of texts
{"size": …, "kind": …}         columns by name, each a list or an array
(frame, frame)                 training rows and queries, of the same columns
((frame, y), (frame, y))       the same, with their targets
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from leftout.core.errors import DataError, ShapeError
from leftout.core.wording import name_list
from leftout.data.arrays import check_rows_match
from leftout.data.columns import RawTable
from leftout.data.frame import frame_of_columns, frame_table
from leftout.data.objects import BUNCH, is_frame
from leftout.data.table import SPLIT
from leftout.data.targets import target_array

ARRAYS = ({"x", "y"}, {"x_train", "y_train", "x_test", "y_test"}, set(BUNCH))
"""Names by which a dictionary holds arrays rather than columns."""

TEXT = "text"
"""Name of a column of texts that has none."""

TARGET = "target"
"""Name of a target that has none."""


@dataclass(frozen=True, eq=False)
class GivenTable:
    """A table, the column to predict where the object says which, and whether it was two tables."""

    raw: RawTable
    target: str | None = None
    of_two: bool = False


def given_table(data: Any, source: str) -> GivenTable | None:
    """Return the table that an object is, or None where it holds arrays.

    Raises:
        DataError, ShapeError: columns of different length; frames of different columns; as `frame_table`.
    """
    if is_frame(data):
        return GivenTable(frame_table(data))
    if isinstance(data, Mapping):
        if set(BUNCH) <= set(data) and is_frame(data["data"]):
            return given_table((data["data"], data["target"]), source)
        if any(names <= set(data) for names in ARRAYS) or not _are_columns(data):
            return None
        return GivenTable(frame_table(frame_of_columns(data, source)))
    if not isinstance(data, tuple | list) or len(data) != 2:
        return None
    first, second = data
    if is_frame(first) and is_frame(second) and second.shape[1] == first.shape[1] > 1:
        return GivenTable(_two_tables(first, second, source), of_two=True)
    if _is_text_pair(first) and _is_text_pair(second):
        first, second = data = _text_frame(first), _text_frame(second)
    if _is_frame_pair(first) and _is_frame_pair(second):
        (train, target), (query, other) = (_join_target(side, source) for side in data)
        raw = _two_tables(train, query.rename(columns={other: target}), source)
        return GivenTable(raw, target, of_two=True)
    if _is_text_pair(data):
        data = _text_frame(data)
    if _is_frame_pair(data):
        frame, target = _join_target(data, source)
        return GivenTable(frame_table(frame), target)
    return None


def _are_columns(data: Mapping[Any, Any]) -> bool:
    """Return whether a dictionary holds columns of cells by name."""
    return len(data) > 1 and all(
        isinstance(name, str) and hasattr(cells, "__len__") and not isinstance(cells, str | bytes)
        and getattr(cells, "ndim", 1) == 1
        for name, cells in data.items()
    )  # fmt: skip


def _is_frame_pair(data: Any) -> bool:
    """Return whether an object is a DataFrame beside one target for each of its rows."""
    if not isinstance(data, tuple | list) or len(data) != 2 or not is_frame(data[0]):
        return False
    return not is_frame(data[1]) and hasattr(data[1], "__len__") and getattr(data[1], "ndim", 1) == 1


def _is_text_pair(data: Any) -> bool:
    """Return whether an object is a list of texts beside one target for each."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        return False
    first, second = data
    if isinstance(first, str | bytes) or not isinstance(first, list | tuple | np.ndarray | pd.Series):
        return False
    texts = list(first)
    if len(texts) < 2 or isinstance(second, str | bytes) or not hasattr(second, "__len__"):
        return False
    return all(isinstance(text, str) for text in texts) and len(second) == len(texts)


def _text_frame(pair: Any) -> tuple[pd.DataFrame, Any]:
    """Return texts as a frame of one column, beside their targets."""
    return pd.DataFrame({TEXT: pd.Series(list(pair[0]), dtype=object)}), pair[1]


def _join_target(pair: Any, source: str) -> tuple[pd.DataFrame, str]:
    """Return a frame with its targets as one more column, and the name of that."""
    frame, targets = pair
    check_rows_match(source, frame, targets)
    values = target_array(f"{source} targets", targets)
    if len(values) != len(frame):
        raise ShapeError(
            f"`{source}` must have as many inputs as targets; got {frame.shape} and {values.shape}."
        )
    name = str(getattr(targets, "name", None) or TARGET)
    if name in map(str, frame.columns):
        raise DataError(
            f"`{source}` must have targets that are no column of the inputs; both have {name!r}. Rename "
            "or drop one."
        )
    frame = frame if frame.index.is_unique else frame.reset_index(drop=True)
    return frame.assign(**{name: pd.Series(values, index=frame.index)}), name


def _two_tables(train: pd.DataFrame, query: pd.DataFrame, source: str) -> RawTable:
    """Return the rows of both, called train[0], …, query[0], …, with a column that says which they are."""
    names = list(map(str, train.columns))
    if set(map(str, query.columns)) != set(names) or SPLIT in names:
        raise DataError(
            f"`{source}` must have the same columns twice, none called {SPLIT!r}; got {name_list(names)} and "
            f"{name_list(map(str, query.columns))}."
        )
    query = query[list(train.columns)]
    columns = {}
    for place, name in enumerate(names):
        sides = [side.iloc[:, place].reset_index(drop=True) for side in (train, query)]
        if sides[0].dtype != sides[1].dtype:
            sides = [side.astype(object) for side in sides]  # pandas would round integers beside floats
        columns[name] = pd.concat(sides, ignore_index=True)
    columns[SPLIT] = pd.Series(np.repeat(["train", "query"], [len(train), len(query)]))
    rows = [f"{side}[{row}]" for side, of in (("train", train), ("query", query)) for row in range(len(of))]
    return replace(frame_table(pd.DataFrame(columns)), rows=rows)
