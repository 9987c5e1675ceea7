"""Columns whose cells may mean two things, and are refused as features with what can be done."""

import re
from collections.abc import Sequence

from leftout.core.errors import DataError
from leftout.core.wording import name_list
from leftout.data.columns import NUMBER, Column
from leftout.data.dates import ISO, SLASHED

TEXT_SHOWN = 40
"""Characters of a cell that a message shows."""

MOSTLY = 0.8
"""Share of numbers, or of dates, among the cells of a column from which the others are taken for slips."""

MARKED = re.compile(r"[+-]?[0-9]{1,3}([.,' \u00a0\u2019][0-9]{3})+([.,][0-9]+)?|[+-]?[0-9]*,[0-9]+")
"""A number with marks between thousands, or a decimal comma."""


def may_be_misread(column: Column) -> bool:
    """Return whether texts of a column are dates that can be read in two ways, or nearly numbers or dates."""
    return bool(column.orders) or _slips(column) is not None or _first_marked(column) is not None


def check_meaning(features: Sequence[Column], target: str, rows: Sequence[str], source: str) -> None:
    """Raise where the cells of a feature may mean two things, with what can be done.

    Args:
        target: name of the column that is predicted.
        rows: what messages call the rows.
    """
    advice = "or leave the column out with `drop` (--drop)."
    codes = [column for column in features if column.code is not None]
    if codes:
        example = codes[0].values[codes[0].code]
        raise DataError(
            f"`{source}` must have numbers or texts to predict from; "
            f"{name_list([column.name for column in codes])} {'hold' if len(codes) > 1 else 'holds'} codes "
            f"with leading zeros, such as {example!r}. Write them with a letter if they are names of kinds "
            f"(c0123), without the zeros if they are numbers, {advice}"
        )
    for column in features:
        if column.orders:
            raise DataError(
                f"`{source}` must have dates of one meaning; {column.name!r} can be read as "
                f"{' or as '.join(column.orders)}, such as {_present(column)[0]!r}. Write dates as "
                f"2024-01-31, {advice}"
            )
        odd = _slips(column)
        if odd is not None:
            kind, cells, count = odd
            row = column.values.tolist().index(cells[0])
            raise DataError(
                f"`{source}` must have {kind} or texts in a column, not both; {column.name!r} holds "
                f"{kind}, and text in {len(cells)} of {count} rows, such as {cells[0][:TEXT_SHOWN]!r} in "
                f"{rows[row]}. Write numbers as 1234.5 and dates as 2024-01-31, leave cells without one "
                f"empty, {advice} The target is {target!r}."
            )
        marked = _first_marked(column)
        if marked is not None:
            raise DataError(
                f"`{source}` must have numbers of one meaning; {column.name!r} holds {marked!r}, where the "
                f"mark may be between thousands or before decimals. Write numbers as 1234.5, {advice}"
            )


def _present(column: Column) -> list[str]:
    """Return the cells of a column of texts that are not missing; none of another column."""
    if column.kind != "text" or column.empty:
        return []
    return [cell for cell, gap in zip(column.values.tolist(), column.gaps, strict=True) if not gap]


def _slips(column: Column) -> tuple[str, list[str], int] | None:
    """Return what most cells are, those that are not, and the number of all; None where all are alike."""
    cells = _present(column)
    for kind, patterns in (("numbers", (NUMBER,)), ("dates", (ISO, SLASHED))):
        odd = [cell for cell in cells if not any(pattern.fullmatch(cell) for pattern in patterns)]
        if odd and len(odd) < (1 - MOSTLY) * len(cells):
            return kind, odd, len(cells)
    return None


def _first_marked(column: Column) -> str | None:
    """Return a number with marks from a column that holds no texts besides, or None."""
    cells = _present(column)
    marked = [cell for cell in cells if MARKED.fullmatch(cell)]
    whole = marked and all(MARKED.fullmatch(cell) or NUMBER.fullmatch(cell) for cell in cells)
    return marked[0] if whole else None
