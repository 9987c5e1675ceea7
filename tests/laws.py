"""How close is close? Differences are relative to the largest number of what was to be found."""

import numpy as np


def difference(got, want):
    """Return max |got − want| / max |want|; of two arrays of zeros, 0."""
    got, want = np.asarray(got, dtype=float), np.asarray(want, dtype=float)
    assert got.shape == want.shape, f"{got.shape} is not {want.shape}"
    assert np.isfinite(got).all(), "not finite"
    assert np.isfinite(want).all(), "the oracle is not finite"
    if want.size == 0:
        return 0.0
    largest = np.abs(want).max()
    worst = np.abs(got - want).max()
    return float(worst / largest) if largest > 0 else float(worst)


def assert_same(got, want, rtol=1e-9):
    """Fail unless the largest difference is at most rtol of the largest number."""
    found = difference(got, want)
    assert found <= rtol, f"differ by {found:.2e} of the largest, more than {rtol:.0e}"
