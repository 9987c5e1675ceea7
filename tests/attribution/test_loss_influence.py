"""Influence on the loss follows from influence on predictions: the engine's own numbers, to rounding."""

import numpy as np
import pytest

import leftout as lo
from leftout.attribution.loss_influence import loss_influence


@pytest.mark.parametrize(
    ("rule", "times"), [(lo.Ridge(0.1), [None]), (lo.GradientFlow(), [0.5, 3.0, None])], ids=["ridge", "flow"]
)
def test_it_is_that_of_leave_one_out(rule, times):
    train, query = lo.load("digits", n_train=40, n_query=12)
    fitted = lo.fit(lo.kernels.TwoLayerReLU(), train, rule=rule)
    changes = lo.leave_one_out(fitted, query, at=times, of="prediction")
    want = lo.leave_one_out(fitted, query, at=times)
    got = loss_influence(fitted, query, changes)
    assert got.dims == want.dims
    assert {name: got.attrs[name] for name in ("of", "sign", "units")} == {
        name: want.attrs[name] for name in ("of", "sign", "units")
    }
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12 * float(np.abs(want).max()))
