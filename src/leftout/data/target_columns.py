"""Targets of an estimator of another library, as the columns of numbers that it was fitted to."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.core.checks import shown
from leftout.core.errors import DataError, ShapeError


@dataclass(frozen=True, eq=False)
class TargetColumns:
    """How targets become the columns that the estimator was fitted to.

    Attributes:
        names: of the outputs.
        classes: their labels, each with a row of numbers in `codes`; None of numbers.
        codes: (classes, k).
    """

    names: tuple[str, ...]
    classes: np.ndarray | None = None
    codes: Float64[Tensor, "c k"] | None = None

    def encode(self, name: str, targets: Any) -> Float64[Tensor, "n k"]:
        """Return targets, in the units that they were given in, as columns.

        Raises:
            DataError: a class that the estimator was not fitted to, or no finite numbers.
            ShapeError: another number of columns.
        """
        array = np.asarray(targets.detach().cpu() if isinstance(targets, Tensor) else targets)
        if self.classes is not None and self.codes is not None:
            labels = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
            if labels.ndim != 1:
                raise ShapeError(f"`{name}` must hold a class an example; got shape {tuple(array.shape)}.")
            matches = labels[:, None] == self.classes  # (n, c)
            unknown = (
                np.flatnonzero(~matches.any(1)) if matches.shape == (len(labels), len(self.classes)) else [0]
            )
            if len(unknown):
                raise DataError(
                    f"`{name}` must hold classes of the estimator, {', '.join(map(str, self.classes[:20]))}; "
                    f"row {unknown[0]} is {shown(labels[unknown[0]])}."
                )
            return self.codes[torch.from_numpy(matches.argmax(1))]
        try:
            numbers = torch.from_numpy(np.array(array, dtype=np.float64))
        except (TypeError, ValueError):
            raise DataError(f"`{name}` must hold numbers; got {array.dtype}.") from None
        numbers = numbers[:, None] if numbers.ndim == 1 else numbers
        if numbers.ndim != 2 or numbers.shape[1] != len(self.names):
            raise ShapeError(
                f"`{name}` must have {len(self.names)} columns, as the estimator was fitted to; got shape "
                f"{tuple(array.shape)}."
            )
        if not bool(torch.isfinite(numbers).all()):
            raise DataError(f"`{name}` must be finite; it holds NaN or infinity.")
        return numbers
