"""Arrays as pictures: how they are recognised, and their pixels as numbers in [0, 1].

Pictures are (n, h, w) or (n, h, w, 3) or (n, 3, h, w) with values 0 … 255 or 0 … 1. The kernels see
float64 in [0, 1], channels first; a person sees uint8, channels last. Anything else is features.
"""

from collections.abc import Sequence

import numpy as np

from leftout.data.data_source import InputRows
from leftout.data.targets import doubles

CHANNELS = 3
WHITE = 255.0
"""Value of the brightest pixel in 8 bits; a source's own is in `preparation["white"]`."""


def rows_of_images(images: np.ndarray) -> InputRows:
    """Return the rows of uint8 pictures, (n, h, w) or (n, h, w, 3)."""
    return InputRows(inputs=channels_first(images) / WHITE, images=images)


def channels_first(images: np.ndarray) -> np.ndarray:
    """Return (n, 3, h, w) for (n, h, w, 3), grey pictures as they are."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if images.ndim == 4 else images


def pixel_range(arrays: Sequence[np.ndarray]) -> float | None:
    """Return the value of a white pixel, 255 or 1; None where the arrays are no pictures.

    uint8 is always 0 … 255. Other types are 0 … 1 if no value of any array is above 1.
    """
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
    """Return pictures (`white` as from `pixel_range`) or flat features (None)."""
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
