"""The choice among kernels: what was tried as a table, and one sentence on the choice."""

from dataclasses import replace
from typing import Any

from rich.table import Table
from rich.text import Text

from leftout.core.wording import number, percent, plain
from leftout.diagnostics.model_selection import STRENGTHS, Candidate, Selection
from leftout.kernels.pairwise.label_aware import LabelAware
from leftout.report.findings import Findings

COLUMNS = ("kernel", "left-out loss", "accuracy", "behind the best")
SPECTRUM = ("smallest eigenvalue", "condition")
"""Further columns where labels may have made a matrix indefinite."""


def selection_columns(selection: Selection) -> tuple[str, ...]:
    """Return the heads of the columns."""
    return (*COLUMNS, *SPECTRUM) if _has_spectrum(selection) else COLUMNS


def _has_spectrum(selection: Selection) -> bool:
    return any(candidate.smallest is not None for candidate in selection.candidates)


def selection_table(selection: Selection) -> Table:
    """Return what was tried, best first, with the lead of the best over each."""
    table = Table(*selection_columns(selection), title="Which kernel?", title_justify="left")
    for row in selection_rows(selection):
        table.add_row(*map(Text, row))
    return table


def selection_rows(selection: Selection) -> list[tuple[str, ...]]:
    """Return a row for each candidate: loss, accuracy, how far behind the best with the standard error."""
    return [_row(selection, candidate) for candidate in selection.candidates]


def _row(selection: Selection, candidate: Candidate) -> tuple[str, ...]:
    right = "" if candidate.accuracy is None else percent(candidate.accuracy)
    behind = ""
    if candidate.losses is None:
        behind = plain(candidate.skipped, 300)
    elif candidate is not selection.best:
        mean, error = selection.lead(candidate)
        behind = f"{number(mean)} ± {number(error)}"
    loss = "skipped" if candidate.losses is None else number(candidate.loss)
    if not _has_spectrum(selection):
        return candidate.name, loss, right, behind
    ends = ["" if end is None else number(end) for end in (candidate.smallest, candidate.condition)]
    return candidate.name, loss, right, behind, *ends


def selection_verdict(selection: Selection) -> str:
    """Return which kernel was taken, if it leads by more than chance, and if its strength is the last."""
    best, rivals = selection.best, selection.with_losses[1:]
    if not rivals:
        return f"{best.name} was taken: no other kernel could be tried." + _strength_note(selection)
    behind, error = selection.lead(rivals[0])
    clear = behind > 2 * error
    return (
        f"{best.name} was taken: its exact leave-one-out loss, {number(best.loss)}, is {number(behind)} ± "
        f"{number(error)} below that of {rivals[0].name}, "
        + (
            "more than twice its standard error."
            if clear
            else "less than twice its standard error: on other examples they might change places."
        )
        + _strength_note(selection)
    )


def _strength_note(selection: Selection) -> str:
    """Return a sentence, a space before it, where the chosen strength is an end of those tried."""
    best = selection.best
    if isinstance(best.kernel, LabelAware) and best.kernel.strength == 0:
        return " Labels do not help: strength 0 is the kernel that ignores them."
    # A strength that was chosen comes with a spectrum; one that was given comes without.
    if not isinstance(best.kernel, LabelAware) or best.kernel.strength is None or best.smallest is None:
        return ""
    # Among kernels each stands with its best strength only, and all of `STRENGTHS` were tried.
    strengths = [
        candidate.kernel.strength
        for candidate in selection.with_losses
        if isinstance(candidate.kernel, LabelAware)
        and candidate.kernel.strength is not None
        and replace(candidate.kernel, strength=None) == replace(best.kernel, strength=None)
    ]
    largest = max(strengths) if len(strengths) > 1 else STRENGTHS[-1]
    if best.kernel.strength < largest:
        return ""
    return f" Its strength, {best.kernel.strength:g}, is the largest that was tried; more may be better."


def panel(findings: Findings) -> dict[str, Any] | None:
    """Return the table and the sentence; None where the kernel was given."""
    selection = findings.selection
    if selection is None:
        return None
    return {
        "columns": selection_columns(selection),
        "rows": selection_rows(selection),
        "verdict": selection_verdict(selection),
    }
