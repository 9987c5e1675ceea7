"""How does an audit become one page that a person can open, print and send on? It is rendered here.

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

from leftout.core.plain_text import plain
from leftout.report import certificate_panel as evidence
from leftout.report import kernel_choice_panel as which_kernel
from leftout.report import learning_curve_panel as outlook
from leftout.report import network_panel as standing
from leftout.report import plots, sections
from leftout.report import sources_panel as worth
from leftout.report import training_time_panel as learning
from leftout.report.explorer import LENGTH, PER_CLASS, Ranking, payload, query_losses, ranking
from leftout.report.findings import Findings
from leftout.report.learning_curve_plots import outlook_plots
from leftout.report.thumbnails import Atlas, atlas
from leftout.report.training_time_plots import learning_plots
from leftout.report.wording import MARGIN_RULE, SIGN_RULE, count, number, percent, signed, when

LIMIT = 10_000_000
"""Bytes that a report may have."""

QUERIES = 5_000
"""Most queries that the explorer is tried with."""

AVERAGE = 8
"""Examples shown on either side of the mean influence."""


@dataclass(frozen=True)
class Size:
    """How much the explorer shows: places in a list, the same by class, pixels, queries."""

    length: int
    per_class: int
    side: int
    queries: int


def write_report(findings: Findings, path: Path) -> Path:
    """Write the report and return its path; the file appears only when it is whole."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    part.write_text(html(findings), encoding="utf-8", newline="\n")
    part.replace(path)
    return path


def html(findings: Findings) -> str:
    """Return the report as one HTML page of at most `LIMIT` bytes.

    Raises:
        ShapeError: scores that do not fit the findings.
        DataError: a score that is NaN or infinite, or pictures of a shape that is none.

    Cost: every score is read once; then one page is made for each size that is tried.
    """
    losses = query_losses(findings)[findings.judged]
    m = len(losses)
    # Where not all queries fit, those with the largest loss stay: they are the ones to ask about.
    worst = np.argsort(-losses, kind="stable")[: min(m, QUERIES)]
    chosen = np.sort(worst)
    whole = ranking(findings, chosen)
    order = np.searchsorted(chosen, worst)
    for size in _sizes(len(chosen)):
        kept = whole.shortened(size.queries, size.length, size.per_class, order)
        page = _page(findings, kept, size)
        if len(page.encode()) <= LIMIT:
            break
    return page


def _sizes(queries: int) -> Iterator[Size]:
    """Yield ever smaller sizes: shorter lists first, then fewer queries, at last one."""
    steps = ((LENGTH, PER_CLASS, 64), (10, 3, 48), (8, 2, 40), (6, 1, 32))
    for length, per_class, side in (*steps, (5, 0, 32), (3, 0, 32), (2, 0, 24), (1, 0, 24)):
        yield Size(length, per_class, side, queries)
    while queries > 1:
        queries //= 2
        yield Size(1, 0, 24, queries)


def _page(findings: Findings, kept: Ranking, size: Size) -> str:
    average = _average(kept.mean[findings.judged])
    static = _static_rows(findings) | {row for side in average for row in side}
    static |= {row for row in learning.rulers(findings, kept) if row is not None}
    shown = sorted(static | kept.named)
    pictures = _pictures(findings, shown, kept)
    sprites = atlas(pictures, side=size.side)
    unit = learning.unit_of(findings)
    explorer = payload(findings, kept, shown, unit, bool(pictures))
    explorer["atlas"] = {"columns": 32, "page": 1024, "first_query": len(shown)}
    place = {row: slot for slot, row in enumerate(shown)}
    template = _environment().get_template("report.html")
    return template.render(
        sprites=sprites,
        thumb=lambda row, size_, text: _thumb(sprites, place[row], size_, text),
        explorer=_json(explorer),
        explorer_notes=_notes(findings, kept, size),
        **_context(findings, kept, average, unit),
    )


def _context(findings: Findings, kept: Ranking, average: Any, unit: str) -> dict[str, Any]:
    now = findings.moments[findings.judged]
    n = len(findings.train)
    doubted = np.zeros(n, bool)
    doubted[[one.row for one in findings.suspects]] = True
    margins, margin_label = sections.margins(findings)
    mean = kept.mean[findings.judged]
    return {
        "sign_rule": SIGN_RULE,
        "margin_rule": MARGIN_RULE,
        "title": _title(findings),
        "when": when(now.at, unit),
        "n": n,
        "m": len(findings.query),
        "several": len(findings.moments) > 1,
        "classes": findings.train.classes is not None,
        "opening": sections.opening(findings),
        "tiles": sections.tiles(findings),
        "settings": sections.settings(findings),
        "training_plots": _training(findings, unit),
        **_lists(findings),
        "average": [
            [sections.example(findings, r) | {"mean": signed(float(mean[r]), 2)} for r in side]
            for side in average
        ],
        "which_kernel": which_kernel.panel(findings),
        "standing": standing.panel(findings),
        "sources": worth.sources(findings),
        "learned": learning.panel(findings, kept, unit),
        "learned_plots": _learning(findings, unit),
        "outlook": outlook.panel(findings),
        "outlook_plots": [] if findings.outlook is None else outlook_plots(findings.outlook),
        "influence_plot": plots.influence_histogram(mean),
        "margin_plot": plots.margin_histogram(margins, doubted, margin_label),
        "certificate": evidence.certificate(findings),
        "certificate_when": when(findings.certificate.at, unit),
        "refits": evidence.refits(findings),
        "limits": evidence.limits(findings),
    }


