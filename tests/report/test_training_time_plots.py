"""The two plots over training time: where their marks are, and that they are what the numbers say."""

import math
import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from leftout.report.drawing import FLOOR, TOP
from leftout.report.training_time_plots import training_time_plots
from problems import synthetic_findings as made

TALL = FLOOR - TOP


def learned_and_plots(times, unit="time", **changes):
    found = made.iris_findings(times=times)
    learned = replace(found.learned, **changes)
    return learned, found.at_times, [str(p) for p in training_time_plots(learned, found.at_times, unit)]


def points(plot: str, name: str) -> np.ndarray:
    """Return the corners of the one shape of this class, (p, 2)."""
    (text,) = re.findall(rf'class="{name}" points="([^"]*)"', plot)
    return np.array([[float(c) for c in pair.split(",")] for pair in text.split()])


def test_plots_are_well_formed_and_say_their_unit() -> None:
    _, _, both = learned_and_plots((1.0, 100.0), unit="step")
    for plot in both:
        ElementTree.fromstring(plot)
        assert "training step, on a logarithmic scale" in plot


def test_equal_factors_of_time_are_equal_steps_across() -> None:
    learned, _, (losses, _) = learned_and_plots((1.0, 100.0))
    across = points(losses, "line c")[:, 0]
    logs = np.log10(learned.times)
    slope = (across[-1] - across[0]) / (logs[-1] - logs[0])
    # Places are drawn to 0.01 pixel.
    np.testing.assert_allclose(across, across[0] + slope * (logs - logs[0]), atol=0.011)


def test_losses_go_up_and_down_as_their_numbers() -> None:
    learned, _, (losses, _) = learned_and_plots((1.0, 100.0))
    heights = [FLOOR - points(losses, f"line {name}")[:, 1] for name in "cb"]
    both = np.concatenate(heights)
    values = np.array([*learned.fitted_loss, *learned.left_out_loss])
    slope, start = np.polyfit(values, both, 1)
    assert slope > 0
    np.testing.assert_allclose(both, start + slope * values, atol=0.02)


def test_shares_are_stacked_and_fill_the_plot() -> None:
    learned, _, (_, shares) = learned_and_plots((1.0, 100.0))
    n = len(learned.times)
    tops, floors = {}, {}
    for name in ("others", "heart", "rest"):
        corners = points(shares, f"area {name}")
        assert len(corners) == 2 * n
        tops[name] = (FLOOR - corners[:n, 1]) / TALL
        floors[name] = (FLOOR - corners[n:, 1][::-1]) / TALL
    others, heart = np.array(learned.from_others), np.array(learned.by_heart)
    for got, want in (
        (floors["others"], 0 * others),
        (tops["others"], others),
        (floors["heart"], others),
        (tops["heart"], others + heart),
        (floors["rest"], others + heart),
        (tops["rest"], 0 * others + 1),
    ):
        np.testing.assert_allclose(got, want, atol=0.011 / TALL)


def test_the_line_is_at_the_lowest_loss_and_the_band_around_it() -> None:
    stop = replace(learned_and_plots((1.0, 100.0))[0].stop, earliest=3.0, latest=100.0)
    learned, _, (losses, shares) = learned_and_plots((1.0, 100.0), stop=stop)
    assert stop.earliest < stop.at < stop.latest
    across = dict(zip(learned.times, points(losses, "line b")[:, 0], strict=True))
    for plot in (losses, shares):
        (guide,) = re.findall(r'<line class="guide" x1="([\d.]+)"', plot)
        assert float(guide) == pytest.approx(across[stop.at], abs=0.011)
        assert f">stop: t\u00a0=\u00a0{stop.at:g}</text>" in plot
    lowest = points(losses, "line b")[:, 1].argmax()
    assert learned.times[lowest] == stop.at
    (left, width) = re.findall(r'class="band" x="([\d.]+)" y="\d+" width="([\d.]+)"', losses)[0]
    assert float(left) == pytest.approx(across[stop.earliest] - 1, abs=0.011)
    assert float(left) + float(width) == pytest.approx(across[stop.latest] + 1, abs=0.03)


def test_where_no_stop_is_suggested_the_line_is_only_the_lowest() -> None:
    learned = made.iris_findings(times=(1.0, 100.0)).learned
    _, _, both = learned_and_plots((1.0, 100.0), stop=replace(learned.stop, suggested=False))
    for plot in both:
        assert ">lowest: t" in plot
        assert ">stop: t" not in plot


def test_queries_are_dots_at_the_times_asked_for() -> None:
    learned, at_times, (losses, shares) = learned_and_plots((3.0, 40.0, math.inf))
    across = dict(zip(learned.times, points(losses, "line b")[:, 0], strict=True))
    dots = re.findall(r'<circle class="dot a" cx="([\d.]+)" cy="([\d.]+)"', losses)
    assert len(dots) == 3
    for (x, _), model in zip(dots, at_times, strict=True):
        assert float(x) == pytest.approx(across[model.at], abs=0.011)
    heights = np.array([FLOOR - float(y) for _, y in dots])
    losses_ = np.array([model.query_loss for model in at_times])
    assert (np.argsort(heights) == np.argsort(losses_)).all()
    assert "<circle" not in shares


def test_the_beginning_and_the_end_have_places_of_their_own() -> None:
    _, _, both = learned_and_plots((0.5, math.inf))
    for plot in both:
        assert ">end</text>" in plot
        assert ">0.5</text>" not in plot
    learned = made.iris_findings(times=(1.0, 100.0)).learned
    begun = replace(learned, times=(0.0, *learned.times[1:]))
    begun = replace(begun, stop=replace(begun.stop, earliest=3.0))
    for plot in training_time_plots(begun, (), "time"):
        assert re.search(r'text-anchor="middle">0</text>', str(plot))


@pytest.mark.parametrize("decades", [1, 6, 14])
def test_powers_of_ten_are_named_and_not_too_many(decades) -> None:
    learned = made.iris_findings(times=(1.0, 100.0)).learned
    times = tuple(np.geomspace(1e-3, 10.0 ** (decades - 3), len(learned.times)).tolist())
    at = times[learned.times.index(learned.stop.at)]
    stop = replace(learned.stop, at=at, earliest=at, latest=at)
    plot = str(training_time_plots(replace(learned, times=times, stop=stop), (), "time")[0])
    below = re.findall(rf'y="{FLOOR + 20}" text-anchor="middle">([^<]*)</text>', plot)
    assert 2 <= len(below) <= 7
    assert below[0] == "0.001"


def test_the_words_of_a_plot_say_its_numbers() -> None:
    learned, _, (losses, shares) = learned_and_plots((1.0, 100.0))
    assert learned.stop.reason in losses
    time_index = learned.time_index
    assert f"{100 * learned.from_others[time_index]:.0f}\u202f%" in shares.split("</desc>")[0]
    assert "known by heart" in shares
