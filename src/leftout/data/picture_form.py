"""The size that pictures are brought to, and what stands behind transparent ones: only as asked."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from leftout.core.checks import check_choice, is_whole, shown
from leftout.core.errors import OptionError
from leftout.data.options import Background

LARGEST_SIDE = 4096
BACKGROUNDS: dict[Background, int] = {"white": 255, "black": 0}


@dataclass(frozen=True)
class PictureForm:
    """What is done to each picture.

    Attributes:
        size: height and width; None: pictures keep theirs, and must all have the same.
        crop: whether the middle is cut out in the wanted proportions first; else the whole is squeezed.
        background: behind transparent pixels; None: there must be none.
    """

    size: tuple[int, int] | None = None
    crop: bool = False
    background: Background | None = None

    def apply(self, image: Image.Image) -> Image.Image:
        """Return a grey or coloured picture in this size, averaged over the area that a pixel stands for."""
        if self.size is None or self.size == (image.height, image.width):
            return image
        shape = (self.size[1], self.size[0])
        if self.crop:
            return ImageOps.fit(image, shape, method=Image.Resampling.BILINEAR)
        return image.resize(shape, Image.Resampling.BILINEAR)

    def flatten(self, image: Image.Image) -> Image.Image:
        """Return a picture with alpha in front of the background."""
        assert self.background is not None
        behind = Image.new("RGBA", image.size, (*[BACKGROUNDS[self.background]] * 3, 255))
        return Image.alpha_composite(behind, image.convert("RGBA")).convert("RGB")

    @property
    def note(self) -> str:
        """Return what is done to every picture, in words; empty for nothing."""
        if self.size is None:
            return ""
        how = "its middle cut out in these proportions" if self.crop else "the whole of it squeezed"
        other = "" if self.crop else "; `crop` (--crop yes) cuts the middle out instead"
        return f"every picture was brought to {self.size[0]} × {self.size[1]} pixels, {how}{other}"

    @property
    def record(self) -> dict[str, Any]:
        """Return what is done, JSON-like; empty for nothing."""
        if self == PictureForm():
            return {}
        size = None if self.size is None else list(self.size)
        return {"picture_form": {"size": size, "crop": self.crop, "background": self.background}}


def picture_form(resize: Any, crop: bool | None, background: Background | None) -> PictureForm:
    """Return the form from options.

    Args:
        resize: a side, a pair (height, width), or the text of either, "64" or "64x48".

    Raises:
        OptionError: no such size; `crop` without one.
    """
    check_choice("crop", crop, (None, True, False))
    check_choice("background", background, (None, *BACKGROUNDS))
    if crop is not None and resize is None:
        raise OptionError("`crop` must be left out without `resize` (--resize), the size to cut out.")
    return PictureForm(None if resize is None else _size(resize), bool(crop), background)


def _size(resize: Any) -> tuple[int, int]:
    sides = resize
    if isinstance(resize, str):
        parts = resize.lower().replace("×", "x").split("x")
        sides = [int(part) if part.strip().isdecimal() else None for part in parts]
    elif is_whole(resize):
        sides = [resize]
    sides = list(sides) * (2 if len(sides) == 1 else 1) if isinstance(sides, list | tuple) else []
    if len(sides) != 2 or not all(is_whole(side) and 1 <= side <= LARGEST_SIDE for side in sides):
        raise OptionError(
            f"`resize` must be a side or height and width, as 64 or 64x48, from 1 to {LARGEST_SIDE}; got "
            f"{shown(resize)}."
        )
    return int(sides[0]), int(sides[1])


def grey_or_colour(image: Image.Image) -> Image.Image:
    """Return an opaque picture of 8 bits a channel in mode L or RGB."""
    if image.mode in ("1", "L"):
        return image.convert("L")
    if image.mode == "LA":
        return image.getchannel("L")
    return image.convert("RGB")


def pixels(image: Image.Image, form: PictureForm) -> np.ndarray:
    """Return the pixels of an opaque picture as uint8, (h, w) or (h, w, 3), in the wanted form."""
    return np.asarray(form.apply(grey_or_colour(image)))
