"""Are the eigenvalues on circle, hypercube and sphere those of the Gram matrix, or of averages?"""

import math

import numpy as np
import pytest
import torch

import leftout as lo
from laws import assert_same
from leftout.core.errors import OptionError
from leftout.data.domains import Circle, Hypercube, Sphere
from leftout.diagnostics.eigenlearning.domain_spectra import domain_spectrum
from leftout.kernels.callable import From
from leftout.kernels.network.empirical import Empirical
from problems.networks import seeded

KERNEL = lo.kernels.ReLU(3, 2.0, 0.1)


@pytest.mark.parametrize("domain", [Circle(32), Circle(33), Circle(16, radius=3.0), Hypercube(6)], ids=repr)
def test_eigenvalues_are_those_of_the_matrix_between_all_points(domain) -> None:
    found = domain_spectrum(KERNEL, domain)
    gram = KERNEL.block(domain.points, domain.points) / domain.count
    for degree, value in enumerate(found.eigenvalues):
        functions = domain.eigenfunctions(degree)
        # In units of the largest eigenvalue.
        assert float((gram @ functions - value * functions).abs().max()) < 1e-14 * float(gram.sum())
    every = torch.repeat_interleave(found.eigenvalues, found.multiplicities.long())
    assert_same(every.sort().values, torch.linalg.eigvalsh(gram), 1e-14)
    assert found.tail < 1e-13 * found.trace
    assert found.modes()[0] is found.eigenvalues
    assert found.points == domain.count


def test_a_cube_too_large_to_write_down_has_its_spectrum() -> None:
    """(1 + a x·z / d)² has degree 0, 1 and 2 by hand; d = 200."""
    d, a = 200, 0.7
    kernel = From(lambda x, z: (1 + a * x @ z.T / d) ** 2, "square")
    found = domain_spectrum(kernel, Hypercube(d))
    want = [1 + a * a / d, 2 * a / d, 2 * a * a / d / d]
    np.testing.assert_allclose(found.eigenvalues[:3], want, rtol=1e-11)
    assert float(found.eigenvalues[3:].abs().max()) == 0


@pytest.mark.parametrize("d", [2, 3, 8])
def test_the_sphere_of_a_polynomial_kernel_by_hand(d) -> None:
    """E over the sphere: z² = 1/d, z⁴ = 3 / d(d + 2); degree 2 takes z² − 1/d."""
    a = 0.7
    kernel = From(lambda x, z: (1 + a * x @ z.T) ** 2, "square")
    found = domain_spectrum(kernel, Sphere(d), degrees=5)
    want = [1 + a * a / d, 2 * a / d, 2 * a * a / d / (d + 2), 0, 0]
    # Gauss quadrature is exact for polynomials; SciPy's Legendre weights are good to 1e-12.
    np.testing.assert_allclose(found.eigenvalues, want, rtol=1e-12, atol=1e-12)
    assert float(found.multiplicities @ found.eigenvalues) == pytest.approx((1 + a) ** 2, rel=1e-12)


def test_the_sphere_of_a_network_is_that_of_averages() -> None:
    """λ = E k(x, z) φ(x) φ(z) over 2000 points; five standard errors by batches."""
    sphere = Sphere(8)
    found = domain_spectrum(KERNEL, sphere)
    draws = []
    for seed in range(12):
        left, right = (sphere.sample(400, generator=seeded(2 * seed + i)) for i in (0, 1))
        gram = KERNEL.block(left, right)
        draws.append(
            [
                float(sphere.eigenfunction(k, left) @ gram @ sphere.eigenfunction(k, right)) / 400**2
                for k in range(4)
            ]
        )
    error = np.std(draws, axis=0, ddof=1) / math.sqrt(12)
    assert (np.abs(np.mean(draws, axis=0) - found.eigenvalues[:4].numpy()) < 5 * error).all()


def test_of_two_dimensions_the_sphere_is_the_circle_of_many_points() -> None:
    """λ of 4096 points are those of the circle and of degrees 4096 − k, …: of order 4096⁻²."""
    ring, sphere = domain_spectrum(KERNEL, Circle(4096)), domain_spectrum(KERNEL, Sphere(2))
    np.testing.assert_allclose(sphere.eigenvalues[:12], ring.eigenvalues[:12], atol=1e-6)


def test_the_tail_counts_as_many_weak_modes() -> None:
    few, many = (domain_spectrum(KERNEL, Sphere(4), degrees=k) for k in (12, 60))
    for spectrum in (few, many):
        values, counts = spectrum.modes()
        assert float(values @ counts) == pytest.approx(spectrum.trace, rel=1e-12)
    assert few.tail > many.tail > 0
    assert few.tail == pytest.approx(
        float(many.eigenvalues[12:] @ many.multiplicities[12:]) + many.tail, rel=1e-9
    )


def test_doubling_a_kernel_doubles_its_eigenvalues() -> None:
    double = From(lambda x, z: 2 * KERNEL.block(x, z), "double")
    for domain in (Circle(12), Hypercube(4), Sphere(5)):
        one, two = domain_spectrum(KERNEL, domain), domain_spectrum(double, domain)
        assert_same(two.eigenvalues, 2 * one.eigenvalues, 1e-15)
        assert two.trace == 2 * one.trace


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("domain", [Circle(12), Hypercube(4), Sphere(3)], ids=repr)
def test_a_kernel_that_sees_more_than_the_angle_is_refused(domain) -> None:
    one_sided = From(lambda x, z: 1 + x[:, :1] @ z[:, :1].T, "first")
    cubic = From(lambda x, z: x @ z.T + torch.outer(x[:, 0] + x[:, 1] ** 3, z[:, 0] + z[:, 1] ** 3), "odd")
    for kernel in (one_sided, cubic):
        if kernel is one_sided and isinstance(domain, Hypercube):
            continue  # on corners seen from (1, …, 1) it does look alike along this one path
        with pytest.raises(OptionError, match=r"`kernel` must depend on the angle.*Gram matrix"):
            domain_spectrum(kernel, domain)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("kernel", "domain", "options", "match"),
    [
        ("relu", Circle(4), {}, r"`kernel` must be a kernel, from `leftout.kernels`; got 'relu'"),
        (KERNEL, 3, {}, r"`domain` must be a Circle, Hypercube or Sphere; got 3"),
        (KERNEL, Sphere(3), {"degrees": 0}, r"`degrees` must be a whole number ≥ 1"),
        (
            Empirical(torch.nn.Linear(2, 2).double(), outputs="full"),
            Circle(4),
            {},
            r"`kernel` must have one value for all outputs; this one tells 2 apart",
        ),
    ],
)
def test_what_has_no_such_spectrum_is_refused(kernel, domain, options, match) -> None:
    with pytest.raises(OptionError, match=match):
        domain_spectrum(kernel, domain, **options)
