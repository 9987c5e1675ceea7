"""The head of the report: what it is, its headline numbers, and what was audited and how."""

import math
from typing import Any

from leftout.core.wording import count, number, percent, plain, time_phrase, value_text
from leftout.report.findings import Findings
from leftout.report.plots import training_plots
from leftout.report.wording import wilson_interval

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
    ("ridge chosen", "", "Each ridge predicts every example without it, exactly; the best was taken."),
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
"""Word of a label, word of its setting, and what the setting means; the first that fits is shown."""


def overview(findings: Findings) -> dict[str, Any]:
    """Return the head of the report as its template shows it."""
    name, unit = findings.train.preparation.get("data"), findings.time_unit
    several = len(findings.at_times) > 1
    return {
        "title": plain(name) if name else count(len(findings.train), "training example"),
        "when": time_phrase(findings.at_last_time.at, unit),
        "several": several,
        "classes": findings.train.classes is not None,
        "label_note": findings.label_note,
        "doubts_labels": findings.doubts_labels,
        "verdict": findings.verdict,
        "refusal": findings.refusal,
        "opening": opening_sentences(findings),
        "tiles": headline_tiles(findings),
        "settings": settings_rows(findings),
        "training_plots": training_plots(findings.at_times, unit) if several else [],
    }


ONE_STEP = (
    "Each removal is one step of Newton's method from the model, an approximation: the certificate below "
    "says how far it was from fits without examples."
)


def opening_sentences(findings: Findings) -> list[str]:
    """Return the sentences that say what this is."""
    n, m = len(findings.train), len(findings.query)
    if findings.is_trained:
        return [
            "This is your network at its trained weights, and for every one of "
            f"{count(n, 'training example')} this report says how its answers to "
            f"{count(m, 'query', 'queries')} would move if that example were taken out of its training.",
            "The answers are those of the network linearised at these weights, which have seen every label.",
            *([ONE_STEP] if findings.one_step else []),
            "Use the lists to decide which examples you could do without and where you need more of them; "
            "every entry carries its reason.",
        ]
    exact = (
        "Nothing was sampled or guessed to get there: for this model the answers are exact, and the "
        "certificate below says to how many digits."
    )
    return [
        f"A model was fitted to {count(n, 'training example')}, and for every single one of them "
        "this report knows what the model would have said about "
        f"{count(m, 'query', 'queries')} had that example never been there.",
        ONE_STEP if findings.one_step else exact,
        "Use the lists to decide which labels to check, which examples you could do without and "
        "where you need more of them; every entry carries its reason.",
    ]


def headline_tiles(findings: Findings) -> list[dict[str, str]]:
    """Return the headline numbers: label, number, and the note that makes it honest."""
    n = len(findings.train)
    inside = sum(len(group.rows) for group in findings.duplicates)
    conflicting = sum(group.conflicting for group in findings.duplicates)
    stop = findings.redundant.stop
    groups = count(len(findings.duplicates), "group")
    return [
        *_performance_tiles(findings),
        {
            "label": "Labels in doubt",
            "value": f"{len(findings.suspects)}" if findings.doubts_labels else "not asked",
            "note": f"{percent(len(findings.suspects) / n)} of {count(n, 'training example')}"
            if findings.doubts_labels
            else "the trained weights have seen every label",
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
        _refit_tile(findings),
    ]


def _performance_tiles(findings: Findings) -> list[dict[str, str]]:
    model = findings.at_last_time
    rows = (
        ("queries", model.query_accuracy, model.query_loss, len(findings.query), "examples kept for asking"),
        (
            "left-out examples",
            model.left_out_accuracy,
            model.left_out_loss,
            len(findings.train),
            "each predicted without itself"
            + ", by a kernel that has not seen it" * bool(findings.label_note),
        ),
    )
    tiles = []
    for name, accuracy, loss, trials, kind in rows if findings.doubts_labels else rows[:1]:
        if accuracy is None:
            # loss is ½ Σ over outputs, so this is the root mean square error of one output
            typical = math.sqrt(2 * loss / findings.train.encoding.outputs)
            note = f"root mean square, in target units; {kind}"
            tiles.append({"label": f"Error on {name}", "value": number(typical), "note": note})
        else:
            low, high = wilson_interval(accuracy, trials)
            note = f"95 % interval {percent(low)} to {percent(high)}; {kind}".replace(" %", "\u202f%")
            tiles.append({"label": f"Right on {name}", "value": percent(accuracy), "note": note})
    return tiles


def _refit_tile(findings: Findings) -> dict[str, str]:
    total = len(findings.certificate.refits)
    title = "Difference from refitting"
    if total == 0:
        return {"label": title, "value": "not checked", "note": "no example was refitted to compare"}
    note = f"largest relative difference over {count(total, 'example')} really left out"
    return {"label": title, "value": number(findings.certificate.refit_difference, 2), "note": note}


def settings_rows(findings: Findings) -> list[tuple[str, str, str]]:
    """Return what was audited and how: label, value, and what it means."""
    return [
        (plain(name), value_text(setting), _setting_meaning(name, setting))
        for name, setting in findings.settings.items()
    ]


def _setting_meaning(name: str, setting: Any) -> str:
    label, text = str(name).lower(), str(setting).lower()
    return next((meaning for word, needed, meaning in GLOSSARY if word in label and needed in text), "")
