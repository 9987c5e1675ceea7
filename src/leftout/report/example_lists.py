"""The lists of examples in a report: doubted labels, redundant, under-sampled, outliers, duplicates.

Whatever a section pictures is a dictionary with the number of its `row`; `shown_rows` finds them.
"""

import math
from typing import Any

from leftout.core.wording import number, percent, plain, signed_number, target_number
from leftout.curation.mislabelled import Suspect
from leftout.curation.subclasses import Subclass
from leftout.report.findings import Findings
from leftout.report.plots import removal_plots
from leftout.report.wording import label_text
from leftout.storage.action_files import given_label
from leftout.storage.csv_table import shown_cell

CARDS = 60
"""Suspects shown with a picture, scores and neighbours; the others with their reason alone."""

ROWS = 1_000
"""Most further suspects in the review; the CSV beside the report has them all."""

SAMPLES = 12
"""Examples shown of the redundant, the rare, the outliers and the duplicates, each."""

GROUP = 6
"""Members shown of a group of duplicates."""

SUBCLASSES = 6
"""Kinds within classes shown, those that tell most."""

MEMBERS = 12
"""Members shown of a kind."""


def example(findings: Findings, row: int) -> dict[str, Any]:
    """Return a training example as every list shows it."""
    train = findings.train
    return {
        "row": row,
        "id": plain(train.ids[row]),
        "label": label_text(train, row),
        "cells": findings.columns.cells(row),
    }


def shown_rows(content: Any) -> set[int]:
    """Return the training rows of all examples in nested dictionaries and sequences."""
    if isinstance(content, dict):
        rows = {content["row"]} if "row" in content else set()
        return rows.union(*map(shown_rows, content.values()))
    return set().union(*map(shown_rows, content)) if isinstance(content, list | tuple) else set()


def example_lists(findings: Findings) -> dict[str, Any]:
    """Return suspects, redundant, rare, outliers and duplicates as the templates show them."""
    suspects, train = findings.suspects, findings.train
    groups = sorted(findings.duplicates, key=lambda group: not group.conflicting)
    return {
        "suspects": [
            suspect_card(findings, suspect)
            if place < CARDS
            else {"id": plain(train.ids[suspect.row]), **_suspect_texts(suspect)}
            for place, suspect in enumerate(review_list(findings))
        ],
        "suspects_total": len(suspects),
        **_removal(findings),
        "rare": [
            example(findings, rare.row) | {"loss": number(rare.loss), "agreement": _agreement(rare.agreement)}
            for rare in findings.rare[:SAMPLES]
        ],
        "rare_total": len(findings.rare),
        "kinds": [_kind(findings, subclass) for subclass in findings.subclasses[:SUBCLASSES]],
        "kinds_total": len(findings.subclasses),
        "outliers": [
            example(findings, outlier.row) | {"similarity": number(outlier.similarity)}
            for outlier in findings.outliers[:SAMPLES]
        ],
        "outliers_total": len(findings.outliers),
        "duplicates": [
            {
                "conflicting": group.conflicting,
                "members": [example(findings, row) for row in group.rows[:GROUP]],
                "more": max(0, len(group.rows) - GROUP),
            }
            for group in groups[:SAMPLES]
        ],
        "duplicates_total": len(groups),
    }


def review_list(findings: Findings) -> tuple[Suspect, ...]:
    """Return the suspects of the review, most doubtful first."""
    return findings.suspects[: CARDS + ROWS]


def review_data(findings: Findings) -> dict[str, Any]:
    """Return what the page's script makes a table of decisions of: names as they are, for programs.

    Classes come with the text that stands for them in a table that a spreadsheet may open. Given numbers have
    all their digits: a label that nobody changed is read back as it was.
    """
    train, classes = findings.train, findings.train.classes
    return {
        "key": f"leftout-review-{train.fingerprint}",
        "items": [
            {
                "id": train.ids[suspect.row],
                "given": given_label(train, suspect.row),
                "suggested": suspect.suggested,
            }
            for suspect in review_list(findings)
        ],
        "classes": None if classes is None else {name: shown_cell(name) for name in classes},
    }


def suspect_card(findings: Findings, suspect: Suspect) -> dict[str, Any]:
    """Return a card: who, given and suggested label, scores, reason, opposing neighbours."""
    train = findings.train
    cells = findings.columns.cells(suspect.row, [near.row for near in suspect.opposing] or None)
    return {
        **example(findings, suspect.row),
        "cells": cells,
        **_suspect_texts(suspect),
        "bars": _bars(findings, suspect),
        "neighbours": [
            {
                "row": near.row,
                "id": plain(train.ids[near.row]),
                "label": label_text(train, near.row),
                "pull": signed_number(near.pull, 2),
                "cells": findings.columns.line(near.row, cells),
            }
            for near in suspect.opposing
        ],
    }


