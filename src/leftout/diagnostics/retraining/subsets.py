"""Which training examples does each training keep? Subsets as given, drawn, or made by scores."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from leftout.attribution.groups import named_groups
from leftout.core.checks import as_list, check_between, check_count, check_whole, shown
from leftout.core.errors import DataError, OptionError, ShapeError
from leftout.data.conversion import doubles
from leftout.diagnostics.retraining.agreement import Scores, array_with_names

Subsets = Iterable[Any] | Mapping[Any, Any]
"""Rows kept, one row of row numbers or of truth values for each training; a mapping names the subsets."""


def random_subsets(
    n: int, *, count: int = 100, fraction: float = 0.5, seed: int = 0
) -> Bool[np.ndarray, "subsets n"]:
    """Return random subsets of n training examples, all of one size.

    Args:
        n: training examples.
        count: subsets.
        fraction: of the examples that each keeps, rounded to a whole number of them.
        seed: of the draws.

    Returns:
        Truth values (count, n): True where an example is kept.

    Raises:
        OptionError: an option out of range, or a fraction that keeps no example, or all.

    Cost:
        count · n numbers.

    Source:
        Ilyas et al. 2022, Datamodels: halves of the training data.

    Example:
        >>> random_subsets(10, count=3).sum(1).tolist()
        [5, 5, 5]
    """
    check_count("n", n)
    check_count("count", count)
    check_between("fraction", fraction, 0, 1)
    check_whole("seed", seed, 0)
    size = round(fraction * n)
    if not 0 < size < n:
        raise OptionError(
            f"`fraction` must keep at least one of {n} examples and not all of them; {fraction:g} keeps "
            f"{size}."
        )
    draws = np.random.default_rng(seed)
    kept = np.zeros((count, n), dtype=bool)
    for row in kept:
        row[draws.permutation(n)[:size]] = True
    return kept


def removal_subsets(
    scores: Scores, *, shares: Sequence[float] = (0.05, 0.1, 0.2, 0.4), draws: int = 5, seed: int = 0
) -> dict[str, Bool[np.ndarray, " n"]]:
    """Return subsets without the examples that scores call most helpful, most harmful, and without random
    ones.

    Trained on (`retrain_subsets`, `refit_subsets`), they give a removal curve: good scores make the loss
    rise fastest where the helpful examples go.

    Args:
        scores: (query, train), positive = the example helped; their mean over the queries orders them.
        shares: of the training examples that go.
        draws: random subsets at each share.
        seed: of these draws.

    Returns:
        Truth values (n,) by name: "helpful 0.1", "harmful 0.1", "random 0.1 #0", …

    Raises:
        ShapeError: scores that have not two axes.
        DataError: scores that are no numbers, or not finite.
        OptionError: an option out of range; a share of which no example goes, or all.

    Example:
        >>> kept = removal_subsets(np.array([[3.0, 1.0, -2.0, 0.0]]), shares=[0.25], draws=1)
        >>> kept["helpful 0.25"].tolist(), kept["harmful 0.25"].tolist()
        ([False, True, True, True], [True, True, False, True])
    """
    matrix = doubles(array_with_names("scores", scores).values)
    if not np.isfinite(matrix).all():
        raise DataError("`scores` must be finite; they hold NaN or infinity.")
    check_whole("draws", draws, 0)
    check_whole("seed", seed, 0)
    n = matrix.shape[1]
    order = np.argsort(-matrix.mean(0), kind="stable")
    generator = np.random.default_rng(seed)
    subsets = {}
    listed = as_list("shares", shares)
    if not isinstance(listed, Iterable):
        raise OptionError(f"`shares` must be a list of numbers between 0 and 1; got {shown(shares)}.")
    for share in listed:
        check_between("shares", share, 0, 1)
        size = round(share * n)
        if not 0 < size < n:
            raise OptionError(
                f"`shares` must remove at least one of {n} examples, not all; {share:g} removes {size}."
            )
        orders = {f"helpful {share:g}": order, f"harmful {share:g}": order[::-1]}
        orders |= {f"random {share:g} #{draw}": generator.permutation(n) for draw in range(draws)}
        for name, removed in orders.items():
            subsets[name] = np.isin(np.arange(n), removed[size:])
    return subsets


def subset_membership(subsets: Subsets, n: int) -> tuple[list[str], Bool[np.ndarray, "subsets n"]]:
    """Return a name for each subset, and which of n training examples it keeps.

    Raises:
        OptionError: no subset, an empty one, row numbers out of range or repeated.
        ShapeError: truth values that are not one for each training example.
    """
    array = (
        np.asarray(subsets) if hasattr(subsets, "dtype") and not getattr(subsets, "is_meta", False) else None
    )
    if array is not None and array.dtype == bool and array.ndim == 2 and array.shape[1] == n:
        rows: Any = dict(enumerate(map(np.flatnonzero, array)))
    else:
        rows = as_list("subsets", subsets)
        if isinstance(rows, Iterable) and not isinstance(rows, str | bytes):
            named = rows if isinstance(rows, Mapping) else dict(enumerate(rows))
            rows = {name: _row_numbers(subset, name, n) for name, subset in named.items()}
    names, numbers = named_groups(rows, n, called="subset")
    kept = np.zeros((len(names), n), dtype=bool)
    for row, members in zip(kept, numbers, strict=True):
        row[members.numpy()] = True
    return names, kept


def _row_numbers(subset: Any, name: Any, n: int) -> Any:
    """Return row numbers, also of a subset that is given as truth values."""
    members = as_list(f"subsets[{name!r}]", subset)
    if not isinstance(members, Iterable) or isinstance(members, str | bytes | Mapping):
        raise OptionError(
            f"`subsets`: subset {name!r} must be a row of row numbers or of truth values; got "
            f"{shown(subset)}."
        )
    members = [as_list("subsets", member) for member in members]
    if not members or not all(isinstance(member, bool) for member in members):
        return members
    if len(members) != n:
        raise ShapeError(
            f"`subsets`: subset {name!r} must have {n} truth values, one for each training example; "
            f"got {len(members)}."
        )
    return np.flatnonzero(members)


def tensor_rows(kept: Bool[np.ndarray, " n"]) -> Tensor:
    """Return the row numbers of a subset."""
    return torch.from_numpy(np.flatnonzero(kept))
