"""What does each section of the report say? Findings in, plain words out; no HTML here."""

import math
from typing import Any

import numpy as np

from leftout.core.plain_text import plain
from leftout.curation.mislabelled import Suspect
from leftout.curation.rare import Rare
from leftout.report.findings import Findings
from leftout.report.wording import count, interval, label, number, percent, signed, value, values

CARDS = 60
"""Suspects shown as cards; the others are rows of a table."""

ROWS = 1_000
"""Most further suspects written out; the CSV beside the report has them all."""

SAMPLES = 36
"""Examples shown of the redundant, the rare, the outliers and the duplicates, each."""

GROUP = 6
"""Members shown of a group of duplicates."""

GLOSSARY = (
    ("loss", "mean", "Losses are averaged: removing an example also changes the weight of all others."),
    ("loss", "sum", "Losses are added up: removing an example changes nothing for the others."),
    ("training example", "", "The model was fitted to them; each is left out in turn."),
    ("quer", "", "What the model is asked; influence is measured on them."),
    ("date", "", "When the audit was made."),
    ("source", "", "Where the examples came from."),
    ("data", "", "Where the examples came from."),
    ("kernel", "", "How alike two examples are in the eyes of the network that the model stands for."),
    ("rule", "", "How the model is fitted to the training examples."),
    ("ridge", "", "How strongly large weights are held back; 0 lets the model fit exactly."),
    ("rate", "", "The step size of training."),
    ("time", "", "How long the model was trained when it was asked; longer fits the examples closer."),
    ("normalis", "", "How inputs were scaled before the kernel saw them."),
    ("inputs", "", "Their shape, and how they were scaled before the kernel saw them."),
    ("targets", "", "What was subtracted from them, so that zero means no opinion."),
    ("classes", "", "What the labels can be."),
    ("labels", "", "Whether the kernel knows them: leaving an example out then changes the kernel."),
    ("precision", "", "Number format of the computation."),
    ("device", "", "Where it was computed."),
    ("centre", "", "What was subtracted from the targets, so that zero means no opinion."),
    ("seed", "", "Makes the random choices of loading repeatable."),
    ("version", "", "The program that made this report."),
)


def opening(findings: Findings) -> list[str]:
    """Return the three sentences that say what this is."""
    n, m = len(findings.train), len(findings.query)
    return [
        f"A model was fitted to {count(n, 'training example')}, and for every single one of them "
        "this report knows what the model would have said about "
        f"{count(m, 'query', 'queries')} had that example never been there.",
        "Nothing was sampled or guessed to get there: for this model the answers are exact, and "
        "the certificate below says to how many digits.",
        "Use the lists to decide which labels to check, which examples you could do without and "
        "where you need more of them; every entry carries its reason.",
    ]


def tiles(findings: Findings) -> list[dict[str, str]]:
    """Return the headline numbers: label, number, and the note that makes it honest."""
    n = len(findings.train)
    inside = sum(len(group.rows) for group in findings.duplicates)
    conflicting = sum(group.conflicting for group in findings.duplicates)
    stop = findings.redundant.stop
    groups = count(len(findings.duplicates), "group")
    return [
        *_performance(findings),
        {
            "label": "Labels in doubt",
            "value": f"{len(findings.suspects)}",
            "note": f"{percent(len(findings.suspects) / n)} of {count(n, 'training example')}",
        },
        {
            "label": "Could be removed",
            "value": percent(stop / n),
            "note": f"{count(stop, 'example')} together, at the suggested stopping point",
        },
        {
            "label": "Duplicates",
            "value": f"{inside}",
            "note": f"examples in {groups}, {conflicting} of them with conflicting labels",
        },
        _agreement(findings),
    ]


def _performance(findings: Findings) -> list[dict[str, str]]:
    now = findings.moments[findings.judged]
    rows = (
        ("queries", now.query_accuracy, now.query_loss, len(findings.query)),
        ("left-out examples", now.left_out_accuracy, now.left_out_loss, len(findings.train)),
    )
    found = []
    for name, accuracy, loss, trials in rows:
        own = "each predicted without itself" if name != "queries" else "examples kept for asking"
        if accuracy is None:
            # loss is ½ Σ over outputs, so this is the root mean square error of one output
            typical = math.sqrt(2 * loss / findings.train.encoding.outputs)
            note = f"root mean square, in target units; {own}"
            found.append({"label": f"Error on {name}", "value": number(typical), "note": note})
        else:
            low, high = interval(accuracy, trials)
            note = f"95 % interval {percent(low)} to {percent(high)}; {own}".replace(" %", "\u202f%")
            found.append({"label": f"Right on {name}", "value": percent(accuracy), "note": note})
    return found


def _agreement(findings: Findings) -> dict[str, str]:
    made = len(findings.certificate.refits)
    title = "Difference from refitting"
    if made == 0:
        return {"label": title, "value": "not checked", "note": "no example was refitted to compare"}
    note = f"largest relative difference over {count(made, 'example')} really left out"
    return {"label": title, "value": number(findings.certificate.refit_difference, 2), "note": note}


