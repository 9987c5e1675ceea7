"""What if the kernel is a function that somebody else wrote?"""

from collections.abc import Callable
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from leftout.core.blocks import blocks
from leftout.core.checks import check_finite
from leftout.core.errors import DataError, ShapeError
from leftout.kernels.base import Kernel

DIAGONAL = 32
"""Inputs a call when only the diagonal is wanted: of each call 1/32 is used, and calls stay few."""


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
            DataError: it returned something that is not an array of real numbers.
            ShapeError: it returned an array of another shape than (m, n).
        """
        value = self._tensor(self.function(self._given(queries), self._given(inputs)))
        if tuple(value.shape) != (len(queries), len(inputs)):
            raise ShapeError(
                f"`{self.name}` must return an array of shape {(len(queries), len(inputs))}, one "
                f"row per row of its first argument; got {tuple(value.shape)}."
            )
        return value.to(inputs)

    def diagonal(self, inputs: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        """Return k(x, x), read off small blocks."""
        parts = [inputs[part] for part in blocks(len(inputs), DIAGONAL)]
        if not parts:
            return inputs.new_zeros(0)
        value = torch.cat([self.block(part, part).diagonal() for part in parts])
        check_finite(self.name, value)
        return value

    def check(self, name: str, inputs: Tensor) -> None:
        """Raise unless the inputs are finite; the function says the rest itself."""
        check_finite(name, inputs)

    @property
    def record(self) -> dict[str, Any]:
        """Return name and function: a name, not its code, so it says less than other records."""
        return {"name": "from", "function": self.name, "numpy": self.numpy}

    def __repr__(self) -> str:
        return f"From({self.name}, numpy=True)" if self.numpy else f"From({self.name})"

    def _given(self, rows: Tensor) -> Tensor | np.ndarray:
        if not self.numpy:
            return rows.clone()
        array = rows.detach().cpu().numpy().view()
        array.flags.writeable = False
        return array

    def _tensor(self, value: Any) -> Tensor:
        if isinstance(value, Tensor):
            value = value.detach()
            real = not value.is_complex() and value.dtype != torch.bool
        else:
            try:
                # A copy: arrays of other libraries are read-only, which torch has no word for.
                value = np.array(value)
            except (TypeError, ValueError) as error:
                raise self._not_an_array(value) from error
            real = value.dtype.kind in "fiu"
        if not real:
            raise self._not_an_array(value)
        return value if isinstance(value, Tensor) else torch.from_numpy(value)

    def _not_an_array(self, value: Any) -> DataError:
        came = f"{type(value).__name__} of {value.dtype}" if hasattr(value, "dtype") else repr(value)
        return DataError(
            f"`{self.name}` must return an array of real numbers; got {came[:100]}. A function "
            'that returns several kernels must be told which one (neural-tangents: get="ntk").'
        )
