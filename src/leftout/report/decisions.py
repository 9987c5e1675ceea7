"""Page one of a report: what to do with the data in three sentences, and how far to trust them.

Each sentence has a number, and behind it the list, a file to take along, and why. Files are made in the page
from what stands in it, so that a report that was sent on loses nothing.
"""

import math
from collections.abc import Iterable
from typing import Any

from leftout.core.wording import count, number, percent, plain, time_phrase, whole_number
from leftout.curation.doubt import rule_text
from leftout.curation.loss_change import worst_change
from leftout.curation.mislabelled import Suspect
from leftout.curation.prune import Pruned
from leftout.data.examples import Examples
from leftout.report.findings import Findings
from leftout.report.wording import wilson_interval
from leftout.storage.action_files import given_label, kept_ids
from leftout.storage.csv_table import csv_text

REVIEWED, KEEP, MORE = "reviewed.csv", "keep.txt", "more-like-these.csv"
"""Files that the page makes: labels as a person decided, ids to keep, and rare examples."""

NO_CHANGE = ", which holds no change at all"
"""What is said of an interval in which there may be no change."""

FILE_BYTES = 1_000_000
"""Most bytes of ids that a page carries as a file; beyond, the folder of the run has it."""

IN_FOLDER = (
    f"The ids to keep are too long for this page: {KEEP} is in the folder of the run, which --out "
    "(lo.audit(…, out=FOLDER)) makes."
)
"""Where the ids are that a page does not carry."""

REASON = 400
"""Most characters of a reason."""


def decisions(findings: Findings) -> dict[str, Any]:
    """Return the three decisions, and the sentence on trust, as the template shows them."""
    return {
        "decisions": [_labels(findings), _removal(findings), _missing(findings)],
        "trust": trust_sentence(findings),
    }


def _decision(
    name: str, sentence: str, note: str, *, shown: tuple[str, str], file: str = "", why: str
) -> dict[str, str]:
    """Return a decision.

    Args:
        shown: where its list stands on the page, and what the button to it says.
        file: name of the file that the page makes of it; empty where there is none.
        why: what it rests on, in a sentence or two.
    """
    place, words = shown
    return {
        "name": name,
        "sentence": sentence,
        "note": note,
        "list": place,
        "list_name": words,
        "file": file,
        "why": why,
    }


def _labels(findings: Findings) -> dict[str, str]:
    n, suspects = len(findings.train), findings.suspects
    conflicting = sum(group.conflicting for group in findings.duplicates)
    notes = []
    if findings.refusal:
        sentence = "No label is accused."
    elif not findings.doubts_labels:
        sentence = "No label was checked."
    elif not suspects:
        sentence = "No label needs to be checked."
    else:
        labels = "label" if len(suspects) == 1 else "labels"
        sentence = f"Check {whole_number(len(suspects))} {labels} of {whole_number(n)}."
        notes.append(f"First {_suspicion(findings, suspects[0])}.")
    if conflicting:
        groups = count(conflicting, "group of identical examples has", "groups of identical examples have")
        notes.append(f"{groups} more than one label.")
    if findings.train.classes is not None:
        why = f"{rule_text()} That is a suspicion, no proof: look first."
    else:
        why = (
            "A model that never saw the example predicts a value much further away than its errors usually "
            "are. That is a suspicion, no proof: look first."
        )
    return _decision(
        "labels",
        sentence,
        " ".join(notes),
        shown=("suspects", "Review" if suspects else "See")
        if suspects or not conflicting
        else ("same", "See"),
        file=REVIEWED if suspects else "",
        why=plain(findings.label_note, REASON) if findings.label_note else why,
    )


def _suspicion(findings: Findings, suspect: Suspect) -> str:
    given, suggested = plain(suspect.given, 40), plain(suspect.suggested, 40)
    return f"{plain(findings.train.ids[suspect.row], 60)}: given {given}, suggested {suggested}"


def _removal(findings: Findings) -> dict[str, str]:
    n, removal = len(findings.train), findings.redundant
    kept = sum(len(name.encode(errors="replace")) for name in findings.train.ids) <= FILE_BYTES
    if removal.stop:
        sentence = f"{count(removal.stop, 'example')} of {whole_number(n)} could go."
        note = " ".join(part for part in (_loss_without(removal), "" if kept else IN_FOLDER) if part)
    else:
        sentence = "No example could go." if not findings.refusal else "Nothing is called removable."
        note = ""
    return _decision(
        "removal",
        sentence,
        note,
        shown=("redundant", "See"),
        file=KEEP if removal.stop and kept else "",
        why=plain(removal.reason, REASON)
        + (" They go together, not one by one, and for these queries." if removal.stop else ""),
    )


def _loss_without(removal: Pruned) -> str:
    """Return in a sentence what the suggested removal does to the loss; empty where that was not measured."""
    place = removal.counts.index(removal.stop) - 1
    if place >= len(removal.changes):
        return ""
    mean, worst = removal.changes[place][0], worst_change(removal.changes[place])
    of_all, of_class = mean.text.replace("-", "−"), ""
    if worst is not None:
        of_class = f", of class {plain(worst.of, 40)} " + worst.text.replace("-", "−")
    return f"Mean query loss without them: {of_all}{of_class}."


