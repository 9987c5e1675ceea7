"""The loss of each query under the outputs of a network, and what the outputs are compared with."""

from typing import Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from leftout.core.checks import check_choice
from leftout.core.errors import DataError, OptionError, ShapeError
from leftout.data.examples import Examples
from leftout.data.probabilities import as_probabilities
from leftout.dynamics.losses import CROSS_ENTROPY, SQUARED, ExampleLoss

LossName = Literal["cross-entropy", "squared"]

LOSSES: dict[str, ExampleLoss] = {"cross-entropy": CROSS_ENTROPY, "squared": SQUARED}


def loss_name(loss: LossName | None, train: Examples) -> LossName:
    """Return the loss that is meant: where none is named, cross-entropy of classes and squared of numbers.

    Raises:
        OptionError: no such loss, or cross-entropy of targets that are no classes.
    """
    if loss is None:
        return "squared" if train.labels is None else "cross-entropy"
    check_choice("loss", loss, tuple(LOSSES))
    if loss == "cross-entropy" and train.labels is None:
        raise OptionError("`loss` must be 'squared' for targets that are numbers; got 'cross-entropy'.")
    return loss


def loss_targets(examples: Examples, loss: LossName, outputs: int) -> Tensor:
    """Return what outputs are compared with, (n, k): probabilities of classes, or numbers.

    Raises:
        ShapeError: a network with other outputs than there are classes or target columns.
    """
    if loss == "squared":
        examples = examples.in_columns(outputs)
        columns = examples.targets.shape[1]
        if columns != outputs:
            raise ShapeError(
                f"`train_function` must make networks with an output for each of {columns} target columns; "
                f"got {outputs} outputs."
            )
        return examples.targets
    assert examples.labels is not None
    assert examples.classes is not None
    count = len(examples.classes)
    if outputs != count and (outputs, count) != (1, 2):
        raise ShapeError(
            f"`train_function` must make networks with an output for each of {count} classes"
            f"{' (or one for both)' if count == 2 else ''}; got {outputs} outputs."
        )
    return as_probabilities(examples, outputs=outputs).targets


def losses(outputs: Float[Tensor, "m k"], targets: Tensor, loss: LossName) -> Float[Tensor, " m"]:
    """Return the loss of each row.

    Args:
        targets: from `loss_targets`.
    """
    return LOSSES[loss].of(outputs, targets.to(outputs))


def query_losses(outputs: Float64[Tensor, "m k"], query: Examples, loss: LossName) -> Float64[Tensor, " m"]:
    """Return the loss of each query.

    Raises:
        ShapeError: outputs that do not fit the classes or targets.
        DataError: outputs that are not finite; names the first query.
    """
    broken = (~torch.isfinite(outputs)).any(1).nonzero().flatten()
    if len(broken):
        raise DataError(
            "`train_function` must make networks with finite outputs; of query "
            f"{query.ids[int(broken[0])]!r} they are NaN or infinite ({len(broken)} of {len(outputs)} "
            "queries). Train with a smaller rate."
        )
    return losses(outputs, loss_targets(query, loss, outputs.shape[1]), loss)
