"""The handwritten digits that come with scikit-learn: 1,797 pictures of 8 × 8, no download."""

import numpy as np
from sklearn.datasets import load_digits

from leftout.data.data_source import DataSource, InputRows
from leftout.data.targets import RawTargets

QUERIES = 500
"""Of 1,797; kept as queries unless the caller asks otherwise."""

WHITE = 16
"""Value of a fully inked pixel in this data set."""


def digits() -> DataSource:
    """Return the data set; ids are row numbers, `digits/0123`."""
    bunch = load_digits()
    pixels = bunch.images / WHITE  # (n, 8, 8)
    images = np.rint(255 * pixels).astype(np.uint8)
    return DataSource(
        name="digits",
        ids=[f"digits/{row:04d}" for row in range(len(pixels))],
        targets=RawTargets(bunch.target.astype(np.int64), tuple("0123456789"), None),
        read=lambda rows: InputRows(inputs=pixels[rows], images=images[rows]),
        share=QUERIES / len(pixels),
        record={"format": "digits", "white": float(WHITE)},
    )
