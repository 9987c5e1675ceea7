"""Choice of training rows and queries by a seed, each class in its proportion.

Every choice depends on the seed, the rows and the counts alone, never on the order in which a file
system lists its files. The queries of a source without splits do not depend on `n_train`.
"""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from leftout.core.checks import check_count, shown
from leftout.core.errors import DataError, OptionError
from leftout.data.data_source import DataSource
from leftout.data.targets import RawTargets

TRAIN = "train"
QUERY = ("query", "test", "val", "valid")
"""Names of a split of queries. Where a source has several, the first of this order is taken."""

LEAST = 2
"""Training examples a class needs: leaving out its only one would leave none."""


@dataclass(frozen=True, eq=False)
class RowSplit:
    """Row numbers of a `DataSource` to train on and to ask about, and their targets."""

    train: np.ndarray
    query: np.ndarray
    train_targets: RawTargets
    query_targets: RawTargets


def split_rows(
    source: DataSource,
    *,
    classes: Sequence[str | int] | None,
    n_train: int | None,
    n_query: int | None,
    seed: int,
) -> RowSplit:
    """Return the rows to read.

    Raises:
        OptionError: classes that are not there, or fewer than two; more rows than there are.
        DataError: a class with fewer than two training examples, a query of an unseen class.
    """
    for name, wanted in (("n_train", n_train), ("n_query", n_query)):
        if wanted is not None:
            check_count(name, wanted)
    targets, rows = _select_classes(source, classes)
    train_random, query_random = (np.random.default_rng([seed, stream]) for stream in (0, 1))
    if source.is_query is None:
        count = n_query if n_query is not None else round(source.share * len(rows))
        _check_available("n_query", count, len(rows), source.name)
        query = stratified_rows(targets.labels, rows, count, query_random, spare=LEAST)
        rest = np.setdiff1d(rows, query)
    else:
        query_pool, rest = rows[source.is_query[rows]], rows[~source.is_query[rows]]
        _check_query_classes(source, targets, rest, query_pool)
        _check_available("n_query", n_query, len(query_pool), source.name)
        query = stratified_rows(targets.labels, query_pool, n_query, query_random)
    if not len(query) or not len(rest):
        few = " Bring more rows: none of so few can be spared as a query." if source.is_query is None else ""
        raise DataError(
            f"`{source.name}` must hold training examples and queries; got {len(rest)} and {len(query)}.{few}"
        )
    _check_available("n_train", n_train, len(rest), source.name, queries=len(rows) - len(rest))
    train = stratified_rows(targets.labels, rest, n_train, train_random)
    targets = _drop_absent_classes(targets, rows) if classes is None else targets
    _check_train_classes(source, targets, train)
    return RowSplit(train, query, targets.rows(train), targets.rows(query))


def stratified_rows(
    labels: np.ndarray | None,
    rows: np.ndarray,
    count: int | None,
    random: np.random.Generator,
    *,
    spare: int = 0,
) -> np.ndarray:
    """Return `count` of the rows, ascending, each class in its proportion (None: all rows).

    Args:
        labels: of all rows of the source; None takes the rows as one class.
        spare: examples that every class keeps back as long as the count allows it.
    """
    if count is None:
        return np.sort(rows)
    strata = np.zeros(len(rows), dtype=np.int64) if labels is None else labels[rows]
    order = np.argsort(strata, kind="stable")
    groups = np.split(rows[order], np.flatnonzero(np.diff(strata[order])) + 1)  # one for each class
    shares = allotment(np.array([len(group) for group in groups]), count, spare=spare)
    drawn = [random.permutation(group)[:share] for group, share in zip(groups, shares, strict=True)]
    return np.sort(np.concatenate(drawn))


def allotment(sizes: np.ndarray, count: int, *, spare: int = 0) -> np.ndarray:
    """Return how many of each class make up `count`, by the method of largest remainders.

    Each class gets its share rounded down; what is missing goes to the largest remainders. A class
    that then has fewer than two, or leaves fewer than `spare`, trades with the class that has most
    to give, as long as the count allows that for all classes.
    """
    share = count * sizes / sizes.sum()
    counts: np.ndarray = np.floor(share).astype(np.int64)
    order = np.argsort(counts - share, kind="stable")  # largest remainder first
    counts[order[: count - counts.sum()]] += 1
    least = np.zeros_like(sizes) if spare else np.minimum(sizes, LEAST)
    most = np.maximum(sizes - spare, 0)
    if not least.sum() <= count <= most.sum():
        return counts
    counts = _traded(counts, least, int(np.maximum(least - counts, 0).sum()))
    return _traded(counts, most, int(np.maximum(counts - most, 0).sum()))


def _traded(counts: np.ndarray, bound: np.ndarray, moves: int) -> np.ndarray:
    """Return the counts after `moves` moves by one, from the class most above its bound to the most below.

    Cost:
        `moves` times the logarithm of the number of classes.
    """
    distance = (counts - bound).tolist()
    givers = [(-above, place) for place, above in enumerate(distance) if above > 0]
    takers = [(below, place) for place, below in enumerate(distance) if below < 0]
    heapq.heapify(givers)
    heapq.heapify(takers)
    for _ in range(moves):
        above, giver = givers[0]
        below, taker = takers[0]
        heapq.heapreplace(givers, (above + 1, giver))
        heapq.heapreplace(takers, (below + 1, taker))
        distance[giver] -= 1
        distance[taker] += 1
    return np.asarray(bound + np.array(distance, dtype=np.int64))


