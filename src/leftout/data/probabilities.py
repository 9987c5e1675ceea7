"""Targets as probabilities of classes, which cross-entropy compares with a softmax.

k ≥ 2 outputs    one column each: 1 for the class of an example, 0 for the others; or soft labels
one output       one column: the probability of the second of two classes
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from leftout.core.errors import DataError, ShapeError
from leftout.data.encoding import Encoding
from leftout.data.examples import Examples

ROUNDING = 1e-6
"""How far from one the sum of soft labels may be: float32 rounds every one of them by 6e-8."""


def as_probabilities(examples: Examples, *, outputs: int | None = None, name: str = "train") -> Examples:
    """Return the same examples with probabilities as targets; as they are, if they have them already.

    Args:
        outputs: columns, where a network has so many outputs; None is one for two classes and one each for
            more, and the columns that there are for soft labels.
        name: what messages call the data.

    Raises:
        DataError: targets that are neither classes nor probabilities; the first row is named.
        ShapeError: more or fewer outputs than classes.

    Example:
        >>> from leftout.data.pairs import examples_of
        >>> examples = examples_of((torch.eye(3), ["cat", "dog", "cat"]))
        >>> as_probabilities(examples).targets.flatten().tolist()
        [0.0, 1.0, 0.0]
        >>> as_probabilities(examples, outputs=2).targets.tolist()
        [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]
    """
    encoding = examples.encoding
    if encoding.as_probabilities and outputs in (None, encoding.outputs):
        return examples
    classes = encoding.classes
    if classes is not None:
        assert examples.labels is not None
        width = outputs or (1 if len(classes) == 2 else len(classes))
        if width != len(classes) and (len(classes), width) != (2, 1):
            raise ShapeError(
                f"`{name}` must have a class for each output: the network has {width}, the data have "
                f"{len(classes)} classes. Take a network with {len(classes)} outputs"
                + (", or with one." if len(classes) == 2 else ".")
            )
        coded = Encoding(classes, (0.0,) * width, "none", as_probabilities=True)
        return replace(examples.coded_as(coded), coded_from=examples.fingerprint)
    offset = torch.tensor(encoding.offset, dtype=torch.float64, device="cpu")
    targets = examples.targets + offset
    if outputs not in (None, targets.shape[1]):
        raise ShapeError(
            f"`{name}` must have a column of targets for each of {outputs} outputs; got {targets.shape[1]}."
        )
    check_probabilities(targets, examples.ids, name)
    coded = Encoding(None, (0.0,) * targets.shape[1], "none", as_probabilities=True)
    return replace(examples, targets=targets, encoding=coded, coded_from=examples.fingerprint)


def check_probabilities(targets: Tensor, ids: Sequence[str], name: str) -> None:
    """Raise unless rows are probabilities, that sum to 1 where there are several."""
    outside = ((targets < 0) | (targets > 1)).any(1)
    off = torch.zeros_like(outside) if targets.shape[1] == 1 else (targets.sum(1) - 1).abs() > ROUNDING
    wrong = (outside | off).nonzero().flatten()
    if not len(wrong):
        return
    row = int(wrong[0])
    shown = ", ".join(f"{entry:.6g}" for entry in targets[row, :5].tolist())
    must = "lie in 0 … 1" if targets.shape[1] == 1 else "be probabilities that sum to 1"
    raise DataError(
        f"`{name}` must have classes or soft labels for cross-entropy: targets must {must}; example "
        f"{ids[row]!r} has {shown}{', …' if targets.shape[1] > 5 else ''} ({len(wrong)} of "
        f"{len(targets)} are off). Pass integers or class names, or take Ridge for numbers."
    )
