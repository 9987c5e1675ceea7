"""Numbers, times and names as text for a person: rounded, spelt out, with nothing invisible in it.

Names come from files of other people: what cannot be seen (control characters, marks that turn the
reading direction, halves of surrogate pairs) is spelt out, so that a name shows what it is.
"""

import math
import unicodedata
from numbers import Integral, Real
from typing import Any

from leftout.data.examples import Examples

SIGN_RULE = "positive = the example helped (loss without it minus loss with it)"
MARGIN_RULE = "positive = the left-out model agrees with the given label"
NAME_LIMIT = 120
"""Characters of a name that are shown; the middle of a longer one is left out."""

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_DIRECTION_MARKS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def number(value: float, digits: int = 3) -> str:
    """Return a number as a person reads it, to so many digits."""
    if math.isnan(value):
        return "not available"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e5:
        text = f"{value:#.{digits}g}".rstrip(".")
        if "e" in text:  # more digits before the point than asked for: whole numbers, grouped
            text = f"{value:,.0f}"
        return text.replace("-", "−").replace(",", "\u202f")
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    power = str(int(exponent)).translate(_SUPERSCRIPTS)
    return f"{mantissa} × 10{power}".replace("-", "−")


def signed_number(value: float, digits: int = 3) -> str:
    """Return a number with its sign, also where it is positive."""
    return ("+" if value > 0 else "") + number(value, digits)


def percent(share: float, digits: int = 1) -> str:
    """Return a share of one as a percentage."""
    return "not available" if math.isnan(share) else f"{100 * share:.{digits}f}\u202f%"


def count(total: int, noun: str, plural: str = "") -> str:
    """Return "1 query", "2 queries", "12 000 queries"."""
    name = noun if total == 1 else plural or noun + "s"
    return f"{total:,}".replace(",", "\u202f") + "\u00a0" + name


def duration(seconds: float) -> str:
    """Return seconds as a person says them."""
    if seconds < 100:
        return f"{seconds:.2g} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} minutes"
    return f"{seconds / 3600:.1f} hours"


def plain(text: object, limit: int = NAME_LIMIT) -> str:
    """Return a name as it can safely be shown: nothing invisible, not endless, always encodable."""
    shown = "".join(map(_visible, str(text)))
    if len(shown) <= limit:
        return shown
    head = (limit - 1) // 2
    return shown[:head] + "…" + shown[-(limit - 1 - head) :]


def wilson_interval(share: float, trials: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share seen in so many independent trials."""
    z = 1.959964
    middle = share + z * z / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def time_name(at: float, unit: str) -> str:
    """Return a training time by itself; `unit` is "time" or "step"."""
    return "end of training" if math.isinf(at) else f"{unit} {value_text(at)}"


def time_in_sentence(at: float, unit: str) -> str:
    """Return a training time as a part of a sentence."""
    name = time_name(at, unit)
    return f"the {name}" if math.isinf(at) else f"training {name}"


def short_time(at: float | None, unit: str) -> str:
    """Return a training time as it stands beside a number; None is "never"."""
    if at is None:
        return "never"
    if math.isinf(at):
        return "the end"
    return (f"step {at:g}" if unit == "step" else f"t = {at:g}").replace(" ", "\u00a0")


def label_text(examples: Examples, row: int) -> str:
    """Return the class of an example, or its target numbers, in the units they came in."""
    if examples.classes is not None and examples.labels is not None:
        return plain(examples.classes[int(examples.labels[row])])
    numbers = examples.encoding.uncentred(examples.targets[row : row + 1])[0].tolist()
    shown = ", ".join(number(target) for target in numbers[:4])
    return shown + (f", … ({len(numbers)} outputs)" if len(numbers) > 4 else "")


def cell_texts(examples: Examples, row: int, most: int = 8) -> list[tuple[str, str]]:
    """Return the columns and raw values of a row of a table; nothing where there is no table."""
    if examples.table is None:
        return []
    cells = examples.table[row]
    names = examples.columns or tuple(f"column {i}" for i in range(len(cells)))
    shown = [
        (plain(name, 40), value_text(cell)) for name, cell in zip(names[:most], cells[:most], strict=True)
    ]
    if len(cells) > most:
        shown.append(("…", f"{len(cells) - most} more"))
    return shown


def value_text(content: Any) -> str:
    """Return a setting or a cell of a table as text."""
    if isinstance(content, bool) or content is None:
        return {True: "yes", False: "no", None: "none"}[content]
    if isinstance(content, dict):
        return plain(", ".join(f"{key}: {value_text(inner)}" for key, inner in content.items()), 400)
    if isinstance(content, list | tuple):
        return plain(", ".join(value_text(inner) for inner in content), 400)
    if isinstance(content, Integral):
        return str(int(content)).replace("-", "−")
    if not isinstance(content, Real):
        return plain(content, 400)
    size = float(content)
    return f"{size:.6g}".replace("-", "−") if math.isfinite(size) else number(size)


def _visible(character: str) -> str:
    if character in "\t\n\r":
        return " "
    hidden = unicodedata.category(character) in {"Cc", "Cs"}
    if hidden or unicodedata.bidirectional(character) in _DIRECTION_MARKS:
        return f"\\u{ord(character):04x}"
    return character
