"""What label-aware kernels compute for pairs of inputs before they use labels.

| matrix | of a pair (x, x') |
|---|---|
| `kernel` | k(x, x'), of the label-blind kernel |
| `products` | x·x', where pixels are asked for |
| `l1` | Σ |x_a − x'_a|, where pixels are asked for |

and of each input alone its square, mean and spread. An estimator of labels needs nothing else, so it is
fitted to fewer examples by taking rows and columns, without evaluating a kernel again. Images are
flattened. A constant 1 that some estimators append to them is added by `Pixels.with_constant` and
`Pairs.with_constant`, in closed form.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from leftout.core.blocks import blocks, check_fits, memory_budget
from leftout.core.errors import ShapeError
from leftout.kernels import assemble
from leftout.kernels.base import Kernel

TILE = {"cpu": 192, "cuda": 2048}
"""Rows and columns of a tile of pairs: a dozen arrays of 192² numbers are 3 MB, which a cache holds."""


@final
@dataclass(frozen=True)
class Pixels:
    """Statistics of each input alone.

    Attributes:
        squares: |x|².
        means: of the features of an input.
        spreads: Σ_a (x_a − mean)².
        features: how many an input has.
    """

    squares: Float64[Tensor, " n"]
    means: Float64[Tensor, " n"]
    spreads: Float64[Tensor, " n"]
    features: int

    def of(self, rows: Int64[Tensor, " s"] | slice) -> "Pixels":
        """Return the same for these rows of the inputs."""
        return Pixels(self.squares[rows], self.means[rows], self.spreads[rows], self.features)

    def with_constant(self) -> "Pixels":
        """Return the same for inputs with a constant 1 behind their features."""
        d = self.features
        away = 1 - self.means
        return Pixels(
            self.squares + 1, self.means + away / (d + 1), self.spreads + away.square() * (d / (d + 1)), d + 1
        )


@final
@dataclass(frozen=True)
class Pairs:
    """Statistics of each pair of a row input and a column input."""

    kernel: Float64[Tensor, "m n"]
    products: Float64[Tensor, "m n"] | None = None
    l1: Float64[Tensor, "m n"] | None = None
    left: Pixels | None = None
    right: Pixels | None = None

    def of(
        self, rows: Int64[Tensor, " r"] | slice | None, columns: Int64[Tensor, " s"] | slice | None
    ) -> "Pairs":
        """Return the pairs of these row inputs and these column inputs; None means all."""
        down = slice(None) if rows is None else rows
        along = slice(None) if columns is None else columns

        def select(matrix: Tensor | None) -> Tensor | None:
            return None if matrix is None else _part(matrix, down, along)

        kernel = select(self.kernel)
        assert kernel is not None
        return Pairs(
            kernel,
            select(self.products),
            select(self.l1),
            None if self.left is None else self.left.of(down),
            None if self.right is None else self.right.of(along),
        )

    def with_constant(self) -> "Pairs":
        """Return the pairs of inputs with a constant 1 behind their features; `kernel` stays."""
        assert self.products is not None
        assert self.left is not None
        assert self.right is not None
        return replace(
            self, products=self.products + 1, left=self.left.with_constant(), right=self.right.with_constant()
        )


def _part(matrix: Tensor, down: Tensor | slice, along: Tensor | slice) -> Tensor:
    # index_select reads whole rows: three times as fast as matrix[down[:, None], along].
    tall = matrix[down] if isinstance(down, slice) else matrix.index_select(0, down)
    return tall[:, along] if isinstance(along, slice) else tall.index_select(1, along)


def pixels_of(inputs: Tensor) -> Pixels:
    """Return the statistics of each input alone, in float64."""
    rows = inputs.flatten(1)
    squares, means, spreads = torch.empty(3, len(rows), dtype=torch.float64, device=rows.device)
    for block in blocks(len(rows), 1024):
        batch = rows[block].double()
        squares[block], means[block] = batch.square().sum(1), batch.mean(1)
        spreads[block] = (batch - means[block, None]).square().sum(1)
    return Pixels(squares, means, spreads, rows.shape[1])


def pairs_among(
    base: Kernel,
    inputs: Float[Tensor, "n ..."],
    *,
    pixels: bool,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
    memory: int | float | str | None = None,
) -> Pairs:
    """Return all pairs of inputs; matrices are symmetric to the last bit.

    Args:
        pixels: whether to look at features of the inputs, besides the kernel.
        dtype: in which kernel and l1 distances are evaluated; products are of float64 numbers always, as
            squared distances come out of them by cancellation.

    Raises:
        MemoryBudgetError: the matrices do not fit.

    Cost:
        the kernel of half the pairs; with pixels 2d flops and d absolute values more for each.
    """
    device = inputs.device if device is None else torch.device(device)
    budget = memory_budget(memory, device=device)
    n = len(inputs)
    _check_fits(n, n, pixels=pixels, budget=budget)
    kernel = assemble.gram(base, inputs, dtype=dtype, device=device, memory=budget)
    if not pixels:
        return Pairs(kernel)
    rows = inputs.to(device).flatten(1)
    doubles, plain = rows.double(), rows.to(dtype)
    products, l1 = torch.empty_like(kernel), torch.empty_like(kernel)
    for i, j in triangle(n, tile_size(device)):
        for matrix, tile in (
            (products, doubles[i] @ doubles[j].T),
            (l1, torch.cdist(plain[i], plain[j], p=1.0).double()),
        ):
            write_mirrored(matrix, i, j, tile)
    alone = pixels_of(rows)
    # From one computation, so that the cosine of an input with itself is 1 to the last bit.
    products.diagonal().copy_(alone.squares)
    return Pairs(kernel, products, l1, alone, alone)


def pairs_between(
    base: Kernel,
    queries: Float[Tensor, "m ..."],
    inputs: Float[Tensor, "n ..."],
    *,
    pixels: bool,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
    memory: int | float | str | None = None,
) -> Pairs:
    """Return the pairs of a query and an input; arguments and errors as `pairs_among`."""
    device = inputs.device if device is None else torch.device(device)
    budget = memory_budget(memory, device=device)
    _check_fits(len(queries), len(inputs), pixels=pixels, budget=budget)
    kernel = assemble.cross(base, queries, inputs, dtype=dtype, device=device, memory=budget)
    return looked_at(kernel, queries.to(device), inputs.to(device), dtype=dtype, pixels=pixels)


def looked_at(
    kernel: Float[Tensor, "m n"],
    queries: Float[Tensor, "m ..."],
    inputs: Float[Tensor, "n ..."],
    *,
    pixels: bool,
    dtype: torch.dtype = torch.float64,
) -> Pairs:
    """Return pairs with this kernel, with products and l1 distances if `pixels`."""
    if not pixels:
        return Pairs(kernel.double())
    x, z = queries.flatten(1), inputs.flatten(1)
    products = x.double() @ z.double().T
    l1 = torch.cdist(x.to(dtype), z.to(dtype), p=1.0).double()
    return Pairs(kernel.double(), products, l1, pixels_of(x), pixels_of(z))


def tile_size(device: torch.device) -> int:
    """Return the rows and columns of a tile of pairs on this device."""
    return TILE.get(device.type, TILE["cpu"])


def symmetric_matrix(
    like: Float64[Tensor, "n n"], tile: Callable[[slice, slice], Tensor]
) -> Float64[Tensor, "n n"]:
    """Return the symmetric matrix whose tiles `tile` returns: one triangle of them is computed."""
    matrix = torch.empty_like(like)
    for i, j in triangle(len(matrix), tile_size(matrix.device)):
        write_mirrored(matrix, i, j, tile(i, j))
    return matrix


def triangle(n: int, size: int) -> Iterator[tuple[slice, slice]]:
    """Yield square tiles on the diagonal and below it that cover one triangle of an n × n matrix."""
    for i in blocks(n, size):
        for j in blocks(i.stop, size):
            yield i, j


def write_mirrored(into: Tensor, i: slice, j: slice, tile: Tensor) -> None:
    """Write a tile of a symmetric matrix and its transpose."""
    if i == j:
        # Vector units and their remainders may round one entry differently at two places.
        tile = tile.triu() + tile.triu(1).T
    into[i, j] = tile
    into[j, i] = tile.T


def count_classes(labels: Int64[Tensor, " n"]) -> int:
    """Return how many different labels there are."""
    return len(set(labels.tolist()))


def check_inputs_have_pixels(name: str, inputs: Tensor) -> None:
    """Raise unless each input is two numbers or more, between which a correlation can be taken."""
    if inputs.ndim < 2 or (len(inputs) > 0 and inputs[0].numel() < 2):
        raise ShapeError(
            f"`{name}` must hold at least two features each for an estimator that compares them; got "
            f'{tuple(inputs.shape)}. The estimators "kr-v1" and "kr-v2" need none.'
        )


def _check_fits(rows: int, columns: int, *, pixels: bool, budget: int) -> None:
    matrices = 3 if pixels else 1
    check_fits(
        f"What is known of {rows} × {columns} pairs",
        matrices * 8 * rows * columns,
        budget,
        advice="Take fewer examples (`n_train`), or raise `memory`.",
    )
