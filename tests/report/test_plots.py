"""Axes, histograms and curves: every number is drawn once, on the right side of zero."""

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from leftout.curation.prune import Pruned
from leftout.report import drawing, plots
from leftout.report.distributions import margins_of
from problems import synthetic_findings as made


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.2, 7.9), (0.93, 0.94), (0.0, 12_345.0)])
def test_ticks_are_round_and_inside(low, high) -> None:
    marks = drawing.ticks(low, high)
    assert 2 <= len(marks) <= 8
    assert all(low - 1e-9 <= mark <= high + 1e-9 for mark in marks)
    steps = np.diff(marks)
    mantissa = steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-9)
    assert min(abs(mantissa - s) for s in (1, 2, 5)) < 1e-6


def bars(svg: str) -> list[tuple[str, float]]:
    tree = ElementTree.fromstring(svg)
    return [
        (el.attrib["class"], float(el.attrib["height"]))
        for el in tree.iter()
        if el.attrib.get("class", "").startswith("bar ")
    ]


def test_the_influence_histogram_keeps_the_signs_apart() -> None:
    mean = np.array([-1e-2, -3e-5, -1e-6, 1e-6, 2e-4, 2e-4, 5e-1])
    drawn = bars(str(plots.influence_histogram(mean)))
    heights = [round(h / min(h for _, h in drawn)) for _, h in drawn]
    count = {"bar harm": 0, "bar help": 0}
    for (name, _), height in zip(drawn, heights, strict=True):
        count[name] += height
    assert count == {"bar harm": 3, "bar help": 4}


def test_histograms_of_nothing_but_zeros_are_drawn() -> None:
    assert "<svg" in plots.influence_histogram(np.zeros(5))
    assert "<svg" in plots.margin_histogram(np.zeros(5), np.zeros(5, bool), "x")


def test_doubted_margins_are_marked() -> None:
    values, doubted = np.array([-0.5, 0.3, 0.4, 0.9]), np.array([True, False, False, False])
    drawn = bars(str(plots.margin_histogram(values, doubted, "margin")))
    assert sorted(name for name, _ in drawn).count("bar doubt") == 1
    assert len(drawn) == 4


@pytest.mark.parametrize(("low", "high"), [(-0.3, 1.7), (0.2, 0.9), (-2.0, -1.0), (-1e-9, 5e3)])
def test_every_margin_is_in_a_bar_and_none_straddles_zero(low, high) -> None:
    values = np.linspace(low, high, 500)
    drawn = bars(str(plots.margin_histogram(values, values < 0, "margin")))
    per_example = sum(h for _, h in drawn) / 500
    doubt = sum(h for name, h in drawn if name == "bar doubt") / per_example
    # Heights are drawn to 0.01 pixel, at most 40 bars of them; an example is at least 0.4 pixel.
    assert doubt == pytest.approx((values < 0).sum(), abs=1)


def test_the_removal_curve_marks_its_stop() -> None:
    found = Pruned((4, 2), (0.0, 0.1, 0.5), (0, 10, 50), (0.3, 0.2, 0.6), None, 10, "")
    (plot,) = plots.removal_plots(found, 100)
    assert "suggested stop: 10.0\u202f%" in plot
    assert plot.count("<circle") == 3
    ElementTree.fromstring(str(plot))


def test_time_has_room_for_zero_and_for_the_end() -> None:
    found = made.iris_findings(times=(1.0, 100.0, np.inf))
    plot = str(plots.training_plots(found.at_times, "time")[0])
    dots = [float(x) for x in re.findall(r'<circle class="dot a" cx="([\d.]+)"', plot)]
    assert dots == sorted(dots)
    assert len(set(dots)) == 3
    assert ">end</text>" in plot


def test_margins_are_the_given_score_minus_the_best_other() -> None:
    found = made.digits_findings(80, 10, times=(np.inf,))
    values, label = margins_of(found)
    assert label == "left-out margin: given class minus best other (target units)"
    for one in found.suspects:
        assert values[one.row] == pytest.approx(one.margin, abs=1e-12)
    assert (values < 0).sum() == len(found.suspects)
