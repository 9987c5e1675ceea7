"""Tables that come in splits, with pictures or without: what Hugging Face's `datasets` holds, and saves.

A split called `train` is trained on, and the first of `test`, `validation` asked about; the others stay
unused, and a note says so. A table without splits is split by the seed. Where it is not said, the target is
the only column of named classes, or one called `label`. One column may hold pictures: they are the inputs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from leftout.core.errors import DataError, OptionError
from leftout.core.wording import name_list
from leftout.data.columns import Column, RawTable, text_array
from leftout.data.data_source import DataSource, InputRows
from leftout.data.images import picture_rows
from leftout.data.options import Task
from leftout.data.picture_form import PictureForm
from leftout.data.split import QUERY, TRAIN
from leftout.data.table import SPLIT, table

NAMES_OF_QUERIES = (*QUERY, "validation", "dev")
LABELS = ("label", "labels", "target")
"""Names of a column to predict, where no column has named classes."""

WHOLE = ""
"""Name of the only split, where a table has none."""


@dataclass(frozen=True, eq=False)
class SplitTables:
    """The rows of the splits that are used, one after the other.

    Attributes:
        raw: all columns but pictures; rows are called after their split: test[3].
        pictures: bytes of files, or pictures of Pillow, in the rows asked for, by the name of the column.
        classes: names of the classes of columns that hold their numbers.
        is_query: which rows are queries; None: to be split by the seed.
        unused: names of other splits.
    """

    raw: RawTable
    pictures: Mapping[str, Callable[[Sequence[int]], list[Any]]]
    classes: Mapping[str, Sequence[str]]
    is_query: np.ndarray | None
    unused: tuple[str, ...]


def used_splits(names: Sequence[str], source: str) -> tuple[list[str], list[str]]:
    """Return the splits to use, training first, and the others.

    Raises:
        DataError: splits of which none is for training.
    """
    names = list(names)
    if len(names) == 1:
        return names, []
    queries = [wanted for wanted in NAMES_OF_QUERIES if wanted in names]
    if TRAIN not in names:
        raise DataError(
            f"`{source}` must have a split {TRAIN!r}, or only one; it has {name_list(names)}. Pass the pair "
            "(train, query) of splits that are meant, or one of them."
        )
    used = [TRAIN, *queries[:1]]
    return used, [name for name in names if name not in used]


def row_names(counts: Mapping[str, int]) -> list[str]:
    """Return what rows are called: by their split and place, or by their place alone."""
    return [
        f"{split}[{place}]" if split != WHOLE else f"row {place}"
        for split, count in counts.items()
        for place in range(count)
    ]


def is_query_of(counts: Mapping[str, int]) -> np.ndarray | None:
    """Return which rows are queries: those of the second split; None where there is one."""
    if len(counts) == 1:
        return None
    return np.repeat([False, True], list(counts.values()))


def source_of_splits(
    tables: SplitTables,
    source: str,
    form: PictureForm,
    *,
    target: str | None,
    columns: Sequence[str] | None,
    drop: Sequence[str] | None,
    task: Task | None,
    shown_only: bool,
) -> DataSource:
    """Return the rows, with pictures as inputs where there are any, and else with columns.

    Args: as `leftout.data.table.table`, and what is done to pictures.

    Raises:
        OptionError: columns to predict from beside pictures; a target or a column that is not there.
        DataError: several columns of pictures.
    """
    raw = replace(
        tables.raw, columns=[_named_classes(column, tables.classes) for column in tables.raw.columns]
    )
    names = [column.name for column in raw.columns]
    pictured = [name for name in tables.pictures if name not in (drop or ())]
    if target is None:
        named = [name for name in tables.classes if name in names and name not in (drop or ())]
        likely = named if len(named) == 1 else [name for name in LABELS if name in names]
        target = likely[0] if likely else None
    if tables.is_query is not None:
        kinds = text_array(["query" if asked else TRAIN for asked in tables.is_query.tolist()])
        gaps = np.zeros(len(kinds), dtype=bool)
        others = [column for column in raw.columns if column.name != SPLIT]
        raw = replace(raw, columns=[Column(SPLIT, "text", kinds, gaps), *others])
    if len(pictured) > 1:
        raise DataError(
            f"`{source}` must have one column of pictures; it has {name_list(pictured)}. Leave others out "
            "with `drop` (--drop)."
        )
    if pictured and columns is not None:
        raise OptionError(
            f"`columns` must be left out for `{source}`, whose pictures in {pictured[0]!r} are what is "
            f"predicted from; or leave these out with `drop`."
        )
    drop = [name for name in drop or () if name not in tables.pictures] or None
    rows = table(
        raw,
        source,
        form="splits",
        target=target,
        columns=columns,
        drop=drop,
        task=task,
        shown_only=shown_only or bool(pictured),
    )
    if tables.is_query is not None:
        rows = replace(rows, rows=None)  # counted in each split
    notes = list(rows.record["notes"])
    if tables.unused:
        notes.append(f"splits that stay unused: {name_list(tables.unused)}")
    record = rows.record | {"unused_splits": list(tables.unused), "notes": notes}
    if not pictured:
        return replace(rows, record=record)
    contents = tables.pictures[pictured[0]]
    ids = list(rows.ids)

    def read_rows(chosen: np.ndarray) -> InputRows:
        paths = [ids[row] for row in chosen.tolist()]
        return picture_rows(paths, contents(chosen.tolist()), form)

    return replace(rows, read=read_rows, encode=None, record=record | {"white": 255.0} | form.record)


def _named_classes(column: Column, classes: Mapping[str, Sequence[str]]) -> Column:
    """Return a column of class numbers as one of their names; -1 stands for none."""
    names = classes.get(column.name)
    if names is None or column.kind != "integer":
        return column
    numbers = column.values.astype(np.int64)
    gaps = column.gaps | (numbers == -1)
    outside = np.flatnonzero(~gaps & ((numbers < 0) | (numbers >= len(names))))
    if len(outside):
        raise DataError(
            f"`{column.name}` must hold class numbers from 0 to {len(names) - 1}; row {outside[0]} holds "
            f"{numbers[outside[0]]}."
        )
    texts = text_array(["" if gap else names[number] for number, gap in zip(numbers, gaps, strict=True)])
    return Column(column.name, "text", texts, gaps, empty=bool(gaps.all()))
