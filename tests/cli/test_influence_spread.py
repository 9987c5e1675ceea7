"""`leftout influence --spread`: the same numbers as in Python, beside the influence that they are about."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import leftout as lo

SMALL = ("influence", "digits", "--n-train", "40", "--n-query", "6")
ERF = ("--kernel", "erf", "--depth", "1", "--ridge", "0.1")


def spread(of="loss"):
    kernel = lo.kernels.Erf(1)
    train, query = lo.load("digits", n_train=40, n_query=6, normalise=kernel.normalise)
    fitted = lo.fit(kernel, train, rule=lo.Ridge(0.1))
    return query, lo.leave_one_out(fitted, query, of=of, spread=True)


@pytest.mark.parametrize("of", ["loss", "prediction"])
def test_saved_scores_gain_the_mean_and_the_spread(leftout, tmp_path, of) -> None:
    _, want = spread(of)
    for name in ("all.csv", "all.zarr"):
        code, _, err = leftout(*SMALL, *ERF, "--spread", "--of", of, "--out", name)
        assert (code, err) == (0, "")
    table = pd.read_csv(tmp_path / "all.csv")
    store = xr.open_zarr(tmp_path / "all.zarr", consolidated=False)
    for name in ("influence", "mean", "spread"):
        np.testing.assert_allclose(table[name], want[name].values.ravel(), rtol=1e-12)
        np.testing.assert_allclose(store[name].values[0], want[name].values, rtol=1e-12)
        assert store[name].attrs["units"] == want[name].attrs["units"]


def test_a_query_is_shown_with_the_spread_beside_each_influence(leftout) -> None:
    query, want = spread()
    code, out, err = leftout(*SMALL, *ERF, "--spread", "--of-query", query.ids[2], "--top", "1")
    assert (code, err) == (0, "")
    row = want.sel(query=query.ids[2])
    best = int(row["influence"].values.argmax())
    assert f"{float(row['influence'][best]):+.3e} ± {float(row['spread'][best]):.1e}" in out
    assert "± is the standard deviation over initial weights." in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--spread", "--of-query", "x"), "--of-query 'x' is no query"),
        (("--spread", *ERF), "--spread is of single queries: name them with --of-query, or save"),
        (
            ("--spread", "--kernel", "two-layer-relu", "--out", "a.csv"),
            "--spread needs networks that start from random weights",
        ),
        (
            ("--spread", *ERF, "--method", "first-order", "--out", "a.csv"),
            "--spread goes with --method leave-one-out",
        ),
    ],
)
def test_a_spread_that_cannot_be_shown_is_one_sentence(leftout, tmp_path, words, message) -> None:
    code, out, err = leftout(*SMALL, *words)
    assert (code, out) == (2, "")
    assert err.startswith(f"leftout: {message}")
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())
