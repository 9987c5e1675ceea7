"""What is read off a fitted estimator of scikit-learn, and what it was fitted to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.core.blocks import check_fits
from leftout.core.errors import DataError, OptionError, ShapeError
from leftout.data.target_columns import TargetColumns
from leftout.solvers.smoother import Smoother


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What an estimator was fitted to.

    Attributes:
        inputs: X, as numbers.
        targets: y, as given.
        weights: sample weights; None where none were given.
        memory: budget in bytes.
    """

    inputs: Float64[Tensor, "n d"]
    targets: Any
    weights: Float64[Tensor, " n"] | None
    memory: int

    @property
    def scale(self) -> Float64[Tensor, " n"]:
        """Return the square root of each weight."""
        return torch.ones_like(self.inputs[:, 0]) if self.weights is None else self.weights.sqrt()

    def check_features_fit(self) -> None:
        """Raise unless the features, centred and weighted, and their singular vectors fit."""
        n, p = self.inputs.shape
        check_fits(
            f"The singular value decomposition of {n} examples of {p} features",
            8 * (2 * n * p + 2 * (n + p) * min(n, p)),
            self.memory,
            advice="Fit fewer examples or features, or raise `memory`.",
        )

    def check_gram_fits(self) -> None:
        """Raise unless the kernel matrix, its factor and its inverse fit."""
        n = len(self.inputs)
        check_fits(
            f"The kernel matrix of {n} examples, with factor and inverse,",
            4 * 8 * n * n,
            self.memory,
            advice="Fit fewer examples, or raise `memory`.",
        )


@dataclass(frozen=True, eq=False)
class EstimatorParts:
    """An estimator as smoothers, and how targets and queries reach them; see `FittedEstimator`.

    Attributes:
        reference: the estimator's own predictions at inputs, columns as here.
        settings: what is fixed while examples are left out, JSON-like.
    """

    smoothers: Sequence[Smoother]
    smoother_of: Sequence[int]
    targets: Float64[Tensor, "n k"]
    columns: TargetColumns
    compare: Callable[[Float64[Tensor, "m d"]], Float64[Tensor, "m _"]]
    reference: Callable[[Any], np.ndarray]
    shifts: bool = False
    centred: bool = False
    has_weights: bool = True
    settings: dict[str, Any] = field(default_factory=dict)


def number_columns(targets: Any) -> tuple[TargetColumns, Float64[Tensor, "n k"]]:
    """Return columns of numbers, named by their place, and the numbers in them.

    Raises:
        DataError: no finite numbers.
    """
    shape = np.shape(targets)
    if len(shape) not in (1, 2) or 0 in shape:
        raise ShapeError(f"`y` must have shape (n,) or (n, k); got {tuple(shape)}.")
    columns = TargetColumns(tuple(str(column) for column in range(shape[1] if len(shape) == 2 else 1)))
    return columns, columns.encode("y", targets)


def distinct_ridges(alpha: Any, outputs: int) -> tuple[list[float], list[int]]:
    """Return the different penalties, and which one each output has.

    Args:
        alpha: one for all outputs, or one each.

    Raises:
        OptionError: another number of them.
    """
    each = np.atleast_1d(np.asarray(alpha, dtype=np.float64)).ravel()
    if len(each) not in (1, outputs):
        raise OptionError(
            f"`alpha` must be one number, or one for each of {outputs} targets; got {len(each)}."
        )
    each = np.broadcast_to(each, (outputs,))
    ridges, places = np.unique(each, return_inverse=True)
    return ridges.tolist(), places.tolist()


def check_double(name: str, coefficients: Any) -> None:
    """Raise unless an estimator was fitted in double precision."""
    dtype = np.asarray(coefficients).dtype
    if dtype != np.float64:
        raise DataError(
            f"{name} was fitted in {dtype}, whose rounding is larger than the effect of many examples: fit "
            "it to X.astype(float)."
        )
