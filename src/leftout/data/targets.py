"""Targets as classes or numbers: integers, truth values and texts are classes, floats are numbers.

The type decides, never the values: 0.0, 1.0, 1.0 are numbers to be predicted, 0, 1, 1 are the names of two
classes. `task` says the other. Floats that look like classes are taken as numbers, integers of many values in
a table as classes, and a note says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from leftout.core.errors import DataError, OptionError, ShapeError
from leftout.core.wording import name_list
from leftout.data.conversion import as_array, check_whole_numbers, doubles, kind_of
from leftout.data.options import Task

FEW_VALUES = 20
"""Floats that are all whole, with at most this many values, may have been meant as classes."""

MANY_CLASSES = 10
"""Integers of more values than this may have been meant as numbers: ages, years, counts, prices."""

GROUPS_SHOWN = 3
"""Groups of classes with names alike that a note names."""

AS_CLASSES = "store them as integers, or say so with `task` (--task classification)"


@dataclass(frozen=True, eq=False)
class RawTargets:
    """Targets of n rows: class numbers into `classes`, or `numbers` (n, k); the other is None."""

    labels: np.ndarray | None
    classes: tuple[str, ...]
    numbers: np.ndarray | None

    def __len__(self) -> int:
        return len(self.labels if self.numbers is None else self.numbers)  # type: ignore[arg-type]

    def rows(self, chosen: np.ndarray) -> "RawTargets":
        """Return the targets of some rows, under the same class names."""
        labels = None if self.labels is None else self.labels[chosen]
        numbers = None if self.numbers is None else self.numbers[chosen]
        return RawTargets(labels, self.classes, numbers)


def raw_targets(
    name: str, values: np.ndarray, *, task: Task | None = None, rows: Sequence[str] | None = None
) -> RawTargets:
    """Return classes for integers, truth values and texts, numbers for floats, or what `task` says.

    Class names are the texts of the distinct values, in the order of the values.

    Args:
        values: as from `target_array`.
        task: "classification" or "regression"; None goes by the type.
        rows: names of the rows, for messages; None numbers them.

    Raises:
        ShapeError: classes with more than one column.
        OptionError: texts or truth values for regression, fractions for classification.
        DataError: integers for regression that doubles cannot hold.
    """
    kind = kind_of(values)
    if task == "regression" or (task is None and kind == "floats"):
        if kind not in ("floats", "integers"):
            raise OptionError(f"`task` must be classification for `{name}`, which holds {kind}.")
        check_whole_numbers(name, values, rows)
        numbers = doubles(values)
        return RawTargets(None, (), numbers[:, None] if numbers.ndim == 1 else numbers)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ShapeError(
            f"`{name}` must be one class per row, of shape (n,), when it holds {kind}; got {values.shape}. "
            "Turn one-hot columns into class numbers with `argmax(1)`, or numbers to predict into floats."
        )
    if kind == "floats":
        values = _whole_floats(name, values, rows)
    labels, distinct = _numbered(values)
    return RawTargets(labels, tuple(map(str, distinct)), None)


def float_class_note(name: str, raw: RawTargets, *, advice: str = AS_CLASSES) -> str | None:
    """Return the sentence that floats which look like classes are taken as numbers, or None."""
    if raw.numbers is None or raw.numbers.shape[1] != 1:
        return None
    distinct = np.unique(raw.numbers)
    if not 2 <= len(distinct) <= min(FEW_VALUES, len(raw) // 2) or not _are_whole(distinct):
        return None
    shown = ", ".join(f"{number:g}" for number in distinct[:5]) + (", …" if len(distinct) > 5 else "")
    return (
        f"{name} holds floats of {len(distinct)} values, {shown}: they are numbers to predict (regression). "
        f"If they are classes, {advice}."
    )


def integer_class_note(name: str, raw: RawTargets) -> str | None:
    """Return the sentence that integers of many values are taken as classes, or None."""
    if raw.labels is None or len(raw.classes) <= MANY_CLASSES:
        return None
    if not all(word.removeprefix("-").isdecimal() for word in raw.classes):
        return None
    return (
        f"{name} holds integers of {len(raw.classes)} values, {', '.join(raw.classes[:5])}, …: each is a "
        "class. If they are numbers to predict, say so with `task` (--task regression)."
    )


def alike_class_note(classes: Sequence[str] | None) -> str | None:
    """Return the sentence that names of classes differ only in capital letters or blanks, or None.

    Example:
        >>> alike_class_note(["Cat", "cat", "dog"])[-47:]
        "'Cat', 'cat'. If they are one, write them alike"
        >>> alike_class_note(["cat", "dog"])
    """
    spellings: dict[str, list[str]] = {}
    for name in classes or ():
        spellings.setdefault("".join(name.split()).casefold(), []).append(name)
    alike = [name_list(names) for names in spellings.values() if len(names) > 1]
    if not alike:
        return None
    more = f" and {len(alike) - GROUPS_SHOWN} more groups" if len(alike) > GROUPS_SHOWN else ""
    return (
        "classes that differ only in capital letters or blanks are classes of their own: "
        f"{'; '.join(alike[:GROUPS_SHOWN])}{more}. If they are one, write them alike"
    )


def joined_targets(
    name: str, train: np.ndarray, query: np.ndarray, *, task: Task | None = None
) -> RawTargets:
    """Return the targets of the training rows, then of the queries, in one coding."""
    kinds = kind_of(train), kind_of(query)
    if kinds[0] != kinds[1]:
        raise DataError(
            f"`{name}` must be of one kind for training and query; got {kinds[0]} and {kinds[1]}."
        )
    if train.shape[1:] != query.shape[1:]:
        raise ShapeError(
            f"`{name}` must have the same columns for training and query; got {train.shape} and "
            f"{query.shape}."
        )
    if kinds[0] == "integers" and train.dtype != query.dtype:
        # numpy would join int64 and uint64 as floats.
        train, query = train.astype(object), query.astype(object)
    return raw_targets(name, np.concatenate([train, query]), task=task)


def target_array(name: str, values: Any) -> np.ndarray:
    """Return targets as an array of integers, truth values, texts (objects) or floats, (n,) or (n, k).

    Raises:
        DataError: any other type (complex numbers, dates, mixtures); an entry that is missing or masked.
        ShapeError: not one- or two-dimensional, ragged, or empty.
    """
    array = as_array(name, values)
    if array.dtype.kind == "S":
        array = np.array([entry.decode("latin-1") for entry in array.ravel().tolist()], dtype=object).reshape(
            array.shape
        )
    if array.ndim not in (1, 2) or 0 in array.shape:
        raise ShapeError(f"`{name}` must have shape (n,) or (n, k), none of them 0; got {array.shape}.")
    if kind_of(array) is None:
        raise DataError(
            f"`{name}` must hold classes (integers, truth values, texts) or numbers (floats); got "
            f"dtype {array.dtype}."
        )
    return array


def _numbered(values: np.ndarray) -> tuple[np.ndarray, list[Any]]:
    """Return class numbers (n,), and the distinct values in their order; linear in n for texts."""
    if values.dtype.kind != "O":
        distinct, labels = np.unique(values, return_inverse=True)
        return labels.astype(np.int64), distinct.tolist()
    entries = values.tolist()
    ordered = sorted(set(entries))
    number = {entry: place for place, entry in enumerate(ordered)}
    return np.fromiter(map(number.__getitem__, entries), np.int64, len(entries)), ordered


def _whole_floats(name: str, values: np.ndarray, rows: Sequence[str] | None) -> np.ndarray:
    """Return floats as the integers they are."""
    odd = np.flatnonzero(~np.isfinite(values) | (values != np.rint(values)))
    if len(odd):
        row = f"row {odd[0]}" if rows is None else rows[odd[0]]
        raise OptionError(
            f"`task` must be regression for `{name}`, unless all of it are whole numbers; {row} holds "
            f"{values[odd[0]]}."
        )
    return np.array([int(entry) for entry in values.tolist()], dtype=object)


def _are_whole(numbers: np.ndarray) -> bool:
    return bool((np.isfinite(numbers) & (numbers == np.rint(numbers))).all())
