"""Numbers, durations, sizes and names as text for a person: rounded, spelt out and made visible.

Names come from files of other people: what cannot be seen (control characters, marks that turn the
reading direction, halves of surrogate pairs) is spelt out, so that a name shows what it is.
"""

import math
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any

NAME_LIMIT = 120
"""Characters of a name that are shown; the middle of a longer one is left out."""

VALUE_LIMIT = 400
"""The same for a setting or a cell of a table."""

LARGEST_EXACT = 1e15
"""Size below which a whole number is shown with all of its digits."""

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_DIRECTION_MARKS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def number(value: float, digits: int = 3) -> str:
    """Return a number to so many significant digits.

    Example:
        >>> number(-0.05), number(1.25e-13), number(float("inf"))
        ('−0.0500', '1.25 × 10⁻¹³', '∞')
    """
    if math.isnan(value):
        return "not available"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e5:
        text = f"{value:#.{digits}g}".rstrip(".")
        if "e" in text:  # more digits before the point than `digits`: whole numbers, grouped
            text = whole_number(round(value))
        return text.replace("-", "−")
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    power = str(int(exponent)).translate(_SUPERSCRIPTS)
    return f"{mantissa} × 10{power}".replace("-", "−")


def target_number(value: float, digits: int) -> str:
    """Return a number to predict to so many significant digits, and a whole one with all of its digits.

    Args:
        digits: at which different ones of a data set look different, `Examples.target_digits`.

    Example:
        >>> target_number(1234567.0, 3), target_number(1234567.25, 9), target_number(-0.05, 3)
        ('1234567', '1234567.25', '-0.05')
    """
    if not math.isfinite(value):
        return number(value)
    if value.is_integer() and abs(value) < LARGEST_EXACT:
        return str(int(value))
    before_point = len(str(int(abs(value)))) if abs(value) < LARGEST_EXACT else 0
    return f"{value:.{max(digits, before_point)}g}"


def signed_number(value: float, digits: int = 3) -> str:
    """Return a number with its sign, also where it is positive."""
    return ("+" if value > 0 else "") + number(value, digits)


def whole_number(value: int) -> str:
    """Return a whole number with its digits in groups of three."""
    return f"{value:,}".replace(",", "\u202f").replace("-", "−")


def percent(share: float, digits: int = 1) -> str:
    """Return a share of one as a percentage."""
    return "not available" if math.isnan(share) else f"{100 * share:.{digits}f}\u202f%"


def count(value: int, noun: str, plural: str = "") -> str:
    """Return "1 query", "2 queries", "12 000 queries"."""
    return whole_number(value) + "\u00a0" + (noun if value == 1 else plural or noun + "s")


def number_with_interval(value: float, low: float, high: float) -> str:
    """Return a number and the interval it lies in.

    Example:
        >>> number_with_interval(0.5, 0.4, 0.62)
        '0.500 (0.400 to 0.620)'
    """
    return f"{number(value)} ({number(low)} to {number(high)})"


def duration(seconds: float) -> str:
    """Return a time in seconds, minutes or hours.

    Example:
        >>> duration(8.04), duration(240), duration(2 * 3600)
        ('8 s', '4.0 minutes', '2.0 hours')
    """
    if seconds < 100:
        return f"{seconds:.2g} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} minutes"
    return f"{seconds / 3600:.1f} hours"


def byte_size(size: float) -> str:
    """Return a number of bytes in kB, MB, GB or TB.

    Example:
        >>> byte_size(1.5e6)
        '1.5 MB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def plain(text: object, limit: int = NAME_LIMIT) -> str:
    """Return a name as it can safely be shown: nothing invisible, not endless, always encodable."""
    shown = "".join(map(_visible, str(text)))
    if len(shown) <= limit:
        return shown
    head = (limit - 1) // 2
    return shown[:head] + "…" + shown[-(limit - 1 - head) :]


def exception_text(error: BaseException) -> str:
    """Return type and message of an exception of somebody else's code.

    Example:
        >>> exception_text(KeyError("cpu")), exception_text(AssertionError())
        ("KeyError: 'cpu'", 'AssertionError')
    """
    message = str(error).strip()
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def name_list(names: Iterable[str], most: int = 12) -> str:
    """Return names in quotes, the first of them where there are many.

    Example:
        >>> name_list(["a", "b", "c", "d"], most=2)
        "'a', 'b' and 2 more"
    """
    quoted = [repr(name) for name in names]
    more = f" and {len(quoted) - most} more" if len(quoted) > most else ""
    return (", ".join(quoted[:most]) or "none") + more


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a question for the names that a misspelt one is most like; empty where there is none.

    Example:
        >>> did_you_mean("relo", ["relu", "erf"]), did_you_mean("xyz", ["relu", "erf"])
        (" Did you mean 'relu'?", '')
    """
    near = get_close_matches(word, list(known), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


def time_label(at: float, unit: str) -> str:
    """Return a training time in words; `unit` is "time" or "step"."""
    return "end of training" if math.isinf(at) else f"{unit} {value_text(at)}"


def time_phrase(at: float, unit: str) -> str:
    """Return a training time for the middle of a sentence."""
    return f"the {time_label(at, unit)}" if math.isinf(at) else f"training {time_label(at, unit)}"


def value_text(value: Any) -> str:
    """Return a setting, a mark of an axis or a cell of a table as text."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, dict):
        return plain(", ".join(f"{key}: {value_text(member)}" for key, member in value.items()), VALUE_LIMIT)
    if isinstance(value, list | tuple):
        return plain(", ".join(map(value_text, value)), VALUE_LIMIT)
    if isinstance(value, Integral):
        return str(int(value)).replace("-", "−")
    if not isinstance(value, Real):
        return plain(value, VALUE_LIMIT)
    value = float(value)
    if value.is_integer() and abs(value) < LARGEST_EXACT:
        return str(int(value)).replace("-", "−")
    return f"{value:.6g}".replace("-", "−") if math.isfinite(value) else number(value)


def _visible(character: str) -> str:
    if character in "\t\n\r":
        return " "
    hidden = unicodedata.category(character) in {"Cc", "Cs"}
    if hidden or unicodedata.bidirectional(character) in _DIRECTION_MARKS:
        return f"\\u{ord(character):04x}"
    return character


def dtype_name(dtype: object) -> str:
    """Return the name of a type of torch's numbers without `torch.`; torch is not loaded for it.

    Example:
        >>> import torch
        >>> dtype_name(torch.float64)
        'float64'
    """
    return str(dtype).removeprefix("torch.")
