"""What do the panels about kinds and sources say? Findings in, plain words out; no HTML here."""

from typing import Any

from leftout.core.plain_text import plain
from leftout.curation.sources import Estimate
from leftout.report import sections
from leftout.report.findings import Findings
from leftout.report.wording import number, percent, signed

KINDS = 6
"""Kinds shown, those that tell most."""

MEMBERS = 12
"""Members shown of a kind."""

SOURCES = 40
"""Sources shown, those worth most for each example."""


def kinds(findings: Findings) -> list[dict[str, Any]]:
    """Return the kinds within classes: name, members, numbers and the reason."""
    return [
        {
            "name": "" if one.name is None else plain(one.name),
            "count": len(one.rows),
            "share": percent(one.share),
            "information": number(one.information),
            "others": number(one.others),
            "reason": plain(one.reason, 600),
            "members": [sections.example(findings, row) for row in one.rows[:MEMBERS]],
            "more": max(0, len(one.rows) - MEMBERS),
        }
        for one in findings.subclasses[:KINDS]
    ]


def members(findings: Findings) -> set[int]:
    """Return the training rows that the kinds picture."""
    return {row for one in findings.subclasses[:KINDS] for row in one.rows[:MEMBERS]}


def sources(findings: Findings) -> dict[str, Any] | None:
    """Return the sources as a table, and what it comes to; None where none were named."""
    found = findings.sources
    if found is None:
        return None
    return {
        "reason": plain(found.reason, 600),
        "total": len(found.sources),
        "rows": [
            (
                plain(one.name),
                str(one.count),
                _interval(one.function),
                _interval(one.weights),
                number(one.whole_function),
                signed(one.loss),
                signed(one.loss_each),
            )
            for one in found.sources[:SOURCES]
        ],
        "differences": [
            f"{plain(one.more)} against {plain(one.less)}: {_interval(one.estimate)}, "
            + ("clear of zero." if one.clear else "not clear of zero.")
            for one in found.differences[: SOURCES - 1]
        ],
    }


def _interval(one: Estimate) -> str:
    return f"{number(one.value)} ({number(one.low)} to {number(one.high)})"
