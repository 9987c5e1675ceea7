"""Groups of training examples with identical inputs, and whether their labels agree."""

from dataclasses import dataclass

from leftout.data.examples import Examples
from leftout.data.identical import identical_inputs


@dataclass(frozen=True)
class Duplicates:
    """Training examples with identical inputs.

    Attributes:
        rows: their row numbers.
        conflicting: whether their targets differ.
    """

    rows: tuple[int, ...]
    conflicting: bool


def duplicates(examples: Examples) -> tuple[Duplicates, ...]:
    """Return groups of identical inputs, those with conflicting targets first.

    Cost:
        linear in the size of the inputs.
    """
    groups = [
        Duplicates(rows, bool((examples.targets[list(rows)] != examples.targets[rows[0]]).any()))
        for rows in identical_inputs(examples.inputs)
    ]
    return tuple(sorted(groups, key=lambda group: (not group.conflicting, group.rows)))
