"""Does theory predict what kernel regression learns, and do its laws hold?"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import leftout as lo
from laws import assert_same
from leftout.core.errors import DataError, NotPositiveError, OptionError, ShapeError
from leftout.diagnostics.eigenlearning.learnability import from_modes, learnability
from oracles.learnability import (
    corners,
    data_sets,
    falls,
    mean_and_error,
    normal_data_sets,
    parities,
    predict,
    share,
)

CUBE = torch.from_numpy(corners(8))
GRAM = lo.kernels.ReLU(3, 2.0, 0.1).block(CUBE, CUBE).numpy()
FUNCTIONS = {k: parities(8, k)[:, 0] for k in (0, 1, 2, 3, 8)}

SLACK = 0.01
"""What theory itself may be off by on the cube: 0.003 in learnability from 32 examples on, 3 % in errors."""


def known(seed=0, r=12, k=2, **options):
    """A spectrum over four decades and a target of k outputs."""
    draw = np.random.default_rng(seed)
    values = np.geomspace(1, 1e-4, r)
    return from_modes(values, draw.standard_normal((r, k)), **{"n": 5, **options})


# Against simulation


@pytest.mark.parametrize("degree", [1, 2, 3, 8])
@pytest.mark.parametrize("n", [32, 100])
def test_learnability_is_the_mean_over_data_sets(degree, n) -> None:
    f = FUNCTIONS[degree]
    measured, error = mean_and_error(share(f, fitted) for *_, fitted in data_sets(GRAM, f, n, count=150))
    found = learnability(GRAM, f, n=n)
    assert abs(found.target_learnability - measured) < 4 * error + SLACK


@pytest.mark.parametrize(("degree", "n"), [(1, 32), (3, 32), (3, 128), (8, 64)])
@pytest.mark.parametrize(("ridge", "noise"), [(0.0, 0.0), (0.0, 0.3), (0.5, 0.0), (0.5, 0.3)])
def test_errors_are_means_over_data_sets_of_different_points(degree, n, ridge, noise) -> None:
    """Over the domain, over the examples and over the others; to 4 % and four standard errors."""
    f = FUNCTIONS[degree]
    kept = []
    for rows, given_targets, fitted in data_sets(GRAM, f, n, ridge=ridge, noise=noise, count=150):
        square = (fitted - f) ** 2
        trained = ((fitted[rows] - given_targets) ** 2).mean()
        kept.append((square.mean(), trained, np.delete(square, rows).mean(), share(f, fitted)))
    measured, error = mean_and_error(kept)
    found = learnability(GRAM, f, n=n, ridge=ridge, noise=noise, without_replacement=True)
    predicted = (
        found.noiseless_error,
        found.train_error,
        found.off_training_error - noise,
        found.target_learnability,
    )
    assert (np.abs(measured - predicted) < 4 * error + 0.04 * measured + 1e-12).all()
    assert found.test_error == pytest.approx(found.noiseless_error + noise, rel=1e-12)


@pytest.mark.parametrize(("ridge", "noise"), [(0.0, 0.0), (0.02, 0.0), (0.02, 0.3)])
def test_errors_mean_and_covariance_where_the_derivation_is_exact(ridge, noise) -> None:
    """Of 300 normal eigenfunctions and 60 independent examples: what is left is of order 1/60."""
    r, n, count = 300, 60, 300
    values = np.arange(1, r + 1.0) ** -1.5
    v = np.zeros(r)
    v[[0, 3, 20, 100]] = 1.0, -0.7, 0.5, 0.2
    runs = list(normal_data_sets(values, v, n, ridge=ridge, noise=noise, count=count))
    learned = np.array([one for one, _ in runs])
    found = from_modes(values, v, n=n, ridge=ridge, noise=noise)
    errors = ((learned - v) ** 2).sum(1)
    measured, error = mean_and_error(zip(errors, (train for _, train in runs), strict=True))
    predicted = np.array([found.noiseless_error, found.train_error])
    assert (np.abs(measured - predicted) < 4 * error + 0.04 * measured + 1e-12).all()
    mean, variance = found.mean[:, 0].numpy(), found.covariance[:, 0].numpy()
    # 4.5 standard errors, of which 300 come to one miss in 500; the mean off by a few percent.
    off = np.abs(learned.mean(0) - mean)
    assert (off < 4.5 * np.sqrt(variance / count) + 0.03 * np.abs(mean) + 1e-12).all()
    spread = learned.var(0, ddof=1)
    # A variance of 300 draws is known to √(2 / 300) = 8 %, the sum over many modes to less; the modes
    # that the target is in vary more than others, by terms that fall with n.
    quiet = v == 0
    assert spread[quiet].sum() == pytest.approx(variance[quiet].sum(), rel=0.1)
    assert np.median(spread[quiet] / variance[quiet]) == pytest.approx(1, rel=0.05)
    few = np.flatnonzero(quiet)[:40]
    correlation = np.corrcoef(learned[:, few].T) - np.eye(40)
    # Of independent coefficients the mean |correlation| is √(2 / 300π).
    assert np.abs(correlation).mean() == pytest.approx(math.sqrt(2 / (math.pi * count)), rel=0.2)


def test_different_points_of_a_domain_without_end_are_independent() -> None:
    one = known(ridge=0.1, noise=0.2)
    other = known(ridge=0.1, noise=0.2, points=10**9, without_replacement=True)
    for name in ("kappa", "test_error", "train_error", "overfitting_coefficient", "share_of_ridge"):
        assert getattr(other, name) == pytest.approx(getattr(one, name), rel=1e-7)


@given(st.floats(0.05, 0.999), st.sampled_from([0.0, 1e-3, 1.0]))
@settings(max_examples=30, deadline=None)
def test_of_all_points_but_next_to_none_the_ridge_is_that_of_the_whole_domain(part, ridge) -> None:
    """At n = M f̂ = K (K + ridge)⁻¹ f, K = M λ: learnability comes to that from below."""
    whole = {"points": 12, "without_replacement": True, "ridge": ridge}
    found = known(n=12 * part, **whole)
    limit = found.eigenvalues / (found.eigenvalues + ridge / 12)
    assert bool((found.learnability <= limit * (1 + 1e-12)).all())
    assert found.total_learnability == pytest.approx(found.n * (1 - found.share_of_ridge), rel=1e-10)
    near = known(n=12 - 1e-7, **whole)
    assert float((near.learnability - limit).abs().max()) < 1e-5
    assert float(near.covariance.max()) < 1e-5
    if part > 0.5:
        step = 1e-6 * max(ridge, 1e-3)
        if ridge:
            ends = [found.at(ridge=ridge + sign * step).kappa for sign in (-1, 1)]
            assert (ends[1] - ends[0]) / (2 * step) == pytest.approx(found.kappa_slope, rel=1e-5)


# Laws


@st.composite
def spectra(draw):
    r = draw(st.integers(2, 30))
    chance = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = 10.0 ** chance.uniform(-draw(st.sampled_from([0, 2, 12])), 0, r)
    n = draw(st.sampled_from([0.01, 0.3, 0.9])) * r
    ridge = draw(st.sampled_from([0.0, 1e-6, 1.0]))
    return from_modes(values, chance.standard_normal((r, 2)), n=n, ridge=ridge)


@given(spectra())
@settings(max_examples=60, deadline=None)
def test_what_is_learned_is_conserved(found) -> None:
    """Up to the rounding of n and of a sum of r terms, and of kappa."""
    assert found.total_learnability == pytest.approx(found.n - found.ridge / found.kappa, rel=1e-11)
    assert float(found.learnability.min()) >= 0
    assert float(found.learnability.max()) <= 1
    torch.testing.assert_close(
        found.learnability + found.unlearned_shares, torch.ones_like(found.unlearned_shares)
    )


@given(spectra())
@settings(max_examples=40, deadline=None)
def test_more_examples_teach_every_mode_more_and_a_ridge_less(found) -> None:
    more = found.at(n=found.n * 1.05)
    assert bool((more.learnability >= found.learnability).all())
    ridged = found.at(ridge=found.ridge + 0.1)
    assert bool((ridged.learnability <= found.learnability).all())
    assert found.overfitting_coefficient >= 1


@given(spectra(), st.integers(0, 1))
@settings(max_examples=40, deadline=None)
def test_derivatives_are_those_of_finite_differences(found, mode) -> None:
    step = 1e-6
    ends = []
    for sign in (-1, 1):
        values = found.eigenvalues.clone()
        values[mode] *= 1 + sign * step
        ends.append(from_modes(values, found.coefficients, n=found.n, ridge=found.ridge).learnability)
    value = float(found.eigenvalues[mode])
    numeric = (ends[1] - ends[0]) / (2 * step)  # λ dL / dλ
    got = value * found.derivatives(mode)
    # Second differences: step² times a third derivative of order 1; rounding: 1e-14 / step.
    assert float((got - numeric).abs().max()) < 1e-7
    assert got[mode] >= 0
    others = torch.cat([got[:mode], got[mode + 1 :]])
    assert bool((others <= 0).all())


@given(spectra())
@settings(max_examples=30, deadline=None)
def test_the_overfitting_coefficient_is_how_kappa_moves(found) -> None:
    """E0 = n dκ/dδ = −d log κ / d log n."""
    kappa, step = found.kappa, 1e-6
    if found.ridge > 0 and found.ridge > 1e-3 * kappa:
        ends = [found.at(ridge=found.ridge * (1 + sign * step)).kappa for sign in (-1, 1)]
        by_ridge = found.n * (ends[1] - ends[0]) / (2 * step * found.ridge)
        assert by_ridge == pytest.approx(found.overfitting_coefficient, rel=1e-5)
    ends = [found.at(n=found.n * math.exp(sign * step)).kappa for sign in (-1, 1)]
    by_examples = -math.log(ends[1] / ends[0]) / (2 * step)
    assert by_examples == pytest.approx(found.overfitting_coefficient, rel=1e-5)


def test_without_examples_nothing_is_learned() -> None:
    found = known(n=0, noise=0.1)
    assert float(found.learnability.max()) == 0
    assert found.noiseless_error == pytest.approx(float(found.coefficients.square().sum()))
    assert found.test_error == pytest.approx(found.noiseless_error + 0.2)
    assert float(found.covariance.max()) == 0
    assert found.overfitting_coefficient == 1
    assert found.train_error == 0
    assert float(found.derivatives(0).abs().max()) == 0
    assert known(n=0, ridge=1e9).train_error == pytest.approx(found.noiseless_error, rel=1e-6)
    near, at = known(n=1e-7, ridge=0.4), known(n=0, ridge=0.4)
    for name in ("test_error", "train_error", "overfitting_coefficient"):
        # d log / dn is of order 1 on this spectrum.
        assert getattr(near, name) == pytest.approx(getattr(at, name), rel=1e-6)


def test_from_all_points_everything_is_learned() -> None:
    found = known(n=12 - 1e-9)
    assert float(found.unlearned_shares.max()) < 1e-8
    assert found.target_learnability == pytest.approx(1, abs=1e-8)
    assert found.test_error < 1e-7


def test_few_examples_make_weak_modes_worse_than_chance() -> None:
    """dE/dn at 0 is S2 / (S1 + δ)² − 2 λ / (S1 + δ) for a target in one mode."""
    values, ridge = np.geomspace(1, 1e-3, 8), 0.2
    one, two = values.sum() + ridge, (values**2).sum()
    for mode in (0, 3, 7):
        v = np.eye(8)[mode]
        errors = [from_modes(values, v, n=n, ridge=ridge).test_error for n in (0, 1e-6)]
        slope = two / one**2 - 2 * values[mode] / one
        assert (errors[1] - errors[0]) / 1e-6 == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("factor", [1e-6, 7.0, 1e9])
def test_scaling_kernel_and_ridge_together_changes_nothing(factor) -> None:
    one = learnability(GRAM, FUNCTIONS[2], n=20, ridge=0.3, noise=0.1)
    other = learnability(factor * GRAM, FUNCTIONS[2], n=20, ridge=factor * 0.3, noise=0.1)
    assert other.kappa == pytest.approx(factor * one.kappa, rel=1e-11)
    for name in ("test_error", "train_error", "off_training_error", "target_learnability"):
        assert getattr(other, name) == pytest.approx(getattr(one, name), rel=1e-9)


def test_errors_go_with_the_square_of_the_target() -> None:
    one, other = known(noise=0.01), known(noise=0.09)
    scaled = from_modes(other.eigenvalues, 3 * one.coefficients, n=5, noise=0.09)
    for name in ("test_error", "train_error", "noiseless_error"):
        assert getattr(scaled, name) == pytest.approx(9 * getattr(one, name), rel=1e-12)
    assert scaled.target_learnability == pytest.approx(one.target_learnability, rel=1e-12)


def test_rotations_of_outputs_and_orders_of_points_change_nothing() -> None:
    draw = np.random.default_rng(0)
    f = draw.standard_normal((256, 3))
    turn = np.linalg.qr(draw.standard_normal((3, 3)))[0]
    order = draw.permutation(256)
    one = learnability(GRAM, f, n=40, ridge=0.1)
    turned = learnability(GRAM, f @ turn, n=40, ridge=0.1)
    moved = learnability(GRAM[np.ix_(order, order)], f[order], n=40, ridge=0.1)
    for name in ("test_error", "train_error", "target_learnability", "kappa"):
        assert getattr(turned, name) == pytest.approx(getattr(one, name), rel=1e-10)
        assert getattr(moved, name) == pytest.approx(getattr(one, name), rel=1e-10)


def test_outputs_add_up() -> None:
    both = known(noise=0.2, ridge=0.1)
    each = [from_modes(both.eigenvalues, both.coefficients[:, o], n=5, ridge=0.1, noise=0.2) for o in (0, 1)]
    for name in ("test_error", "noiseless_error", "train_error"):
        assert getattr(both, name) == pytest.approx(sum(getattr(one, name) for one in each))
    assert both.alone(1).record == each[1].record
    assert_same(both.output_errors, [one.test_error for one in each], 1e-12)
    assert_same(both.covariance, torch.cat([one.covariance for one in each], dim=1), 1e-12)


def test_one_eigenvalue_of_many_modes_is_those_modes() -> None:
    values, counts = np.array([0.1, 1.0, 0.01]), np.array([3.0, 2.0, 4.0])
    v = np.array([0.5, 0.2, 1.0])
    one = from_modes(values, v, n=4, ridge=0.1, multiplicities=counts, noise=0.1)
    every = np.repeat(values, counts.astype(int))
    spread = np.concatenate([np.full(int(m), c / math.sqrt(m)) for c, m in zip(v, counts, strict=True)])
    other = from_modes(every, spread, n=4, ridge=0.1, noise=0.1)
    for name in ("kappa", "test_error", "train_error", "overfitting_coefficient", "total_learnability"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-12)
    got = one.derivatives(1)
    assert_same(got, other.derivatives(3)[[0, 3, 5]], 1e-12)
    assert one.record["modes"] == 9


def test_the_door_of_matrices_is_that_of_modes() -> None:
    draw = np.random.default_rng(1)
    vectors = np.linalg.qr(draw.standard_normal((12, 12)))[0]
    one = known(ridge=0.05)
    gram = vectors * (12 * one.eigenvalues.numpy()) @ vectors.T
    f = vectors @ one.coefficients.numpy() * math.sqrt(12)
    found = learnability((gram + gram.T) / 2, f, n=5, ridge=0.05)
    for name in ("kappa", "test_error", "train_error", "overfitting_coefficient"):
        # Rounding of a matrix of norm 12 in its eigenvalue 12e-4: 1e-12.
        assert getattr(found, name) == pytest.approx(getattr(one, name), rel=1e-9)
    assert_same(found.eigenvalues, one.eigenvalues, 1e-13)
    assert found.points == 12
    assert one.off_training_error is None
    assert learnability(np.eye(3), np.ones(3), n=3, ridge=1).off_training_error is None


def test_rounding_is_no_mode() -> None:
    features = np.random.default_rng(0).standard_normal((40, 6))
    gram = features @ features.T
    found = learnability(gram, features[:, 0], n=5)
    assert int((found.eigenvalues > 0).sum()) == 6
    with pytest.raises(OptionError, match=r"`n` must be below the number of modes.*, 6, where"):
        found.at(n=6)
    single = learnability(torch.from_numpy(gram).float(), features[:, 0], n=5)
    assert int((single.eigenvalues > 0).sum()) == 6
    # To eps of float32 times the spread of six eigenvalues, and of E0.
    assert single.test_error == pytest.approx(found.test_error, rel=1e-4, abs=1e-10)


def test_a_part_of_the_target_that_the_kernel_has_no_mode_for_is_never_learned() -> None:
    found = from_modes([1.0, 0.5, 0.0], [0.0, 0.0, 2.0], n=1.5)
    assert found.target_learnability == 0
    assert found.test_error == pytest.approx(4 * found.overfitting_coefficient)


def test_tensors_and_arrays_are_taken_and_left_alone(frozen) -> None:
    gram, f = torch.from_numpy(GRAM), torch.from_numpy(FUNCTIONS[1])
    frozen(gram, f)
    one = learnability(gram, f, n=10)
    read_only = GRAM.copy()
    read_only.flags.writeable = False
    assert learnability(read_only, FUNCTIONS[1], n=10).record == one.record
    assert one.at().record == one.record
    assert falls([one.at(n=n).test_error for n in (10, 20, 40, 80)])
    assert math.isnan(learnability(gram, 0 * f, n=3).target_learnability)


def test_the_record_holds_plain_numbers() -> None:
    record = known(ridge=0.1, noise=0.1).record
    assert record["n"] == 5
    assert all(one is None or isinstance(one, int | float) for one in record.values())


def test_one_data_set_of_the_simulation_is_refitted_with_its_ridge() -> None:
    """The oracle itself: K (K + δ)⁻¹ y at the examples."""
    rows = np.arange(9)
    fitted = predict(GRAM, rows, FUNCTIONS[1][rows], 0.5)[rows]
    inside = GRAM[:9, :9]
    assert_same(fitted, inside @ np.linalg.inv(inside + 0.5 * np.eye(9)) @ FUNCTIONS[1][:9], 1e-10)


# Messages


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"gram": np.ones((3, 4))}, ShapeError, r"`gram` must be square, .*domain.*\(3, 4\)"),
        ({"gram": np.zeros((0, 0))}, ShapeError, r"`gram` must be square"),
        ({"gram": np.triu(np.ones((3, 3)))}, DataError, r"`gram` must be symmetric; entry \(0, 1\)"),
        ({"gram": np.full((3, 3), np.nan)}, DataError, r"`gram` must be finite; row 0"),
        ({"gram": -np.eye(3)}, NotPositiveError, r"`gram` must be positive semi-definite"),
        ({"gram": np.array([["a"]])}, DataError, r"`gram` must hold real numbers; got dtype <U1"),
        ({"gram": torch.eye(3, dtype=torch.complex64)}, DataError, r"`gram` must hold real.*complex64"),
        ({"targets": np.ones(4)}, ShapeError, r"`targets` must have 3 rows, the side of `gram`; got \(4,\)"),
        ({"targets": np.ones((3, 1, 1))}, ShapeError, r"`targets` must have shape \(M,\) or \(M, k\)"),
        ({"targets": np.array([1, 2, np.inf])}, DataError, r"`targets` must be finite; row 2"),
        ({"n": -1}, OptionError, r"`n` must be a finite number ≥ 0; got -1"),
        ({"n": 3}, OptionError, r"`n` must be below the number of modes"),
        (
            {"n": 3, "ridge": 0.1, "without_replacement": True},
            OptionError,
            r"`n` must be below the 3 points of the domain.*got 3.*use `transfer`",
        ),
        ({"ridge": -1.0}, OptionError, r"`ridge` must be a finite number ≥ 0"),
        ({"noise": -1.0}, OptionError, r"`noise` must be a finite number ≥ 0"),
    ],
)
def test_what_has_no_learnability_is_refused(options, error, match) -> None:
    asked = {"gram": np.eye(3), "targets": np.ones(3), "n": 1, **options}
    with pytest.raises(error, match=match):
        learnability(asked.pop("gram"), asked.pop("targets"), **asked)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"coefficients": [1.0]}, ShapeError, r"`coefficients` must have 2 rows, the side of `eigenvalues`"),
        ({"coefficients": np.ones((2, 1, 1))}, ShapeError, r"`coefficients` must have shape \(r,\) or"),
        ({"eigenvalues": [1.0, -1.0]}, DataError, r"`eigenvalues` must be ≥ 0; row 1"),
        ({"multiplicities": [1.0]}, ShapeError, r"`multiplicities` must have one number for each of 2"),
        ({"points": 0}, OptionError, r"`points` must be a whole number ≥ 1"),
        ({"points": 1}, OptionError, r"`points` must be at least the number of modes, 2.*got 1"),
        ({"without_replacement": True}, OptionError, r"`without_replacement` asks for `points`"),
        ({"coefficients": [1.0, np.nan]}, DataError, r"`coefficients` must be finite; row 1"),
    ],
)
def test_modes_that_are_none_are_refused(options, error, match) -> None:
    asked = {"eigenvalues": [1.0, 0.5], "coefficients": [1.0, 2.0], "n": 1, **options}
    with pytest.raises(error, match=match):
        from_modes(asked.pop("eigenvalues"), asked.pop("coefficients"), **asked)


def test_other_questions_of_a_record_are_checked_too() -> None:
    found = known()
    with pytest.raises(OptionError, match=r"`noise` must be a finite number ≥ 0; got -1"):
        found.at(noise=-1)
    with pytest.raises(OptionError, match=r"`output` must be a row number from 0 to 1; got 2"):
        found.alone(2)
    with pytest.raises(OptionError, match=r"`mode` must be a row number from 0 to 11; got 12"):
        found.derivatives(12)


@pytest.mark.parametrize("size", [1e-300, 1e200])
def test_the_share_learned_does_not_depend_on_the_size_of_the_target(size) -> None:
    values, target = np.array([3.0, 1.0, 0.1]), np.array([0.5, -1.0, 2.0])
    plain = from_modes(values, target, n=1.5).target_learnability
    assert from_modes(values, size * target, n=1.5).target_learnability == pytest.approx(plain, rel=1e-14)


@pytest.mark.usefixtures("as_users_run_it")
def test_without_replacement_is_yes_or_no() -> None:
    with pytest.raises(OptionError, match="`without_replacement` must be one of True, False; got 'no'"):
        from_modes([1.0], [1.0], n=0.5, points=50, without_replacement="no")
