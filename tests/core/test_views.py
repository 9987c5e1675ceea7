"""Rows of a batch are recognised, and nothing else is."""

import pytest
import torch

from leftout.core.views import rows_within

WHOLE = torch.arange(60.0).reshape(10, 3, 2)


@pytest.mark.parametrize("rows", [slice(0, 10), slice(2, 7), slice(9, 10), slice(0, 1), slice(3, 3)])
def test_consecutive_rows_are_found_again(rows):
    part = WHOLE[rows]
    found = rows_within(part, WHOLE)
    assert found is not None
    assert torch.equal(WHOLE[found], part)


@pytest.mark.parametrize(
    "part",
    [
        WHOLE.clone()[2:4],
        WHOLE[::2],
        WHOLE[:, 1:],
        WHOLE[:, :, :1],
        WHOLE[[1, 2]],
        WHOLE.reshape(30, 2)[3:6],
        WHOLE.reshape(60)[6:12],
        WHOLE.double()[1:3],
        WHOLE[2:4].clone(),
        WHOLE.flip(0)[1:3],
    ],
    ids=[
        "a copy",
        "every other row",
        "fewer columns",
        "fewer channels",
        "a gather",
        "another shape",
        "flat",
        "another type",
        "a clone",
        "reversed",
    ],
)
def test_what_is_no_view_of_its_rows_is_not(part):
    assert rows_within(part, WHOLE) is None


def test_rows_of_a_part_lie_in_it():
    part = WHOLE[4:8]
    assert rows_within(WHOLE[5:7], part) == slice(1, 3)
    assert rows_within(WHOLE[2:5], part) is None
    assert rows_within(WHOLE[6:9], part) is None
