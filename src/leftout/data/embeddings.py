"""Features that a person brings along: a row for each row of the data, which takes its place as input.

    an array, a tensor, FILE.npy    row i belongs to row i of the data: of a table or of arrays as they lie,
                                    of pictures in the order of their paths; where arrays come as two sets,
                                    training rows are first
    FILE.parquet                    the same; with a column `id`, rows are matched by the ids of the data

What a person looks at, pictures and columns, stays that of the data. Embeddings are constants: if the network
that made them was trained on these examples, it remembers each one that is left out here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from leftout.core.errors import DataError, OptionError, ShapeError
from leftout.core.wording import plain
from leftout.data.arrays import input_array
from leftout.data.arrow_columns import arrow_columns, arrow_errors
from leftout.data.columns import ID, Column, first_repeat
from leftout.data.conversion import doubles
from leftout.data.data_source import DataSource, InputRows
from leftout.data.files import BYTES_PER_NUMBER, check_allocation, file_bytes
from leftout.data.npy import array_of_bytes
from leftout.data.parquet_file import KIND, parquet_table

FILES = (".npy", ".parquet")


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Embeddings as they were given.

    Attributes:
        rows: (n, d), float64 and finite.
        ids: of the rows, where the file names them; None: they are in the order of the data.
        name: what messages and the record call them.
    """

    rows: np.ndarray
    ids: tuple[str, ...] | None
    name: str


def read_embeddings(given: Any) -> Embeddings:
    """Return embeddings from an array, or from the name of a file.

    Raises:
        OptionError: a file of another kind.
        DataError: missing or damaged; no numbers; NaN or infinity, named by its row; ids that repeat.
        ShapeError: no rows of numbers.
        MemoryBudgetError: more numbers than memory has room for.
    """
    if not isinstance(given, str | Path):
        return _finite_rows(input_array("embeddings", given), None, "embeddings")
    path, name = Path(given).expanduser(), plain(given, 200)
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return _finite_rows(input_array(name, array_of_bytes(file_bytes(path), f"`{path}`")), None, name)
    if suffix == ".parquet":
        table = parquet_table(path)
        with arrow_errors(str(path), KIND):
            array, ids = _of_table(table, name)
        return _finite_rows(array, ids, name)
    raise OptionError(f"`embeddings` must be an array or a file, {' or '.join(FILES)}; got {name!r}.")


def with_embeddings(source: DataSource, embeddings: Embeddings) -> DataSource:
    """Return the rows of a data set with these embeddings as inputs.

    Raises:
        DataError: another number of rows, or an example whose id has no embedding.
    """
    place = _places(source.ids, embeddings, source.name)
    width = embeddings.rows.shape[1]
    names = embedding_names(width)

    def read_rows(chosen: np.ndarray) -> InputRows:
        shown = source.read(chosen)
        return replace(shown, inputs=embeddings.rows[place[chosen]], input_columns=names, words=())

    matched = "by id" if embeddings.ids is not None else "in the order of the data"
    record = {"name": embeddings.name, "numbers": width, "matched": matched}
    note = f"predicted from {width} numbers for each row in {embeddings.name}, matched {matched}"
    notes = [*source.record.get("notes", ()), note]
    return replace(
        source, read=read_rows, encode=None, record=source.record | {"embeddings": record, "notes": notes}
    )


def embedding_names(width: int) -> tuple[str, ...]:
    """Return what the columns of embeddings are called."""
    return tuple(f"embedding {place}" for place in range(width))


def _places(ids: Sequence[str], embeddings: Embeddings, source: str) -> np.ndarray:
    """Return for each row of the data which embedding is its own."""
    count = len(embeddings.rows)
    if embeddings.ids is None:
        if count != len(ids):
            raise DataError(
                f"`{embeddings.name}` must have one row for each of the {len(ids)} rows of `{source}`, in "
                f"their order, from {ids[0]!r} to {ids[-1]!r}; it has {count}. Leave out the rows that are "
                f"not there, or name the rows in a column {ID!r} of a .parquet file."
            )
        return np.arange(count)
    place_of = {name: place for place, name in enumerate(embeddings.ids)}
    absent = [name for name in ids if name not in place_of]
    if absent:
        raise DataError(
            f"`{embeddings.name}` must have a row for each example of `{source}`; {len(absent)} of "
            f"{len(ids)} ids are not in its column {ID!r}, the first {absent[0]!r}."
        )
    return np.array([place_of[name] for name in ids])


def _of_table(table: Any, name: str) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Return the numbers of a table of pyarrow, its columns or the lists in one of them, and its ids."""
    places = [place for place, field in enumerate(table.schema) if _is_list(field.type)]
    lists = [table.schema.field(place).name for place in places]
    flat = [field for field in table.column_names if field not in lists]
    columns = (
        {column.name: column for column in arrow_columns(table.select(flat), name).columns} if flat else {}
    )
    ids = _ids(columns.pop(ID), name) if ID in columns else None
    if lists:
        if len(lists) > 1 or columns:
            raise DataError(
                f"`{name}` must hold one column of lists, or columns of numbers, beside {ID!r}; it has "
                f"{', '.join([*lists, *columns])}."
            )
        return _list_rows(table.column(places[0]), name), ids
    for column in columns.values():
        if column.kind in ("text", "date") or column.missing is not None:
            what = f"{column.kind}s" if column.missing is None else f"no value in row {column.missing + 1}"
            raise DataError(
                f"`{name}` must hold numbers beside the column {ID!r}; column {column.name!r} has {what}."
            )
    if not columns:
        raise DataError(f"`{name}` must hold numbers beside the column {ID!r}; it has no other column.")
    rows = [input_array(f"{name} column {column.name}", column.values) for column in columns.values()]
    return np.stack([doubles(row) for row in rows], axis=1), ids


def _is_list(kind: Any) -> bool:
    return hasattr(kind, "value_type") and "list" in str(kind)


def _list_rows(column: Any, name: str) -> np.ndarray:
    """Return the lists of a column as rows of one matrix."""
    rows = column.to_pylist()
    widths = [-1 if row is None else len(row) for row in rows]
    odd = next((row for row, width in enumerate(widths) if width != widths[0] or width < 1), None)
    if odd is not None:
        raise ShapeError(
            f"`{name}` must have lists of one length; row 1 has {max(widths[0], 0)} numbers, row {odd + 1} "
            f"has {max(widths[odd], 0)}."
        )
    return input_array(name, rows)


def _ids(column: Column, name: str) -> tuple[str, ...]:
    if column.missing is not None:
        raise DataError(
            f"`{name}` must name every row in its column {ID!r}; row {column.missing + 1} has none."
        )
    ids = tuple(map(str, column.values.tolist()))
    twice = first_repeat(ids)
    if twice is not None:
        raise DataError(f"`{name}` must name each row once in its column {ID!r}; {twice!r} is there twice.")
    return ids


def _finite_rows(array: np.ndarray, ids: tuple[str, ...] | None, name: str) -> Embeddings:
    if array.ndim < 2:
        raise ShapeError(f"`{name}` must have shape (n, d), a row for each example; got {array.shape}.")
    check_allocation(f"`{name}`, {array.shape} in double precision,", BYTES_PER_NUMBER * array.size)
    rows = doubles(array.reshape(len(array), -1))
    bad = np.flatnonzero(~np.isfinite(rows).all(1))
    if len(bad):
        raise DataError(
            f"`{name}` must be finite; row {bad[0] + 1} of {len(rows)}, counted from 1, holds NaN or "
            f"infinity ({len(bad)} rows do). Repair it, or leave its example out of both files."
        )
    return Embeddings(rows, ids, name)
