"""What is said of a choice among kernels? Rows for a table, and one sentence."""

from dataclasses import replace
from typing import Any

from rich.table import Table
from rich.text import Text

from leftout.core.plain_text import plain
from leftout.diagnostics.model_selection import STRENGTHS, Candidate, Selection
from leftout.kernels.pairwise.label_aware import LabelAware
from leftout.report.findings import Findings
from leftout.report.wording import number, percent

COLUMNS = ("kernel", "left-out loss", "accuracy", "behind the best")
SPECTRUM = ("smallest eigenvalue", "condition")
"""Further columns where labels may have made a matrix indefinite."""


def selection_columns(found: Selection) -> tuple[str, ...]:
    """Return the heads of the columns."""
    return (*COLUMNS, *SPECTRUM) if _has_spectrum(found) else COLUMNS


def _has_spectrum(found: Selection) -> bool:
    return any(one.smallest is not None for one in found.candidates)


def selection_table(found: Selection) -> Table:
    """Return what was tried, best first, with the lead of the best over each."""
    table = Table(*selection_columns(found), title="Which kernel?", title_justify="left")
    for row in selection_rows(found):
        table.add_row(*map(Text, row))
    return table


def selection_rows(found: Selection) -> list[tuple[str, ...]]:
    """Return a row for each candidate: loss, accuracy, how far behind the best with the standard error."""
    return [_row(found, one) for one in found.candidates]


def _row(found: Selection, one: Candidate) -> tuple[str, ...]:
    right = "" if one.accuracy is None else percent(one.accuracy)
    behind = ""
    if one.losses is None:
        behind = plain(one.skipped, 300)
    elif one is not found.best:
        mean, error = found.lead(one)
        behind = f"{number(mean)} ± {number(error)}"
    loss = "skipped" if one.losses is None else number(one.loss)
    if not _has_spectrum(found):
        return one.name, loss, right, behind
    ends = ["" if value is None else number(value) for value in (one.smallest, one.condition)]
    return one.name, loss, right, behind, *ends


def selection_verdict(found: Selection) -> str:
    """Return which was taken, whether its lead is more than chance, and whether its strength is the last."""
    best, others = found.best, found.tried[1:]
    if not others:
        return f"{best.name} was taken: no other kernel could be tried." + _edge(found)
    behind, error = found.lead(others[0])
    clear = behind > 2 * error
    return (
        f"{best.name} was taken: its exact leave-one-out loss, {number(best.loss)}, is {number(behind)} ± "
        f"{number(error)} below that of {others[0].name}, "
        + (
            "more than twice its standard error."
            if clear
            else "less than twice its standard error: on other examples they might change places."
        )
        + _edge(found)
    )


def _edge(found: Selection) -> str:
    """Return a sentence, a space before it, where the strength that was chosen is an end of those tried."""
    best = found.best
    if isinstance(best.kernel, LabelAware) and best.kernel.strength == 0:
        return " Labels do not help: strength 0 is the kernel that sees none."
    # A strength that was chosen comes with a spectrum; one that was given comes without.
    if not isinstance(best.kernel, LabelAware) or best.kernel.strength is None or best.smallest is None:
        return ""
    # Among kernels each stands with its best strength only, and all of `STRENGTHS` were tried.
    others = [
        one.kernel.strength
        for one in found.tried
        if isinstance(one.kernel, LabelAware)
        and one.kernel.strength is not None
        and replace(one.kernel, strength=None) == replace(best.kernel, strength=None)
    ]
    largest = max(others) if len(others) > 1 else STRENGTHS[-1]
    if best.kernel.strength < largest:
        return ""
    return f" Its strength, {best.kernel.strength:g}, is the largest that was tried; more may be better."


def panel(findings: Findings) -> dict[str, Any] | None:
    """Return the table and the sentence; None where the kernel was given."""
    found = findings.selection
    if found is None:
        return None
    return {
        "columns": selection_columns(found),
        "rows": selection_rows(found),
        "verdict": selection_verdict(found),
    }
