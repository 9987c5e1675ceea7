"""A matrix that is kept as a product A Bᵀ of two smaller ones, where it does not fit the memory itself.

With n examples, k outputs and d weights the tangent kernel is J Jᵀ: (n k)² numbers as a matrix, n k d as a
product of the Jacobian's rows. Nothing is dropped, and a product with b columns takes 4 n k d b operations in
place of 2 (n k)² b.

`ProductMatrix` is a tensor of that shape, so that what only multiplies a kernel matrix, or looks at its
diagonal or at some of its rows, need not know. Any other operation makes the numbers that it is given, where
those are few, and is refused where they are not.
"""

from collections.abc import Callable
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float64
from torch import Tensor
from torch.utils._pytree import tree_map

from leftout.core.errors import MemoryBudgetError
from leftout.core.wording import byte_size


@final
class ProductMatrix(Tensor):
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
    room: int
    # Results are plain tensors, or are made here.
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]
    handlers: ClassVar[dict[Any, Callable[..., Any]]] = {}

    @staticmethod
    def __new__(cls, left: Tensor, right: Tensor, *, room: int) -> "ProductMatrix":
        shape = (len(left), len(right))
        made: ProductMatrix = Tensor._make_wrapper_subclass(cls, shape, dtype=left.dtype, device=left.device)
        return made

    def __init__(self, left: Tensor, right: Tensor, *, room: int) -> None:
        self.left, self.right, self.room = left, right, room

    def __repr__(self) -> str:  # type: ignore[override]
        return f"ProductMatrix({len(self.left)} × {len(self.right)}, {self.left.shape[1]} numbers a row)"

    @property
    def numbers(self) -> Tensor:
        """Return the matrix itself.

        Raises:
            MemoryBudgetError: it does not fit.
        """
        needed = self.left.itemsize * len(self.left) * len(self.right)
        if needed > self.room:
            raise MemoryBudgetError(
                f"This answer needs a kernel matrix of {len(self.left)} × {len(self.right)}, "
                f"{byte_size(needed)}, which is kept as products of its rows because it does not fit. Take "
                "fewer examples (`n_train`), or raise `memory`."
            )
        return self.left @ self.right.T

    def summed_over(self, outputs: int) -> Float64[Tensor, "a b"]:
        """Return Σ_o of the entries of output o with output o, where each example has so many rows."""
        return _by_example(self.left, outputs) @ _by_example(self.right, outputs).T

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        handler = cls.handlers.get(function)
        if handler is not None:
            return handler(*args, **(kwargs or {}))

        def dense(value: Any) -> Any:
            return value.numbers if isinstance(value, ProductMatrix) else value

        return function(*tree_map(dense, args), **tree_map(dense, kwargs or {}))


def _by_example(rows: Tensor, outputs: int) -> Tensor:
    return rows.reshape(len(rows) // outputs, -1)


def _multiply(first: Tensor, second: Tensor) -> Tensor:
    if isinstance(first, ProductMatrix):
        return first.left @ (first.right.T @ second)
    assert isinstance(second, ProductMatrix)
    return (first @ second.left) @ second.right.T


def _transpose(matrix: ProductMatrix, *axes: Any) -> ProductMatrix:
    if axes == ([0, 1],) or (len(axes) == 2 and axes[0] % 2 == axes[1] % 2):
        return ProductMatrix(matrix.left, matrix.right, room=matrix.room)
    return ProductMatrix(matrix.right, matrix.left, room=matrix.room)


def _diagonal(matrix: ProductMatrix, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    if offset or dim1 != 0 or dim2 != 1:
        return matrix.numbers.diagonal(offset, dim1, dim2)
    side = min(matrix.shape)
    return torch.linalg.vecdot(matrix.left[:side], matrix.right[:side])


def _slice(
    matrix: ProductMatrix, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> ProductMatrix:
    part = slice(start, end, step)
    if dim in (0, -2):
        return ProductMatrix(matrix.left[part], matrix.right, room=matrix.room)
    return ProductMatrix(matrix.left, matrix.right[part], room=matrix.room)


def _select(matrix: ProductMatrix, dim: int, index: int) -> Tensor:
    one, others = (matrix.left, matrix.right) if dim in (0, -2) else (matrix.right, matrix.left)
    row: Tensor = others @ one[index]
    return row


def _index(matrix: ProductMatrix, indices: list[Tensor | None]) -> Tensor:
    rows, columns = [*indices, None][:2]
    if rows is None or columns is None:
        picked = [
            side if index is None else side[index]
            for side, index in ((matrix.left, rows), (matrix.right, columns))
        ]
        if all(side.ndim == 2 for side in picked):
            return ProductMatrix(*picked, room=matrix.room)
    elif rows.ndim == 2 and rows.shape[1] == 1 and columns.ndim == 1:
        return ProductMatrix(matrix.left[rows[:, 0]], matrix.right[columns], room=matrix.room)
    numbers: Tensor = matrix.numbers[tuple(slice(None) if index is None else index for index in indices)]
    return numbers


def _sum(matrix: ProductMatrix, *, dtype: torch.dtype | None = None) -> Tensor:
    return torch.dot(matrix.left.sum(0), matrix.right.sum(0)).to(dtype or matrix.dtype)


def _new(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda matrix, *args, **kwargs: make(matrix.left, *args, **kwargs)


_aten = torch.ops.aten
ProductMatrix.handlers.update(
    {
        _aten.mm.default: _multiply,
        _aten.mv.default: lambda matrix, vector: matrix.left @ (matrix.right.T @ vector),
        _aten.t.default: _transpose,
        _aten.transpose.int: _transpose,
        _aten.permute.default: _transpose,
        _aten.diagonal.default: _diagonal,
        _aten.slice.Tensor: _slice,
        _aten.select.int: _select,
        _aten.index.Tensor: _index,
        _aten.sum.default: _sum,
        _aten.detach.default: lambda matrix: ProductMatrix(matrix.left, matrix.right, room=matrix.room),
        _aten.new_zeros.default: _new(_aten.new_zeros.default),
        _aten.new_empty.default: _new(_aten.new_empty.default),
        _aten.new_ones.default: _new(_aten.new_ones.default),
        _aten.new_full.default: _new(_aten.new_full.default),
    }
)
