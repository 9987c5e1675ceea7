"""How class numbers become targets, and predictions become class numbers again.

A network with squared loss predicts numbers. Two classes become one column of −1 and +1, or one
each for a network that has two outputs; more become one column each. Because f_0 = 0 is what the
kernel says about a point far from all data, the columns are centred so that zero means "no opinion":

    "uniform"  one-hot minus 1/k (one column for two classes: ∓1); regression: as given
    "mean"     minus the mean of the training targets
    "none"     one-hot as it is (one column for two classes: ∓1); regression: as given

The centre is a constant of the preparation: it is not recomputed when an example is left out.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from leftout.core.blocks import check_fits, memory_budget
from leftout.core.checks import check_choice, check_whole
from leftout.core.errors import DataError, OptionError, ShapeError
from leftout.data.options import Centre

CENTRES: tuple[Centre, ...] = ("uniform", "mean", "none")


@dataclass(frozen=True)
class Encoding:
    """Class names (None for regression) and the centre that was subtracted from each column."""

    classes: tuple[str, ...] | None
    offset: tuple[float, ...]
    centre: Centre = "none"
    as_probabilities: bool = False
    """Whether targets are probabilities of classes, of the second one where two share a column."""

    @property
    def outputs(self) -> int:
        """Return k, the number of target columns."""
        return len(self.offset)

    def encode(self, labels: Int64[Tensor, " n"]) -> Float64[Tensor, "n k"]:
        """Return the targets of class numbers.

        Raises:
            MemoryBudgetError: they would not fit into the free memory; nothing is made then.
        """
        assert self.classes is not None
        n, k = len(labels), self.outputs
        check_fits(
            f"The targets of {n} examples in {k} columns, one each for {len(self.classes)} classes,",
            8 * n * k,
            memory_budget(None),
            advice="Take fewer examples or classes, or floats where they are numbers to predict.",
        )
        offset = torch.tensor(self.offset, dtype=torch.float64, device="cpu")
        if self.as_probabilities and k == 1:
            return labels.double()[:, None]  # (n, 1)
        if k == 1:
            return (2.0 * labels.double() - 1)[:, None] - offset  # (n, 1)
        targets = (0.0 - offset).repeat(n, 1)  # (n, c), in place: the largest array of many classes
        targets[torch.arange(n, device="cpu"), labels] = 1.0 - offset[labels]
        return targets

    def decode(self, predictions: Float[Tensor, "m k"]) -> Int64[Tensor, " m"]:
        """Return the class number with the largest prediction."""
        outputs = self.in_target_units(predictions)
        if outputs.shape[1] == 1:
            return (outputs[:, 0] >= 0).long()
        return outputs.argmax(1)

    def class_scores(self, predictions: Float[Tensor, "m k"]) -> Float64[Tensor, "m c"]:
        """Return one number per class, larger = more of this class, in target units.

        Two classes share one column: the score of the second class is +f, of the first −f.
        """
        outputs = self.in_target_units(predictions)
        return torch.cat([-outputs, outputs], dim=1) if outputs.shape[1] == 1 else outputs

    def in_target_units(self, predictions: Float[Tensor, "m k"]) -> Float64[Tensor, "m k"]:
        """Return predictions in the units of the original targets."""
        offset = torch.tensor(self.offset, dtype=torch.float64, device=predictions.device)
        return predictions.double() + offset


def encoding_of_classes(
    labels: Int64[Tensor, " n"],
    classes: tuple[str, ...],
    *,
    centre: Centre = "uniform",
    outputs: int | None = None,
) -> Encoding:
    """Return the encoding of class numbers 0 … c − 1, centred by the rule `centre`.

    Args:
        outputs: columns; None is one for two classes and one each for more.

    Raises:
        DataError: fewer than two classes, or a label outside them (the first row is named).
        OptionError: a number of columns that these classes have not.

    Example:
        >>> import torch
        >>> encoding = encoding_of_classes(torch.tensor([0, 1, 1]), ("cat", "dog"))
        >>> encoding.encode(torch.tensor([0, 1])).tolist()
        [[-1.0], [1.0]]
    """
    check_choice("centre", centre, CENTRES)
    count = len(classes)
    if count < 2:
        raise DataError(f"`labels` must hold at least two classes; got {count}.")
    outside = ((labels < 0) | (labels >= count)).nonzero().flatten()
    if len(outside):
        row = int(outside[0])
        raise DataError(
            f"`labels` must lie in 0 … {count - 1}, the {count} classes; row {row} is {int(labels[row])}."
        )
    if outputs is not None:
        check_whole("outputs", outputs, 0)
    width = outputs if outputs is not None else (1 if count == 2 else count)
    if width != count and (count, width) != (2, 1):
        allowed = "1 or 2" if count == 2 else str(count)
        raise OptionError(f"`outputs` must be {allowed} for {count} classes; got {outputs}.")
    if centre == "mean":
        counts = torch.bincount(labels, minlength=count)  # (c,)
        offset = (counts if width > 1 else counts[1:] - counts[:1]).double() / len(labels)
    elif centre == "uniform" and width > 1:
        offset = torch.full((count,), 1 / count, dtype=torch.float64, device="cpu")
    else:
        offset = torch.zeros(width, dtype=torch.float64, device="cpu")
    return Encoding(classes=classes, offset=tuple(offset.tolist()), centre=centre)


def encoding_of_numbers(targets: Float64[Tensor, "n k"], *, centre: Centre = "mean") -> Encoding:
    """Return the encoding of regression targets, centred as asked.

    Example:
        >>> import torch
        >>> encoding_of_numbers(torch.tensor([[1.0], [3.0]], dtype=torch.float64)).offset
        (2.0,)
    """
    check_choice("centre", centre, CENTRES)
    if targets.ndim != 2:
        raise ShapeError(f"`targets` must have shape (n, k); got {tuple(targets.shape)}.")
    offset = targets.mean(0) if centre == "mean" else torch.zeros_like(targets[0])
    return Encoding(classes=None, offset=tuple(offset.tolist()), centre=centre)
