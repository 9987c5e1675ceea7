"""What the report is made of: words, sprites, plots, and the lists of the explorer."""

import base64
import io
import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from leftout.core.errors import DataError
from leftout.core.plain_text import NAME_LIMIT, plain
from leftout.curation.prune import Pruned
from leftout.report import explorer, plots, wording
from leftout.report.sections import margins
from leftout.report.thumbnails import atlas
from problems import synthetic_findings as made

NUMBERS = {
    0.0: "0",
    1.0: "1.00",
    -0.05: "−0.0500",
    12.345: "12.3",
    999.7: "1\u202f000",
    31_000.0: "31\u202f000",
    1.25e-13: "1.25 × 10⁻¹³",
    -4.0e7: "−4.00 × 10⁷",
    math.inf: "∞",
    -math.inf: "−∞",
    math.nan: "not available",
}


@pytest.mark.parametrize(("value", "text"), NUMBERS.items())
def test_a_number_is_written_for_a_person(value, text) -> None:
    assert wording.number(value) == text


def test_a_name_shows_what_it_is() -> None:
    assert plain("a\u202eb\x00\ud800 \tc") == "a\\u202eb\\u0000\\ud800  c"
    assert plain("größte 类别 🙂") == "größte 类别 🙂"
    long = plain("x" * 500 + "END")
    assert len(long) == NAME_LIMIT
    assert long.startswith("xxx")
    assert long.endswith("END")


def test_an_interval_is_wilsons() -> None:
    low, high = wording.interval(0.9, 100)
    # Wilson's formula written out: (2·100·0.9 + z² ± z √(z² + 4·100·0.9·0.1)) / (2 (100 + z²))
    z = 1.959964
    half = z * math.sqrt(z * z + 36)
    assert low == pytest.approx((180 + z * z - half) / (2 * (100 + z * z)), rel=1e-12)
    assert high == pytest.approx((180 + z * z + half) / (2 * (100 + z * z)), rel=1e-12)
    assert wording.interval(1.0, 10)[1] == pytest.approx(1.0, rel=1e-12)


def decoded(sheet: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet.split(",")[1]))))


def cut(sprites, slot: int) -> np.ndarray:
    sheet, column, line = sprites.place(slot)
    top, left = line * sprites.down, column * sprites.across
    return decoded(sprites.sheets[sheet])[top : top + sprites.height, left : left + sprites.width]


def test_small_grey_pictures_survive_exactly_over_several_sheets() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (1100, 8, 6), dtype=np.uint8)
    sprites = atlas(list(pictures), side=64)
    assert sprites.sheets[0].startswith("data:image/png;base64,")
    assert sprites.columns == (32, 32)
    for slot in (0, 31, 32, 1023, 1024, 1099):
        np.testing.assert_array_equal(cut(sprites, slot), pictures[slot])


def test_colour_pictures_do_not_bleed_into_their_neighbours() -> None:
    flat = np.zeros((40, 20, 20, 3), np.uint8)
    flat[::2] = (250, 10, 10)
    flat[1::2] = (10, 250, 10)
    sprites = atlas(list(flat), side=64)
    assert sprites.across == 24
    for slot in (0, 1, 38, 39):
        # Each block of 8 × 8 holds one colour, so only its mean is quantised. At this quality the
        # step of a mean is at most 17 · 0.3 / 8 = 0.64: an error of 0.32 in brightness and hue, each
        # rounded to a whole number besides, and the hue counts 1.772 times: (0.32 + 1) · 2.772 < 4.
        error = np.abs(cut(sprites, slot).astype(int) - flat[slot].astype(int))
        assert error.max() < 4


def test_large_pictures_are_made_smaller_and_keep_their_proportions() -> None:
    pictures = np.zeros((3, 100, 200), np.uint8)
    sprites = atlas(list(pictures), side=64)
    assert (sprites.width, sprites.height) == (64, 32)
    assert sprites.sheets[0].startswith("data:image/jpeg;base64,")


def test_pictures_of_a_strange_shape_are_refused() -> None:
    with pytest.raises(DataError, match=r"`images` must have shape \(h, w\) or \(h, w, 3\) each"):
        atlas([np.zeros((4, 4, 2), np.uint8)], side=8)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.2, 7.9), (0.93, 0.94), (0.0, 12_345.0)])
def test_ticks_are_round_and_inside(low, high) -> None:
    marks = plots.ticks(low, high)
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
    plot = str(plots.training_plots(found.moments, "time", 2)[0])
    dots = [float(x) for x in re.findall(r'<circle class="dot a" cx="([\d.]+)"', plot)]
    assert dots == sorted(dots)
    assert len(set(dots)) == 3
    assert ">end</text>" in plot


def test_the_strongest_of_each_side_are_those_of_a_full_sort() -> None:
    found = made.digits_findings(150, 25, times=(1.0, np.inf))
    asked = np.array([0, 3, 24])
    kept = explorer.ranking(found, asked)
    labels = found.train.labels.numpy()
    for at in range(2):
        for place, q in enumerate(asked):
            scores = found.scores.values[at, q]
            order = sorted(range(150), key=lambda i: (-scores[i], i))
            assert kept.rows[at, place, 0].tolist() == order[: explorer.LENGTH]
            assert kept.rows[at, place, 1].tolist() == order[::-1][: explorer.LENGTH]
            of_three = [i for i in order if labels[i] == 3 and scores[i] > 0][: explorer.PER_CLASS]
            listed = [i for i in kept.class_rows[at, place, 3, 0].tolist() if i >= 0]
            assert listed == of_three
            values = kept.strengths[at, place, 0]
            np.testing.assert_array_equal(values, scores[order[:12]].astype(np.float32))
    np.testing.assert_allclose(kept.mean, found.scores.values.mean(1), rtol=1e-12, atol=1e-15)


def test_a_helpful_list_ends_where_the_sign_changes() -> None:
    rows, values = explorer._strongest(np.array([[-1.0, 0.0, 2.0, -3.0, 2.0]]), None, 4)
    assert rows.tolist() == [[[2, 4, -1, -1], [3, 0, -1, -1]]]
    assert values.tolist() == [[[2.0, 2.0, 0.0, 0.0], [-3.0, -1.0, 0.0, 0.0]]]


def test_margins_are_the_given_score_minus_the_best_other() -> None:
    found = made.digits_findings(80, 10, times=(np.inf,))
    values, label = margins(found)
    assert label == "left-out margin: given class minus best other (target units)"
    for one in found.suspects:
        assert values[one.row] == pytest.approx(one.margin, abs=1e-12)
    assert (values < 0).sum() == len(found.suspects)
