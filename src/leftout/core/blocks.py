"""Memory budgets, and blocks of a long axis that keep temporaries within them."""

from collections.abc import Iterator

import torch

from leftout.core.checks import is_real, shown
from leftout.core.errors import MemoryBudgetError, OptionError
from leftout.core.free_memory import free_memory
from leftout.core.wording import byte_size

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
UNITS |= {unit + "i": 1024**power for power, unit in enumerate(("k", "m", "g", "t"), start=1)}


def blocks(n: int, size: int) -> Iterator[slice]:
    """Yield slices covering 0…n, none longer than `size`; peak memory is one block."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def memory_budget(memory: int | float | str | None, *, device: torch.device | None = None) -> int:
    """Return a budget in bytes.

    Args:
        memory: bytes, or a text such as "4GB" or "512MiB"; None takes 60 % of what is free now.

    Raises:
        OptionError: a text that is not a size, or a size that is not positive.

    Example:
        >>> memory_budget("4GB")
        4000000000
    """
    if memory is None:
        return int(0.6 * free_memory(device))
    if isinstance(memory, str):
        text = memory.strip().lower().removesuffix("b").strip()
        digits = text.rstrip("kmgti ")
        unit = text[len(digits) :].strip()
        try:
            size = float(digits) * UNITS[unit]
        except (ValueError, KeyError):
            raise OptionError(
                f"`memory` must be a number of bytes or a size such as '4GB' or '512MiB'; got {memory!r}."
            ) from None
    elif is_real(memory):
        size = float(memory)
    else:
        raise OptionError(f"`memory` must be a number of bytes or a size such as '4GB'; got {shown(memory)}.")
    if not 0 < size < float("inf"):
        raise OptionError(f"`memory` must be positive; got {memory!r}.")
    return int(size)


def check_fits(name: str, needed: int, budget: int, *, advice: str) -> None:
    """Raise when an object of this name needs more bytes than the budget, before it is allocated."""
    if needed > budget:
        raise MemoryBudgetError(
            f"{name} needs {byte_size(needed)}, more than the budget of {byte_size(budget)}. {advice}"
        )