def _suspect_texts(suspect: Suspect) -> dict[str, str]:
    return {
        "given": plain(suspect.given),
        "suggested": plain(suspect.suggested),
        "margin": signed_number(suspect.margin),
        "reason": plain(suspect.reason, 400),
    }


def _bars(findings: Findings, suspect: Suspect) -> list[dict[str, Any]]:
    """Return up to four left-out scores: the given and the suggested class, then the next best."""
    encoding, digits = findings.train.encoding, findings.train.target_digits
    if encoding.classes is None:
        row = slice(suspect.row, suspect.row + 1)
        left_out = findings.at_last_time.out_of_sample[row].cpu()
        given, instead = (encoding.in_target_units(v)[0] for v in (findings.train.targets[row], left_out))
        # Of several outputs, the one that the doubt is about.
        texts = [target_number(value, digits) for value in given.tolist()]
        output = texts.index(suspect.given) if suspect.given in texts else 0
        pairs = [("given", float(given[output]), "given"), ("left out", float(instead[output]), "suggested")]
    else:
        scores = suspect.scores
        best = sorted(range(len(scores)), key=lambda c: (-scores[c], c))
        names = dict.fromkeys((suspect.suggested, suspect.given))
        first = [encoding.classes.index(name) for name in names if name in encoding.classes]
        classes = [*first, *(c for c in best if c not in first)][:4]
        tags = {suspect.given: "given", suspect.suggested: "suggested"}
        pairs = [
            (plain(encoding.classes[c], 40), scores[c], tags.get(encoding.classes[c], "")) for c in classes
        ]
    low = min(0.0, *(height for _, height, _ in pairs))
    width = max(0.0, *(height for _, height, _ in pairs)) - low or 1.0
    return [
        {
            "name": name,
            "text": target_number(height, digits) if encoding.classes is None else _score(height),
            "tag": tag,
            "left": round(100 * (min(height, 0.0) - low) / width, 1),
            "width": round(100 * abs(height) / width, 1),
            "zero": round(-100 * low / width, 1),
        }
        for name, height, tag in pairs
    ]


def _score(height: float) -> str:
    return f"{round(height, 2) + 0.0:.2f}".replace("-", "−")  # adding 0 turns −0 into 0


def _agreement(share: float) -> str:
    """Return the share of neighbours with the same label; nothing where there are no labels."""
    return "" if math.isnan(share) else percent(share, 0)


def _removal(findings: Findings) -> dict[str, Any]:
    """Return the order of removal and its curve."""
    removal, retrained, n = findings.redundant, findings.retrained_removal, len(findings.train)
    return {
        "redundant_reason": plain(removal.reason, 600),
        "redundant_plots": removal_plots(removal, n, retrained) if len(removal.shares) > 1 else [],
        "redundant_rows": removal_curve_rows(findings),
        "redundant_first": [example(findings, row) for row in removal.order[:SAMPLES]],
        "redundant_total": len(removal.order),
        "retrained": retrained is not None,
    }


def removal_curve_rows(findings: Findings) -> list[tuple[str, ...]]:
    """Return the removal curve as a table: share, rows, loss, accuracy; and the last two once retrained."""
    removal, network = findings.redundant, findings.retrained_removal
    rows: list[tuple[str, ...]] = [
        (percent(share), str(count), *cells)
        for share, count, cells in zip(
            removal.shares, removal.counts, _curve_cells(removal.loss, removal.accuracy), strict=True
        )
    ]
    if network is None:
        return rows
    cells = _curve_cells(network.retrained_loss, network.retrained_accuracy)
    retrained = dict(zip(network.counts, cells, strict=True))
    return [
        (*row, *retrained.get(count, ("–", "–"))) for row, count in zip(rows, removal.counts, strict=True)
    ]


def _curve_cells(losses: tuple[float, ...], accuracies: tuple[float, ...] | None) -> list[tuple[str, str]]:
    """Return loss and accuracy at each point of a curve."""
    right = ["–"] * len(losses) if accuracies is None else [percent(share) for share in accuracies]
    return [(number(loss, 4), cell) for loss, cell in zip(losses, right, strict=True)]


def _kind(findings: Findings, subclass: Subclass) -> dict[str, Any]:
    """Return a kind within a class: name, members, numbers and the reason."""
    return {
        "name": "" if subclass.name is None else plain(subclass.name),
        "count": len(subclass.rows),
        "share": percent(subclass.share),
        "information": number(subclass.information),
        "others": number(subclass.others),
        "reason": plain(subclass.reason, 600),
        "members": [example(findings, row) for row in subclass.rows[:MEMBERS]],
        "more": max(0, len(subclass.rows) - MEMBERS),
    }
