"""The report: an audit as one page that a person can open, print and send on.

The page is one file: style, script, pictures and numbers are inside, and its content policy forbids
it to load anything. It stays under `LIMIT` bytes: lists in the explorer are shortened step by step
until it fits, and the page says so. The same findings give the same bytes.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from leftout.core.atomic_files import atomic_write
from leftout.core.wording import count
from leftout.report import (
    certificate_panel,
    kernel_choice_panel,
    learning_curve_panel,
    network_panel,
    sources_panel,
    training_time_panel,
)
from leftout.report.decisions import decisions, files
from leftout.report.distributions import distributions
from leftout.report.example_lists import example_lists, review_data, shown_rows
from leftout.report.explorer import explorer_data, query_losses
from leftout.report.findings import Findings
from leftout.report.overview import overview
from leftout.report.ranking import LENGTH, PER_CLASS, Ranking, rank_influences
from leftout.report.thumbnails import Atlas, atlas
from leftout.report.training_time_panel import leaders
from leftout.report.wording import SIGN_RULE

LIMIT = 10_000_000
"""Bytes that a report may have."""

QUERIES = 5_000
"""Most queries that the explorer is tried with."""

PANELS = {
    "kernel_choice": kernel_choice_panel,
    "network": network_panel,
    "training_time": training_time_panel,
    "learning_curve": learning_curve_panel,
    "sources": sources_panel,
    "certificate": certificate_panel,
}
"""Each gives the content of `NAME_panel.html` by `panel(findings)`; None where there is nothing to show."""


@dataclass(frozen=True)
class ExplorerSize:
    """How much the explorer shows: places in a list, the same by class, pixels, queries."""

    length: int
    per_class: int
    side: int
    queries: int


def write_report(findings: Findings, path: Path) -> Path:
    """Write the report and return its path; the file appears only when it is whole."""
    with atomic_write(Path(path)) as unfinished:
        unfinished.write_text(html(findings), encoding="utf-8", newline="\n")
    return Path(path)


def html(findings: Findings) -> str:
    """Return the report as one HTML page of at most `LIMIT` bytes.

    Raises:
        ShapeError: scores that do not fit the findings.
        DataError: a score that is NaN or infinite, or pictures of a shape that is none.

    Cost: every score is read once; then one page is made for each size that is tried.
    """
    losses = query_losses(findings)[-1]
    m = len(losses)
    # Where not all queries fit, those with the largest loss stay: they are the ones to ask about.
    worst = np.argsort(-losses, kind="stable")[: min(m, QUERIES)]
    queries = np.sort(worst)
    ranking = rank_influences(findings, queries)
    content = _content(findings, ranking)
    order = np.searchsorted(queries, worst)
    for size in _sizes(len(queries)):
        shorter = ranking.shorten(size.queries, size.length, size.per_class, order)
        page = _page(findings, content, shorter, size)
        if len(page.encode()) <= LIMIT:
            break
    return page


def _sizes(queries: int) -> Iterator[ExplorerSize]:
    """Yield ever smaller sizes: shorter lists first, then fewer queries, at last one."""
    steps = ((LENGTH, PER_CLASS, 64), (10, 3, 48), (8, 2, 40), (6, 1, 32))
    for length, per_class, side in (*steps, (5, 0, 32), (3, 0, 32), (2, 0, 24), (1, 0, 24)):
        yield ExplorerSize(length, per_class, side, queries)
    while queries > 1:
        queries //= 2
        yield ExplorerSize(1, 0, 24, queries)


def _content(findings: Findings, ranking: Ranking) -> dict[str, Any]:
    """Return the content of all sections but the explorer, as the templates show them."""
    page_one = decisions(findings)
    offered = {decision["file"] for decision in page_one["decisions"]}
    return {
        "sign_rule": SIGN_RULE,
        "loss_formula": findings.loss.formula,
        "one_step": findings.one_step,
        "prediction_units": findings.loss.prediction_units,
        **overview(findings),
        **page_one,
        "page_data": _json({"files": files(findings, offered), "review": review_data(findings)}),
        **example_lists(findings),
        **distributions(findings, ranking),
        **{name: module.panel(findings) for name, module in PANELS.items()},
        "leaders": leaders(findings, ranking),
    }


def _page(findings: Findings, content: dict[str, Any], ranking: Ranking, size: ExplorerSize) -> str:
    shown = sorted(shown_rows(content) | ranking.listed_rows)
    pictures = _pictures(findings, shown, ranking)
    sprites = atlas(pictures, side=size.side)
    slots = {row: slot for slot, row in enumerate(shown)}
    return (
        _environment()
        .get_template("report.html")
        .render(
            sprites=sprites,
            thumb=lambda row, style, text: _thumb(sprites, slots[row], style, text),
            explorer=_json(explorer_data(findings, ranking, shown, bool(pictures))),
            explorer_notes=_explorer_notes(findings, ranking, size),
            **content,
        )
    )


def _pictures(findings: Findings, shown: list[int], ranking: Ranking) -> list[np.ndarray]:
    """Return the pictures of the page: training examples, then queries; none for tables."""
    train, query = findings.train.images, findings.query.images
    if train is None or query is None:
        return []
    return [*(train[row] for row in shown), *(query[q] for q in ranking.queries)]


def _thumb(sprites: Atlas, slot: int, style: str, text: str) -> Markup:
    """Return a picture as a piece of its sheet, with words for those who cannot see it."""
    if not sprites.sheets:
        return Markup("")
    sheet, column, line = sprites.place(slot)
    return Markup(
        '<span class="thumb s{} {}" role="img" aria-label="{}" style="--x:{};--y:{}"></span>'
    ).format(sheet, style, text, column, line)


def _explorer_notes(findings: Findings, ranking: Ranking, size: ExplorerSize) -> list[str]:
    """Return in sentences how much the explorer leaves out."""
    m, n = len(findings.query), len(findings.train)
    length, within = ranking.rows.shape[3], ranking.class_rows.shape[4]
    notes = [f"Each list shows at most the {length} strongest of {count(n, 'training example')}."]
    reduced = size.length < LENGTH or size.queries < m or within < min(PER_CLASS, size.per_class)
    if findings.train.classes is not None:
        if within:
            notes.append(f"With a class chosen, at most the {within} strongest of that class.")
        else:
            notes.append("With a class chosen, only those of the list that belong to it.")
    if size.queries < m:
        notes.append(
            f"{count(size.queries, 'query', 'queries')} of {m} can be picked: those with the largest loss."
        )
    if reduced:
        notes.append(
            f"Shorter than usual, so that this file stays under {LIMIT // 10**6} MB; "
            "the saved scores hold every number."
        )
    return notes


def _json(content: Any) -> Markup:
    """Return JSON that may stand in a script element: no character there can end it."""
    # Names need not be text that can be encoded: as escapes they reach the page as they are.
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("leftout.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
