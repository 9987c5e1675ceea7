"""Names from foreign files as text that is safe to show in a terminal or on a page.

What cannot be seen (control characters, marks that turn the reading direction, halves of surrogate pairs)
is spelt out, so that a name shows what it is.
"""

import unicodedata

NAME_LIMIT = 120
"""Characters of a name that are shown; the middle of a longer one is left out."""

_DIRECTION_MARKS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def plain(text: object, limit: int = NAME_LIMIT) -> str:
    """Return a name as it can safely be shown: nothing invisible, not endless, always encodable."""
    shown = "".join(map(_visible, str(text)))
    if len(shown) <= limit:
        return shown
    head = (limit - 1) // 2
    return shown[:head] + "…" + shown[-(limit - 1 - head) :]


def _visible(character: str) -> str:
    if character in "\t\n\r":
        return " "
    hidden = unicodedata.category(character) in {"Cc", "Cs"}
    if hidden or unicodedata.bidirectional(character) in _DIRECTION_MARKS:
        return f"\\u{ord(character):04x}"
    return character
