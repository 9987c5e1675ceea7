"""The fast Johnson-Lindenstrauss map: n² least-squares equations replaced by a few random combinations.

    S = P H D:  D random signs, H the Walsh-Hadamard transform, P sparse normal numbers (size × N)

N is the number of pairs, up to a power of two. H spreads each column over all its entries, so that a few of
them, in random places, represent all: an entry of P is N(0, 1/q) with chance q = log²(m)/N, else 0. Least
squares of the sketched equations has an error that falls as 1/√size.

Source:
    Ailon & Chazelle 2009, "The fast Johnson-Lindenstrauss transform and approximate nearest neighbors";
    size and density as in the released program of Chen, He & Su 2020.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.core.checks import check_between, check_count, check_seed
from leftout.core.errors import OptionError


@final
@dataclass(frozen=True, kw_only=True)
class Sketch:
    """Random combinations of equations, the same for the same seed and number of equations.

    Args:
        size: how many combinations; ⌊log(m)/error²⌋ if None, m the number of features and the label.
        error: what a distance may be off by, relatively, for that many.
        seed: of signs, places and numbers.

    Cost:
        N log N additions a column, one column at a time; size · log²(m) numbers of P.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> column = torch.arange(1024.0, dtype=torch.float64).cos()
        >>> sketch = lo.kernels.Sketch(size=1000).of([column], length=1024, features=10)
        >>> round(float(sketch.norm() / column.norm()), 2)  # a column keeps its length
        0.97
    """

    size: int | None = None
    error: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size is not None:
            check_count("size", self.size)
        check_between("error", self.error, 0, 1)
        check_seed(self.seed)

    def of(
        self, columns: Iterable[Float64[Tensor, " e"]], *, length: int, features: int
    ) -> Float64[Tensor, "g size"]:
        """Return the sketch of each column, one a row.

        Args:
            length: how many equations a column has.
            features: how many columns there are, the label not counted.

        Raises:
            OptionError: fewer combinations than columns.
        """
        m = features + 1
        size = self.size if self.size is not None else int(math.log(m) / self.error**2)
        if size < m:
            raise OptionError(
                f"`size` must be at least {m}, the number of features and the label; got {size}."
            )
        padded = 1 << max(0, length - 1).bit_length()
        random = np.random.default_rng(self.seed)
        signs = torch.from_numpy(2.0 * random.integers(0, 2, length) - 1)
        density = min(1.0, math.log(m) ** 2 / padded)
        count = int(random.binomial(size * padded, density))
        rows = torch.from_numpy(random.integers(0, size, count))
        places = torch.from_numpy(random.integers(0, padded, count))
        # Divided by √size too, so that a column keeps its length. A place drawn twice in a row adds up.
        numbers = torch.from_numpy(random.standard_normal(count) / math.sqrt(density * size))
        sketches = []
        for column in columns:
            spread = walsh_hadamard(column.cpu() * signs, padded)
            short = torch.zeros(size, dtype=torch.float64, device="cpu")
            sketches.append(short.index_add_(0, rows, numbers * spread[places]).to(column.device))
        return torch.stack(sketches)

    @property
    def record(self) -> dict[str, Any]:
        """Return size, error and seed."""
        return {"size": self.size, "error": self.error, "seed": self.seed}


def walsh_hadamard(column: Float64[Tensor, " e"], length: int) -> Float64[Tensor, " padded"]:
    """Return H times a column that zeros are appended to, H orthogonal; `length` a power of two."""
    assert length & (length - 1) == 0
    transformed = column.new_zeros(length)
    transformed[: len(column)] = column
    half = 1
    while half < length:
        pairs = transformed.view(-1, 2, half)
        transformed = torch.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], dim=1).flatten()
        half *= 2
    return transformed.mul_(length**-0.5)
