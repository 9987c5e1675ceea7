"""A kernel given by its matrix, computed elsewhere."""

from functools import cached_property
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from leftout.core.checks import check_finite
from leftout.core.errors import DataError, ShapeError
from leftout.core.fingerprint import fingerprint
from leftout.kernels.base import Kernel
from leftout.kernels.symmetry import check_symmetric


@final
class Precomputed(Kernel):
    """A kernel given by its values between all points, training and query alike.

    Inputs are row numbers into the matrix, as a vector (n,) or a column (n, 1) of whole numbers in
    any floating-point type. Where the two triangles differ by rounding, both become their mean, and
    `record["asymmetry"]` says by how much they differed.

    Args:
        gram: the kernel between all points; float32 is kept, other types become float64.

    Raises:
        ShapeError: not square, or empty.
        DataError: NaN, infinity, or not symmetric beyond rounding (the worst pair is named).

    Cost:
        Two passes over the matrix when made; no copy if it is symmetric, one if it is not.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> kernel = lo.kernels.Precomputed(torch.tensor([[2.0, 1.0], [1.0, 2.0]]))
        >>> points = torch.tensor([0.0, 1.0])
        >>> kernel.block(points[:1], points)
        tensor([[2., 1.]])
    """

    def __init__(self, gram: Tensor | np.ndarray) -> None:
        if isinstance(gram, np.ndarray):
            # A read-only array is copied: torch has no read-only tensors.
            gram = torch.from_numpy(np.require(gram, requirements=["W"]))
        gram = gram.detach()
        if gram.dtype not in (torch.float32, torch.float64):
            gram = gram.double()
        if gram.ndim != 2 or gram.shape[0] != gram.shape[1] or not len(gram):
            raise ShapeError(
                "`gram` must be square, the kernel between all points, training and query alike; "
                f"got {tuple(gram.shape)}."
            )
        check_finite("gram", gram)
        self.asymmetry = check_symmetric("gram", gram)
        self.gram = (gram + gram.T).div_(2) if self.asymmetry > 0 else gram

    def block(self, queries: Float[Tensor, "m ..."], inputs: Float[Tensor, "n ..."]) -> Float[Tensor, "m n"]:
        """Return the entries of these rows and columns."""
        rows, columns = self._numbers(queries), self._numbers(inputs)
        return self.gram[rows[:, None], columns].to(inputs)  # (m, n)

    def diagonal(self, inputs: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
        """Return the diagonal entries of these rows."""
        return self.gram.diagonal()[self._numbers(inputs)].to(inputs)

    def check(self, name: str, inputs: Tensor) -> None:
        """Raise unless the inputs are row numbers.

        Raises:
            ShapeError: neither (n,) nor (n, 1).
            DataError: a number that is not whole or not a row of `gram`; the first is named.
        """
        if inputs.ndim == 0 or inputs.ndim > 2 or (inputs.ndim == 2 and inputs.shape[1] != 1):
            raise ShapeError(
                f"`{name}` must be row numbers of `gram`, of shape (n,) or (n, 1); got {tuple(inputs.shape)}."
            )
        check_finite(name, inputs)
        numbers = inputs.reshape(-1)
        wrong = (numbers != numbers.round()) | (numbers < 0) | (numbers >= len(self.gram))
        if bool(wrong.any()):
            row = int(wrong.nonzero()[0])
            raise DataError(
                f"`{name}` must be row numbers of `gram`, whole numbers from 0 to "
                f"{len(self.gram) - 1}; row {row} holds {float(numbers[row]):g}."
            )

    @property
    def record(self) -> dict[str, Any]:
        """Return name, number of points, asymmetry and a fingerprint of the values."""
        return {
            "name": "precomputed",
            "points": len(self.gram),
            "asymmetry": self.asymmetry,
            "fingerprint": self._fingerprint,
        }

    @cached_property
    def _fingerprint(self) -> str:
        return fingerprint(self.gram)

    def _numbers(self, inputs: Tensor) -> Tensor:
        return inputs.reshape(-1).to(device=self.gram.device, dtype=torch.int64)

    def __repr__(self) -> str:
        return f"Precomputed({len(self.gram)} points)"
