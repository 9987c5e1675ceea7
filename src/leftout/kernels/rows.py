"""Checks of inputs before a kernel is evaluated: numbers, finite, not zero, of norm 1."""

import torch
from jaxtyping import Float
from torch import Tensor

from leftout.core.checks import check_finite
from leftout.core.errors import DataError, ShapeError

UNIT = 1e-6
"""How far from one a unit norm may be.

Rows normalised in float64 come within 2^-52 or so. Rows that were normalised and kept in float32
carry a rounding of 2^-24 for each component and for the few partial sums of a norm: about ten in
all, 6e-7. A row that was not normalised lies much further away.
"""


def flat_rows(inputs: Float[Tensor, "n ..."]) -> Float[Tensor, "n d"]:
    """Return each input as one row of numbers, in the order of its axes."""
    return inputs.flatten(1)  # (n, d)


def lengths(rows: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Return the Euclidean norm of every row."""
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1)
    return norms


def check_vectors(name: str, inputs: Tensor) -> None:
    """Raise unless the inputs are floating-point, finite and hold at least one feature each."""
    if not inputs.dtype.is_floating_point:
        raise DataError(
            f"`{name}` must be floating-point numbers; got {inputs.dtype}. "
            f"Convert them with `{name}.double()`."
        )
    if inputs.ndim < 2 or (len(inputs) > 0 and inputs[0].numel() == 0):
        raise ShapeError(
            f"`{name}` must have shape (rows, features…) with at least one feature; "
            f"got {tuple(inputs.shape)}. A single feature needs a second axis of length 1."
        )
    check_finite(name, inputs)


def check_network_inputs(name: str, inputs: Tensor, *, bias_variance: float) -> None:
    """Raise unless the inputs are vectors that a network with such biases does not map to 0.

    Raises:
        DataError: not floating-point, NaN or infinity, or a zero vector without a bias.
        ShapeError: no axis of features.
    """
    check_vectors(name, inputs)
    if bias_variance == 0:
        why = "Without a bias every network maps it to 0: drop it, or pass a positive `bias_variance`."
        check_not_zero(name, inputs, why=why)


def check_not_zero(name: str, inputs: Tensor, *, why: str) -> None:
    """Raise if a row is the zero vector; `why` says why that is a problem and what to do."""
    zero = (lengths(flat_rows(inputs)) == 0).nonzero().flatten()
    if len(zero):
        raise DataError(
            f"`{name}` must not hold a zero vector; row {int(zero[0])} has norm 0 "
            f"({len(zero)} of {len(inputs)} rows do). {why}"
        )


def check_unit(name: str, inputs: Tensor) -> None:
    """Raise unless every row has norm 1, up to the rounding of float32 data."""
    norms = lengths(flat_rows(inputs).double())
    off = ((norms - 1).abs() > UNIT).nonzero().flatten()
    if len(off):
        row = int(off[0])
        raise DataError(
            f"`{name}` must have rows of norm 1; row {row} has norm {float(norms[row]):.9g} "
            f'({len(off)} of {len(inputs)} rows are off). Load them with normalise="unit", '
            "or divide every row by its norm."
        )