def _missing(findings: Findings) -> dict[str, str]:
    rare, kinds, curve = findings.rare, findings.subclasses, findings.learning_curve
    note = more_data(findings)
    if findings.refusal:
        sentence = "What is missing cannot be told."
    elif rare:
        like = "this example" if len(rare) == 1 else f"these {whole_number(len(rare))}"
        sentence = f"More examples like {like} {'may' if NO_CHANGE in note else 'would'} help."
    elif kinds:
        sentence = f"There is too little of {count(len(kinds), 'kind')} of examples."
    else:
        sentence = "No kind of example is missing."
    return _decision(
        "missing",
        sentence,
        note,
        shown=("rare", "See"),
        file=MORE if rare else "",
        why=(
            "Left out, they are predicted worst, although "
            + (
                "their label agrees with their neighbours. "
                if findings.train.classes is not None
                else "their value is not in doubt. "
            )
            if rare
            else ""
        )
        + (
            "What more data brings is read off the model at smaller ridges; it holds if examples to come are "
            "like these."
            if curve is not None
            else plain(findings.no_learning_curve, REASON)
        ),
    )


def trust_sentence(findings: Findings) -> str:
    """Return in a sentence how far the numbers can be trusted; the refusal where the model knows nothing."""
    if findings.refusal:
        return plain(findings.refusal, REASON)
    if findings.verdict:
        return plain(findings.verdict, 2000)
    model, refits, train = findings.at_last_time, findings.certificate.refits, findings.train
    when = time_phrase(model.at, findings.time_unit)
    if model.left_out_accuracy is None:
        error, of_mean = (
            number(findings.typical_error(x)) for x in (model.left_out_loss, _loss_of_mean(train))
        )
        quality = f"the typical error on an example left out is {error}, and {of_mean} of their mean"
    else:
        low, high = wilson_interval(model.left_out_accuracy, len(train))
        quality = (
            f"the model is right on {percent(model.left_out_accuracy)} of the examples left out (95 % "
            f"interval {percent(low)} to {percent(high)}; the largest class is "
            f"{percent(_largest_share(train))})"
        )
    if not refits:
        return f"How far to trust this: at {when} {quality}; no example was really left out to compare with."
    difference = findings.certificate.refit_difference
    return (
        f"How far to trust this: at {when} {quality}; without {count(len(refits), 'example')} it was really "
        f"fitted again, and its answers changed as computed but for {together(difference)} of the largest "
        "change."
    )


def _largest_share(train: Examples) -> float:
    """Return the share of the largest class: what is right that knows the classes and no input."""
    assert train.labels is not None
    return float(train.labels.bincount().max()) / len(train)


def _loss_of_mean(train: Examples) -> float:
    """Return the mean loss ½ Σ (…)² of the mean of the others, which knows the targets and no input."""
    n = len(train)
    apart = (train.targets - train.targets.mean(0)) * n / max(1, n - 1)
    return float(apart.square().sum(1).mean()) / 2


def together(value: float) -> str:
    """Return a number that no line breaks."""
    return number(value, 2).replace(" ", "\u00a0")


def more_data(findings: Findings) -> str:
    """Return in a sentence what about twice the examples would bring; empty where that is not known."""
    curve = findings.learning_curve
    if curve is None or not any(size > curve.examples for size in curve.n):
        return ""
    now = curve.measured[-1]
    j = min(range(len(curve.n)), key=lambda place: abs(math.log(curve.n[place] / (2 * curve.examples))))
    if curve.accuracy and curve.accuracy_low and curve.accuracy_high and now.accuracy is not None:
        low, high, before = curve.accuracy_low[j], curve.accuracy_high[j], now.accuracy
        change = f"the model would be right on {percent(curve.accuracy[j])} instead of {percent(before)}"
        band = f"{percent(low)} to {percent(high)}"
    else:
        low, high, before = curve.error_low[j], curve.error_high[j], now.error
        change = f"the mean squared error would be {number(curve.error[j])} instead of {number(before)}"
        band = f"{number(low)} to {number(high)}"
    unsure = NO_CHANGE if low <= before <= high else ""
    size = count(curve.n[j], "example")
    return f"With {size} instead of {whole_number(curve.examples)} {change} (95 % interval {band}{unsure})."


def files(findings: Findings, offered: Iterable[str]) -> dict[str, str]:
    """Return the text of the files that the page offers; that of the review is made of its decisions."""
    train, made = findings.train, {}
    if KEEP in offered:
        made[KEEP] = kept_ids(train, findings.redundant)
    if MORE in offered:
        rows = [(train.ids[rare.row], given_label(train, rare.row), rare.loss) for rare in findings.rare]
        made[MORE] = csv_text(("id", "label", "left_out_loss"), rows)
    return made