def settings(findings: Findings) -> list[tuple[str, str, str]]:
    """Return what was audited and how: label, value, and what it means."""
    return [
        (plain(name), value(setting), _gloss(name, setting)) for name, setting in findings.settings.items()
    ]


def _gloss(name: str, setting: Any) -> str:
    wanted, said = str(name).lower(), str(setting).lower()
    for word, needed, text in GLOSSARY:
        if word in wanted and needed in said:
            return text
    return ""


def suspect(findings: Findings, one: Suspect) -> dict[str, Any]:
    """Return a card: who, given and suggested label, scores, reason, opposing neighbours."""
    train = findings.train
    return {
        **example(findings, one.row),
        "given": plain(one.given),
        "suggested": plain(one.suggested),
        "margin": signed(one.margin),
        "reason": plain(one.reason, 400),
        "bars": _bars(findings, one),
        "neighbours": [
            {
                "row": near.row,
                "id": plain(train.ids[near.row]),
                "label": label(train, near.row),
                "pull": signed(near.pull, 2),
                "cells": " · ".join(entry for _, entry in values(train, near.row)),
            }
            for near in one.opposing
        ],
    }


def example(findings: Findings, row: int) -> dict[str, Any]:
    """Return a training example as every list shows it."""
    train = findings.train
    return {"row": row, "id": plain(train.ids[row]), "label": label(train, row), "cells": values(train, row)}


def _bars(findings: Findings, one: Suspect) -> list[dict[str, Any]]:
    """Return up to four left-out scores: the given and the suggested class, then the next best."""
    encoding = findings.train.encoding
    if encoding.classes is None:
        row = slice(one.row, one.row + 1)
        said = findings.moments[findings.judged].out_of_sample[row].cpu()
        given, instead = (encoding.uncentred(v)[0] for v in (findings.train.targets[row], said))
        # Of several outputs, the one that the doubt is about.
        which = next((k for k, v in enumerate(given.tolist()) if f"{v:.6g}" == one.given), 0)
        pairs = [("given", float(given[which]), "given"), ("left out", float(instead[which]), "suggested")]
    else:
        named = dict.fromkeys((one.suggested, one.given))
        best = sorted(range(len(one.scores)), key=lambda c: (-one.scores[c], c))
        wanted = [encoding.classes.index(name) for name in named if name in encoding.classes]
        chosen = [*wanted, *(c for c in best if c not in wanted)][:4]
        tags = {one.given: "given", one.suggested: "suggested"}
        pairs = [
            (plain(encoding.classes[c], 40), one.scores[c], tags.get(encoding.classes[c], "")) for c in chosen
        ]
    low = min(0.0, *(height for _, height, _ in pairs))
    width = max(0.0, *(height for _, height, _ in pairs)) - low or 1.0
    return [
        {
            "name": name,
            "text": number(height) if encoding.classes is None else _score(height),
            "tag": tag,
            "left": round(100 * (min(height, 0.0) - low) / width, 1),
            "width": round(100 * abs(height) / width, 1),
            "zero": round(-100 * low / width, 1),
        }
        for name, height, tag in pairs
    ]


def _score(height: float) -> str:
    return f"{round(height, 2) + 0.0:.2f}".replace("-", "−")  # adding 0 turns −0 into 0


def agreement(one: Rare) -> str:
    """Return the share of neighbours with the same label; nothing where there are no labels."""
    return "" if math.isnan(one.agreement) else percent(one.agreement, 0)


def removal_rows(findings: Findings) -> list[tuple[str, ...]]:
    """Return the removal curve as a table: share, rows, loss, accuracy; the last two trained again."""
    redundant, again = findings.redundant, findings.redundant_again
    accuracy = redundant.accuracy or (None,) * len(redundant.loss)
    trained: dict[int, tuple[str, str]] = {}
    if again is not None:
        right_again = again.retrained_accuracy or (None,) * len(again.counts)
        trained = {
            c: (number(loss, 4), "–" if right is None else percent(right))
            for c, loss, right in zip(again.counts, again.retrained_loss, right_again, strict=True)
        }
    return [
        (percent(f), str(c), number(loss, 4), "–" if right is None else percent(right))
        + (() if again is None else trained.get(c, ("–", "–")))
        for f, c, loss, right in zip(
            redundant.shares, redundant.counts, redundant.loss, accuracy, strict=True
        )
    ]


def margins(findings: Findings) -> tuple[np.ndarray, str]:
    """Return one left-out margin per training example, and the name of the axis.

    Classes: score of the given class minus the best other. Numbers: target minus prediction, or its
    length where there are several outputs.
    """
    train, said = findings.train, findings.moments[findings.judged].out_of_sample.cpu()
    if train.classes is None or train.labels is None:
        residual = (train.targets - said).numpy()
        if residual.shape[1] == 1:
            return residual[:, 0], "left-out residual: target minus prediction (target units)"
        return np.linalg.norm(residual, axis=1), "length of the left-out residual (target units)"
    scores = train.encoding.class_scores(said).numpy()
    rows, given = np.arange(len(scores)), train.labels.cpu().numpy()
    own = scores[rows, given]
    scores = scores.copy()
    scores[rows, given] = -np.inf
    return own - scores.max(1), "left-out margin: given class minus best other (target units)"
