"""When each example was learned, and when training should stop, in plain words.

Nothing is said about which labels are wrong: an audit does not know. What is learned late is laid beside
what is doubted, and a person looks.
"""

from typing import Any

from leftout.core.wording import count, number, percent, plain
from leftout.curation.learned import Kind, Learned
from leftout.report.example_lists import example
from leftout.report.findings import Findings
from leftout.report.ranking import Ranking
from leftout.report.training_time_plots import training_time_plots
from leftout.report.wording import short_time

LATE = 24
"""Examples shown of those that were learned last."""

TENTH = 0.1
"""Largest share of the training examples that is called learned last."""

LITTLE = 0.01
"""Of the lowest loss: what is within it is as good, for most purposes."""


def stop_line(learned: Learned, unit: str) -> str:
    """Return the early stopping time, or that there is none, in as few words as a table has room for."""
    stop = learned.stop
    end = f"{number(learned.left_out_loss[-1])} at {short_time(learned.times[-1], unit)}"
    if stop.suggested:
        lowest = f"left-out loss {number(stop.left_out_loss)}"
        return f"{short_time(stop.at, unit)} ({lowest}, {end})"
    edge = f"the {stop.edge} time, " if stop.edge else ""
    return f"none: left-out loss is lowest at {edge}{short_time(stop.at, unit)}"


def panel(findings: Findings) -> dict[str, Any] | None:
    """Return verdict, plots, shares, and the examples learned last; None where training has no time."""
    learned, unit = findings.learned, findings.time_unit
    if learned is None:
        return None
    return {
        "verdict": plain(learned.stop.reason, 600).replace("t = ", "t\u00a0=\u00a0"),
        "band": _band(learned, unit),
        "plots": training_time_plots(learned, findings.at_times, unit),
        "kinds": _kinds(learned, unit),
        "overlap": _overlap(findings, learned, unit),
        "late": [_late(findings, learned, row, unit) for row in _late_rows(learned)[:LATE]],
        "total": len(learned.order),
        "unit": unit,
        "rows": _rows(learned, unit),
        "doubted": percent(len(findings.suspects) / len(learned.order)),
    }


def leaders(findings: Findings, ranking: Ranking) -> list[dict[str, Any]]:
    """Return, for each of several times, which training example leads most queries."""
    if findings.learned is None or len(findings.at_times) < 2:
        return []
    doubted = [suspect.row for suspect in findings.suspects]
    m = len(findings.query)
    return [
        {
            "when": short_time(model.at, findings.time_unit),
            "example": example(findings, int(led.argmax())),
            "count": int(led.max()),
            "share": percent(led.max() / m, 0),
            "different": int((led > 0).sum()),
            "doubted": percent(led[doubted].sum() / m, 0),
        }
        for model, led in zip(findings.at_times, ranking.led, strict=True)
        if led.any()
    ]


def _late_rows(learned: Learned) -> tuple[int, ...]:
    """Return the rows that are not right from the first time after the beginning on, learned last first."""
    first = next(time for time in learned.times if time > 0)
    learned_at = learned.learned_at
    return tuple(row for row in learned.order if (time := learned_at[row]) is None or time > first)


def _band(learned: Learned, unit: str) -> str:
    """Return the lowest left-out loss, and the times at which it is nearly as low."""
    stop = learned.stop
    earliest = short_time(stop.earliest, unit)
    text = (
        f"Lowest mean loss on examples that were left out: {number(stop.left_out_loss)}, at "
        f"{short_time(stop.at, unit)}"
    )
    if stop.earliest != stop.latest:
        text += (
            f". From {earliest} to {short_time(stop.latest, unit)} it is within one standard error of that "
            f"(of differences example by example): {earliest} is the earliest time that does as well"
        )
    near = _nearly_lowest(learned)
    if near < stop.earliest:
        text += f". From {short_time(near, unit)} on, training gains less than {percent(LITTLE, 0)} of it"
    return f"{text}."


def _nearly_lowest(learned: Learned) -> float:
    """Return the first time from which on the left-out loss is within a little of the lowest, up to it."""
    j = learned.times.index(learned.stop.at)
    while j > 0 and learned.left_out_loss[j - 1] <= (1 + LITTLE) * learned.stop.left_out_loss:
        j -= 1
    return learned.times[j]


def _kinds(learned: Learned, unit: str) -> str:
    n = len(learned.kinds)
    share = {kind: percent(learned.kinds.count(kind) / n) for kind in Kind}
    time = short_time(learned.times[learned.time_index], unit)
    return (
        f"At {time}, {share[Kind.FROM_OTHERS]} of the training examples are learned from the others: the "
        f"model would say their label had it never seen them. {share[Kind.BY_HEART]} are known by heart: it "
        f"says their label only because it saw them. {share[Kind.NOT_LEARNED]} are not learned."
    )


def _overlap(findings: Findings, learned: Learned, unit: str) -> list[str]:
    """Return how far what is learned late is what is doubted."""
    n = len(learned.order)
    doubted = {suspect.row for suspect in findings.suspects}
    last = _late_rows(learned)[: max(1, round(TENTH * n))]
    if not last:
        return ["Every training example is right from the first time of the curve on."]
    hit = sum(row in doubted for row in last)
    rest = percent((len(doubted) - hit) / max(1, n - len(last)))
    sentences = [
        f"Among the {count(len(last), 'example')} learned last ({percent(len(last) / n, 0)} of all), "
        f"{count(hit, 'label is', 'labels are')} in doubt ({percent(hit / len(last))}); among all "
        f"others {rest} are."
    ]
    after = [row for row, at in enumerate(learned.learned_at) if at is None or at > learned.stop.at]
    if learned.stop.suggested and after:
        late_doubted = sum(row in doubted for row in after)
        sentences.append(
            f"Stopping at {short_time(learned.stop.at, unit)} leaves {count(len(after), 'example')} that "
            f"would be learned for good only later, {count(late_doubted, 'label')} in doubt among them "
            f"({percent(late_doubted / len(after))})."
        )
    sentences.append("A doubted label may be right: look before you change anything.")
    return sentences


def _late(findings: Findings, learned: Learned, row: int, unit: str) -> dict[str, Any]:
    return example(findings, row) | {
        "learned": short_time(learned.learned_at[row], unit),
        "understood": short_time(learned.understood_at[row], unit),
        "kind": f"{learned.kinds[row]} at {short_time(learned.times[learned.time_index], unit)}",
        "doubted": any(suspect.row == row for suspect in findings.suspects),
    }


def _rows(learned: Learned, unit: str) -> list[tuple[str, ...]]:
    """Return the curve as a table."""
    return [
        (
            short_time(time, unit),
            number(fitted, 4),
            number(left_out, 4),
            percent(from_others),
            percent(by_heart),
            percent(max(0.0, 1 - from_others - by_heart)),
        )
        for time, fitted, left_out, from_others, by_heart in zip(
            learned.times,
            learned.fitted_loss,
            learned.left_out_loss,
            learned.from_others,
            learned.by_heart,
            strict=True,
        )
    ]
