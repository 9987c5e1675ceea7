"""Pictures survive the sheets that they travel on."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from leftout.core.errors import DataError
from leftout.report.thumbnails import atlas


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
