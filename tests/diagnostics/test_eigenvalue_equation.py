"""Is κ the root of the eigenvalue equation, of any spectrum?"""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leftout.core.errors import DataError, OptionError, ShapeError
from leftout.diagnostics.eigenlearning.eigenvalue_equation import kappa_of
from oracles.learnability import equation, falls, miss


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


@st.composite
def problems(draw, ridge=True):
    """Spectra of 1 to 40 modes over up to 60 decades, with multiplicities, n and ridge."""
    r = draw(st.integers(1, 40))
    decades = draw(st.sampled_from([0, 1, 30, 60]))
    seed = draw(st.integers(0, 2**32 - 1))
    chance = np.random.default_rng(seed)
    values = 10.0 ** (chance.uniform(-decades, 0, r) + draw(st.integers(-20, 20)))
    counts = chance.integers(1, 5, r).astype(float)
    share = draw(st.sampled_from([1e-9, 0.01, 0.3, 0.5, 0.97, 1 - 1e-9]))
    delta = draw(st.sampled_from([0.0, 1e-30, 1e-6, 1.0, 1e6])) if ridge else 0.0
    n = share * counts.sum() * (3 if delta and draw(st.booleans()) else 1)
    return values, counts, n, delta


@given(problems())
@settings(max_examples=80, deadline=None)
def test_kappa_is_the_root_to_twelve_digits(problem) -> None:
    values, counts, n, ridge = problem
    kappa = kappa_of(tensor(values), n=n, ridge=ridge, multiplicities=tensor(counts))
    assert miss(values, kappa, n, ridge, counts) < 1e-12


@pytest.mark.parametrize("n", [1.0, 37.0, 4999.5, 99_999.0])
@pytest.mark.parametrize("decades", [0, 4, 30])
def test_kappa_of_a_hundred_thousand_modes(n, decades) -> None:
    values = np.logspace(0, -decades, 100_000)
    kappa = kappa_of(tensor(values), n=n)
    # Terms below and above separately, in double, lose log2(1e5) roundings at the most.
    above = values > kappa
    lacking = (kappa / (values + kappa))[above].sum()
    more = (values / (values + kappa))[~above].sum()
    slope = (values * kappa / (values + kappa) ** 2).sum()
    assert abs(above.sum() - n - lacking + more) / slope < 1e-12


@pytest.mark.parametrize(("m", "n", "ridge"), [(7.0, 2.5, 0.0), (1.0, 0.5, 0.3), (5.0, 9.0, 0.7)])
def test_of_one_eigenvalue_kappa_solves_a_quadratic(m, n, ridge) -> None:
    """mλκ + δ(λ + κ) = nκ(λ + κ)."""
    value = 1.7
    b = n * value - m * value - ridge
    root = (-b + math.sqrt(b * b + 4 * n * ridge * value)) / (2 * n)
    found = kappa_of(tensor([value]), n=n, ridge=ridge, multiplicities=tensor([m]))
    assert found == pytest.approx(root, rel=1e-13)


@given(problems(), st.sampled_from([1e-12, 0.3, 1e9]))
@settings(max_examples=20, deadline=None)
def test_kappa_scales_with_kernel_and_ridge(problem, factor) -> None:
    values, counts, n, ridge = problem
    one = kappa_of(tensor(values), n=n, ridge=ridge, multiplicities=tensor(counts))
    other = kappa_of(tensor(factor * values), n=n, ridge=factor * ridge, multiplicities=tensor(counts))
    assert other == pytest.approx(factor * one, rel=2e-12)


@given(problems())
@settings(max_examples=20, deadline=None)
def test_multiplicities_order_and_zeros_are_what_they_say(problem) -> None:
    values, counts, n, ridge = problem
    one = kappa_of(tensor(values), n=n, ridge=ridge, multiplicities=tensor(counts))
    every = np.append(np.repeat(values, counts.astype(int)), [0.0, 0.0])
    np.random.default_rng(0).shuffle(every)
    assert kappa_of(tensor(every), n=n, ridge=ridge) == pytest.approx(one, rel=2e-12)


def test_kappa_falls_with_examples_and_rises_with_the_ridge() -> None:
    values = tensor(np.logspace(0, -9, 50))
    assert falls([kappa_of(values, n=n) for n in (0.5, 1, 7, 30.5, 49)])
    assert falls([kappa_of(values, n=9, ridge=r) for r in (1.0, 1e-3, 1e-9, 0.0)])
    assert kappa_of(values, n=9, ridge=1e-25) == pytest.approx(kappa_of(values, n=9), rel=1e-12)


def test_of_next_to_no_examples_kappa_is_the_trace_over_n() -> None:
    values = tensor([3.0, 1.0, 1e-8])
    assert kappa_of(values, n=0) == math.inf
    # To first order: relative n Σ λ² / (Σ λ + δ)².
    assert kappa_of(values, n=1e-9, ridge=0.5) == pytest.approx(4.50000001e9, rel=1e-8)


