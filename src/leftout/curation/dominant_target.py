"""Does one number to predict decide what is said of all others?

Squared loss follows a gross error: its neighbours are predicted far off, and doubted for it. With r the
left-out residuals, (n, k), the target of row i is *dominant* where

    |r_i|² > Σ |r_j|² over all other j,      more than half of the squared error is its own, and
    most of the other doubted targets are not doubted by the model without i: left out together with i,
    each is predicted within the fence that decides a doubt (`mislabelled`)

The first alone holds of honest numbers with heavy tails as well; the second is what has been done to the
others, so that what is said is true of whatever numbers. Left-out predictions of pairs are exact
(`leave_out`), at two rows for each of the doubted.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.attribution.leave_out import leave_out
from leftout.core.wording import percent, plain, target_number
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.losses import SQUARED
from leftout.dynamics.rules import At

ASKED = 50
"""Other doubted targets, most doubtful first, that are asked for without the dominant one."""

LEAST = 2
"""Other doubted targets below which nothing is called most of them."""


def dominant_target(
    fitted: Fitted,
    residuals: Float64[Tensor, "n k"],
    doubted: Sequence[int],
    *,
    centre: Float64[Tensor, " k"],
    fence: Float64[Tensor, " k"],
    at: At = None,
) -> str:
    """Return the sentences on a target that decides what is said of the others; empty where there is none.

    A kernel that was fitted to labels is kept as all of them made it.

    Args:
        residuals: target minus left-out prediction, of every training example.
        doubted: rows, most doubtful first.
        centre, fence: a residual is doubted further than `fence` from `centre`.
        at: training time; None is the end.

    Cost:
        that of `leave_out` with at most 50 groups of two, where one target has most of the squared error.
    """
    squares = residuals.square().sum(1)
    row = int(squares.argmax())
    others = [other for other in doubted if other != row][:ASKED]
    if 2 * float(squares[row]) <= float(squares.sum()) or len(others) < LEAST:
        return ""
    if fitted.rule.example_loss is not SQUARED:
        return ""
    fixed, train = fitted.freeze_labels(), fitted.train
    queries = train.select(others)
    pairs = [[row, other] for other in others]
    change = torch.from_numpy(leave_out(fixed, queries, pairs, at=at, of="prediction").values)  # (q, q, k)
    places = torch.arange(len(others), device="cpu")
    without = fixed.predict(queries, at).cpu() - change[places, places]  # (q, k)
    stay = (((queries.targets - without) - centre).abs() > fence).any(1)
    gone = int((~stay).sum())
    if 2 * gone <= len(others):
        return ""
    share = percent(float(squares[row] / squares.sum()), 0)
    return _sentences(fitted, row, int(residuals[row].abs().argmax()), share, (gone, len(others)))


def _sentences(fitted: Fitted, row: int, output: int, share: str, counts: tuple[int, int]) -> str:
    """Return what is said of a dominant target.

    Args:
        counts: of the other doubted targets, those that it is the reason of, and all that were asked for.
    """
    train = fitted.train
    numbers = train.encoding.in_target_units(train.targets)[:, output]
    positive = bool((numbers > 0).all())
    advice = "predict the logarithm" if positive else "predict on a scale without such distances"
    name, number = plain(train.ids[row]), target_number(float(numbers[row]), train.target_digits)
    most = "most doubtful " if counts[1] == ASKED else ""
    return (
        f"One target decides what is said of the others: that of {name}, {number}, is {share} of the squared "
        f"error of the examples left out. Without it {counts[0]} of the {counts[1]} {most}others would not "
        f"be doubted. If it is wrong, correct it or drop the row; if it is right, {advice}."
    )
