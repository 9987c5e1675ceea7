"""A kernel matrix of which nothing is kept: its entries are evaluated whenever it is multiplied.

That is for more examples than a matrix of them fits the memory. A product takes one triangle of evaluations,
however many columns it has.
"""

from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor

from leftout.core.structured_matrix import Rows, StructuredMatrix, numbers_of
from leftout.core.work import Operation, WorkCount, allocation, operations, product
from leftout.kernels import assemble
from leftout.kernels.base import Kernel
from leftout.kernels.tiles import Tile, TileWork


@final
class EvaluatedMatrix(StructuredMatrix):
    """K(inputs[rows], inputs[columns]), in float64, evaluated when it is used.

    Args:
        kernel: with one value for each pair.
        inputs: of both sides.
        dtype: in which pairs are evaluated.
        memory: bytes for tiles while it is multiplied.
        room: bytes up to which its numbers are made for other operations.
        rows, columns: numbers of the inputs of each side; all of them if None.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> inputs = torch.eye(2, dtype=torch.float64)
        >>> options = {"dtype": torch.float64, "memory": 10**8, "room": 10**6}
        >>> matrix = EvaluatedMatrix(lo.kernels.ReLU(1), inputs, **options)
        >>> matrix @ torch.ones(2, 1, dtype=torch.float64)
        tensor([[2.3183],
                [2.3183]], dtype=torch.float64)
    """

    kernel: Kernel
    inputs: Tensor
    evaluated_in: torch.dtype
    memory: int
    rows: Tensor | None
    columns: Tensor | None

    @staticmethod
    def __new__(
        cls,
        kernel: Kernel,
        inputs: Tensor,
        *,
        dtype: torch.dtype,
        memory: int,
        room: int,
        device: torch.device | None = None,
        rows: Tensor | None = None,
        columns: Tensor | None = None,
    ) -> "EvaluatedMatrix":
        sides = [len(inputs) if side is None else len(side) for side in (rows, columns)]
        made = cls.wrapper(cls, *sides, dtype=torch.float64, device=device or inputs.device)
        assert isinstance(made, EvaluatedMatrix)
        made.kernel, made.inputs, made.evaluated_in = kernel, inputs, dtype
        made.memory, made.room = memory, room
        made.rows, made.columns = rows, columns
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"EvaluatedMatrix({self.shape[0]} × {self.shape[1]} of {self.kernel!r})"

    @property
    def kept_as(self) -> str:
        return "evaluated again whenever it is used"

    @property
    def is_symmetric(self) -> bool:
        """Return whether both sides are the same inputs in the same order."""
        if self.rows is None or self.columns is None:
            return self.rows is self.columns
        return torch.equal(self.rows, self.columns)

    def times(self, other: Tensor) -> Tensor:
        product = torch.zeros(self.shape[0], other.shape[1], dtype=torch.float64, device=self.device)
        symmetric = self.is_symmetric
        for i, j, tile in self._tiles(symmetric):
            if symmetric and i == j:
                tile = tile.triu() + tile.triu(1).T
            product[i] += tile @ other[j]
            if symmetric and i != j:
                product[j] += tile.T @ other[i]
        return product

    def times_from_left(self, other: Tensor) -> Tensor:
        return self.transpose_of_it().times(other.T).T

    def part(self, rows: Rows, columns: Rows) -> "EvaluatedMatrix":
        n, device = len(self.inputs), self.inputs.device
        return self._of(
            numbers_of(rows, self.rows, length=n, device=device),
            numbers_of(columns, self.columns, length=n, device=device),
        )

    def transpose_of_it(self) -> "EvaluatedMatrix":
        return self._of(self.columns, self.rows)

    def leading_diagonal(self) -> Tensor:
        if self.is_symmetric:
            inputs = self._inputs_of(self.rows)
            return assemble.diagonal(self.kernel, inputs, dtype=self.evaluated_in, device=self.device)
        return self.numbers.diagonal()

    def make_numbers(self) -> Tensor:
        numbers = torch.empty(*self.shape, dtype=torch.float64, device=self.device)
        symmetric = self.is_symmetric
        for i, j, tile in self._tiles(symmetric):
            if symmetric and i == j:
                tile = tile.triu() + tile.triu(1).T
            numbers[i, j] = tile
            if symmetric and i != j:
                numbers[j, i] = tile.T
        return numbers

    def _tiles(self, symmetric: bool) -> Iterator[Tile]:
        work = TileWork(dtype=self.evaluated_in, device=self.device, budget=self.memory, result=0, block=None)
        columns = None if symmetric else self._inputs_of(self.columns)
        tiles = self.kernel.tiles(self._inputs_of(self.rows), columns, work)
        for i, j, tile in tiles:
            assemble.check_tile(tile, i.start, 1)
            yield i, j, tile.double()

    def _inputs_of(self, numbers: Tensor | None) -> Tensor:
        return self.inputs if numbers is None else self.inputs[numbers]

    def _of(self, rows: Tensor | None, columns: Tensor | None) -> "EvaluatedMatrix":
        return EvaluatedMatrix(
            self.kernel,
            self.inputs,
            dtype=self.evaluated_in,
            memory=self.memory,
            room=self.room,
            device=self.device,
            rows=rows,
            columns=columns,
        )


def evaluated_product_work(n: int, columns: int) -> WorkCount:
    """Return the work of a product with the matrix of n inputs: one triangle of pairs."""
    pairs = operations(Operation.CROSS_PAIR, n * n / 2)
    return operations(Operation.KERNEL_ROW, n) + pairs + product(n, n, columns)


def fill_work(n: int) -> WorkCount:
    """Return the work of evaluating one triangle into tiles."""
    return evaluated_product_work(n, 0) + allocation(n * n / 2)
