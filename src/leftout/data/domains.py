"""Symmetric domains with known eigenfunctions: circle, hypercube and sphere.

Every kernel that depends only on the angle between two inputs has these eigenfunctions there. Those of one
degree k share an eigenvalue:

    circle      M points at equal distances    1; √2 cos kθ, √2 sin kθ; cos Mθ/2     1, 2, …, 2, 1
    hypercube   {−1, 1}^d                      products of k coordinates             (d over k)
    sphere      S^(d−1), any point of it       harmonics, one of them √m Ĉ_k(x·e)    m = `multiplicity`

with mean squares of 1, Ĉ_k the Gegenbauer polynomial that is 1 at 1.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import final

import torch
from jaxtyping import Float64
from torch import Generator, Tensor

from leftout.core.checks import check_at_least, check_count, check_index, check_positive
from leftout.core.errors import OptionError, ShapeError

CUBE = 20
"""The largest hypercube whose points are made: a million."""


@final
@dataclass(frozen=True)
class Circle:
    """M points of a circle at equal distances.

    Args:
        count: M, at least 2.
        radius: 1 for inputs of unit length.

    Raises:
        OptionError: fewer points, or a radius that is not positive.
    """

    count: int
    radius: float = 1.0

    def __post_init__(self) -> None:
        check_count("count", self.count)
        check_at_least("count", self.count, 2)
        check_positive("radius", self.radius)

    @property
    def multiplicities(self) -> Float64[Tensor, " degrees"]:
        """Return how many eigenfunctions there are of each degree, 0 … M/2."""
        counts = torch.full((self.count // 2 + 1,), 2.0, dtype=torch.float64, device="cpu")
        counts[0] = 1
        if self.count % 2 == 0:
            counts[-1] = 1
        return counts

    @cached_property
    def points(self) -> Float64[Tensor, "m 2"]:
        """Return the inputs, in their order on the circle."""
        return self.radius * torch.stack([self._angles.cos(), self._angles.sin()], dim=1)

    def eigenfunctions(self, degree: int) -> Float64[Tensor, "m g"]:
        """Return the values of the eigenfunctions of one degree at the points, one a column.

        Raises:
            OptionError: a degree above M/2.
        """
        check_index("degree", degree, self.count // 2 + 1)
        # Angles are reduced as whole numbers: cos(k θ) of a large k would lose digits.
        turned = self._angles[torch.arange(self.count, device="cpu") * degree % self.count]
        if degree == 0 or 2 * degree == self.count:
            return turned.cos()[:, None].round()
        return math.sqrt(2) * torch.stack([turned.cos(), turned.sin()], dim=1)

    @cached_property
    def _angles(self) -> Float64[Tensor, " m"]:
        return torch.arange(self.count, dtype=torch.float64, device="cpu") * (2 * math.pi / self.count)


@final
@dataclass(frozen=True)
class Hypercube:
    """All 2^d inputs of d entries −1 and 1.

    Args:
        inputs: d.

    Raises:
        OptionError: d below 1.
    """

    inputs: int

    def __post_init__(self) -> None:
        check_count("inputs", self.inputs)

    @property
    def count(self) -> int:
        """Return M = 2^d."""
        return int(2**self.inputs)

    @property
    def multiplicities(self) -> Float64[Tensor, " degrees"]:
        """Return how many eigenfunctions there are of each degree, 0 … d."""
        counts = [math.comb(self.inputs, degree) for degree in range(self.inputs + 1)]
        return torch.tensor(counts, dtype=torch.float64, device="cpu")

    @cached_property
    def points(self) -> Float64[Tensor, "m d"]:
        """Return the inputs, as binary numbers in ascending order.

        Raises:
            OptionError: d above 20; eigenvalues need no points.
        """
        if self.inputs > CUBE:
            raise OptionError(
                f"`inputs` must be at most {CUBE} where all points of the hypercube are asked for; got "
                f"{self.inputs}. Eigenvalues need none."
            )
        bits = (
            torch.arange(self.count, device="cpu")[:, None] >> torch.arange(self.inputs, device="cpu").flip(0)
            & 1
        )
        return 1 - 2 * bits.double()

    def eigenfunctions(self, degree: int) -> Float64[Tensor, "m g"]:
        """Return the parities of all sets of `degree` coordinates at the points, one a column.

        Raises:
            OptionError: a degree above d; d above 20.
        """
        check_index("degree", degree, self.inputs + 1)
        subsets = combinations(range(self.inputs), degree)
        return torch.stack([self.points[:, list(subset)].prod(1) for subset in subsets], dim=1)


@final
@dataclass(frozen=True)
class Sphere:
    """The sphere S^(d−1) in d dimensions, a domain of infinitely many points.

    Args:
        inputs: d, at least 2.
        radius: 1 for inputs of unit length; with biases, a kernel depends on it.

    Raises:
        OptionError: d below 2, or a radius that is not positive.
    """

    inputs: int
    radius: float = 1.0

    def __post_init__(self) -> None:
        check_count("inputs", self.inputs)
        check_at_least("inputs", self.inputs, 2)
        check_positive("radius", self.radius)

    def multiplicity(self, degree: int) -> int:
        """Return the number of harmonics of a degree."""
        check_at_least("degree", degree, 0)
        d = self.inputs
        if degree == 0:
            return 1
        return (2 * degree + d - 2) * math.comb(degree + d - 3, degree - 1) // degree

    def sample(self, count: int, *, generator: Generator) -> Float64[Tensor, "m d"]:
        """Return independent uniform points."""
        check_count("count", count)
        normal = torch.randn(
            count, self.inputs, generator=generator, dtype=torch.float64, device=generator.device
        )
        return self.radius * torch.nn.functional.normalize(normal, dim=1)

    def eigenfunction(self, degree: int, points: Float64[Tensor, "m d"]) -> Float64[Tensor, " m"]:
        """Return the harmonic of a degree that is symmetric about the first axis, at some points.

        Raises:
            ShapeError: points of another dimension.
        """
        if points.ndim != 2 or points.shape[1] != self.inputs:
            raise ShapeError(
                f"`points` must have shape (m, {self.inputs}), on the sphere; got {tuple(points.shape)}."
            )
        size = math.sqrt(self.multiplicity(degree))
        return size * gegenbauer(degree, points[:, 0] / self.radius, inputs=self.inputs)[-1]


def gegenbauer(degree: int, cosines: Float64[Tensor, " q"], *, inputs: int) -> Float64[Tensor, "degrees q"]:
    """Return Ĉ_0 … Ĉ_degree of the sphere in `inputs` dimensions, each 1 at 1.

    Accuracy:
        by the recurrence in k, which is stable on [−1, 1].

    Example:
        >>> import torch
        >>> gegenbauer(2, torch.tensor([1.0, 0.5], dtype=torch.float64), inputs=3)
        tensor([[ 1.0000,  1.0000],
                [ 1.0000,  0.5000],
                [ 1.0000, -0.1250]], dtype=torch.float64)
    """
    polynomials = [torch.ones_like(cosines), cosines]
    for k in range(1, degree):
        following = (2 * k + inputs - 2) * cosines * polynomials[k] - k * polynomials[k - 1]
        polynomials.append(following / (k + inputs - 2))
    return torch.stack(polynomials[: degree + 1])
