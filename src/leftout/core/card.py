"""What an object shows of itself: a title and a few named lines, as text and in notebooks.

Names come from files of other people: nothing in them is invisible, endless or markup.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from leftout.core.wording import plain

LONGEST = 400
"""Characters of a line."""

NAME = 60
"""Characters of a name in a line."""

NAMES = 6
"""Names in a line."""


@dataclass(frozen=True)
class Card:
    """A title, and lines of a name and a text.

    Example:
        >>> card = Card("Examples of <b>", (("ids", "0, 1"),))
        >>> print(card)
        Examples of <b>
          ids: 0, 1
        >>> card.html()
        '<div><strong>Examples of &lt;b&gt;</strong><table><tr><th>ids</th><td>0, 1</td></tr></table></div>'
    """

    title: str
    lines: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        lines = (f"  {name}: {plain(text, LONGEST)}" for name, text in self.lines)
        return "\n".join([plain(self.title, LONGEST), *lines])

    def html(self, below: str = "") -> str:
        """Return the same as HTML.

        Args:
            below: HTML that follows.
        """
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(plain(text, LONGEST))}</td></tr>"
            for name, text in self.lines
        )
        table = f"<table>{rows}</table>" if rows else ""
        return f"<div><strong>{escape(plain(self.title, LONGEST))}</strong>{table}{below}</div>"


def first_names(names: Sequence[object]) -> str:
    """Return the first of some names, and that there are more.

    Example:
        >>> first_names(range(3)), first_names(range(9))
        ('0, 1, 2', '0, 1, 2, 3, 4, 5, …')
    """
    shown = ", ".join(plain(name, NAME) for name in names[:NAMES])
    return f"{shown}, …" if len(names) > NAMES else shown
