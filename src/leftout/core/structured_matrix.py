"""Matrices that are kept in another form than their numbers, where these do not fit the memory.

A `StructuredMatrix` is a tensor of its shape, so that what only multiplies a matrix, or looks at its diagonal
or at some of its rows, need not know how it is kept. Any other operation makes the numbers that it is given,
where those are few, and is refused where they are not.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from leftout.core.errors import MemoryBudgetError
from leftout.core.wording import byte_size

Rows = slice | Tensor
"""Some rows, or some columns, of a matrix: a slice, or their numbers."""

ALL = slice(None)


class StructuredMatrix(Tensor):
    """A matrix that knows its products, its diagonal and its parts, and makes its numbers only when asked.

    Attributes:
        room: bytes up to which its numbers, or those of some of its rows, are made for other operations.

    Raises:
        MemoryBudgetError: an operation that needs more of its numbers than that.
    """

    room: int
    # Results are plain tensors, or are made here.
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]
    handlers: ClassVar[dict[Any, Callable[..., Any]]] = {}

    @staticmethod
    def wrapper(
        cls: Any, rows: int, columns: int, *, dtype: torch.dtype, device: torch.device
    ) -> "StructuredMatrix":
        """Return a tensor of this shape without numbers, for `__new__`."""
        made: StructuredMatrix = Tensor._make_wrapper_subclass(
            cls, (rows, columns), dtype=dtype, device=device
        )
        return made

    @abstractmethod
    def times(self, other: Tensor) -> Tensor:
        """Return the product of this matrix with one of numbers."""

    @abstractmethod
    def times_from_left(self, other: Tensor) -> Tensor:
        """Return the product of a matrix of numbers with this one."""

    def product_after(self, first: "StructuredMatrix") -> "Tensor | None":
        """Return first @ self, where what both are made of gives it without their numbers; else None."""
        return None

    @abstractmethod
    def part(self, rows: Rows, columns: Rows) -> "StructuredMatrix":
        """Return some rows and columns, in the same form."""

    @abstractmethod
    def transpose_of_it(self) -> "StructuredMatrix":
        """Return the transpose, in the same form."""

    @abstractmethod
    def leading_diagonal(self) -> Tensor:
        """Return the diagonal, as numbers."""

    @abstractmethod
    def make_numbers(self) -> Tensor:
        """Return the matrix itself, however large it is."""

    @property
    @abstractmethod
    def kept_as(self) -> str:
        """Return how it is kept, to follow "which is"."""

    @property
    def numbers(self) -> Tensor:
        """Return the matrix itself.

        Raises:
            MemoryBudgetError: it does not fit.
        """
        needed = self.dtype.itemsize * self.shape[0] * self.shape[1]
        if needed > self.room:
            raise MemoryBudgetError(
                f"This answer needs a kernel matrix of {self.shape[0]} × {self.shape[1]}, "
                f"{byte_size(needed)}, which is {self.kept_as} because it does not fit. Take "
                "fewer examples (`n_train`), or raise `memory`."
            )
        return self.make_numbers()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        handler = cls.handlers.get(function)
        if handler is not None:
            return handler(*args, **(kwargs or {}))

        def dense(value: Any) -> Any:
            return value.numbers if isinstance(value, StructuredMatrix) else value

        return function(*tree_map(dense, args), **tree_map(dense, kwargs or {}))


def numbers_of(index: Rows, among: Tensor | None, *, length: int, device: torch.device) -> Tensor | None:
    """Return which rows are meant, as numbers of those that a part is made of; None where it is all of them.

    Args:
        among: numbers of the rows that there are; the first `length` if None.
    """
    if isinstance(index, slice) and index == ALL:
        return among
    every = torch.arange(length, device=device) if among is None else among
    return every[index if isinstance(index, slice) else index.to(device)]


def _multiply(first: Tensor, second: Tensor) -> Tensor:
    if isinstance(first, StructuredMatrix) and isinstance(second, StructuredMatrix):
        joint = second.product_after(first)
        if joint is not None:
            return joint
        mirrored = first.transpose_of_it().product_after(second.transpose_of_it())
        if mirrored is not None:
            return mirrored.T
    if isinstance(first, StructuredMatrix):
        return first.times(second.numbers if isinstance(second, StructuredMatrix) else second)
    assert isinstance(second, StructuredMatrix)
    return second.times_from_left(first)


def _transpose(matrix: StructuredMatrix, *axes: Any) -> StructuredMatrix:
    if axes == ([0, 1],) or (len(axes) == 2 and axes[0] % 2 == axes[1] % 2):
        return matrix.part(ALL, ALL)
    return matrix.transpose_of_it()


def _diagonal(matrix: StructuredMatrix, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    if offset or dim1 != 0 or dim2 != 1:
        return matrix.numbers.diagonal(offset, dim1, dim2)
    return matrix.leading_diagonal()


def _slice(
    matrix: StructuredMatrix, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> StructuredMatrix:
    covers = step == 1 and range(matrix.shape[dim])[start:end] == range(matrix.shape[dim])
    index = ALL if covers else slice(start, end, step)
    return matrix.part(index, ALL) if dim in (0, -2) else matrix.part(ALL, index)


def _select(matrix: StructuredMatrix, dim: int, index: int) -> Tensor:
    axis = dim % 2
    number = torch.tensor([index % matrix.shape[axis]], device=matrix.device)
    line = matrix.part(number, ALL) if axis == 0 else matrix.part(ALL, number)
    return line.make_numbers().flatten()


def _index(matrix: StructuredMatrix, indices: list[Tensor | None]) -> Tensor:
    rows, columns = [*indices, None][:2]
    if rows is None or columns is None:
        index = rows if columns is None else columns
        assert index is not None
        if index.ndim == 1:
            numbers = index.nonzero().flatten() if index.dtype == torch.bool else index
            return matrix.part(numbers, ALL) if columns is None else matrix.part(ALL, numbers)
    elif rows.ndim == 2 and rows.shape[1] == 1 and columns.ndim == 1:
        return matrix.part(rows[:, 0], columns)
    made: Tensor = matrix.numbers[tuple(ALL if index is None else index for index in indices)]
    return made


def _sum(matrix: StructuredMatrix, *, dtype: torch.dtype | None = None) -> Tensor:
    ones = matrix.new_ones(matrix.shape[1], 1)
    return matrix.times(ones).sum().to(dtype or matrix.dtype)


def _new(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def make_like(matrix: StructuredMatrix, *args: Any, **kwargs: Any) -> Tensor:
        return make(torch.empty(0, dtype=matrix.dtype, device=matrix.device), *args, **kwargs)

    return make_like


def to_numbers(matrix: Tensor) -> Tensor:
    """Return a matrix as numbers, where the caller has seen to it that they fit."""
    return matrix.make_numbers() if isinstance(matrix, StructuredMatrix) else matrix


_aten = torch.ops.aten
StructuredMatrix.handlers.update(
    {
        _aten.mm.default: _multiply,
        _aten.mv.default: lambda matrix, vector: matrix.times(vector[:, None])[:, 0],
        _aten.t.default: _transpose,
        _aten.transpose.int: _transpose,
        _aten.permute.default: _transpose,
        _aten.diagonal.default: _diagonal,
        _aten.slice.Tensor: _slice,
        _aten.select.int: _select,
        _aten.index.Tensor: _index,
        _aten.sum.default: _sum,
        _aten.detach.default: lambda matrix: matrix.part(ALL, ALL),
        _aten.alias.default: lambda matrix: matrix.part(ALL, ALL),
        _aten.new_zeros.default: _new(_aten.new_zeros.default),
        _aten.new_empty.default: _new(_aten.new_empty.default),
        _aten.new_ones.default: _new(_aten.new_ones.default),
        _aten.new_full.default: _new(_aten.new_full.default),
    }
)
