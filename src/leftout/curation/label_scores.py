"""What a model that has not seen a label says of it: of every one, in the columns of a table.

Of classes it is the calibrated probability of the given class. Of numbers it is how often a residual as large
as this would be seen if residuals were normal, with the median and the median absolute deviation of all:

    erfc(|r − median| / (√2 · 1.4826 MAD))      at left-out residuals r

and of several outputs given and suggested are of the one that is furthest off.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.data.examples import Examples


@dataclass(frozen=True, eq=False)
class LabelScores:
    """What is said of n labels, in the order of the examples.

    Attributes:
        given: the given class of each, or its number in the units of the data.
        suggested: the most probable class without the example, or the number that is predicted without it.
        scores: from 0 to 1, small where it is doubted: the calibrated probability of the given class.
        suggested_scores: the same of the suggested class; NaN for numbers.
    """

    given: list[Any]
    suggested: list[Any]
    scores: Float64[np.ndarray, " n"]
    suggested_scores: Float64[np.ndarray, " n"]


def class_label_scores(
    probabilities: Float64[np.ndarray, "n c"], labels: Int64[np.ndarray, " n"], names: Sequence[Any]
) -> LabelScores:
    """Return what calibrated left-out probabilities say of labels."""
    rows, best = np.arange(len(labels)), probabilities.argmax(1)
    return LabelScores(
        given=[names[number] for number in labels],
        suggested=[names[number] for number in best],
        scores=probabilities[rows, labels],
        suggested_scores=probabilities[rows, best],
    )


def number_label_scores(
    train: Examples,
    predicted: Float64[Tensor, "n k"],
    residuals: tuple[Float64[Tensor, "n k"], Float64[Tensor, " k"]],
    *,
    outputs: Sequence[int],
) -> LabelScores:
    """Return what left-out predictions say of numbers.

    Args:
        predicted: of each example without itself.
        residuals: from their median, and their robust standard deviation in each output.
        outputs: the one of each example that is furthest off.
    """
    rows, columns = torch.arange(len(train), device="cpu"), torch.tensor(outputs, device="cpu")
    spread, scale = residuals
    distance, unit = spread[rows, columns].abs(), scale[columns]
    # Where most residuals are equal the deviation is zero, and any other is infinitely many of it away.
    deviations = torch.where(distance > 0, distance / unit, torch.zeros_like(distance))
    scores = torch.special.erfc(deviations / 2**0.5).numpy()
    return LabelScores(
        given=train.encoding.in_target_units(train.targets)[rows, columns].tolist(),
        suggested=train.encoding.in_target_units(predicted)[rows, columns].tolist(),
        scores=scores,
        suggested_scores=np.full(len(scores), np.nan),
    )
