"""Targets of an estimator of another library, as the columns of numbers that it was fitted to."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.core.checks import shown
from leftout.core.errors import DataError, ShapeError
from leftout.data.conversion import as_array


@dataclass(frozen=True, eq=False)
class TargetColumns:
    """How targets become the columns that the estimator was fitted to.

    Attributes:
        names: of the outputs.
        classes: their labels, each with a row of numbers in `codes`; None of numbers.
        codes: (classes, k).
        class_weights: what an example of each class weighs besides its own weight; None of numbers.
    """

    names: tuple[str, ...]
    classes: np.ndarray | None = None
    codes: Float64[Tensor, "c k"] | None = None
    class_weights: Float64[Tensor, " c"] | None = None

    def encode(self, name: str, targets: Any) -> Float64[Tensor, "n k"]:
        """Return targets, in the units that they were given in, as columns.

        Raises:
            DataError: a class that the estimator was not fitted to, or no finite numbers.
            ShapeError: another number of columns.
        """
        array = as_array(name, targets)
        if self.codes is not None:
            return self.codes[self.class_numbers(name, array)]
        try:
            numbers = torch.from_numpy(np.array(array, dtype=np.float64))
        except (TypeError, ValueError, OverflowError):
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

    def class_numbers(self, name: str, labels: np.ndarray) -> Int64[Tensor, " n"]:
        """Return the place of each label among the classes.

        Raises:
            DataError: a label that is none of them.
            ShapeError: not one label for each example.
        """
        assert self.classes is not None
        labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
        if labels.ndim != 1:
            raise ShapeError(f"`{name}` must hold a class for each example; got shape {tuple(labels.shape)}.")
        places = {label: place for place, label in enumerate(self.classes.tolist())}
        for row, label in enumerate(labels.tolist()):
            if not isinstance(label, Hashable) or label not in places:
                listed = ", ".join(map(str, self.classes[:20]))
                raise DataError(
                    f"`{name}` must hold classes of the estimator, {listed}; row {row} is {shown(label)}."
                )
        return torch.tensor([places[label] for label in labels.tolist()], dtype=torch.long, device="cpu")
