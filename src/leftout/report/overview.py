"""The head of the report: what it is, its headline numbers, and what was audited and how."""

from pathlib import Path
from typing import Any

from leftout.core.wording import count, number, percent, plain, time_phrase, value_text
from leftout.report.findings import Findings
from leftout.report.plots import training_plots
from leftout.report.wording import wilson_interval

GLOSSARY = (
    ("loss", "mean", "Losses are averaged: removing an example also changes the weight of all others."),
    ("loss", "sum", "Losses are added up: removing an example changes nothing for the others."),
    ("kernel", "", "How alike two examples are to the network that the model stands for."),
    ("rule", "", "How the model is fitted."),
    ("ridge chosen", "", "Each ridge predicts every example without it; the best was taken."),
    ("rate", "", "The step size of training."),
    ("time", "", "When the model was asked; longer training fits closer."),
    ("inputs", "", "Their shape, and how they were scaled."),
    ("targets", "", "What was subtracted: zero means no opinion."),
    ("labels", "", "Whether the kernel knows them: leaving an example out then changes the kernel."),
)
"""Word of a label, word of its setting, and what the setting means; the first that fits is shown."""


def overview(findings: Findings) -> dict[str, Any]:
    """Return the head of the report as its template shows it."""
    name, unit = findings.train.preparation.get("data"), findings.time_unit
    several = len(findings.at_times) > 1
    return {
        "title": plain(_short(str(name))) if name else count(len(findings.train), "training example"),
        "when": time_phrase(findings.at_last_time.at, unit),
        "several": several,
        "classes": findings.train.classes is not None,
        "label_note": findings.label_note,
        "doubts_labels": findings.doubts_labels,
        "refusal": findings.refusal,
        "dominant": plain(findings.dominant, 1000),
        "notes": [plain(note, 600) for note in findings.train.preparation.get("notes", ())],
        "corrected": plain(findings.settings.get("corrected labels", ""), 600),
        "count_train": count(len(findings.train), "training example"),
        "count_query": count(len(findings.query), "query", "queries"),
        "opening": opening_sentences(findings),
        "quality": quality_rows(findings),
        "settings": settings_rows(findings),
        "training_plots": training_plots(findings.at_times, unit) if several else [],
    }


ONE_STEP = (
    "Each removal is one step of Newton's method, an approximation: the certificate says how far off it is."
)


def _short(name: str) -> str:
    """Return the name of a file or folder without the folders it lies in; of anything else the name."""
    return Path(name).name if Path(name).is_absolute() else name


def opening_sentences(findings: Findings) -> list[str]:
    """Return the sentences that say what this is."""
    n, m = count(len(findings.train), "training example"), count(len(findings.query), "query", "queries")
    if findings.is_trained:
        return [
            f"This is your network at its trained weights. For each of {n} the report says how its answers "
            f"to {m} would move if that example were taken out of its training: of the network linearised at "
            "these weights, which have seen every label.",
            *([ONE_STEP] if findings.one_step else []),
        ]
    exact = "For this model the answers are exact; the certificate says to how many digits."
    return [
        f"A model was fitted to {n}; the report says what it would have answered to {m} had any one of "
        "them never been there.",
        ONE_STEP if findings.one_step else exact,
    ]


def quality_rows(findings: Findings) -> list[tuple[str, str, str]]:
    """Return how good the model is: on what, how good, and what that is made of."""
    model = findings.at_last_time
    rows = (
        ("queries", model.query_accuracy, model.query_loss, len(findings.query), "kept for asking"),
        (
            "left-out examples",
            model.left_out_accuracy,
            model.left_out_loss,
            len(findings.train),
            "each predicted without itself"
            + ", by a kernel that has not seen it" * bool(findings.label_note),
        ),
    )
    qualities = []
    for name, accuracy, loss, trials, kind in rows if findings.doubts_labels else rows[:1]:
        if accuracy is None:
            typical = findings.typical_error(loss)
            note = f"root mean square, in target units; {kind}"
            qualities.append((f"Error on {name}", number(typical), note))
        else:
            low, high = wilson_interval(accuracy, trials)
            note = f"95 % interval {percent(low)} to {percent(high)}; {kind}".replace(" %", "\u202f%")
            qualities.append((f"Right on {name}", percent(accuracy), note))
    return qualities


def settings_rows(findings: Findings) -> list[tuple[str, str, str]]:
    """Return what was audited and how: label, value, and what it means."""
    return [
        (plain(name), value_text(setting), _setting_meaning(name, setting))
        for name, setting in findings.settings.items()
    ]


def _setting_meaning(name: str, setting: Any) -> str:
    label, text = str(name).lower(), str(setting).lower()
    return next((meaning for word, needed, meaning in GLOSSARY if word in label and needed in text), "")
