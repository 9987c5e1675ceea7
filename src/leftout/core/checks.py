"""Checks at the public door: each raises one sentence that says what must hold and what came."""

import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from leftout.core.errors import DataError, OptionError, ShapeError


def check_rows(name: str, value: Tensor, n: int, *, of: str = "`gram`") -> None:
    """Raise unless `value` has one row per training point."""
    if value.shape[0] != n:
        raise ShapeError(f"`{name}` must have {n} rows, the side of {of}; got {tuple(value.shape)}.")


def check_finite(name: str, value: Tensor) -> None:
    """Raise if any number is NaN or infinite, naming the first such row."""
    if value.numel() == 0 or not value.dtype.is_floating_point:
        return
    bad = ~torch.isfinite(value)
    if not bool(bad.any()):
        return
    rows = bad.reshape(len(bad), -1).any(1).nonzero().flatten()
    raise DataError(
        f"`{name}` must be finite; row {int(rows[0])} holds NaN or infinity "
        f"({len(rows)} of {len(value)} rows do). Repair or drop these rows."
    )


def check_kind(name: str, value: object, kind: type | tuple[type, ...], *, what: str) -> None:
    """Raise unless `value` is an object of a kind.

    Args:
        what: the kind in words, with where to get one.
    """
    if isinstance(value, kind):
        return
    if isinstance(value, type):
        came = f"the class {value.__name__}"
        # An ABC's kind is asked of the class itself: `solver=ConjugateGradients` lacks its brackets.
        came += f"; write {value.__name__}(…)" if issubclass(value, kind) else ""
    else:
        came = repr(value) if isinstance(value, str | Real | None) else type(value).__name__
    raise OptionError(f"`{name}` must be {what}; got {came}.")


def is_real(value: object) -> bool:
    """Return whether it is one real number, which True is not, nor a text that looks like one."""
    if getattr(value, "ndim", 1) == 0 and hasattr(value, "item"):  # of torch or NumPy
        value = value.item()
    return isinstance(value, Real) and not isinstance(value, bool)


def check_at_least(name: str, value: Any, low: float) -> None:
    """Raise unless low ≤ value < ∞ (NaN fails too)."""
    if not is_real(value) or not low <= value < math.inf:
        raise OptionError(f"`{name}` must be a finite number ≥ {low:g}; got {value!r}.")


def check_positive(name: str, value: Any) -> None:
    """Raise unless 0 < value < ∞ (NaN fails too)."""
    if not is_real(value) or not 0 < value < math.inf:
        raise OptionError(f"`{name}` must be a finite number > 0; got {value!r}.")


def check_between(name: str, value: Any, low: float, high: float) -> None:
    """Raise unless low < value < high (NaN fails too)."""
    if not is_real(value) or not low < value < high:
        raise OptionError(f"`{name}` must lie in ({low:g}, {high:g}); got {value!r}.")


def check_count(name: str, value: object) -> None:
    """Raise unless `value` is a whole number ≥ 1 (True is none)."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise OptionError(f"`{name}` must be a whole number ≥ 1; got {value!r}.")


def check_seed(value: object) -> None:
    """Raise unless `value` is a seed: a whole number ≥ 0 (True is none)."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 0:
        raise OptionError(f"`seed` must be a whole number ≥ 0; got {value!r}.")


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Raise unless `value` is one of `choices`."""
    if value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise OptionError(f"`{name}` must be one of {listed}; got {value!r}.")


def row_numbers(name: str, given: Any) -> list[int]:
    """Return row numbers, one or several in any form, as a list; raise unless each is whole."""
    given = given.tolist() if hasattr(given, "tolist") else given
    rows = []
    for entry in given if isinstance(given, Iterable) else [given]:
        entry = entry.item() if isinstance(entry, Tensor) else entry
        # A truth value is an index to Python: a mask would be read as rows 0 and 1.
        if isinstance(entry, bool) or not isinstance(entry, Integral):
            raise OptionError(f"`{name}` must be row numbers, whole and no truth values; got {entry!r}.")
        rows.append(int(entry))
    return rows


def check_index(name: str, value: int, n: int) -> None:
    """Raise unless `value` is the number of one of n rows."""
    if not 0 <= value < n:
        raise OptionError(f"`{name}` must be a row number from 0 to {n - 1}; got {value}.")
