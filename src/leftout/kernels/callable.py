"""A kernel given by a function of two batches of inputs, such as one of another library."""

from collections.abc import Callable
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from leftout.core.blocks import blocks
from leftout.core.checks import check_finite
from leftout.core.errors import DataError, LeftoutError, ShapeError
from leftout.core.wording import exception_text
from leftout.kernels.base import Kernel

DIAGONAL = 32
"""Inputs for each call when only the diagonal is wanted: 1/32 of each block is used, and calls stay few."""


@final
class From(Kernel):
    """Any function k(x1, x2) that returns an array (m, n), such as a kernel of another library.

    The function is called with blocks of rows, in the shape they were loaded with, and may return a
    tensor, an array or whatever numpy can read. It gets copies, or arrays that cannot be written.

    Args:
        function: symmetric and positive semi-definite in its two arguments; `assemble` checks the
            symmetry where it can see both triangles, and that all values are finite.
        name: what messages and records call it; its own name if None.
        numpy: call it with numpy arrays instead of tensors.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> x = torch.tensor([[3.0, 4.0], [4.0, -3.0]])
        >>> lo.kernels.From(lambda x, z: x @ z.T, name="linear").block(x, x)
        tensor([[25.,  0.],
                [ 0., 25.]])
    """

    def __init__(
        self, function: Callable[[Any, Any], Any], name: str | None = None, *, numpy: bool = False
    ) -> None:
        self.function = function
        self.name = name if name is not None else getattr(function, "__name__", repr(function))
        self.numpy = numpy

    def block(self, queries: Float[Tensor, "m ..."], inputs: Float[Tensor, "n ..."]) -> Float[Tensor, "m n"]:
        """Return what the function returns, in the dtype and on the device of the inputs.

        Raises:
            DataError: it returned something that is not an array of real numbers, or raised an exception,
                which is then the cause of ours.
            ShapeError: it returned an array of another shape than (m, n).
        """
        arguments = self._as_argument(queries), self._as_argument(inputs)
        try:
            values = self._as_tensor(self.function(*arguments))
        except LeftoutError:
            raise
        except Exception as error:
            raise DataError(
                f"`{self.name}` must return an array; on inputs of shapes {tuple(queries.shape)} and "
                f"{tuple(inputs.shape)} it raised {exception_text(error)}"
            ) from error
        if tuple(values.shape) != (len(queries), len(inputs)):
            raise ShapeError(
                f"`{self.name}` must return an array of shape {(len(queries), len(inputs))}, one "
                f"row per row of its first argument; got {tuple(values.shape)}."
            )
        return values.to(inputs)

    def diagonal(self, inputs: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        """Return k(x, x), read off small blocks."""
        batches = (inputs[rows] for rows in blocks(len(inputs), DIAGONAL))
        diagonals = [self.block(batch, batch).diagonal() for batch in batches]
        values = torch.cat([inputs.new_zeros(0), *diagonals])
        check_finite(self.name, values)
        return values

    def check(self, name: str, inputs: Tensor) -> None:
        """Raise unless the inputs are finite; other checks are up to the function."""
        check_finite(name, inputs)

    @property
    def record(self) -> dict[str, Any]:
        """Return the name of the function; its code is not recorded."""
        return {"name": "from", "function": self.name, "numpy": self.numpy}

    def __repr__(self) -> str:
        return f"From({self.name}, numpy=True)" if self.numpy else f"From({self.name})"

    def _as_argument(self, rows: Tensor) -> Tensor | np.ndarray:
        if not self.numpy:
            return rows.clone()
        array = rows.detach().cpu().numpy().view()
        array.flags.writeable = False
        return array

    def _as_tensor(self, returned: Any) -> Tensor:
        if isinstance(returned, Tensor):
            returned = returned.detach()
            real = not returned.is_complex() and returned.dtype != torch.bool
        else:
            try:
                # A copy: arrays of other libraries may be read-only, which torch tensors cannot be.
                returned = np.array(returned)
            except (TypeError, ValueError) as error:
                raise self._not_an_array(returned) from error
            real = returned.dtype.kind in "fiu"
        if not real:
            raise self._not_an_array(returned)
        return returned if isinstance(returned, Tensor) else torch.from_numpy(returned)

    def _not_an_array(self, returned: Any) -> DataError:
        dtype = getattr(returned, "dtype", None)
        kind = repr(returned) if dtype is None else f"{type(returned).__name__} of {dtype}"
        return DataError(
            f"`{self.name}` must return an array of real numbers; got {kind[:100]}. A function "
            'that returns several kernels must be told which one (neural-tangents: get="ntk").'
        )
