"""What several tests share."""

import os
from pathlib import Path

import pytest

PLACES = (
    Path(os.environ.get("LEFTOUT_DATA", "") or "nowhere"),
    Path(__file__).parents[2] / "shared" / "data",
)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real data sets; skip where there is none."""
    for place in PLACES:
        if place.is_dir():
            return place
    pytest.skip("no real data: set LEFTOUT_DATA to a folder with mnist/ and cifar10.zip")
