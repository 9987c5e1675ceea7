"""Arrays as pictures: how they are recognised, and their pixels as numbers in [0, 1].

Pictures are (n, h, w) or (n, h, w, 3) or (n, 3, h, w) with values 0 … 255 or 0 … 1. The kernels see
float64 in [0, 1], channels first; a person sees uint8, channels last. Anything else is features. What is
taken for pictures without being told is said in a note; (n, h, w) of numbers up to 255 that are no bytes may
as well be counts, and is refused until `pictures` says what it is.
"""

from collections.abc import Sequence

import numpy as np

from leftout.core.errors import DataError, OptionError
from leftout.data.conversion import doubles
from leftout.data.data_source import InputRows
from leftout.data.files import BYTES_PER_NUMBER, BYTES_PER_PIXEL, check_allocation

CHANNELS = 3
WHITE = 255.0
"""Value of the brightest pixel in 8 bits; a source's own is in `preparation["white"]`."""

WHITE_IN_16_BITS = 65535.0


def rows_of_images(images: np.ndarray) -> InputRows:
    """Return the rows of pictures, (n, h, w) or (n, h, w, 3), uint8 or uint16: shares of white, exactly.

    Raises:
        MemoryBudgetError: they would not fit as inputs; nothing is made then.
    """
    check_allocation(f"An array of pictures {images.shape} as inputs", BYTES_PER_PIXEL * images.size)
    if images.dtype != np.uint16:
        return InputRows(inputs=channels_first(images) / WHITE, images=images)
    share = channels_first(images) / WHITE_IN_16_BITS
    # The picture to look at is rounded to 8 bits; the inputs are not.
    return InputRows(inputs=share, images=np.rint(WHITE * share).astype(np.uint8), white=WHITE_IN_16_BITS)


def channels_first(images: np.ndarray) -> np.ndarray:
    """Return (n, 3, h, w) for (n, h, w, 3), grey pictures as they are."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if images.ndim == 4 else images


def pixel_range(
    arrays: Sequence[np.ndarray], pictures: bool | None = None, *, source: str = "data"
) -> tuple[float | None, list[str]]:
    """Return the value of a white pixel, 255 or 1, or None for no pictures; and a note where it was inferred.

    uint8 is always 0 … 255. Other types are 0 … 1 if no value of any array is above 1.

    Args:
        pictures: whether they are; None goes by shape, type and range.

    Raises:
        OptionError: pictures are asked for where shape or range is none of pictures.
        DataError: (n, h, w) within 0 … 255 of another type than uint8, which may be pictures or counts.
    """
    shape = " × ".join(map(str, arrays[0].shape[1:]))
    features = f"the arrays hold rows of {shape}, taken as {np.prod(arrays[0].shape[1:])} features each"
    white = None if pictures is False else _white(arrays)
    if pictures and white is None:
        raise OptionError(
            f"`pictures` must be left out or False for `{source}`: pictures are (n, h, w), (n, h, w, 3) or "
            f"(n, 3, h, w) within 0 … 255; these are {arrays[0].shape} or have other values."
        )
    if white is None:
        return None, [] if pictures is False or arrays[0].ndim < 3 else [features]
    taken = f"the arrays hold rows of {shape}, taken as pictures with white = {white:g}"
    note = f"{taken}; if they are features, say so with `pictures`: False (--pictures no)"
    colours = arrays[0].ndim == 4 and CHANNELS in arrays[0].shape[1::2]
    if pictures is None and white > 1 and not colours and any(array.dtype != np.uint8 for array in arrays):
        raise DataError(
            f"`{source}` holds rows of {shape} numbers from 0 to 255 that are no bytes: they may be pictures "
            "or counts. Say which with `pictures`: True (--pictures yes) divides by 255, False "
            "(--pictures no) takes them as features."
        )
    return white, [] if pictures else [note]


def _white(arrays: Sequence[np.ndarray]) -> float | None:
    """Return the value of a white pixel; None where shape, type or range is none of pictures."""
    if any(array.dtype.kind not in "uif" or not array.size for array in arrays):
        return None
    if any(_channel_axis(array.shape) is None for array in arrays):
        return None
    if all(array.dtype == np.uint8 for array in arrays):
        return WHITE
    with np.errstate(all="ignore"):
        low = min(float(array.min()) for array in arrays)
        high = max(float(array.max()) for array in arrays)
    if not (low >= 0 and high <= 255):  # NaN fails too
        return None
    return 1.0 if high <= 1 else WHITE


def rows_of_array(array: np.ndarray, white: float | None) -> InputRows:
    """Return pictures (`white` as from `pixel_range`) or flat features (None).

    Raises:
        MemoryBudgetError: their copies in double precision would not fit; nothing is made then.
    """
    check_allocation(f"An array of {array.shape} in double precision", BYTES_PER_NUMBER * array.size)
    if white is None:
        features = doubles(array.reshape(len(array), -1))  # (n, d)
        columns = tuple(f"x{number}" for number in range(features.shape[1]))
        return InputRows(inputs=features, table=features, columns=columns)
    axis = _channel_axis(array.shape)
    if array.ndim == 4:
        last = np.moveaxis(array, axis or -1, -1)  # (n, h, w, channels)
        array = last[..., 0] if last.shape[-1] == 1 else last
    share = doubles(array) / white
    # The picture to look at is rounded to 8 bits; the inputs are not.
    images = np.rint(255 * share).astype(np.uint8)
    return InputRows(inputs=channels_first(share), images=images)


def _channel_axis(shape: tuple[int, ...]) -> int | None:
    """Return the axis of channels (0 where there is none), or None for no shape of pictures."""
    if len(shape) == 3:
        return 0
    if len(shape) != 4:
        return None
    # Pictures of 3 × 3 pixels in 3 channels are ambiguous: channels last wins.
    return next((axis for axis in (3, 1) if shape[axis] in (1, CHANNELS)), None)
