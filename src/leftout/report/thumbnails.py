"""Thousands of small pictures in one file, as sprites.

A sheet of up to 32 × 32 pictures is one image that the page cuts up by itself. Small grey pictures
are kept exactly (PNG). Colour and large ones are JPEG with colours as fine as brightness, each in a
cell whose sides are multiples of 8 pixels, the block in which JPEG works: so none bleeds into the next.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from leftout.core.errors import DataError

TILES = 32
"""Pictures along each side of a sheet."""

PAGE = TILES * TILES

EXACT_SIDE = 32
"""Grey pictures up to this side are kept without loss."""

QUALITY = 85


@dataclass(frozen=True)
class Atlas:
    """Sheets of pictures; picture number `slot` has the place `place(slot)`.

    Attributes:
        sheets: data URLs of the images.
        columns: pictures in each line of each sheet.
        width, height: of one picture, in pixels.
        across, down: from one picture to the next, in pixels.
    """

    sheets: tuple[str, ...]
    columns: tuple[int, ...]
    width: int
    height: int
    across: int
    down: int

    def place(self, slot: int) -> tuple[int, int, int]:
        """Return the sheet, column and line of a picture."""
        sheet, within = divmod(slot, PAGE)
        return sheet, within % TILES, within // TILES


def atlas(pictures: Sequence[UInt8[np.ndarray, "..."]], *, side: int) -> Atlas:
    """Return all pictures on sheets, each at most `side` pixels high and wide.

    Args:
        pictures: (h, w) grey or (h, w, 3) colour; those of another size than the first are scaled.

    Raises:
        DataError: a picture of another shape.
    """
    if not pictures:
        return Atlas((), (), 1, 1, 1, 1)
    for slot, picture in enumerate(pictures):
        if picture.ndim != 2 and not (picture.ndim == 3 and picture.shape[2] == 3):
            raise DataError(
                f"`images` must have shape (h, w) or (h, w, 3) each; picture {slot} has "
                f"{picture.shape}. Convert it to grey or RGB."
            )
    colour = any(picture.ndim == 3 for picture in pictures)
    high, wide = pictures[0].shape[:2]
    shrink = min(1.0, side / max(high, wide))
    width, height = max(1, round(wide * shrink)), max(1, round(high * shrink))
    exact = not colour and max(width, height) <= EXACT_SIDE
    across, down = (width, height) if exact else (_cell(width), _cell(height))
    pages = [pictures[start : start + PAGE] for start in range(0, len(pictures), PAGE)]
    sheets = tuple(_sheet(page, (width, height), (across, down), colour, exact) for page in pages)
    columns = tuple(min(TILES, len(page)) for page in pages)
    return Atlas(sheets, columns, width, height, across, down)


def _cell(side: int) -> int:
    return -(-side // 8) * 8


def _sheet(
    pictures: Sequence[np.ndarray], size: tuple[int, int], cell: tuple[int, int], colour: bool, exact: bool
) -> str:
    lines = -(-len(pictures) // TILES)
    columns = min(TILES, len(pictures))
    shape = (lines * cell[1], columns * cell[0]) + ((3,) if colour else ())
    canvas = np.zeros(shape, dtype=np.uint8)
    padding = ((0, cell[1] - size[1]), (0, cell[0] - size[0])) + (((0, 0),) if colour else ())
    for slot, picture in enumerate(pictures):
        y, x = slot // TILES * cell[1], slot % TILES * cell[0]
        # The rest of a cell repeats the picture's edge: a hard edge there would cost JPEG bits.
        padded = np.pad(_scale_picture(picture, size, colour), padding, mode="edge")
        canvas[y : y + cell[1], x : x + cell[0]] = padded
    file = io.BytesIO()
    if exact:
        Image.fromarray(canvas).save(file, "PNG", optimize=True)
    else:
        # Without optimize: Pillow would then want the whole sheet to fit one buffer, which noise
        # does not.
        Image.fromarray(canvas).save(file, "JPEG", quality=QUALITY, subsampling=0)
    kind = "png" if exact else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def _scale_picture(picture: np.ndarray, size: tuple[int, int], colour: bool) -> np.ndarray:
    if picture.shape[1::-1] != size:
        picture = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
    if colour and picture.ndim == 2:
        picture = np.repeat(picture[:, :, None], 3, axis=2)
    return picture
