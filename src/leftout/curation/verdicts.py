"""One verdict for every training example, so that no list says the opposite of another.

An example can be in doubt and missed without itself and far from everything at once. What is said of it is
the first that holds:

    doubted      its label is probably wrong: whatever follows would be said of a wrong label
    conflicting  its inputs are also given with another label, and nobody knows which is right
    outlier      nothing is like it: look whether it belongs here
    rare         its label fits its neighbours, and is missed without it: more like it would help
    redundant    it can go, together with all others of this verdict
    fine         none of these

The first three ask a person to look, and do not contradict each other: their reasons are all given. Only what
is fine otherwise can be redundant: `rows_to_look_at` are those that stay, whatever the queries say.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, runtime_checkable

from leftout.curation.duplicates import Duplicates
from leftout.curation.prune import Pruned

Word = Literal["doubted", "conflicting", "outlier", "rare", "redundant", "fine"]
WORDS: tuple[Word, ...] = ("doubted", "conflicting", "outlier", "rare", "redundant", "fine")
"""In the order in which they are asked: the first that holds is the verdict."""

FINE = "Nothing was found against it, and it cannot go."


@runtime_checkable
class Listed(Protocol):
    """What stands in a list of examples: a row and its reason."""

    @property
    def row(self) -> int:
        """Return the row of the training example."""
        ...

    @property
    def reason(self) -> str:
        """Return why it is listed."""
        ...


Entry = TypeVar("Entry", bound=Listed)


@dataclass(frozen=True)
class Verdicts:
    """The verdict on each training example, and its reason.

    Attributes:
        words: one of `WORDS` for each row.
        reasons: the evidence, in a sentence or two.
    """

    words: tuple[Word, ...]
    reasons: tuple[str, ...]

    @property
    def rows_to_look_at(self) -> tuple[int, ...]:
        """Return the rows with a verdict that a person should look at: these are not to go."""
        return tuple(row for row, word in enumerate(self.words) if word not in ("redundant", "fine"))

    def rows(self, word: Word) -> tuple[int, ...]:
        """Return the rows with this verdict."""
        return tuple(row for row, other in enumerate(self.words) if other == word)

    def only(self, word: Word, entries: Iterable[Entry]) -> tuple[Entry, ...]:
        """Return those entries of a list whose row has this verdict."""
        return tuple(entry for entry in entries if self.words[entry.row] == word)


def verdict_of_rows(
    n: int,
    *,
    suspects: Sequence[Listed] = (),
    duplicates: Sequence[Duplicates] = (),
    outliers: Sequence[Listed] = (),
    rare: Sequence[Listed] = (),
    removal: Pruned | None = None,
) -> Verdicts:
    """Return one verdict for each of n training examples.

    Args:
        suspects: of `find_mislabelled`.
        duplicates: groups of identical inputs; those whose labels differ count.
        outliers, rare: as the functions of these names list them.
        removal: of `redundant`; None where it was not asked yet, and nothing is redundant.

    Example:
        >>> from leftout.curation.duplicates import Duplicates
        >>> from leftout.curation.rare import Rare
        >>> found = verdict_of_rows(
        ...     4,
        ...     duplicates=[Duplicates((0, 2), conflicting=True)],
        ...     rare=[Rare(2, 0.8, 1.0, "There are too few like it."), Rare(3, 0.7, 1.0, "Too few.")],
        ... )
        >>> found.words
        ('conflicting', 'fine', 'conflicting', 'rare')
    """
    words: list[Word] = ["fine"] * n
    reasons = [FINE] * n
    conflicts = [group.rows for group in duplicates if group.conflicting]
    gone = {} if removal is None else dict.fromkeys(removal.order[: removal.stop], removal.reason)
    evidence: dict[Word, dict[int, str]] = {
        "doubted": {entry.row: entry.reason for entry in suspects},
        "conflicting": {row: _conflict(row, rows) for rows in conflicts for row in rows},
        "outlier": {entry.row: entry.reason for entry in outliers},
        "rare": {entry.row: entry.reason for entry in rare},
        "redundant": gone,
    }
    # The last word first, so that every earlier one has the say over those after it.
    for word in reversed(WORDS[:-1]):
        for row, reason in evidence[word].items():
            before = f" {reasons[row]}" if words[row] in ("conflicting", "outlier") else ""
            words[row], reasons[row] = word, f"{reason}{before}"
    return Verdicts(tuple(words), tuple(reasons))


def _conflict(row: int, rows: tuple[int, ...]) -> str:
    """Return which other rows have the same inputs."""
    others = ", ".join(str(other) for other in rows if other != row)
    return f"The same inputs are given with another label: rows {others}, counted from 0."
