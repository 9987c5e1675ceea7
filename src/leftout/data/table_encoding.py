"""Numbers that a kernel compares, from the columns of a table as people have them: texts and missing cells.

    prose       a column for each word of the training rows, by TF-IDF; together they count as one (`words`)
    texts       a column of 0 and 1 for each value that training rows hold; a missing cell is a value too
    dates       days since the first one in the training rows; then as numbers
    numbers     a missing cell is the median of the training rows, and a column of 0 and 1 says where one was
    names       texts that hardly two training rows share tell rows apart and not classes: they are left out

Only training rows decide, so that a query tells nothing before it is asked. A table of numbers without
missing cells stays as it is. Everything that was done is a sentence in the notes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from leftout.core.errors import DataError
from leftout.core.wording import plain
from leftout.data.columns import Column, shown_cells
from leftout.data.dates import date_texts
from leftout.data.files import BYTES_PER_NUMBER, check_allocation
from leftout.data.prose import is_prose
from leftout.data.words import word_columns

MISSING = "missing"
"""Name of the value that a missing text is."""

NAMES_FROM = 0.5
"""Share of the training rows with a text that no other one has, above which a column holds names."""


@dataclass(frozen=True, eq=False)
class EncodedColumns:
    """Numbers for chosen rows of a table.

    Attributes:
        inputs: (n, d).
        names: of the d columns.
        notes: what was done, a sentence each.
        words: columns of prose, each with how many of the last columns are its words.
    """

    inputs: np.ndarray
    names: tuple[str, ...]
    notes: tuple[str, ...]
    words: tuple[tuple[str, int], ...] = ()


def encode_columns(columns: Sequence[Column], chosen: np.ndarray, train: int, source: str) -> EncodedColumns:
    """Return the features of chosen rows as numbers.

    Args:
        columns: the features; no cell of a number is infinite.
        chosen: row numbers, those of training first.
        train: how many of them are training rows.

    Raises:
        DataError: nothing is left to predict from.
        MemoryBudgetError: more columns than memory has room for.
    """
    parts: list[np.ndarray] = []
    names: list[str] = []
    widened: list[str] = []
    filled: list[str] = []
    left_out: list[str] = []
    counted: list[str] = []
    prose: list[tuple[str, np.ndarray]] = []
    alone = len(columns) == 1  # then its words are all that there is to predict from
    for column in columns:
        gaps = column.gaps[chosen]
        if gaps[:train].all():
            left_out.append(f"{column.name!r} (missing in every training row)")
            continue
        if is_prose(column) or (alone and _has_words_in_common(column, chosen, gaps, train)):
            texts = np.where(gaps, "", column.values[chosen]).tolist()
            rows = word_columns(column.name, texts, train, source)
            prose.append((column.name, rows))
            continue
        if column.kind == "text":
            cells = _texts(column, chosen, gaps)
            values = np.unique(cells[:train])
            if _tells_rows_apart(cells[:train]):
                left_out.append(f"{column.name!r} (texts that tell single rows apart, as names do)")
                continue
            check_allocation(
                f"`{source}`, with a column for each of {len(values)} values of {column.name!r},",
                BYTES_PER_NUMBER * len(chosen) * (len(values) + len(names)),
            )
            parts.append((cells[:, None] == values).astype(np.float64))
            names += [f"{column.name} = {plain(value)}" for value in values.tolist()]
            widened.append(f"{column.name!r} ({len(values)})")
            continue
        if column.kind == "date":
            first = column.values[chosen][:train][~gaps[:train]].min()
            numbers = (column.values[chosen] - first) / np.timedelta64(1, "D")
            counted.append(f"{column.name!r} ({date_texts(first[None])[0]})")
        else:
            numbers = column.values[chosen].astype(np.float64)
        if gaps.any():
            numbers[gaps] = np.median(numbers[:train][~gaps[:train]])
            filled.append(f"{column.name!r} ({int(gaps.sum())})")
        parts.append(numbers[:, None])
        names.append(column.name)
        if gaps[:train].any():
            parts.append(gaps[:, None].astype(np.float64))
            names.append(f"{column.name} is missing")
    parts += [rows for _, rows in prose]
    names += [f"{name}, word {place}" for name, rows in prose for place in range(rows.shape[1])]
    if not parts:
        raise DataError(
            f"`{source}` must have columns to predict from; none is left: {', '.join(left_out)}. Name others "
            "with `columns` (--columns), or bring numbers of your own for each row with `embeddings` "
            "(--embeddings)."
        )
    words = tuple((name, rows.shape[1]) for name, rows in prose)
    notes = (*map(_words_note, words), *_notes(widened, counted, filled, left_out))
    return EncodedColumns(np.concatenate(parts, axis=1), tuple(names), notes, words)


def _has_words_in_common(column: Column, chosen: np.ndarray, gaps: np.ndarray, train: int) -> bool:
    """Return whether a column tells single training rows apart, and its words do not."""
    if column.kind != "text":
        return False
    cells = _texts(column, chosen, gaps)[:train]
    if not _tells_rows_apart(cells):
        return False
    words = [set(cell.lower().split()) for cell in cells.tolist()]
    return len(set().union(*words)) < sum(map(len, words))


def _tells_rows_apart(cells: np.ndarray) -> bool:
    """Return whether most texts of the training rows stand in one row alone, as names do."""
    values, counts = np.unique(cells, return_counts=True)
    return len(values) > 2 and bool((counts == 1).sum() > NAMES_FROM * len(cells))


def _texts(column: Column, chosen: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """Return the texts of chosen rows; a missing one has a name of its own."""
    cells = column.values[chosen].astype(object)
    cells[gaps] = MISSING
    return np.array(cells.tolist(), dtype=str)


def raw_cells(columns: Sequence[Column], chosen: np.ndarray) -> np.ndarray:
    """Return the cells of chosen rows as a person looks at them, (n, c) objects."""
    cells = np.empty((len(chosen), len(columns)), dtype=object)
    for place, column in enumerate(columns):
        cells[:, place] = shown_cells(column)[chosen].tolist()
        cells[column.gaps[chosen], place] = MISSING
    return cells


def _words_note(words: tuple[str, int]) -> str:
    name, count = words
    return (
        f"the words of {name!r} became {count} columns by TF-IDF, fitted to the training rows; together they "
        "count as one column"
    )


def _notes(widened: list[str], counted: list[str], filled: list[str], left_out: list[str]) -> tuple[str, ...]:
    notes = []
    if widened:
        notes.append(
            f"texts became columns of 0 and 1, one for each value in the training rows: {', '.join(widened)}"
        )
    if counted:
        notes.append(f"dates became days since the first one in the training rows: {', '.join(counted)}")
    if filled:
        notes.append(
            "missing numbers became the median of the training rows, and a column says where they were: "
            f"{', '.join(filled)}"
        )
    if left_out:
        notes.append(f"left out of what is predicted from: {', '.join(left_out)}")
    return tuple(notes)
