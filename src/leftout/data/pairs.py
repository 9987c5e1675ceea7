"""Examples from arrays, tensors, lists, a Dataset or a DataLoader that a program already holds.

Nothing is scaled. Classes (integers, truth values, texts) are coded as usual; floats are targets as
they are, and floats that look like classes get a note in `preparation`. Queries are coded as the training
examples were, with the training `encoding`.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from leftout.core.checks import check_finite
from leftout.core.errors import DataError, ShapeError
from leftout.core.fingerprint import fingerprint
from leftout.data.arrays import float64_tensor, input_array, pair_arrays
from leftout.data.conversion import check_whole_numbers, kind_of
from leftout.data.encoding import Encoding, encoding_of_classes, encoding_of_numbers
from leftout.data.examples import Examples
from leftout.data.probabilities import as_probabilities, check_probabilities
from leftout.data.targets import RawTargets, alike_class_note, float_class_note, raw_targets

Data = Examples | tuple[Any, Any] | list[Any] | Dataset[Any] | DataLoader[Any]
"""What a public call takes as training examples or queries: see `examples_of`."""

LISTED = 20
"""Class names in a message."""


def examples_of(data: Data, *, encoding: Encoding | None = None, name: str = "train") -> Examples:
    """Return the examples, on the CPU, in float64, in the order given.

    Args:
        data: Examples (returned as they are), a pair (inputs, targets), a map-style Dataset of such
            pairs, or a DataLoader in fixed order.
        encoding: of the training examples, for queries; None makes one: classes centred
            "uniform", numbers not centred.
        name: what messages call the data.

    Raises:
        DataError: a query of a class without training examples; classes where numbers were
            trained, or the reverse; a shuffled loader; NaN, complex or object inputs.
        ShapeError: inputs and targets of different length, or other columns than in training.
    """
    if isinstance(data, Examples):
        if encoding is not None and encoding.as_probabilities and data.classes == encoding.classes:
            data = as_probabilities(data, outputs=encoding.outputs, name=name)
        if encoding is not None and data.encoding != encoding:
            raise DataError(
                f"`{name}` must be coded as the training examples, {encoding}; got "
                f"{data.encoding}. Load both together, or pass a pair (inputs, targets)."
            )
        return data
    inputs, raw = pair_arrays(data, name)
    notes: list[str] = []
    if encoding is None:
        coded = raw_targets(f"{name} targets", raw)
        said = (
            float_class_note(f"`{name} targets`", coded, advice="pass integers or texts"),
            alike_class_note(coded.classes),
        )
        notes += [note for note in said if note]
        labels, targets, encoding = _encode(coded)
    else:
        labels, targets = _encode_as(raw, encoding, name)
    tensor = float64_tensor(inputs)
    check_finite(f"{name} inputs", tensor)
    given = ""
    if encoding.as_probabilities and labels is not None and encoding.classes is not None:
        # As the same pair is coded for squared loss: queries are the same whatever the loss.
        squared = encoding_of_classes(labels, encoding.classes)
        given = fingerprint(tensor, squared.encode(labels), [str(row) for row in range(len(tensor))])
    return Examples(
        inputs=tensor,
        targets=targets,
        encoding=encoding,
        labels=labels,
        coded_from=given,
        preparation={
            "data": type(data).__name__ if not isinstance(data, tuple | list) else "arrays",
            "normalise": None,
            "centre": encoding.centre,
            "classes": None if encoding.classes is None else list(encoding.classes),
            "notes": notes,
        },
    )


def inputs_of(data: Any, name: str = "inputs") -> Tensor:
    """Return the inputs of Examples, or of a tensor, array or list, as float64, on the CPU.

    Raises:
        DataError: no real numbers, NaN or infinity.
        ShapeError: no rows, or rows of different lengths.
    """
    if isinstance(data, Examples):
        return data.inputs
    tensor = float64_tensor(input_array(name, data))
    check_finite(name, tensor)
    return tensor


def _encode(raw: RawTargets) -> tuple[Tensor | None, Tensor, Encoding]:
    if raw.labels is None:
        assert raw.numbers is not None
        numbers = torch.from_numpy(raw.numbers)
        return None, numbers, encoding_of_numbers(numbers, centre="none")
    labels = torch.from_numpy(raw.labels)
    encoding = encoding_of_classes(labels, raw.classes)
    return labels, encoding.encode(labels), encoding


def _encode_as(array: np.ndarray, encoding: Encoding, name: str) -> tuple[Tensor | None, Tensor]:
    """Return labels and targets under a given encoding."""
    kind = kind_of(array)
    if encoding.classes is None:
        if kind not in ("floats", "integers"):
            raise DataError(f"`{name} targets` must be numbers, as the training targets are; got {kind}.")
        check_whole_numbers(f"{name} targets", array)
        numbers = float64_tensor(array if array.ndim == 2 else array[:, None])
        if numbers.shape[1] != encoding.outputs:
            raise ShapeError(
                f"`{name} targets` must have {encoding.outputs} columns, as the training targets; "
                f"got {array.shape}."
            )
        targets = numbers - torch.tensor(encoding.offset, dtype=torch.float64, device="cpu")
        if encoding.as_probabilities:
            check_probabilities(targets, [str(i) for i in range(len(targets))], name)
        return None, targets
    listed = ", ".join(encoding.classes[:LISTED]) + (", …" if len(encoding.classes) > LISTED else "")
    if kind == "floats":
        raise DataError(
            f"`{name} targets` must be classes, as the training targets are, among "
            f"{listed}; got floats. Pass integers or class names."
        )
    raw = raw_targets(f"{name} targets", array)
    number_of = {cls: number for number, cls in enumerate(encoding.classes)}
    unseen = next((cls for cls in raw.classes if cls not in number_of), None)
    if unseen is not None:
        raise DataError(f"`{name} targets` must be among the training classes {listed}; got {unseen!r}.")
    number = torch.tensor([number_of[cls] for cls in raw.classes], device="cpu")
    assert raw.labels is not None
    labels = number[torch.from_numpy(raw.labels)]
    return labels, encoding.encode(labels)