def _removal(findings: Findings) -> list[Markup]:
    again = findings.redundant_again
    return plots.removal_plots(findings.redundant, len(findings.train), again)


def _training(findings: Findings, unit: str) -> list[Markup]:
    if len(findings.moments) < 2:
        return []
    return plots.training_plots(findings.moments, unit, findings.judged)


def _learning(findings: Findings, unit: str) -> list[Markup]:
    if findings.learned is None:
        return []
    return learning_plots(findings.learned, findings.moments, unit)


def _lists(findings: Findings) -> dict[str, Any]:
    """Return suspects, redundant, rare, outliers and duplicates as the template shows them."""
    redundant, some = findings.redundant, sections.SAMPLES
    suspects = findings.suspects
    drawn = len(redundant.shares) > 1
    rest = suspects[sections.CARDS : sections.CARDS + sections.ROWS]
    groups = sorted(findings.duplicates, key=lambda group: not group.conflicting)
    return {
        "suspects": [sections.suspect(findings, one) for one in suspects[: sections.CARDS]],
        "suspects_rest": [sections.suspect(findings, one) for one in rest],
        "suspects_total": len(suspects),
        "redundant": redundant,
        "redundant_reason": plain(redundant.reason, 600),
        "redundant_plots": _removal(findings) if drawn else [],
        "redundant_again": findings.redundant_again,
        "redundant_rows": sections.removal_rows(findings),
        "redundant_first": [sections.example(findings, row) for row in redundant.order[:some]],
        "redundant_share": percent(redundant.stop / len(findings.train)),
        "rare": [
            sections.example(findings, one.row)
            | {"loss": number(one.loss), "agreement": sections.agreement(one)}
            | {"reason": plain(one.reason, 400)}
            for one in findings.rare[:some]
        ],
        "rare_total": len(findings.rare),
        "kinds": worth.kinds(findings),
        "kinds_total": len(findings.subclasses),
        "outliers": [
            sections.example(findings, one.row)
            | {"similarity": number(one.similarity), "reason": plain(one.reason, 400)}
            for one in findings.outliers[:some]
        ],
        "outliers_total": len(findings.outliers),
        "duplicates": [
            {
                "conflicting": group.conflicting,
                "members": [sections.example(findings, r) for r in group.rows[: sections.GROUP]],
                "more": max(0, len(group.rows) - sections.GROUP),
            }
            for group in groups[:some]
        ],
        "duplicates_total": len(groups),
    }


def _title(findings: Findings) -> str:
    source = findings.train.preparation.get("source")
    return plain(source) if source else count(len(findings.train), "training example")


def _average(mean: np.ndarray) -> tuple[list[int], list[int]]:
    """Return the rows of largest and of smallest mean influence, where they have that sign."""
    order = np.argsort(-mean, kind="stable")
    helped = [int(row) for row in order[:AVERAGE] if mean[row] > 0]
    harmed = [int(row) for row in order[::-1][:AVERAGE] if mean[row] < 0]
    return helped, harmed


def _static_rows(findings: Findings) -> set[int]:
    """Return the training rows that the sections outside the explorer picture."""
    some = sections.SAMPLES
    rows = set(findings.redundant.order[:some])
    for one in findings.suspects[: sections.CARDS]:
        rows |= {one.row, *(near.row for near in one.opposing)}
    rows |= {one.row for one in findings.rare[:some]}
    rows |= {one.row for one in findings.outliers[:some]} | worth.members(findings)
    groups = sorted(findings.duplicates, key=lambda group: not group.conflicting)
    rows |= {row for group in groups[:some] for row in group.rows[: sections.GROUP]}
    rows |= set() if findings.outlook is None else set(outlook.carriers(findings.outlook))
    rows |= set() if findings.learned is None else set(learning.late(findings.learned))
    return rows


def _pictures(findings: Findings, shown: list[int], kept: Ranking) -> list[np.ndarray]:
    """Return the pictures of the page: training examples, then queries; none for tables."""
    train, query = findings.train.images, findings.query.images
    if train is None or query is None:
        return []
    return [*(train[row] for row in shown), *(query[q] for q in kept.queries)]


def _thumb(sprites: Atlas, slot: int, size: str, text: str) -> Markup:
    """Return a picture as a piece of its sheet, with what it shows in words."""
    if not sprites.sheets:
        return Markup("")
    sheet, column, line = sprites.place(slot)
    return Markup(
        '<span class="thumb s{} {}" role="img" aria-label="{}" style="--x:{};--y:{}"></span>'
    ).format(sheet, size, text, column, line)


def _notes(findings: Findings, kept: Ranking, size: Size) -> list[str]:
    """Return what the explorer leaves out, in sentences."""
    m, n = len(findings.query), len(findings.train)
    length, within = kept.rows.shape[3], kept.class_rows.shape[4]
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


def _json(value: Any) -> Markup:
    """Return JSON that may stand in a script element: no character there can end it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("leftout.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
