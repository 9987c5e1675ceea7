"""Data sets of Hugging Face's `datasets` that a program holds, known by what they can do; it is not imported.

One has `column_names`, `features`, a length, and columns by slices (`dataset[:]`); a dictionary of such holds
splits. Pictures of Pillow in a column are inputs.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from leftout.core.errors import DataError
from leftout.core.wording import exception_text
from leftout.data.columns import RawTable
from leftout.data.frame import frame_of_columns, frame_table
from leftout.data.split_tables import WHOLE, SplitTables, is_query_of, row_names, used_splits


def is_hugging_face(data: Any) -> bool:
    """Return whether an object is such a data set, or a dictionary of splits."""
    if isinstance(data, Mapping):
        return bool(data) and all(is_hugging_face(split) for split in data.values())
    return all(hasattr(data, name) for name in ("column_names", "features", "__getitem__", "__len__"))


def check_no_stream(data: Any, source: str) -> None:
    """Raise where rows of such a data set come one after the other, and cannot be asked for."""
    if hasattr(data, "column_names") and hasattr(data, "features") and not hasattr(data, "__len__"):
        raise DataError(
            f"`{source}` must have its rows at hand, and this data set is a stream. Load it without "
            "`streaming=True`, or collect the rows that are meant."
        )


def hugging_face_tables(data: Any, source: str) -> SplitTables:
    """Return the rows of a data set, or of its splits.

    Raises:
        DataError: it does not return its columns; splits with other columns; no training split.
    """
    splits = dict(data) if isinstance(data, Mapping) else {WHOLE: data}
    used, unused = used_splits(list(splits), source)
    parts = [_columns(splits[split], source) for split in used]
    counts = {split: len(splits[split]) for split in used}
    counts = counts if len(counts) > 1 else {WHOLE: sum(counts.values())}
    for part, split in zip(parts, used, strict=True):
        if list(part) != list(parts[0]):
            raise DataError(
                f"`{source}` must have splits of the same columns; got {list(parts[0])} and {list(part)}."
            )
        for name, cells in part.items():
            if len(cells) != len(splits[split]):
                raise DataError(
                    f"`{source}` must return all its rows; {name!r} has {len(cells)} of {len(splits[split])}."
                )
    columns = {name: [cell for part in parts for cell in part[name]] for name in parts[0]}
    pictures = {name: cells for name, cells in columns.items() if any(map(_is_picture, cells[:1]))}
    rest = {name: cells for name, cells in columns.items() if name not in pictures}
    if not rest or not len(next(iter(rest.values()))):
        raise DataError(f"`{source}` must hold rows and a column to predict; it has {list(columns)}.")
    features = splits[used[0]].features or {}
    named = {name: getattr(features[name], "names", None) for name in columns if name in features}
    return SplitTables(
        raw=RawTable(frame_table(frame_of_columns(rest, source)).columns, row_names(counts)),
        pictures={name: partial(_pictures_in, cells, name, source) for name, cells in pictures.items()},
        classes={name: list(map(str, names)) for name, names in named.items() if names is not None},
        is_query=is_query_of(counts),
        unused=tuple(unused),
    )


def _columns(split: Any, source: str) -> dict[str, Sequence[Any]]:
    try:
        columns = split[:]
    except Exception as error:
        raise DataError(f"`{source}` must return its columns; it raised {exception_text(error)}.") from error
    if not isinstance(columns, Mapping):
        raise DataError(f"`{source}` must return its columns by name; got {type(columns).__name__}.")
    # In the format of torch or numpy they are arrays.
    return {name: cells.tolist() if hasattr(cells, "tolist") else cells for name, cells in columns.items()}


def _is_picture(cell: Any) -> bool:
    return hasattr(cell, "getexif") and hasattr(cell, "convert")


def _pictures_in(cells: Sequence[Any], name: str, source: str, rows: Sequence[int]) -> list[Any]:
    for row in rows:
        if not _is_picture(cells[row]):
            raise DataError(f"`{source}` must hold its pictures; row {row} of {name!r} has none.")
    return [cells[row] for row in rows]
