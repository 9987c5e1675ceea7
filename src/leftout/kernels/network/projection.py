"""Random projections of Jacobian rows: shorter rows whose products are right on average.

A row J becomes J Rᵀ, R of r × p random numbers with E[Rᵀ R] = I, so that E[J Rᵀ R J'ᵀ] = J J'ᵀ. R is
never held: it is drawn again, block by block, from the seed and the place of the block, so the same seed
means the same R on every device and for every way of cutting inputs into chunks.

| record | R |
|---|---|
| `RandomCoordinates` | of each parameter tensor, `size` coordinates × √(its numbers / size) |
| `Gaussian` | N(0, 1/r) |
| `Rademacher` | ±1/√r |
| `Sparse` | one ±1 a column, in a random row |

The first is the cheapest and the least even: its error depends on how evenly gradients are spread. The
relative variance of a squared norm is 2/r for the other three, or less.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, final

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from leftout.core.blocks import blocks
from leftout.core.checks import check_count, check_seed

WIDTH = 1024
"""Parameters that a block of R has columns for. It decides what a seed draws: do not change it."""


@dataclass(frozen=True, kw_only=True)
class Projection(ABC):
    """A random map of Jacobian rows to shorter ones. Parameter tensors are told apart by number.

    Attributes:
        size: numbers that are kept of a row (`RandomCoordinates`: of each parameter tensor).
        seed: of the random numbers.
    """

    name: ClassVar[str]
    size: int
    seed: int = 0

    def __post_init__(self) -> None:
        check_count("size", self.size)
        check_seed(self.seed)

    @property
    def record(self) -> dict[str, Any]:
        """Return name, size and seed."""
        return {"name": self.name, "size": int(self.size), "seed": int(self.seed)}

    def width(self, sizes: list[int]) -> int:
        """Return how many numbers a projected row has, for parameter tensors of these sizes."""
        del sizes
        return self.size

    def exact(self, sizes: list[int]) -> bool:
        """Return whether all numbers are kept, for parameter tensors of these sizes."""
        del sizes
        return False

    @abstractmethod
    def add(
        self, into: Float64[Tensor, "n e r"], rows: Float[Tensor, "n e s"], *, tensor: int, sizes: list[int]
    ) -> None:
        """Add the projections of the Jacobian rows in one parameter tensor.

        Args:
            into: the projected rows, float64.
            rows: derivatives in the numbers of the tensor, in their order.
            tensor: its number.
            sizes: of all tensors.
        """

    def _random(self, *place: int) -> np.random.Generator:
        """Return the generator of the random numbers at a place in R."""
        return np.random.default_rng([self.seed, *place])


@final
@dataclass(frozen=True, kw_only=True)
class RandomCoordinates(Projection):
    """Coordinates of every parameter tensor, drawn once without replacement and rescaled.

    Source:
        Harutyunyan et al. 2021, "Estimating informativeness of samples with smooth unique
        information", and its released program: 2000 of each weight and each bias.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> inputs = torch.arange(3000.0).cos().reshape(3, 1000)
        >>> projection = lo.kernels.RandomCoordinates(size=200)
        >>> kernel = lo.kernels.Empirical(torch.nn.Linear(1000, 1), projection=projection)
        >>> round(kernel.distortion(inputs).spectral, 2)  # relative error of the kernel
        0.05
    """

    name: ClassVar[str] = "random coordinates"
    size: int = 2000

    def width(self, sizes: list[int]) -> int:
        return sum(min(self.size, count) for count in sizes)

    def exact(self, sizes: list[int]) -> bool:
        return max(sizes) <= self.size

    def add(
        self, into: Float64[Tensor, "n e r"], rows: Float[Tensor, "n e s"], *, tensor: int, sizes: list[int]
    ) -> None:
        start = self.width(sizes[:tensor])
        coordinates = _coordinates(self.seed, tensor, sizes[tensor], min(self.size, sizes[tensor]))
        share = rows[:, :, coordinates.to(rows.device)].double()
        share *= (sizes[tensor] / len(coordinates)) ** 0.5
        into[:, :, start : start + len(coordinates)] += share


@lru_cache(maxsize=256)
def _coordinates(seed: int, tensor: int, size: int, count: int) -> Tensor:
    numbers = np.random.default_rng([seed, tensor]).choice(size, count, replace=False)
    return torch.from_numpy(np.sort(numbers))


class _Streamed(Projection):
    """R made a few columns at a time, the same for every way of cutting inputs into chunks."""

    def add(
        self, into: Float64[Tensor, "n e r"], rows: Float[Tensor, "n e s"], *, tensor: int, sizes: list[int]
    ) -> None:
        for block, columns in enumerate(blocks(sizes[tensor], WIDTH)):
            self._add(into, rows[:, :, columns].double(), self._random(tensor, block))

    @abstractmethod
    def _add(
        self, into: Float64[Tensor, "n e r"], rows: Float64[Tensor, "n e w"], random: np.random.Generator
    ) -> None:
        """Add the projections of these numbers of the rows."""


class _Dense(_Streamed):
    """R of independent numbers in every place."""

    def _add(self, into: Tensor, rows: Tensor, random: np.random.Generator) -> None:
        numbers = self._draw(random, (rows.shape[2], self.size))
        into += rows @ torch.from_numpy(numbers).to(rows.device).mul_(self.size**-0.5)

    @abstractmethod
    def _draw(self, random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        """Return numbers of mean 0 and variance 1."""


@final
@dataclass(frozen=True, kw_only=True)
class Gaussian(_Dense):
    """Independent normal numbers.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> inputs = torch.arange(3000.0).cos().reshape(3, 1000)
        >>> projection = lo.kernels.Gaussian(size=200)
        >>> kernel = lo.kernels.Empirical(torch.nn.Linear(1000, 1), projection=projection)
        >>> round(kernel.distortion(inputs).spectral, 2)  # relative error of the kernel
        0.16
    """

    name: ClassVar[str] = "gaussian"

    def _draw(self, random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        return random.standard_normal(shape)


@final
@dataclass(frozen=True, kw_only=True)
class Rademacher(_Dense):
    """Independent signs: as good as normal numbers, and faster to draw.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> inputs = torch.arange(3000.0).cos().reshape(3, 1000)
        >>> projection = lo.kernels.Rademacher(size=200)
        >>> kernel = lo.kernels.Empirical(torch.nn.Linear(1000, 1), projection=projection)
        >>> round(kernel.distortion(inputs).spectral, 2)  # relative error of the kernel
        0.15
    """

    name: ClassVar[str] = "rademacher"

    def _draw(self, random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        bits = np.unpackbits(np.frombuffer(random.bytes(-(-shape[0] * shape[1] // 8)), np.uint8))
        return 2.0 * bits[: shape[0] * shape[1]].reshape(shape) - 1


@final
@dataclass(frozen=True, kw_only=True)
class Sparse(_Streamed):
    """One sign in every column of R: each parameter is added to, or subtracted from, one of `size` sums.

    A row costs p operations instead of p · size.

    Source:
        Charikar, Chen and Farach-Colton 2002 (count sketch); Clarkson and Woodruff 2013.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> inputs = torch.arange(3000.0).cos().reshape(3, 1000)
        >>> projection = lo.kernels.Sparse(size=200)
        >>> kernel = lo.kernels.Empirical(torch.nn.Linear(1000, 1), projection=projection)
        >>> round(kernel.distortion(inputs).spectral, 2)  # relative error of the kernel
        0.18
    """

    name: ClassVar[str] = "sparse"

    def _add(self, into: Tensor, rows: Tensor, random: np.random.Generator) -> None:
        count = rows.shape[2]
        sums = torch.from_numpy(random.integers(0, self.size, count)).to(rows.device)
        sign = torch.from_numpy(2.0 * random.integers(0, 2, count) - 1).to(rows.device)
        into.index_add_(2, sums, rows * sign)
