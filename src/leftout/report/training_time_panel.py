"""When was it learned, and when should training stop? What the panel says, in plain words; no HTML here.

Nothing is said about which labels are wrong: an audit does not know. What is learned late is laid beside
what is doubted, and a person looks.
"""

import math
from typing import Any

from leftout.core.plain_text import plain
from leftout.curation.learned import Kind, Learned
from leftout.report.explorer import Ranking
from leftout.report.findings import Findings
from leftout.report.sections import example
from leftout.report.wording import count, number, percent

LATE = 24
"""Examples shown of those that were learned last."""

TENTH = 0.1
"""Largest share of the training examples that is called learned last."""

LITTLE = 0.01
"""Of the lowest loss: what is within it is as good, for most purposes."""


def unit_of(findings: Findings) -> str:
    """Return what training times count: "step"s of descent, or "time"."""
    return "step" if "descent" in str(findings.scores.attrs.get("rule", "")).lower() else "time"


def said(time: float | None, unit: str) -> str:
    """Return a training time as it stands beside a number; `unit` is "time" or "step"."""
    if time is None:
        return "never"
    if math.isinf(time):
        return "the end"
    return (f"step {time:g}" if unit == "step" else f"t = {time:g}").replace(" ", "\u00a0")


def stop_line(found: Learned, unit: str) -> str:
    """Return the early stopping time, or that there is none, in as few words as a table has room for."""
    stop = found.stop
    end = f"{number(found.left_out_loss[-1])} at {said(found.times[-1], unit)}"
    if stop.suggested:
        lowest = f"left-out loss {number(stop.left_out_loss)}"
        return f"{said(stop.at, unit)} ({lowest}, {end})"
    edge = f"the {stop.edge} time, " if stop.edge else ""
    return f"none: left-out loss is lowest at {edge}{said(stop.at, unit)}"


def panel(findings: Findings, ranking: Ranking, unit: str) -> dict[str, Any] | None:
    """Return what the panel says; None where training has no time."""
    found = findings.learned
    if found is None:
        return None
    return {
        "verdict": plain(found.stop.reason, 600).replace("t = ", "t\u00a0=\u00a0"),
        "band": _band(found, unit),
        "kinds": _kinds(found, unit),
        "overlap": _overlap(findings, found, unit),
        "late": [_late(findings, found, row, unit) for row in late(found)],
        "total": len(found.order),
        "unit": unit,
        "rows": _rows(found, unit),
        "rulers": _rulers(findings, ranking, unit),
        "doubted": percent(len(findings.suspects) / len(found.order)),
    }


def late(found: Learned) -> tuple[int, ...]:
    """Return the training rows that the panel shows, learned last first."""
    return _after_the_first(found)[:LATE]


def _after_the_first(found: Learned) -> tuple[int, ...]:
    """Return the rows of what is not right from the first time after the beginning on, in order."""
    first = next(time for time in found.times if time > 0)
    when = found.learned_at
    return tuple(row for row in found.order if (time := when[row]) is None or time > first)


def rulers(findings: Findings, ranking: Ranking) -> list[int | None]:
    """Return, for each time, the training example that rules most queries; None where none does."""
    if findings.learned is None or len(findings.moments) < 2:
        return []
    return [int(row.argmax()) if row.any() else None for row in ranking.ruled]


def _band(found: Learned, unit: str) -> str:
    stop = found.stop
    text = (
        f"Lowest mean loss on examples that were left out: {number(stop.left_out_loss)}, at "
        f"{said(stop.at, unit)}"
    )
    if stop.earliest != stop.latest:
        text += (
            f". From {said(stop.earliest, unit)} to {said(stop.latest, unit)} it is within one standard "
            f"error of that (of differences example by example): {said(stop.earliest, unit)} is the "
            "earliest time that does as well"
        )
    near = _nearly(found)
    if near < stop.earliest:
        text += f". From {said(near, unit)} on, training gains less than {percent(LITTLE, 0)} of it"
    return f"{text}."


def _nearly(found: Learned) -> float:
    """Return the first time from which on the left-out loss is within a little of the lowest, up to it."""
    j = found.times.index(found.stop.at)
    while j > 0 and found.left_out_loss[j - 1] <= (1 + LITTLE) * found.stop.left_out_loss:
        j -= 1
    return found.times[j]


def _kinds(found: Learned, unit: str) -> str:
    n = len(found.kinds)
    share = {kind: percent(found.kinds.count(kind) / n) for kind in Kind}
    return (
        f"At {said(found.times[found.judged], unit)}, {share[Kind.FROM_OTHERS]} of the training "
        "examples are learned from the others: the model would say their label had it never seen "
        f"them. {share[Kind.BY_HEART]} are known by heart: it says their label only because it saw "
        f"them. {share[Kind.NOT_LEARNED]} are not learned."
    )


def _overlap(findings: Findings, found: Learned, unit: str) -> list[str]:
    """Return how far what is learned late is what is doubted."""
    n = len(found.order)
    doubted = {one.row for one in findings.suspects}
    last = _after_the_first(found)[: max(1, round(TENTH * n))]
    if not last:
        return ["Every training example is right from the first time of the curve on."]
    hit = sum(row in doubted for row in last)
    others = percent((len(doubted) - hit) / max(1, n - len(last)))
    sentences = [
        f"Among the {count(len(last), 'example')} learned last ({percent(len(last) / n, 0)} of all), "
        f"{count(hit, 'label is', 'labels are')} in doubt ({percent(hit / len(last))}); among all "
        f"others {others} are."
    ]
    after = [row for row, at in enumerate(found.learned_at) if at is None or at > found.stop.at]
    if found.stop.suggested and after:
        held = sum(row in doubted for row in after)
        sentences.append(
            f"Stopping at {said(found.stop.at, unit)} leaves {count(len(after), 'example')} that would "
            f"be learned for good only later, {count(held, 'label')} in doubt among them "
            f"({percent(held / len(after))})."
        )
    sentences.append("A doubted label may be right: look before you change anything.")
    return sentences


def _late(findings: Findings, found: Learned, row: int, unit: str) -> dict[str, Any]:
    return example(findings, row) | {
        "learned": said(found.learned_at[row], unit),
        "understood": said(found.understood_at[row], unit),
        "kind": f"{found.kinds[row]} at {said(found.times[found.judged], unit)}",
        "doubted": any(one.row == row for one in findings.suspects),
    }


def _rows(found: Learned, unit: str) -> list[tuple[str, ...]]:
    """Return the curve as a table."""
    return [
        (
            said(time, unit),
            number(seen, 4),
            number(unseen, 4),
            percent(others),
            percent(heart),
            percent(max(0.0, 1 - others - heart)),
        )
        for time, seen, unseen, others, heart in zip(
            found.times,
            found.fitted_loss,
            found.left_out_loss,
            found.from_others,
            found.by_heart,
            strict=True,
        )
    ]


def _rulers(findings: Findings, ranking: Ranking, unit: str) -> list[dict[str, Any]]:
    """Return, for each time asked for, which training example rules most queries."""
    doubted = [one.row for one in findings.suspects]
    m = len(findings.query)
    made = []
    for j, row in enumerate(rulers(findings, ranking)):
        if row is None:
            continue
        counts = ranking.ruled[j]
        made.append(
            {
                "when": said(findings.moments[j].at, unit),
                "one": example(findings, row),
                "count": int(counts[row]),
                "share": percent(counts[row] / m, 0),
                "different": int((counts > 0).sum()),
                "doubted": percent(counts[doubted].sum() / m, 0),
            }
        )
    return made
