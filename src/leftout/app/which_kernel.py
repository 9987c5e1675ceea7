"""What is said of a choice among kernels? Rows for a table, and one sentence."""

from typing import Any

from rich.table import Table
from rich.text import Text

from leftout.app.findings import Findings
from leftout.app.wording import number, percent, plain
from leftout.attribution.selection import Selection

COLUMNS = ("kernel", "left-out loss", "accuracy", "behind the best")


def selection_table(found: Selection) -> Table:
    """Return what was tried, best first, with the lead of the best over each."""
    table = Table(*COLUMNS, title="Which kernel?", title_justify="left")
    for row in selection_rows(found):
        table.add_row(*map(Text, row))
    return table


def selection_rows(found: Selection) -> list[tuple[str, str, str, str]]:
    """Return name, left-out loss, accuracy, and how far behind the best, with the standard error."""
    rows = []
    for one in found.candidates:
        if one.losses is None:
            rows.append((one.name, "not tried", "", plain(one.skipped, 300)))
            continue
        behind, error = found.lead(one)
        said = "" if one is found.best else f"{number(behind)} ± {number(error)}"
        right = "" if one.accuracy is None else percent(one.accuracy)
        rows.append((one.name, number(one.loss), right, said))
    return rows


def selection_verdict(found: Selection) -> str:
    """Return one sentence: which was taken, and whether its lead is more than chance."""
    best, others = found.best, found.tried[1:]
    if not others:
        return f"{best.name} was taken: no other kernel could be tried."
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
    )


def panel(findings: Findings) -> dict[str, Any] | None:
    """Return the table and the sentence; None where the kernel was given."""
    found = findings.selection
    if found is None:
        return None
    return {
        "columns": COLUMNS,
        "rows": selection_rows(found),
        "verdict": selection_verdict(found),
    }
