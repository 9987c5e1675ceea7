"""What several tests of data share."""

import pytest


@pytest.fixture(params=["frame", ".csv", ".parquet"])
def given(request, tmp_path):
    """Return a frame as one of the forms that a table comes in."""

    def as_data(frame):
        path = tmp_path / f"t{request.param}"
        if request.param == ".csv":
            frame.to_csv(path, index=False)
        elif request.param == ".parquet":
            frame.to_parquet(path)
        return frame if request.param == "frame" else path

    return as_data
