"""The kinds within classes and the panel on sources: the numbers, in words, with the sign."""

import numpy as np
import pytest

from leftout.report import sources_panel
from leftout.report.example_lists import MEMBERS, example_lists, shown_rows
from leftout.report.report import html
from problems import synthetic_findings as made
from report.test_report import Page


@pytest.fixture(scope="module")
def words():
    return Page(html(made.sources_findings())).words


def test_a_kind_is_told_with_its_share_its_reason_and_its_members(words) -> None:
    assert "20 examples of film, 11.0\u202f% of the class" in words
    assert "Of film there are too few." in words
    assert "5 examples, 5.0\u202f% of all" in words
    assert "and 8 more" in words
    found = made.sources_findings()
    first, second = example_lists(found)["kinds"]
    assert [one["row"] for one in first["members"]] == list(range(MEMBERS))
    assert first["information"] == "0.00300"
    assert second["more"] == 0
    assert shown_rows([first, second]) == {*range(MEMBERS), 30, 31, 32, 33, 34}


def test_sources_are_told_in_their_order_with_intervals_and_signs(words) -> None:
    assert "Which source is worth more?" in words
    assert "that without the source minus that with it: positive = the source helped" in words
    found = sources_panel.panel(made.sources_findings())
    assert [row[0] for row in found["rows"]] == ["film", "phone", "scan"]
    assert found["rows"][0] == (
        "film",
        "40",
        "1.00 (0.500 to ∞)",
        "2.00 (1.00 to ∞)",
        "5.00",
        "+0.500",
        "+0.0125",
    )
    assert found["rows"][1][5] == "0"
    assert found["rows"][2][5] == "−0.500"
    assert found["differences"] == [
        "film against phone: 0.500 (0.100 to 0.900), clear of zero.",
        "phone against scan: 0.500 (−0.900 to 0.900), not clear of zero.",
    ]


def test_where_nothing_is_found_or_asked_that_is_said() -> None:
    found = made.digits_findings(60, 10, times=(np.inf,))
    said = Page(html(found)).words
    assert "No class was found to hold a small kind of its own." in said
    assert "Which source is worth more?" not in said
    assert example_lists(found)["kinds"] == []
    assert sources_panel.panel(found) is None


def test_long_lists_of_sources_are_cut_and_say_so() -> None:
    names = tuple(f"camera {i}" for i in range(sources_panel.SOURCES + 5))
    found = made.sources_findings(names=names)
    assert len(sources_panel.panel(found)["rows"]) == sources_panel.SOURCES
    said = Page(html(found)).words
    assert f"The first {sources_panel.SOURCES} of {len(names)} sources" in said
