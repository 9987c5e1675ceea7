"""Examples: inputs as the kernel sees them, targets, and what a person recognises them by."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from leftout.core.card import Card, first_names
from leftout.core.checks import check_finite
from leftout.core.errors import DataError, ShapeError
from leftout.core.fingerprint import fingerprint
from leftout.core.wording import plain
from leftout.data.encoding import Encoding, encoding_of_classes

LEAST_DIGITS, MOST_DIGITS = 6, 15
"""Significant digits of a number that are shown at least, and that double precision holds of any."""

SAME = 1e-14
"""Relative distance below which two numbers are one, but for rounding."""


@dataclass(frozen=True, eq=False)
class Examples:
    """n examples, prepared: row i of every field is the same example.

    Attributes:
        inputs: (n, d…) float64, scaled as `preparation["normalise"]` says.
        targets: (n, k) float64, centred: what the model is fitted to.
        encoding: how targets stand for classes or numbers.
        labels: (n,) class numbers; None for regression.
        ids: a name per example by which a person finds it again (file name, row number).
        images: (n, h, w) or (n, h, w, 3) uint8 to look at; None for tables.
        table: (n, c) raw values to look at, with their names in `columns`; None for images.
        preparation: data, normalise, seed, … : everything needed to make these numbers again.
        source_rows: (n,) the row of each in the file, table or array that it came from, from 0, a line of
            names not counted; training examples and queries from two of these are counted in each.

    Example:
        >>> from leftout.data.pairs import examples_of
        >>> examples = examples_of((torch.eye(3), ["cat", "dog", "cat"]))
        >>> examples.classes, examples.labels.tolist(), examples.select([0, 2]).ids
        (('cat', 'dog'), [0, 1, 0], ('0', '2'))
    """

    inputs: Tensor
    targets: Tensor
    encoding: Encoding
    labels: Tensor | None = None
    ids: tuple[str, ...] = ()
    images: np.ndarray | None = None
    table: np.ndarray | None = None
    columns: tuple[str, ...] | None = None
    preparation: dict[str, Any] = field(default_factory=dict)
    source_rows: np.ndarray | None = None
    coded_from: str = ""
    """Fingerprint of the same examples as they were given, where their targets were coded otherwise since."""

    def __post_init__(self) -> None:
        n = len(self.inputs)
        if n == 0:
            raise DataError("`inputs` must hold at least one example; got none.")
        if self.inputs.dtype != torch.float64 or self.targets.dtype != torch.float64:
            raise ShapeError(
                f"`inputs` and `targets` must be float64; got {self.inputs.dtype} and {self.targets.dtype}."
            )
        if tuple(self.targets.shape) != (n, self.encoding.outputs):
            raise ShapeError(
                f"`targets` must have shape ({n}, {self.encoding.outputs}): one row per example, "
                f"one column per output; got {tuple(self.targets.shape)}."
            )
        if not self.ids:
            object.__setattr__(self, "ids", tuple(str(i) for i in range(n)))
        if self.source_rows is None:
            object.__setattr__(self, "source_rows", np.arange(n))
        for name in ("labels", "ids", "images", "table", "source_rows"):
            field_of_rows = getattr(self, name)
            if field_of_rows is not None and len(field_of_rows) != n:
                raise ShapeError(f"`{name}` must have {n} entries, as `inputs`; got {len(field_of_rows)}.")
        check_finite("inputs", self.inputs)
        check_finite("targets", self.targets)

    def __len__(self) -> int:
        return len(self.inputs)

    def __repr__(self) -> str:
        return str(self._card)

    def _repr_html_(self) -> str:
        return self._card.html()

    @property
    def _card(self) -> Card:
        """Return what is shown of these examples."""
        scaled = self.preparation.get("normalise")
        shape = " × ".join(map(str, self.inputs.shape[1:])) or "one number"
        if self.labels is None or self.classes is None:
            numbers = self.encoding.in_target_units(self.targets)
            targets = (
                f"numbers from {numbers.min():.4g} to {numbers.max():.4g}, {self.encoding.outputs} an example"
            )
        else:
            targets = f"{len(self.classes)} classes: {first_names(self.classes)}"
        return Card(
            f"Examples of {plain(self.preparation.get('data', 'arrays'))}: {len(self):,}",
            (
                ("inputs", f"{shape}, {'as given' if scaled is None else f'normalise {scaled}'}"),
                ("targets", targets),
                ("ids", first_names(self.ids)),
            ),
        )

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Return the class names; None for regression."""
        return self.encoding.classes

    @cached_property
    def target_digits(self) -> int:
        """Return at how many significant digits, 6 to 15, different numbers to predict look different."""
        numbers = np.unique(self.encoding.in_target_units(self.targets).cpu().numpy())
        steps = np.diff(numbers)
        sizes = np.maximum(np.abs(numbers[1:]), np.abs(numbers[:-1]))
        apart = steps > SAME * sizes
        if not apart.any():
            return LEAST_DIGITS
        # Rounded to d digits, numbers of one size lie on a grid; further apart than its step they stay so.
        digits = 1 + np.floor(np.log10(sizes[apart])) - np.floor(np.log10(steps[apart]))
        return int(np.clip(digits.max(), LEAST_DIGITS, MOST_DIGITS))

    @property
    def fingerprint(self) -> str:
        """Return a hash of inputs, targets and ids, as they were given."""
        if self.coded_from:
            return self.coded_from
        return fingerprint(self.inputs, self.targets, list(self.ids))

    def mean_loss(self, predictions: Float64[Tensor, "n k"]) -> float:
        """Return the mean over examples of ½ Σ (f − y)²."""
        return float((predictions - self.targets).square().sum(1).mean() / 2)

    def accuracy(self, predictions: Float64[Tensor, "n k"]) -> float | None:
        """Return the share of examples that predictions put into the right class; None for regression."""
        return None if self.labels is None else float(self.is_right(predictions).double().mean())

    def is_right(self, predictions: Float64[Tensor, "n k"]) -> Bool[Tensor, " n"]:
        """Return whether predictions put each example into its class; of examples that have classes."""
        assert self.labels is not None
        return self.encoding.decode(predictions) == self.labels

    def select(self, rows: Sequence[int] | Tensor | np.ndarray) -> "Examples":
        """Return the examples of these row numbers, in this order."""
        index = torch.as_tensor(rows, dtype=torch.long, device="cpu")
        numbers = index.numpy()
        return replace(
            self,
            inputs=self.inputs[index],
            targets=self.targets[index],
            labels=None if self.labels is None else self.labels[index],
            ids=tuple(self.ids[i] for i in numbers),
            images=None if self.images is None else self.images[numbers],
            table=None if self.table is None else self.table[numbers],
            source_rows=None if self.source_rows is None else self.source_rows[numbers],
            coded_from="",
        )

    def in_columns(self, outputs: int) -> "Examples":
        """Return the same examples with two classes coded in `outputs` columns, 1 or 2.

        A number of columns that the classes cannot have changes nothing: the caller checks it.
        """
        classes = self.encoding.classes
        if self.labels is None or classes is None or len(classes) != 2 or outputs not in (1, 2):
            return self
        centre = self.encoding.centre
        return self.coded_as(encoding_of_classes(self.labels, classes, centre=centre, outputs=outputs))

    def coded_as(self, encoding: Encoding) -> "Examples":
        """Return the same examples with their classes in other columns; numbers stay as they are."""
        if self.labels is None:
            return self
        return replace(self, encoding=encoding, targets=encoding.encode(self.labels))

    def with_labels(self, labels: Tensor) -> "Examples":
        """Return the same examples under other class numbers, encoded as before."""
        return replace(self, labels=labels, targets=self.encoding.encode(labels), coded_from="")
