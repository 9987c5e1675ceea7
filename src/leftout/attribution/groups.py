"""Which training examples go together? Groups as a caller gives them, checked and named."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, SupportsIndex

import torch
from jaxtyping import Int64
from torch import Tensor

from leftout.core.checks import row_numbers
from leftout.core.errors import OptionError

Group = Iterable[SupportsIndex]
Groups = Sequence[Group] | Mapping[Any, Group]


def named_groups(groups: Groups, n: int) -> tuple[list[str], list[Int64[Tensor, " _"]]]:
    """Return a name and the row numbers of each group, in the order given.

    Args:
        groups: row numbers below n that go together; a mapping names the groups, others are numbered.

    Raises:
        OptionError: no group or an empty one, a row number out of range or repeated within a group.
    """
    names = list(groups) if isinstance(groups, Mapping) else range(len(groups))
    members = groups.values() if isinstance(groups, Mapping) else groups
    rows = [_rows(group, name, n) for name, group in zip(names, members, strict=True)]
    if not rows:
        raise OptionError("`groups` must hold at least one group of row numbers; got none.")
    return [str(name) for name in names], rows


def _rows(group: Group, name: Any, n: int) -> Int64[Tensor, " g"]:
    """Return the row numbers of a group, checked."""
    rows = torch.tensor(row_numbers(f"groups[{name!r}]", group), dtype=torch.long, device="cpu")
    if not len(rows):
        raise OptionError(f"`groups`: group {name!r} is empty; name at least one training row.")
    outside = rows[(rows < 0) | (rows >= n)]
    if len(outside):
        raise OptionError(f"`groups`: group {name!r} names row {int(outside[0])}; rows go from 0 to {n - 1}.")
    if len(set(rows.tolist())) < len(rows):
        raise OptionError(f"`groups`: group {name!r} names a row twice; name each once.")
    return rows
