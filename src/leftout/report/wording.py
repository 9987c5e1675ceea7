"""How is a number, a time or a label put before a person? Rounded and spelt out."""

import math
from numbers import Integral, Real
from typing import Any

from leftout.core.plain_text import plain
from leftout.data.examples import Examples

SIGN_RULE = "positive = the example helped (loss without it minus loss with it)"
MARGIN_RULE = "positive = the left-out model agrees with the given label"

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


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


def signed(value: float, digits: int = 3) -> str:
    """Return a number with its sign, also where it is positive."""
    return ("+" if value > 0 else "") + number(value, digits)


def percent(share: float, digits: int = 1) -> str:
    """Return a share of one as a percentage."""
    return "not available" if math.isnan(share) else f"{100 * share:.{digits}f}\u202f%"


def count(value: int, noun: str, plural: str = "") -> str:
    """Return "1 query", "2 queries", "12 000 queries"."""
    name = noun if value == 1 else plural or noun + "s"
    return f"{value:,}".replace(",", "\u202f") + "\u00a0" + name


def duration(seconds: float) -> str:
    """Return seconds as a person says them."""
    if seconds < 100:
        return f"{seconds:.2g} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} minutes"
    return f"{seconds / 3600:.1f} hours"


def interval(share: float, trials: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share seen in so many independent trials."""
    z = 1.959964
    middle = share + z * z / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def moment(at: float, unit: str) -> str:
    """Return a training time in words; `unit` is "time" or "step"."""
    return "end of training" if math.isinf(at) else f"{unit} {value(at)}"


def when(at: float, unit: str) -> str:
    """Return a training time as a part of a sentence."""
    said = moment(at, unit)
    return f"the {said}" if math.isinf(at) else f"training {said}"


def label(examples: Examples, row: int) -> str:
    """Return the class of an example, or its target numbers, in the units they came in."""
    if examples.classes is not None and examples.labels is not None:
        return plain(examples.classes[int(examples.labels[row])])
    values = examples.encoding.uncentred(examples.targets[row : row + 1])[0].tolist()
    shown = ", ".join(number(value) for value in values[:4])
    return shown + (f", … ({len(values)} outputs)" if len(values) > 4 else "")


def values(examples: Examples, row: int, most: int = 8) -> list[tuple[str, str]]:
    """Return the columns and raw values of a row of a table; nothing where there is no table."""
    if examples.table is None:
        return []
    entries = examples.table[row]
    names = examples.columns or tuple(f"column {i}" for i in range(len(entries)))
    shown = [
        (plain(name, 40), value(entry)) for name, entry in zip(names[:most], entries[:most], strict=True)
    ]
    if len(entries) > most:
        shown.append(("…", f"{len(entries) - most} more"))
    return shown


def value(entry: Any) -> str:
    """Return a setting or a cell of a table as text."""
    if isinstance(entry, bool) or entry is None:
        return {True: "yes", False: "no", None: "none"}[entry]
    if isinstance(entry, dict):
        return plain(", ".join(f"{key}: {value(item)}" for key, item in entry.items()), 400)
    if isinstance(entry, list | tuple):
        return plain(", ".join(value(item) for item in entry), 400)
    if isinstance(entry, Integral):
        return str(int(entry)).replace("-", "−")
    if not isinstance(entry, Real):
        return plain(entry, 400)
    entry = float(entry)
    return f"{entry:.6g}".replace("-", "−") if math.isfinite(entry) else number(entry)
