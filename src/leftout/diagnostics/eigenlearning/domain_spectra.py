"""Eigenvalues of a kernel of the angle on circle, hypercube and sphere, from its values at one point.

With x any point and m_k eigenfunctions of degree k (`leftout.data.domains`),

    circle      λ_k = (1/M) Σ_j k(x, x_j) cos(2π jk / M)                          a discrete Fourier transform
    hypercube   λ_k = 2^−d Σ_h k(x, x_h) (d over h) κ_k(h) / (d over k)           Krawtchouk polynomials κ_k
    sphere      λ_k = ∫ k(x, z) Ĉ_k(x·z) dz                                       Gegenbauer polynomials Ĉ_k

x_h a corner that differs from x in h signs; the integral is the mean over the sphere, by Gauss quadrature in
the cosine, of weight (1 − z²)^((d − 3)/2). The Gram matrix of all points is never computed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float64
from scipy.special import roots_jacobi
from torch import Tensor

from leftout.core.checks import check_count, check_kind
from leftout.core.errors import OptionError
from leftout.data.domains import Circle, Hypercube, Sphere, gegenbauer
from leftout.kernels.base import Kernel

NODES = 1000
"""Quadrature nodes, as in the paper's programs; kernels of ReLU networks have a square root at cosine 1."""

INVARIANT = 1e-8
"""Relative difference of two values at the same angle up to which it counts as rounding."""

EPS = torch.finfo(torch.float64).eps


@final
@dataclass(frozen=True, eq=False)
class DomainSpectrum:
    """The eigenvalues of a kernel of the angle, by degree. Made by `domain_spectrum`.

    Attributes:
        eigenvalues: λ_k, degree 0 first.
        multiplicities: m_k.
        trace: k(x, x), the sum over all modes.
        points: M, of a finite domain.
    """

    eigenvalues: Float64[Tensor, " degrees"]
    multiplicities: Float64[Tensor, " degrees"]
    trace: float
    points: int | None = None

    @property
    def tail(self) -> float:
        """Return the sum of the eigenvalues of all higher degrees."""
        return max(0.0, self.trace - float(self.multiplicities @ self.eigenvalues))

    def modes(self) -> tuple[Float64[Tensor, " r"], Float64[Tensor, " r"]]:
        """Return eigenvalues and multiplicities; the tail is represented by modes of the smallest eigenvalue.

        Modes far below κ act by the sum of their eigenvalues alone, as a ridge would.
        """
        there = self.eigenvalues[self.eigenvalues > 0]
        if self.points is not None or self.tail <= 8 * EPS * self.trace or not len(there):
            return self.eigenvalues, self.multiplicities
        small = there.min()
        return (
            torch.cat([self.eigenvalues, small[None]]),
            torch.cat([self.multiplicities, self.tail / small[None]]),
        )


def domain_spectrum(
    kernel: Kernel, domain: Circle | Hypercube | Sphere, *, degrees: int = 40
) -> DomainSpectrum:
    """Return the eigenvalues of a kernel of the angle on a domain, exactly or by quadrature.

    Args:
        kernel: one value for all outputs, depending on the angle of its inputs alone.
        degrees: number of degrees for the sphere; the other domains have a fixed number.

    Raises:
        OptionError: another domain; a kernel with different values for two pairs at one angle, or with one
            value for each pair of outputs.

    Accuracy:
        absolute, 8 eps k(x, x) on circle and hypercube; eigenvalues below that are set to 0, and are part of
        the tail. On the sphere 1e-12 k(x, x) for d = 3 and less for others: for a ReLU network of 4
        layers and d = 8, whose kernel has a root at equal inputs, 3e-8 of λ_39 = 3e-11.

    Example:
        >>> import leftout as lo
        >>> spectrum = domain_spectrum(lo.kernels.ReLU(1), Circle(6))
        >>> spectrum.eigenvalues
        tensor([0.6282, 0.5000, 0.1859, 0.0000], dtype=torch.float64)
        >>> spectrum.multiplicities.tolist()
        [1.0, 2.0, 2.0, 1.0]
    """
    check_kind("kernel", kernel, Kernel, what="a kernel, from `leftout.kernels`")
    check_kind("domain", domain, (Circle, Hypercube, Sphere), what="a Circle, Hypercube or Sphere")
    check_count("degrees", degrees)
    if isinstance(domain, Circle):
        return _on_circle(kernel, domain)
    if isinstance(domain, Hypercube):
        return _on_cube(kernel, domain)
    return _on_sphere(kernel, domain, degrees)


