"""The mean of standardised scores: by its definition, matched by names, refused where there is none."""

import json
import re

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import leftout as lo
from laws import assert_same
from leftout.core.errors import DataError, OptionError, ShapeError

DRAWS = np.random.default_rng(0)
FIRST, SECOND, THIRD = DRAWS.normal(size=(3, 4, 9))


def named(values, **attrs):
    axes = {"query": [f"q{i}" for i in range(4)], "train": [f"t{i}" for i in range(9)]}
    return xr.DataArray(values, dims=("query", "train"), coords=axes, attrs=attrs)


def test_it_is_the_mean_of_z_scores_per_query() -> None:
    want = np.mean([stats.zscore(scores, axis=1) for scores in (FIRST, SECOND, THIRD)], axis=0)
    got = lo.consensus([FIRST, 1e3 * SECOND + 7, THIRD / 1e4])
    assert_same(got, want, 1e-9)
    assert got.attrs["units"].startswith("none: for each query mean 0 and standard deviation 1")


def test_size_and_units_of_the_methods_do_not_matter() -> None:
    want = lo.consensus([FIRST, SECOND])
    for size in (1e-200, 1e200):
        assert_same(lo.consensus([FIRST, size * SECOND]), want, 1e-12)


def test_names_are_matched_and_attributes_that_all_share_remain() -> None:
    same = {"sign": "positive = the example helped", "train_fingerprint": "x"}
    first, second = named(FIRST, method="a", **same), named(SECOND, method="b", at=3, **same)
    want = lo.consensus([first, second])
    mixed = second.isel(train=slice(None, None, -1), query=[2, 0, 1, 3])
    got = lo.consensus([first, mixed])
    assert_same(got, want, 1e-14)
    assert got["train"].values.tolist() == first["train"].values.tolist()
    assert json.loads(got.attrs["methods"]) == ["a", "b"]
    assert got.attrs["sign"] == same["sign"]
    assert "at" not in got.attrs


def test_groups_are_taken_as_training_examples_are() -> None:
    groups = xr.DataArray(FIRST, dims=("query", "group"), coords={"group": list("abcdefghi")})
    got = lo.consensus([groups, groups[:, ::-1]])
    assert got.dims == ("query", "group")
    assert_same(got, stats.zscore(FIRST, axis=1), 1e-12)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("scores", "error", "words"),
    [
        (FIRST, OptionError, "`scores` must be a list of two or more score arrays"),
        ([FIRST], OptionError, "`scores` must be a list of two or more score arrays; got 1"),
        ([FIRST, SECOND[:, 1:]], ShapeError, "must all have the shape of the first, (4, 9)"),
        (
            [FIRST, np.where(np.eye(4, 9) > 0, np.nan, SECOND)],
            DataError,
            "row 0 of scores[1] holds NaN or infinity",
        ),
        ([FIRST, np.ones((4, 9))], DataError, "row 0 of scores[1] is 1 throughout (4 of 4 rows are)"),
        ([named(FIRST), named(SECOND)[:, 1:]], OptionError, "'t0' is missing"),
        ([named(FIRST, of="loss"), named(SECOND, of="prediction")], OptionError, "about the same effect"),
    ],
)
def test_what_has_no_standard_scores_is_refused(scores, error, words) -> None:
    with pytest.raises(error, match=re.escape(words)):
        lo.consensus(scores)
