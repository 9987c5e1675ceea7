"""A domain of M equally likely points: checks of its Gram matrix, functions on it, and example numbers.

Inner products are means over the points, ⟨f, g⟩ = (1/M) Σ f g, and the kernel's eigenvalues are those of
gram / M.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.core.checks import check_finite, check_rows, row_numbers
from leftout.core.errors import DataError, OptionError, ShapeError
from leftout.kernels.symmetry import check_symmetric


def domain_gram(gram: Any) -> tuple[Float64[Tensor, "m m"], torch.dtype]:
    """Return the kernel between all points of a domain in double precision, and its original dtype.

    Raises:
        ShapeError: not square, or empty.
        DataError: no real numbers, NaN or infinity, or not symmetric beyond rounding.
    """
    matrix = real_tensor("gram", gram)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not len(matrix):
        raise ShapeError(
            "`gram` must be square, the kernel between all points of the domain or of a large sample "
            f"of it; got {tuple(matrix.shape)}."
        )
    check_finite("gram", matrix)
    check_symmetric("gram", matrix)
    return matrix.double(), matrix.dtype


def domain_functions(name: str, values: Any, gram: Float64[Tensor, "m m"]) -> Float64[Tensor, "m k"]:
    """Return functions on the domain, one per column.

    Raises:
        ShapeError: neither (M,) nor (M, k).
        DataError: no real numbers, NaN or infinity.
    """
    functions = real_tensor(name, values)
    if functions.ndim not in (1, 2) or 0 in functions.shape:
        raise ShapeError(
            f"`{name}` must have shape (M,) or (M, k), M the side of `gram`; got {tuple(functions.shape)}."
        )
    check_rows(name, functions, len(gram))
    check_finite(name, functions)
    columns = functions if functions.ndim == 2 else functions[:, None]
    return columns.to(gram)


def domain_rows(rows: Any, m: int, like: Tensor) -> Tensor:
    """Return the numbers of the points that are examples; there may be none.

    Raises:
        OptionError: numbers that are not integers or out of range, or a point twice.
    """
    numbers = row_numbers("rows", rows)
    if any(not 0 <= number < m for number in numbers) or len(set(numbers)) < len(numbers):
        raise OptionError(
            f"`rows` must be numbers of points of the domain, from 0 to {m - 1}, each once; got "
            f"{numbers if len(numbers) < 10 else [*numbers[:9], '…']}."
        )
    return torch.tensor(numbers, dtype=torch.int64, device=like.device)


def real_tensor(name: str, values: Any) -> Tensor:
    """Return real numbers as a tensor in float32 or float64; other real types become float64.

    Raises:
        DataError: values that are not real numbers.
    """
    if isinstance(values, Tensor):
        tensor = values.detach()
        if tensor.is_meta:
            raise DataError(f"`{name}` must hold numbers; a tensor on the meta device holds none.")
    else:
        array = np.asarray(values)
        array = array.astype(np.float64) if array.dtype.kind == "u" else array  # torch has few without sign
        if array.dtype.kind not in "fiu":
            raise DataError(f"`{name}` must hold real numbers; got dtype {array.dtype}.")
        # A copy: torch warns of arrays that cannot be written to.
        tensor = torch.from_numpy(np.array(array))
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise DataError(f"`{name}` must hold real numbers; got dtype {tensor.dtype}.")
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.double()