def _on_circle(kernel: Kernel, circle: Circle) -> DomainSpectrum:
    points = circle.points
    row = _profile(kernel, points, lambda rows: rows.roll(1, 0))
    return _spectrum(
        torch.fft.rfft(row).real / circle.count, circle.multiplicities, float(row[0]), circle.count
    )


def _on_cube(kernel: Kernel, cube: Hypercube) -> DomainSpectrum:
    d = cube.inputs
    corners = torch.ones(d + 1, d, dtype=torch.float64, device="cpu")
    corners[
        torch.arange(d, device="cpu") < torch.arange(d + 1, device="cpu")[:, None]
    ] = -1  # corner h has h signs turned
    signs = torch.where(torch.arange(d, device="cpu") % 3 == 0, -1.0, 1.0).double()
    profile = _profile(kernel, corners, lambda rows: (rows * signs).flip(1))
    # Whole numbers until the last division: the alternating sum loses nothing.
    weights = [
        [math.comb(d, h) * polynomial / (math.comb(d, k) * 2**d) for h, polynomial in enumerate(row)]
        for k, row in enumerate(_krawtchouk(d))
    ]
    values = torch.tensor(weights, dtype=torch.float64, device="cpu") @ profile
    return _spectrum(values, cube.multiplicities, float(profile[0]), cube.count)


def _on_sphere(kernel: Kernel, sphere: Sphere, degrees: int) -> DomainSpectrum:
    d = sphere.inputs
    nodes, weights = (torch.from_numpy(array) for array in roots_jacobi(NODES, (d - 3) / 2, (d - 3) / 2))
    nodes = torch.cat([nodes.new_ones(1), nodes])
    points = torch.zeros(len(nodes), d, dtype=torch.float64, device="cpu")
    points[:, 0], points[:, 1] = nodes, ((1 - nodes) * (1 + nodes)).clamp_min(0).sqrt()
    turn = torch.linalg.qr(_fixed_normal(d)).Q
    row = _profile(kernel, sphere.radius * points, lambda rows: rows @ turn)
    polynomials = gegenbauer(degrees - 1, nodes[1:], inputs=d)
    values = polynomials @ (row[1:] * weights / weights.sum())
    counts = [float(sphere.multiplicity(degree)) for degree in range(degrees)]
    return _spectrum(values, torch.tensor(counts, dtype=torch.float64, device="cpu"), float(row[0]), None)


def _profile(
    kernel: Kernel, points: Float64[Tensor, "q d"], turn: Callable[[Tensor], Tensor]
) -> Float64[Tensor, " q"]:
    """Return k(x, ·), x the first point; raise unless rotated points give the same values."""
    kernel.check("points", points)
    if kernel.outputs is not None:
        raise OptionError(
            f"`kernel` must have one value for all outputs; this one tells {kernel.outputs} apart."
        )
    row, turned_row = (kernel.block(rows[:1], rows)[0] for rows in (points, turn(points).contiguous()))
    difference = (row - turned_row).abs()
    if float(difference.max()) > INVARIANT * float(row.abs().max()):
        worst = int(difference.argmax())
        raise OptionError(
            "`kernel` must depend on the angle of its inputs alone; two pairs at one angle have "
            f"{float(row[worst]):.6g} and {float(turned_row[worst]):.6g}. Take the eigenvalues of its Gram "
            "matrix on the points."
        )
    return row


def _spectrum(values: Tensor, multiplicities: Tensor, trace: float, points: int | None) -> DomainSpectrum:
    eigenvalues = torch.where(values > 8 * EPS * abs(trace), values, 0)
    return DomainSpectrum(eigenvalues, multiplicities, trace, points)


def _krawtchouk(d: int) -> list[list[int]]:
    """Return κ_k(h) for all k and h, by (k + 1) κ_{k+1} = (d − 2h) κ_k − (d − k + 1) κ_{k−1}."""
    rows = [[0] * (d + 1), [1] * (d + 1)]
    for k in range(d):
        rows.append(
            [
                ((d - 2 * h) * current - (d - k + 1) * previous) // (k + 1)
                for h, (previous, current) in enumerate(zip(rows[-2], rows[-1], strict=True))
            ]
        )
    return rows[1:]


def _fixed_normal(d: int) -> Float64[Tensor, "d d"]:
    return torch.randn(d, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64, device="cpu")
