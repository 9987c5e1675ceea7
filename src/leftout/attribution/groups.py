"""Which training examples go together? Groups as a caller gives them, checked and named."""

from collections.abc import Iterable, Mapping
from typing import Any, SupportsIndex

import torch
from jaxtyping import Int64
from torch import Tensor

from leftout.core.checks import row_numbers, shown
from leftout.core.errors import OptionError

Group = Iterable[SupportsIndex]
Groups = Iterable[Any] | Mapping[Any, Group]


def named_groups(
    groups: Groups, n: int, *, called: str = "group"
) -> tuple[list[str], list[Int64[Tensor, " _"]]]:
    """Return a name and the row numbers of each group, in the order given.

    Args:
        groups: row numbers below n that go together; a mapping names the groups, others are numbered.
        called: what messages call one of them; the argument is called `groups`, with an s.

    Raises:
        OptionError: no group or an empty one, a row number out of range or repeated within a group.
    """
    if not isinstance(groups, Iterable) or isinstance(groups, str | bytes):
        raise OptionError(
            f"`{called}s` must be a list of {called}s of row numbers, or a mapping; got {shown(groups)}."
        )
    named = groups if isinstance(groups, Mapping) else dict(enumerate(groups))
    rows = [_rows(group, name, n, called) for name, group in named.items()]
    if not rows:
        raise OptionError(f"`{called}s` must hold at least one {called} of row numbers; got none.")
    return [str(name) for name in named], rows


def _rows(group: Group, name: Any, n: int, called: str) -> Int64[Tensor, " g"]:
    """Return the row numbers of a group, checked."""
    rows = row_numbers(f"{called}s[{name!r}]", group)
    subject = f"`{called}s`: {called} {name!r}"
    if not rows:
        raise OptionError(f"{subject} is empty; name at least one training row.")
    outside = [row for row in rows if not 0 <= row < n]
    if outside:
        raise OptionError(f"{subject} names row {outside[0]}; rows go from 0 to {n - 1}.")
    if len(set(rows)) < len(rows):
        raise OptionError(f"{subject} names a row twice; name each once.")
    return torch.tensor(rows, dtype=torch.long, device="cpu")
