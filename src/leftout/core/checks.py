"""Checks of arguments: each raises an error that says what must hold and what was given."""

import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from os import PathLike
from typing import Any

import torch
from torch import Tensor

from leftout.core.errors import DataError, LeftoutError, OptionError, ShapeError
from leftout.core.wording import dtype_name

CHECKED = 2**20
"""Numbers that are looked at together: more would take memory of their own, as much as the data."""


def check_rows(name: str, tensor: Tensor, n: int, *, of: str = "`gram`") -> None:
    """Raise unless `tensor` has one row per training point."""
    if tensor.shape[0] != n:
        raise ShapeError(f"`{name}` must have {n} rows, the side of {of}; got {tuple(tensor.shape)}.")


def check_finite(name: str, tensor: Tensor) -> None:
    """Raise if any number is NaN or infinite, naming the first such row."""
    if tensor.numel() == 0 or not tensor.dtype.is_floating_point:
        return
    height = max(1, CHECKED * len(tensor) // tensor.numel()) if tensor.ndim else 1
    pieces = torch.split(tensor, height) if tensor.ndim else (tensor,)
    if all(bool(torch.isfinite(piece).all()) for piece in pieces):
        return
    bad = ~torch.isfinite(tensor)
    rows = bad.reshape(len(bad), -1).any(1).nonzero().flatten()
    raise DataError(
        f"`{name}` must be finite; row {int(rows[0])} holds NaN or infinity "
        f"({len(rows)} of {len(tensor)} rows do). Repair or drop these rows."
    )


def check_whole_kept(name: str, tensor: Tensor, dtype: torch.dtype) -> None:
    """Raise where a whole number would become another one in this precision, naming the first such row.

    A float32 module sees 16777217 as 16777216: as an id it is another one. Numbers beyond 2^53 are not looked
    at, as double precision has no odd ones there.
    """
    if not tensor.dtype.is_floating_point or torch.finfo(dtype).eps <= torch.finfo(tensor.dtype).eps:
        return
    sizes = tensor.abs()
    if not bool(((sizes > 2 / torch.finfo(dtype).eps) & (sizes <= 2.0**53)).any()):
        return
    other = (sizes <= 2.0**53) & (tensor == tensor.round()) & (tensor.to(dtype).to(tensor.dtype) != tensor)
    rows = other.reshape(len(other), -1).any(1).nonzero().flatten()
    if len(rows):
        row = int(rows[0])
        number = float(tensor[row][other[row]].flatten()[0])
        becomes = float(tensor[row][other[row]].flatten()[0].to(dtype))
        kind = dtype_name(dtype)
        raise DataError(
            f"`{name}` must hold whole numbers that the module's {kind} holds; row {row} has {number:.0f}, "
            f"which becomes {becomes:.0f} ({len(rows)} of {len(tensor)} "
            "rows have such ones). Call module.double(), or number the ids anew from 0."
        )


def check_kind(
    name: str, argument: object, kind: type | tuple[type, ...], *, what: str, advice: str = ""
) -> None:
    """Raise unless `argument` is an instance of a class.

    Args:
        what: the class in words, with where to get an instance.
        advice: what to do with an argument like this, as sentences.
    """
    if isinstance(argument, kind):
        return
    if isinstance(argument, type):
        came = f"the class {argument.__name__}"
        # `solver=ConjugateGradients` lacks its brackets.
        came += f"; write {argument.__name__}(…)" if issubclass(argument, kind) else ""
    else:
        came = shown(argument) if isinstance(argument, str | Real | None) else type(argument).__name__
    raise OptionError(f"`{name}` must be {what}; got {came}. {advice}".rstrip())


def is_real(argument: object) -> bool:
    """Return whether an object is a single real number; truth values and texts are not."""
    try:
        if getattr(argument, "ndim", 1) == 0 and hasattr(argument, "item"):  # of torch or NumPy
            argument = argument.item()
        # A whole number beyond 1e308 is none that can be computed with.
        return isinstance(argument, Real) and not isinstance(argument, bool) and float(argument) is not None
    except (OverflowError, RuntimeError):  # RuntimeError: a tensor on the meta device
        return False


def is_whole(argument: object) -> bool:
    """Return whether an object is a whole number that 64 bits hold; truth values are none."""
    whole = isinstance(argument, Integral) and not isinstance(argument, bool)
    return whole and -(2**63) <= int(argument) < 2**63  # type: ignore[call-overload]


def shown(argument: object, most: int = 80) -> str:
    """Return what an argument is, in at most so many characters."""
    try:
        text = repr(argument)
    except Exception:  # Python prints no number of more than 4300 digits, and an object may fail in any way
        return type(argument).__name__
    return text if len(text) <= most else text[: most - 1] + "…"


def check_at_least(name: str, number: Any, low: float) -> None:
    """Raise unless low ≤ number < ∞ (NaN fails too)."""
    if not is_real(number) or not low <= number < math.inf:
        raise OptionError(f"`{name}` must be a finite number ≥ {low:g}; got {shown(number)}.")


def check_positive(name: str, number: Any) -> None:
    """Raise unless 0 < number < ∞ (NaN fails too)."""
    if not is_real(number) or not 0 < number < math.inf:
        raise OptionError(f"`{name}` must be a finite number > 0; got {shown(number)}.")


def check_scale(
    name: str, size: float, decades: int, *, advice: str, error: type[LeftoutError] = OptionError
) -> None:
    """Raise unless a size is 0 or lies within so many powers of ten of 1: beyond, products leave the numbers.

    Args:
        size: the largest absolute value of what is named.
        advice: what to change, as a sentence.
        error: what is raised.
    """
    if size and not 10.0**-decades <= size <= 10.0**decades:
        raise error(
            f"`{name}` must be 0 or lie between 1e-{decades} and 1e{decades}, or numbers of double precision "
            f"would overflow or vanish on the way; got {size:.3g}. {advice}"
        )


def check_between(name: str, number: Any, low: float, high: float) -> None:
    """Raise unless low < number < high (NaN fails too)."""
    if not is_real(number) or not low < number < high:
        raise OptionError(f"`{name}` must lie in ({low:g}, {high:g}); got {shown(number)}.")


def check_count(name: str, count: object) -> None:
    """Raise unless `count` is a whole number ≥ 1 (True is none)."""
    check_whole(name, count, 1)


def check_seed(seed: object) -> None:
    """Raise unless `seed` is a whole number ≥ 0 (True is none)."""
    check_whole("seed", seed, 0)


def check_whole(name: str, number: object, low: int) -> None:
    """Raise unless `number` is a whole number ≥ low that 64 bits hold."""
    if not is_whole(number) or number < low:  # type: ignore[operator]
        below = " and below 2^63" if isinstance(number, Integral) and int(number) >= 2**63 else ""
        raise OptionError(f"`{name}` must be a whole number ≥ {low}{below}; got {shown(number)}.")


def check_choice(name: str, option: object, choices: Sequence[object]) -> None:
    """Raise unless `option` is one of `choices`."""
    if not _is_among(option, choices):
        listed = ", ".join(repr(choice) for choice in choices)
        raise OptionError(f"`{name}` must be one of {listed}; got {shown(option)}.")


def _is_among(option: object, choices: Sequence[object]) -> bool:
    """Return whether an option is a choice; an array or a tensor is none, whatever its entries are."""
    try:
        return getattr(option, "ndim", 0) == 0 and option in choices
    except (RuntimeError, TypeError, ValueError):
        return False


def check_path(name: str, path: object) -> None:
    """Raise unless an argument is a path, as a text or a Path."""
    check_kind(name, path, (str, PathLike), what="a path, as a text or a Path")


def as_list(name: str, argument: Any) -> Any:
    """Return an array or a tensor as Python's numbers and lists, and anything else as it is."""
    if getattr(argument, "is_meta", False):
        raise OptionError(f"`{name}` must hold numbers; a tensor on the meta device holds none.")
    return argument.tolist() if hasattr(argument, "tolist") else argument


def row_numbers(name: str, rows: Any) -> list[int]:
    """Return one or several row numbers, in any form, as a list; raise unless all are whole."""
    rows = as_list(name, rows)
    numbers = []
    for row in rows if isinstance(rows, Iterable) else [rows]:
        number = as_list(name, row)
        # Python takes a truth value for an index: a mask would be read as rows 0 and 1.
        if isinstance(number, bool) or not isinstance(number, Integral):
            raise OptionError(
                f"`{name}` must be row numbers, whole and no truth values; got {shown(number)}."
            )
        numbers.append(int(number))
    return numbers


def check_index(name: str, index: int, n: int) -> None:
    """Raise unless `index` is the number of one of n rows."""
    if not 0 <= index < n:
        raise OptionError(f"`{name}` must be a row number from 0 to {n - 1}; got {index}.")
