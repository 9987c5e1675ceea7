"""The loss of each query under the outputs of a network: cross-entropy of classes, or half the squared error.

cross-entropy    log Σ_c exp f_c − f_label;  of one output and two classes log(1 + exp(∓f))
squared          ½ Σ_c (f_c − y_c)²
"""

from typing import Literal

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

from leftout.core.checks import check_choice
from leftout.core.errors import DataError, OptionError, ShapeError
from leftout.data.examples import Examples

LossName = Literal["cross-entropy", "squared"]

LOSS_UNITS: dict[str, str] = {
    "cross-entropy": "cross-entropy in nats",
    "squared": "½ Σ (prediction − target)² over outputs",
}


def loss_name(loss: LossName | None, train: Examples) -> LossName:
    """Return the loss that is meant: where none is named, cross-entropy of classes and squared of numbers.

    Raises:
        OptionError: no such loss, or cross-entropy of targets that are no classes.
    """
    if loss is None:
        return "squared" if train.labels is None else "cross-entropy"
    check_choice("loss", loss, tuple(LOSS_UNITS))
    if loss == "cross-entropy" and train.labels is None:
        raise OptionError("`loss` must be 'squared' for targets that are numbers; got 'cross-entropy'.")
    return loss


def loss_targets(examples: Examples, loss: LossName, outputs: int) -> Tensor:
    """Return what outputs are compared with: class numbers (n,), or numbers (n, k).

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
    return examples.labels


def losses(outputs: Float[Tensor, "m k"], targets: Tensor, loss: LossName) -> Float[Tensor, " m"]:
    """Return the loss of each row.

    Args:
        targets: from `loss_targets`.
    """
    if loss == "squared":
        return (outputs - targets.to(outputs)).square().sum(-1) / 2
    if outputs.shape[-1] == 1:
        return softplus(outputs[..., 0] * (1 - 2 * targets.to(outputs.dtype)))
    return cross_entropy(outputs, targets, reduction="none")


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