def named_splits(source: str, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return the rows to use, which of them are queries, and the splits that stay unused.

    Raises:
        DataError: no training split, no query split, or a name that is neither.
    """
    present = sorted(set(names))
    unknown = [name for name in present if name.lower() not in (TRAIN, *QUERY)]
    if unknown:
        raise DataError(
            f"`{source}` must name its splits {TRAIN!r} and one of {', '.join(map(repr, QUERY))}; "
            f"got {unknown[0]!r}. Rename or remove it."
        )
    lower = np.array([name.lower() for name in names])
    wanted = next((name for name in QUERY if name in lower), None)
    if wanted is None or TRAIN not in lower:
        raise DataError(
            f"`{source}` must have a split {TRAIN!r} and one of {', '.join(map(repr, QUERY))}; it "
            f"has only {', '.join(map(repr, present))}. Add the other, or drop the splits: then "
            "the seed makes them."
        )
    rows = np.flatnonzero((lower == TRAIN) | (lower == wanted))
    unused = [name for name in present if name.lower() not in (TRAIN, wanted)]
    return rows, lower[rows] == wanted, unused


def _select_classes(source: DataSource, classes: Sequence[str | int] | None) -> tuple[RawTargets, np.ndarray]:
    """Return targets coded in the order of `classes`, and the rows that belong to them."""
    targets = source.targets
    rows = np.arange(len(targets))
    if classes is None:
        return targets, rows
    if not isinstance(classes, Iterable) or isinstance(classes, str | bytes):
        raise OptionError(f"`classes` must be a list of class names or numbers; got {shown(classes)}.")
    if targets.labels is None:
        raise OptionError(
            f"`classes` must be left out for `{source.name}`: its targets are floats, that is, "
            "numbers to be predicted. Store class numbers as integers."
        )
    number_of = {name: number for number, name in enumerate(targets.classes)}
    numbers = [
        number_of[text]
        if (text := str(wanted).strip()) in number_of
        else class_number(targets.classes, wanted)
        for wanted in classes
    ]
    if len(set(numbers)) < max(2, len(numbers)):
        raise OptionError(f"`classes` must name at least two classes, each once; got {list(classes)}.")
    code = np.full(len(targets.classes), -1)
    code[numbers] = np.arange(len(numbers))
    labels = code[targets.labels]
    names = tuple(targets.classes[number] for number in numbers)
    return RawTargets(labels, names, None), rows[labels >= 0]


def class_number(names: Sequence[str], wanted: str | int) -> int:
    """Return the number of a class given by its name, or by its number where names are words.

    Raises:
        OptionError: no class of this name or number.
    """
    text = str(wanted).strip()
    if text in names:
        return list(names).index(text)
    words = not all(name.lstrip("-").isdecimal() for name in names)
    # Where names are numbers themselves, "0" is the class called 0 and never the first one.
    if words and text.isdecimal() and len(text) < 10 and int(text) < len(names):
        return int(text)
    listed = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    raise OptionError(f"`classes` must be among {listed}; there is no {text!r}.")


def _check_available(name: str, wanted: int | None, available: int, source: str, *, queries: int = 0) -> None:
    if wanted is not None and wanted > available:
        aside = f" beside the {queries} queries; a smaller `n_query` leaves more" if queries else ""
        raise OptionError(
            f"`{name}` must be at most {available}, what `{source}` holds{aside}; got {wanted}."
        )


def _check_query_classes(
    source: DataSource, targets: RawTargets, train: np.ndarray, query: np.ndarray
) -> None:
    """Raise when a query has a class that no training row has."""
    if targets.labels is None:
        return
    unseen = query[~np.isin(targets.labels[query], targets.labels[train])]
    if len(unseen):
        name = targets.classes[targets.labels[unseen[0]]]
        raise DataError(
            f"`{source.name}` must have training examples of every class it asks about; query "
            f"{source.ids[unseen[0]]} is of class {name!r}, which no training example has. Drop "
            "these queries, or select others with `classes`."
        )


def _drop_absent_classes(targets: RawTargets, rows: np.ndarray) -> RawTargets:
    """Return the targets coded over the classes that any of the rows has."""
    if targets.labels is None:
        return targets
    used = np.unique(targets.labels[rows])
    labels = np.searchsorted(used, targets.labels)
    return RawTargets(labels, tuple(targets.classes[number] for number in used), None)


def _check_train_classes(source: DataSource, targets: RawTargets, train: np.ndarray) -> None:
    """Raise when a class has too few training examples to leave one out, or all numbers are equal."""
    if targets.numbers is not None:
        numbers = targets.numbers[train]
        if (numbers == numbers[0]).all():
            raise DataError(
                f"`{source.name}` must hold targets that differ; all {len(train)} training examples have "
                f"{', '.join(f'{number:g}' for number in numbers[0])}."
            )
    if targets.labels is None:
        return
    if len(targets.classes) < 2:
        raise DataError(f"`{source.name}` must hold at least two classes; got only {targets.classes[0]!r}.")
    counts = np.bincount(targets.labels[train], minlength=len(targets.classes))
    for name, count in zip(targets.classes, counts, strict=True):
        if count < LEAST:
            integers = all(cls.lstrip("-").isdecimal() for cls in targets.classes)
            hint = " For numbers use `task` (--task regression)." if integers else ""
            raise DataError(
                f"`{source.name}` must have at least {LEAST} training examples of every class; "
                f"class {name!r} has {count}. Drop it by `classes` (--classes) or take more examples.{hint}"
            )
