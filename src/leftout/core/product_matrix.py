"""A matrix that is kept as a product A Bᵀ of two smaller ones, where it does not fit the memory itself.

With n examples, k outputs and d weights the tangent kernel is J Jᵀ: (n k)² numbers as a matrix, n k d as a
product of the Jacobian's rows. Nothing is dropped, and a product with b columns takes 4 n k d b operations in
place of 2 (n k)² b.
"""

from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.core.blocks import blocks
from leftout.core.structured_matrix import ALL, Rows, StructuredMatrix

PIECE = 4096
"""Rows whose squares are added up together."""


@final
class ProductMatrix(StructuredMatrix):
    """The matrix left · rightᵀ.

    Args:
        left, right: (rows, d) and (columns, d).
        room: bytes up to which its numbers, or those of some of its rows, are made for other operations.

    Raises:
        MemoryBudgetError: an operation that needs more of its numbers than that.

    Example:
        >>> import torch
        >>> rows = torch.tensor([[1.0, 2.0], [0.0, 1.0]], dtype=torch.float64)
        >>> matrix = ProductMatrix(rows, rows, room=1000)
        >>> matrix @ torch.ones(2, 1, dtype=torch.float64)
        tensor([[7.],
                [3.]], dtype=torch.float64)
        >>> matrix.diagonal()
        tensor([5., 1.], dtype=torch.float64)
    """

    left: Tensor
    right: Tensor

    @staticmethod
    def __new__(cls, left: Tensor, right: Tensor, *, room: int) -> "ProductMatrix":
        made = cls.wrapper(cls, len(left), len(right), dtype=left.dtype, device=left.device)
        assert isinstance(made, ProductMatrix)
        made.left, made.right, made.room = left, right, room
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"ProductMatrix({len(self.left)} × {len(self.right)}, {self.left.shape[1]} numbers a row)"

    @property
    def kept_as(self) -> str:
        return "kept as products of its rows"

    def make_numbers(self) -> Tensor:
        return self.left @ self.right.T

    def times(self, other: Tensor) -> Tensor:
        return self.left @ (self.right.T @ other)

    def times_from_left(self, other: Tensor) -> Tensor:
        return (other @ self.left) @ self.right.T

    def part(self, rows: Rows, columns: Rows) -> "ProductMatrix":
        first_side = _rows_of(self.left, rows)
        # A kernel matrix of some examples is again the product of one set of rows with itself.
        same = self.left is self.right and _are_same(rows, columns)
        return ProductMatrix(
            first_side, first_side if same else _rows_of(self.right, columns), room=self.room
        )

    def transpose_of_it(self) -> "ProductMatrix":
        return ProductMatrix(self.right, self.left, room=self.room)

    def leading_diagonal(self) -> Tensor:
        side = min(self.shape)
        made = self.left.new_empty(side)
        for rows in blocks(side, PIECE):  # their products take as much memory as the rows
            torch.linalg.vecdot(self.left[rows], self.right[rows], out=made[rows])
        return made

    def summed_over(self, outputs: int) -> Float64[Tensor, "a b"]:
        """Return Σ_o of the entries of output o with output o, where each example has so many rows."""
        return _by_example(self.left, outputs) @ _by_example(self.right, outputs).T


def _rows_of(side: Tensor, rows: Rows) -> Tensor:
    return side if isinstance(rows, slice) and rows == ALL else side[rows]


def _are_same(rows: Rows, columns: Rows) -> bool:
    if isinstance(rows, slice) or isinstance(columns, slice):
        return isinstance(rows, slice) and isinstance(columns, slice) and rows == columns
    return torch.equal(rows, columns)


def _by_example(rows: Tensor, outputs: int) -> Tensor:
    return rows.reshape(len(rows) // outputs, -1)
