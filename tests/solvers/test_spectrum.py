import re

import numpy as np
import pytest
import torch

from leftout.core.errors import NotPositiveError
from leftout.solvers.spectrum import Spectrum, spectrum_of


def gram_with(values, seed=0):
    basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values), len(values))))[0]
    whole = (basis * np.asarray(values)) @ basis.T
    return torch.from_numpy((whole + whole.T) / 2)


def test_eigenvalues_come_largest_first_and_give_the_matrix_back() -> None:
    values = [0.1, 5.0, 0.0, 2.0, 2.0]
    gram = gram_with(values)
    found = spectrum_of(gram)
    want = torch.tensor(sorted(values, reverse=True), dtype=torch.float64)
    torch.testing.assert_close(found.values, want, rtol=0, atol=1e-14)
    assert bool((found.values.diff() <= 0).all())
    rebuilt = found.vectors @ torch.diag(found.values) @ found.vectors.T
    torch.testing.assert_close(rebuilt, gram, rtol=0, atol=1e-14)
    assert found.largest == float(found.values[0])
    assert found.smallest == float(found.values[-1])
    rhs = torch.arange(10.0, dtype=torch.float64).view(5, 2)
    torch.testing.assert_close(found.vectors @ found.coordinates(rhs), rhs, rtol=1e-13, atol=1e-13)


def test_a_thin_spectrum_knows_that_the_other_eigenvalues_are_zero() -> None:
    vectors = torch.eye(4, dtype=torch.float64)[:, :2]
    thin = Spectrum(torch.tensor([3.0, 1.0], dtype=torch.float64), vectors)
    assert (thin.largest, thin.smallest) == (3.0, 0.0)
    negative = Spectrum(torch.tensor([3.0, -1e-17], dtype=torch.float64), vectors)
    assert negative.smallest == -1e-17


def test_rounding_below_zero_is_left_as_computed() -> None:
    found = spectrum_of(gram_with([1.0] * 3 + [0.0] * 20))
    assert found.smallest != 0
    assert abs(found.smallest) < 1e-15


@pytest.mark.parametrize("values", [[1.0, -1e-12], [-1.0, -2.0], [1.0, -5.0]])
def test_a_matrix_that_is_no_kernel_is_refused(values) -> None:
    words = re.escape(
        f"`gram` must be positive semi-definite; its smallest eigenvalue is {min(values):.3g} and "
        f"its largest {max(values):.3g}. Check that the kernel is one; nothing was clipped."
    )
    with pytest.raises(NotPositiveError, match=words):
        spectrum_of(torch.diag(torch.tensor(values, dtype=torch.float64)))


def test_entries_of_single_precision_carry_its_rounding() -> None:
    gram = torch.diag(torch.tensor([1.0, -1e-7], dtype=torch.float64))
    with pytest.raises(NotPositiveError):
        spectrum_of(gram)
    assert spectrum_of(gram, made_in=torch.float32).smallest == pytest.approx(-1e-7)
    with pytest.raises(NotPositiveError):
        spectrum_of(torch.diag(torch.tensor([1.0, -1e-5]).double()), made_in=torch.float32)
