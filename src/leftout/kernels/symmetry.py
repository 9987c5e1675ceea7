"""Is a matrix symmetric, up to the rounding of whoever computed it?"""

import torch
from jaxtyping import Float
from torch import Tensor

from leftout.core.blocks import blocks
from leftout.core.errors import DataError

ASYMMETRY = 1e-5
"""|k(x, z) − k(z, x)| over the largest |k| that passes as rounding.

The matrix may come from float32: a sum of d terms is off by √d · 2^-24 or so, 3e-6 for d = 3000. An
entry from a formula that is not symmetric differs by far more.
"""

PANEL = 1024
"""Rows compared at a time, so that the check needs no second matrix."""


def asymmetry(matrix: Float[Tensor, "n n"]) -> tuple[float, int, int]:
    """Return the largest |k_ij − k_ji| and its i < j; (0, 0, 0) for a symmetric matrix."""
    worst, row, column = 0.0, 0, 0
    for panel in blocks(len(matrix), PANEL):
        difference = (matrix[panel] - matrix[:, panel].T).abs_()
        largest, place = difference.flatten().max(0)
        if float(largest) > worst:
            i, j = divmod(int(place), len(matrix))
            worst, row, column = float(largest), panel.start + i, j
    return worst, min(row, column), max(row, column)


def check_symmetric(name: str, matrix: Float[Tensor, "n n"], *, first: int = 0) -> float:
    """Return the largest |k_ij − k_ji|, and raise if it is no rounding.

    Args:
        first: the row number of the first row, where `matrix` is a block of a larger one.

    Raises:
        DataError: names the worst pair and both values.
    """
    worst, i, j = asymmetry(matrix)
    if worst > ASYMMETRY * float(torch.stack(matrix.aminmax()).abs().max() if len(matrix) else 0):
        raise DataError(
            f"`{name}` must be symmetric; entry ({first + i}, {first + j}) is "
            f"{float(matrix[i, j]):.9g} and entry ({first + j}, {first + i}) is "
            f"{float(matrix[j, i]):.9g}. Average it with its transpose if that is what you mean."
        )
    return worst
