"""The tables of an audit, made from its findings: what `audit.suspects` shows, and its folder keeps."""

from collections.abc import Callable

import pandas as pd

from leftout.core.wording import plain
from leftout.report.findings import Findings
from leftout.storage import result_tables

SHOWN = 5
"""Doubted labels in what a notebook shows of an audit."""


def suspects_of(findings: Findings) -> pd.DataFrame:
    """Return every training example with what is said of its label."""
    return result_tables.suspect_table(
        findings.train,
        findings.suspects,
        margins=findings.margins.tolist(),
        scores=findings.label_scores,
        refusal=findings.no_doubts,
    )


def redundant_of(findings: Findings) -> pd.DataFrame:
    """Return the order of removal."""
    return result_tables.removal_table(findings.train, findings.redundant)


def rare_of(findings: Findings) -> pd.DataFrame:
    """Return under-sampled examples and outliers."""
    return result_tables.rare_table(findings.train, findings.rare, findings.outliers)


def duplicates_of(findings: Findings) -> pd.DataFrame:
    """Return examples with identical inputs."""
    return result_tables.duplicate_table(findings.train, findings.duplicates)


def learned_of(findings: Findings) -> pd.DataFrame | None:
    """Return when each example was learned; None where training has no time."""
    if findings.learned is None:
        return None
    return result_tables.learned_table(findings.train, findings.learned)


def curve_of(findings: Findings) -> pd.DataFrame | None:
    """Return the learning curve, where there is one."""
    return None if findings.learning_curve is None else result_tables.curve_table(findings.learning_curve)


def suspects_html(suspects: pd.DataFrame) -> str:
    """Return the first of the doubted labels as a table of HTML; nothing where none is."""
    first = suspects[suspects["is_label_issue"]].head(SHOWN)[
        ["id", "row", "given", "suggested", "label_score"]
    ]
    if not len(first):
        return ""
    texts = first.select_dtypes(object).columns
    return first.assign(**{name: first[name].map(plain) for name in texts}).to_html(index=False, escape=True)


TABLES: dict[str, Callable[[Findings], pd.DataFrame | None]] = {
    "suspects.csv": suspects_of,
    "redundant.csv": redundant_of,
    "rare.csv": rare_of,
    "duplicates.csv": duplicates_of,
    "learned.csv": learned_of,
    "curve.csv": curve_of,
}
"""By the file of a run."""
