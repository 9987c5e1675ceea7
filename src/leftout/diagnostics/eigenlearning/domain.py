"""What is the domain that a kernel is asked about? M points, equally likely: its Gram matrix and functions.

Everything is measured under the mean over the points: ⟨f, g⟩ = (1/M) Σ f g, and the kernel's
eigenvalues are those of gram / M.
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
    """Return the kernel between all points of a domain in double precision, and what it came in.

    Raises:
        ShapeError: not square, or empty.
        DataError: no real numbers, NaN or infinity, or not symmetric beyond rounding.
    """
    value = real_tensor("gram", gram)
    if value.ndim != 2 or value.shape[0] != value.shape[1] or not len(value):
        raise ShapeError(
            "`gram` must be square, the kernel between all points of the domain or of a large sample "
            f"of it; got {tuple(value.shape)}."
        )
    check_finite("gram", value)
    check_symmetric("gram", value)
    return value.double(), value.dtype


def domain_functions(name: str, values: Any, gram: Float64[Tensor, "m m"]) -> Float64[Tensor, "m k"]:
    """Return functions on the domain, one a column.

    Raises:
        ShapeError: neither (M,) nor (M, k).
        DataError: no real numbers, NaN or infinity.
    """
    value = real_tensor(name, values)
    if value.ndim not in (1, 2) or 0 in value.shape:
        raise ShapeError(
            f"`{name}` must have shape (M,) or (M, k), M the side of `gram`; got {tuple(value.shape)}."
        )
    check_rows(name, value, len(gram))
    check_finite(name, value)
    columns = value if value.ndim == 2 else value[:, None]
    return columns.to(gram)


def domain_rows(rows: Any, m: int, like: Tensor) -> Tensor:
    """Return the numbers of the points that are examples, each once; there may be none.

    Raises:
        OptionError: numbers that are not whole or no point of the domain, or a point twice.
    """
    numbers = row_numbers("rows", rows)
    if any(not 0 <= one < m for one in numbers) or len(set(numbers)) < len(numbers):
        raise OptionError(
            f"`rows` must be numbers of points of the domain, from 0 to {m - 1}, each once; got "
            f"{numbers if len(numbers) < 10 else [*numbers[:9], '…']}."
        )
    return torch.tensor(numbers, dtype=torch.int64, device=like.device)


def real_tensor(name: str, values: Any) -> Tensor:
    """Return real numbers as a tensor in float32 or float64; other real types become float64.

    Raises:
        DataError: what holds no real numbers.
    """
    if isinstance(values, Tensor):
        value = values.detach()
    else:
        array = np.asarray(values)
        if array.dtype.kind not in "fiu":
            raise DataError(f"`{name}` must hold real numbers; got dtype {array.dtype}.")
        # A copy: torch has no word for arrays that cannot be written.
        value = torch.from_numpy(np.array(array))
    if value.is_complex() or value.dtype == torch.bool:
        raise DataError(f"`{name}` must hold real numbers; got dtype {value.dtype}.")
    return value if value.dtype in (torch.float32, torch.float64) else value.double()
