"""How much each source of examples is worth, in plain words."""

from typing import Any

from leftout.core.wording import number, number_with_interval, plain, signed_number
from leftout.curation.sources import IntervalEstimate
from leftout.report.findings import Findings

SOURCES = 40
"""Sources shown, those worth most for each example."""


def panel(findings: Findings) -> dict[str, Any] | None:
    """Return the sources as a table, and what it comes to; None where none were named."""
    if findings.sources is None:
        return None
    sources = findings.sources.sources
    return {
        "reason": plain(findings.sources.reason, 600),
        "total": len(sources),
        "rows": [
            (
                plain(source.name),
                str(source.count),
                _interval(source.function),
                _interval(source.weights),
                number(source.whole_function),
                signed_number(source.loss),
                signed_number(source.loss_each),
            )
            for source in sources[:SOURCES]
        ],
        "differences": [
            f"{plain(difference.more)} against {plain(difference.less)}: {_interval(difference.estimate)}, "
            + ("clear of zero." if difference.clear else "not clear of zero.")
            for difference in findings.sources.differences[: SOURCES - 1]
        ],
    }


def _interval(estimate: IntervalEstimate) -> str:
    return number_with_interval(estimate.value, estimate.low, estimate.high)
