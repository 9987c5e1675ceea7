"""The panel "When was it learned?" counts from the findings, and says nothing beyond them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import leftout as lo
from leftout.curation.learned import Kind, Stop
from leftout.data.planted import flip_labels
from leftout.report import ranking as ranking_module
from leftout.report import training_time_panel as learning
from leftout.report.ranking import rank_influences
from leftout.report.report import html
from leftout.report.wording import short_time
from problems import synthetic_findings as made
from problems.runs import KERNEL
from problems.synthetic_models import learning as curve_of

ALL = np.arange(20)


@pytest.fixture(scope="module")
def found():
    return made.digits_findings(120, 20)


@pytest.fixture(scope="module")
def panel(found):
    return learning.panel(found)


def test_the_verdict_is_that_of_the_finding_on_one_line(found, panel) -> None:
    assert panel["verdict"].replace("\u00a0", " ") == found.learned.stop.reason
    assert panel["verdict"].startswith("Stop at t\u00a0=\u00a0")


def test_shares_at_the_time_of_judgement_are_counted(found, panel) -> None:
    for kind, text in (
        (Kind.FROM_OTHERS, "% of the training examples are learned from the others"),
        (Kind.BY_HEART, "% are known by heart"),
        (Kind.NOT_LEARNED, "% are not learned"),
    ):
        share = 100 * sum(one is kind for one in found.learned.kinds) / 120
        assert f"{share:.1f}\u202f{text}" in panel["kinds"]
    assert panel["kinds"].startswith("At the end, ")


def test_what_is_learned_last_is_laid_beside_what_is_doubted(found, panel) -> None:
    doubted = {one.row for one in found.suspects}
    last = found.learned.order[:12]
    hit = len(doubted & set(last))
    others = len(doubted) - hit
    assert panel["overlap"][0] == (
        f"Among the 12\u00a0examples learned last (10\u202f% of all), {hit}\u00a0label"
        f"{' is' if hit == 1 else 's are'} in doubt ({100 * hit / 12:.1f}\u202f%); among all others "
        f"{100 * others / 108:.1f}\u202f% are."
    )
    stop = found.learned.stop.at
    after = {i for i, at in enumerate(found.learned.learned_at) if at is None or at > stop}
    assert panel["overlap"][1].startswith(
        f"Stopping at {short_time(stop, 'time')} leaves {len(after)}\u00a0examples that would be "
        f"learned for good only later, {len(after & doubted)}\u00a0label"
    )
    assert panel["overlap"][2] == "A doubted label may be right: look before you change anything."


def test_the_list_is_learned_last_first_and_leaves_out_what_was_right_at_once(found, panel) -> None:
    first = min(time for time in found.learned.times if time > 0)
    late = [
        row
        for row in found.learned.order
        if found.learned.learned_at[row] is None or found.learned.learned_at[row] > first
    ]
    assert [one["row"] for one in panel["late"]] == late[: learning.LATE]
    doubted = {one.row for one in found.suspects}
    for one in panel["late"]:
        assert one["learned"] == short_time(found.learned.learned_at[one["row"]], "time")
        assert one["understood"] == short_time(found.learned.understood_at[one["row"]], "time")
        assert one["kind"] == f"{found.learned.kinds[one['row']]} at the end"
        assert one["doubted"] == (one["row"] in doubted)


def test_what_is_right_at_once_is_said_in_one_sentence(found) -> None:
    at_once = replace(found.learned, learned_at=(min(found.learned.times),) * 120)
    said = learning.panel(replace(found, learned=at_once))
    assert said["late"] == []
    assert said["overlap"] == ["Every training example is right from the first time of the curve on."]


def test_the_table_holds_the_whole_curve(found, panel) -> None:
    assert len(panel["rows"]) == len(found.learned.times)
    assert [row[0] for row in panel["rows"]] == [short_time(time, "time") for time in found.learned.times]
    for row in panel["rows"]:
        shares = [float(cell.rstrip("\u202f%")) for cell in row[3:]]
        assert sum(shares) == pytest.approx(100, abs=0.16)  # three numbers rounded to a decimal


def test_who_leads_most_queries_is_counted_from_all_scores(found) -> None:
    doubted = {one.row for one in found.suspects}
    rows = leaders_of(found)
    assert len(rows) == 3
    for j, row in enumerate(rows):
        leaders = [int(np.abs(found.scores.values[j, q]).argmax()) for q in range(20)]
        most = max(leaders.count(one) for one in leaders)
        assert row["count"] == most == leaders.count(row["example"]["row"])
        assert row["different"] == len(set(leaders))
        assert row["share"] == f"{100 * most / 20:.0f}\u202f%"
        led = sum(one in doubted for one in leaders)
        assert row["doubted"] == f"{100 * led / 20:.0f}\u202f%"
    assert learning.panel(found)["doubted"] == f"{100 * len(doubted) / 120:.1f}\u202f%"


def test_leaders_do_not_depend_on_blocks_or_on_the_queries_shown(found, monkeypatch) -> None:
    led = rank_influences(found, ALL).led
    assert led.sum(1).tolist() == [20, 20, 20]
    monkeypatch.setattr(ranking_module, "BLOCK_BYTES", 7 * 8 * 120)
    assert np.array_equal(rank_influences(found, np.array([3, 5])).led, led)


def test_where_nothing_has_influence_nobody_leads(found) -> None:
    scores = found.scores.copy(deep=True)
    scores[0] = 0.0
    quiet = replace(found, scores=scores)
    ranking = rank_influences(quiet, ALL)
    assert ranking.led[0].sum() == 0
    assert len(learning.leaders(quiet, ranking)) == 2


def test_of_one_time_nobody_leads_over_time() -> None:
    once = made.digits_findings(90, 15, times=(np.inf,))
    assert learning.leaders(once, rank_influences(once, ALL[:15])) == []


def leaders_of(findings):
    return learning.leaders(findings, rank_influences(findings, ALL))


def with_stop(found, **changes):
    return replace(found.learned, stop=replace(found.learned.stop, **changes))


def test_the_band_says_the_earliest_time_that_does_as_well(found) -> None:
    wide = with_stop(found, earliest=3.0, latest=30.0)
    assert "From t\u00a0=\u00a03 to t\u00a0=\u00a030 it is within one standard error" in (
        learning._band(wide, "time")
    )
    assert "t\u00a0=\u00a03 is the earliest time that does as well." in learning._band(wide, "time")
    at = found.learned.stop.at
    narrow = learning._band(with_stop(found, earliest=at, latest=at), "time")
    assert "standard error" not in narrow


def test_a_flat_end_says_from_where_on_it_is_flat() -> None:
    stop = Stop(100.0, 0.1, 0.200, 100.0, 100.0, "last", False, "")
    flat = replace(
        curve_of(10, [100.0]),
        times=(1.0, 10.0, 50.0, 100.0),
        stop=stop,
        left_out_loss=(0.5, 0.2015, 0.2015, 0.2),
    )
    said = learning._band(flat, "step")
    assert said.endswith("From step\u00a010 on, training gains less than 1\u202f% of it.")


LINES = {
    "suggested": ({}, "t\u00a0=\u00a0{at:g} (left-out loss {lowest:#.3g}, {end:#.3g} at the end)"),
    "last": (
        {"suggested": False, "edge": "last"},
        "none: left-out loss is lowest at the last time, t\u00a0=\u00a0{at:g}",
    ),
    "first": (
        {"suggested": False, "edge": "first"},
        "none: left-out loss is lowest at the first time, t\u00a0=\u00a0{at:g}",
    ),
    "flat": ({"suggested": False}, "none: left-out loss is lowest at t\u00a0=\u00a0{at:g}"),
}


@pytest.mark.parametrize("case", LINES)
def test_the_short_table_has_a_line_for_each_case(found, case) -> None:
    changes, text = LINES[case]
    changed = with_stop(found, **changes)
    stop, end = found.learned.stop, found.learned.left_out_loss[-1]
    want = text.format(at=stop.at, lowest=stop.left_out_loss, end=end)
    assert learning.stop_line(changed, "time") == want


def test_without_a_time_there_is_no_panel() -> None:
    bare = made.bare_findings()
    assert learning.panel(bare) is None
    page = html(bare)
    assert 'id="learned"' not in page
    assert "When learned" not in page


def test_with_planted_labels_the_panel_claims_no_truth() -> None:
    # The findings do not know what was planted, and the page must not pretend to.
    train, query = lo.load("digits", classes=["4", "9"], n_train=100, n_query=30)
    noisy = flip_labels(train, 0.3, generator=torch.Generator().manual_seed(0)).examples
    audited = lo.audit(KERNEL, noisy, query, rule=lo.GradientDescent(0.01), at=[3, 3000])
    page = html(audited.findings)
    part = page.split('<section id="learned"')[1].split("</section>")[0]
    assert "Stop at step\u00a0" in part or "Stop at step " in part
    assert "in doubt" in part
    for word in ("flipped", "wrong", "noise", "mistake", "clean"):
        assert word not in part
