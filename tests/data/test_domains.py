"""Are the eigenfunctions orthonormal, complete, and as many as they should be?"""

import math

import numpy as np
import pytest
import torch

from laws import assert_same
from leftout.core.errors import OptionError, ShapeError
from leftout.data.domains import Circle, Hypercube, Sphere, gegenbauer
from oracles.learnability import parities
from problems.networks import seeded


@pytest.mark.parametrize("domain", [Circle(8), Circle(9), Circle(2), Hypercube(5), Hypercube(1)], ids=repr)
def test_eigenfunctions_are_a_complete_orthonormal_basis(domain) -> None:
    degrees = range(len(domain.multiplicities))
    parts = [domain.eigenfunctions(degree) for degree in degrees]
    assert [part.shape[1] for part in parts] == domain.multiplicities.tolist()
    whole = torch.cat(parts, dim=1)
    assert whole.shape == (domain.count, domain.count)
    assert_same(whole.T @ whole / domain.count, np.eye(domain.count), 1e-14)


def test_points_of_the_circle_are_at_equal_distances() -> None:
    points = Circle(7, radius=3.0).points
    assert_same(points.norm(dim=1), np.full(7, 3.0), 1e-15)
    apart = (points - points.roll(1, 0)).norm(dim=1)
    assert_same(apart, np.full(7, 6 * math.sin(math.pi / 7)), 1e-14)


def test_functions_of_the_circle_are_fourier_modes() -> None:
    circle = Circle(256)
    angle = 2 * np.pi * np.arange(256) / 256
    for degree in (1, 5, 127):
        got = circle.eigenfunctions(degree)
        # The oracle's argument of 800 is rounded to 1e-13.
        want = np.sqrt(2) * np.stack([np.cos(degree * angle), np.sin(degree * angle)], axis=1)
        np.testing.assert_allclose(got, want, atol=2e-13)


def test_functions_of_the_cube_are_products_of_its_coordinates() -> None:
    cube = Hypercube(4)
    assert len({tuple(row) for row in cube.points.tolist()}) == 16
    assert cube.points.abs().min() == 1
    for degree in range(5):
        mine = {tuple(column) for column in cube.eigenfunctions(degree).T.tolist()}
        theirs = {tuple(column) for column in parities(4, degree).T.tolist()}
        assert mine == theirs


@pytest.mark.parametrize("d", [2, 3, 5, 8])
def test_harmonics_of_the_sphere_are_orthonormal_in_the_mean(d) -> None:
    """Of 200 000 draws, five standard errors of products whose variance is below their fourth moments."""
    sphere = Sphere(d, radius=2.0)
    points = sphere.sample(200_000, generator=seeded())
    assert_same(points.norm(dim=1), np.full(200_000, 2.0), 1e-14)
    values = torch.stack([sphere.eigenfunction(k, points) for k in range(5)])
    for i in range(5):
        for j in range(i + 1):
            products = values[i] * values[j]
            error = float(products.std()) / math.sqrt(len(points)) + 1e-12
            assert abs(float(products.mean()) - (i == j)) < 5 * error


@pytest.mark.parametrize(
    ("d", "counts"), [(2, [1, 2, 2, 2]), (3, [1, 3, 5, 7]), (4, [1, 4, 9, 16]), (8, [1, 8, 35, 112])]
)
def test_multiplicities_of_the_sphere_are_those_of_homogeneous_polynomials(d, counts) -> None:
    """Harmonics of degree k: polynomials of degree k less |x|² times those of degree k − 2."""

    def polynomials(k):
        return math.comb(k + d - 1, d - 1) if k >= 0 else 0

    sphere = Sphere(d)
    assert [sphere.multiplicity(k) for k in range(4)] == counts
    assert sphere.multiplicity(11) == polynomials(11) - polynomials(9)


def test_gegenbauer_polynomials_are_cosines_and_legendre_in_low_dimensions() -> None:
    cosines = torch.linspace(-1, 1, 11, dtype=torch.float64)
    plane = gegenbauer(6, cosines, inputs=2)
    assert_same(plane[6], (6 * cosines.arccos()).cos(), 1e-13)
    assert_same(gegenbauer(3, cosines, inputs=3)[3], (5 * cosines**3 - 3 * cosines) / 2, 1e-14)
    assert len(gegenbauer(0, cosines, inputs=3)) == 1
    assert_same(gegenbauer(9, cosines, inputs=8)[:, -1], np.ones(10), 1e-14)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: Circle(1), OptionError, r"`count` must be a finite number ≥ 2; got 1"),
        (lambda: Circle(2.5), OptionError, r"`count` must be a whole number ≥ 1; got 2.5"),
        (lambda: Circle(4, radius=0), OptionError, r"`radius` must be a finite number > 0"),
        (lambda: Hypercube(0), OptionError, r"`inputs` must be a whole number ≥ 1; got 0"),
        (lambda: Hypercube(30).points, OptionError, r"`inputs` must be at most 20.*got 30"),
        (lambda: Sphere(1), OptionError, r"`inputs` must be a finite number ≥ 2; got 1"),
        (lambda: Sphere(3, radius=-1.0), OptionError, r"`radius`"),
        (lambda: Sphere(3).sample(0, generator=seeded()), OptionError, r"`count`"),
        (lambda: Sphere(3).multiplicity(-1), OptionError, r"`degree` must be a finite number ≥ 0"),
        (lambda: Circle(4).eigenfunctions(3), OptionError, r"`degree` must be a row number.*got 3"),
        (lambda: Hypercube(2).eigenfunctions(3), OptionError, r"`degree` must be a row number from 0 to 2"),
        (lambda: Sphere(3).eigenfunction(1, torch.ones(2, 4)), ShapeError, r"`points` must have shape"),
    ],
)
def test_what_is_no_domain_is_refused(make, error, match) -> None:
    with pytest.raises(error, match=match):
        make()