def test_of_next_to_all_modes_kappa_is_what_they_lack() -> None:
    values = np.array([3.0, 1.0, 1e-3])
    # Σ κ / (λ + κ) = 3 − n, so κ = (3 − n) / Σ 1/λ to first order.
    lacking = 2.0**-40
    found = kappa_of(tensor(values), n=3 - lacking)
    assert found == pytest.approx(lacking / (1 / values).sum(), rel=1e-8)


@pytest.mark.parametrize("n", [3, 3.5, 100])
def test_without_ridge_as_many_examples_as_modes_are_refused(n) -> None:
    with pytest.raises(
        OptionError,
        match=r"`n` must be below the number of modes with a positive eigenvalue, 3.*got "
        rf"{n}.*pass a `ridge` > 0",
    ):
        kappa_of(tensor([1.0, 0.5, 0.1, 0.0]), n=n)
    assert kappa_of(tensor([1.0, 0.5, 0.1, 0.0]), n=n, ridge=0.1) > 0


@given(problems(), st.sampled_from([1, 3, 10**6]))
@settings(max_examples=40, deadline=None)
def test_of_different_points_kappa_solves_the_equation_of_a_projection(problem, spare) -> None:
    """tr K (K + Mκ)⁻¹ = n − ridge tr (K(D, D) + ridge)⁻¹, and n of the latter's trace is (M − Σ L)/(Mκ) each.

    Of M modes, K's eigenvalues Mλ, the two traces are tied: κ' = ridge + (M − n) κ' / (M − Σ L), κ' = Mκ.
    """
    values, counts, n, ridge = problem
    points = int(counts.sum()) + spare
    n = min(n, 0.9 * points)
    if ridge == 0 and n >= counts.sum():
        return
    kappa = kappa_of(tensor(values), n=n, ridge=ridge, multiplicities=tensor(counts), points=points)
    left, slope = equation(values, kappa, 0.0, counts)
    with mpmath.workdps(60):
        whole = points * mpmath.mpf(kappa)
        excess = (points - left) * (whole - ridge) / whole - (points - mpmath.mpf(float(n)))
        # Its slope in log κ: that of −Σ L, and of ridge / κ'.
        steep = slope * (whole - ridge) / whole + (points - left) * ridge / whole
        assert abs(float(excess / steep)) < 1e-12


def test_of_different_points_and_one_eigenvalue_the_examples_are_a_kernel_of_their_own() -> None:
    """All M eigenvalues alike: K(D, D) = Mλ I, f̂ = f Mλ / (Mλ + ridge) at the examples and 0 elsewhere."""
    points, n, value, ridge = 10, 4, 0.3, 0.7
    kappa = kappa_of(torch.full((points,), value, dtype=torch.float64), n=n, ridge=ridge, points=points)
    learned = n / points * points * value / (points * value + ridge)
    assert value / (value + kappa) == pytest.approx(learned, rel=1e-13)


def test_of_a_kernel_that_is_zero_all_is_ridge() -> None:
    assert kappa_of(tensor([0.0]), n=4, ridge=2.0) == pytest.approx(0.5, rel=1e-14)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"n": -1.0}, OptionError, r"`n` must be a finite number ≥ 0; got -1"),
        ({"n": math.nan}, OptionError, r"`n` must be a finite number ≥ 0; got nan"),
        ({"n": True}, OptionError, r"`n` must be a finite number ≥ 0; got True"),
        ({"ridge": -0.1}, OptionError, r"`ridge` must be a finite number ≥ 0; got -0.1"),
        ({"eigenvalues": tensor([1.0, -0.5])}, DataError, r"`eigenvalues` must be ≥ 0; row 1 holds -0.5"),
        ({"eigenvalues": tensor([1.0, math.inf])}, DataError, r"`eigenvalues` must be finite; row 1"),
        ({"eigenvalues": tensor([[1.0]])}, ShapeError, r"`eigenvalues` must have one axis.*\(1, 1\)"),
        ({"multiplicities": tensor([1.0])}, ShapeError, r"`multiplicities` must have one number for each"),
        ({"multiplicities": tensor([1.0, 0.0])}, DataError, r"`multiplicities` must be > 0; row 1 holds 0"),
        ({"multiplicities": tensor([1.0, math.nan])}, DataError, r"`multiplicities` must be finite; row 1"),
    ],
)
@pytest.mark.usefixtures("as_users_run_it")
def test_what_is_no_spectrum_is_refused(options, error, match) -> None:
    given_options = {"eigenvalues": tensor([1.0, 0.5]), "n": 1.0, **options}
    with pytest.raises(error, match=match):
        kappa_of(given_options.pop("eigenvalues"), **given_options)
