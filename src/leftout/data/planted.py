"""Planted corruption: examples corrupted on purpose, with a record of the truth.

Methods that claim to find wrong labels, duplicates, outliers or rare classes are measured on data where
the answer is known. Every function leaves the examples it was given as they are.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Generator, Tensor

from leftout.core.checks import check_between
from leftout.core.errors import OptionError
from leftout.data.examples import Examples
from leftout.data.split import class_number


@dataclass(frozen=True, eq=False)
class Corruption:
    """Corrupted examples and what was done to them.

    Attributes:
        examples: the corrupted examples, which a method under test is given.
        rows: the row numbers, in `examples`, of what was planted, ascending.
        truth: the class number every row of `examples` had before; None for regression.
        originals: for duplicates, the row that each of `rows` is a copy of.
    """

    examples: Examples
    rows: Int64[Tensor, " planted"]
    truth: Int64[Tensor, " n"] | None
    originals: Int64[Tensor, " planted"] | None = None


def flip_labels(examples: Examples, fraction: float, *, generator: Generator) -> Corruption:
    """Return the examples with round(fraction · n) labels changed to another class, uniformly.

    Raises:
        OptionError: a fraction outside (0, 1), or one that changes no label; no classes.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> train, _ = lo.load("digits", n_train=40, n_query=4)
        >>> planted = flip_labels(train, 0.1, generator=torch.Generator().manual_seed(0))
        >>> int((planted.examples.labels != train.labels).sum())
        4
    """
    labels = _labels(examples)
    check_between("fraction", fraction, 0, 1)
    count = round(fraction * len(labels))
    rows = _drawn_rows(len(labels), count, generator, name="fraction")
    flipped = labels.clone()
    flipped[rows] = _changed_classes(labels[rows], examples, generator)
    worse = _with_record(examples.with_labels(flipped), flip_labels=fraction)
    return Corruption(worse, rows, labels.clone())


def plant_duplicates(
    examples: Examples, count: int, *, conflicting: bool, generator: Generator
) -> Corruption:
    """Return the examples with copies of `count` of them at the end, ids marked "(copy)".

    Args:
        conflicting: the copies have another label than their originals, drawn uniformly.

    Raises:
        OptionError: a count below 1 or above n; conflicting labels without classes.
    """
    originals = _drawn_rows(len(examples), count, generator, name="count")
    n = len(examples)
    longer = examples.select(torch.cat([torch.arange(n, device="cpu"), originals]))
    rows = torch.arange(n, n + count, device="cpu")
    ids = longer.ids[:n] + tuple(f"{name} (copy)" for name in longer.ids[n:])
    longer = replace(longer, ids=ids)
    truth = None if longer.labels is None else longer.labels.clone()
    if conflicting:
        labels = _labels(longer).clone()
        labels[rows] = _changed_classes(labels[rows], longer, generator)
        longer = longer.with_labels(labels)
    longer = _with_record(longer, plant_duplicates=count, conflicting=conflicting)
    return Corruption(longer, rows, truth, originals)


def plant_outliers(examples: Examples, count: int, *, generator: Generator) -> Corruption:
    """Return the examples with `count` inputs replaced by Gaussian noise of the same norm.

    What a person looks at is replaced too: pictures by the noise scaled to 0 … 255, rows of a table of
    numbers by the mean plus the noise in standard deviations of each column.

    Raises:
        OptionError: a count below 1 or above n.
    """
    rows = _drawn_rows(len(examples), count, generator, name="count")
    inputs = examples.inputs.clone()
    shape = inputs[rows].shape
    noise = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu").flatten(1)
    norms = inputs[rows].flatten(1).norm(dim=1, keepdim=True)
    inputs[rows] = (noise * norms / noise.norm(dim=1, keepdim=True)).reshape(shape)
    looks: dict[str, Any] = {}
    if examples.images is not None:
        looks["images"] = _noise_images(examples.images, inputs, rows)
    if examples.table is not None and examples.table.shape == inputs.shape:  # as it was read
        cells = examples.table.copy()
        cells[rows.numpy()] = cells.mean(0) + cells.std(0) * noise.numpy()
        looks["table"] = cells
    truth = None if examples.labels is None else examples.labels.clone()
    worse = _with_record(replace(examples, inputs=inputs, **looks), plant_outliers=count)
    return Corruption(worse, rows, truth)


def thin_class(examples: Examples, cls: str | int, keep: int, *, generator: Generator) -> Corruption:
    """Return the examples with only `keep` left of one class; `rows` are those kept.

    Raises:
        OptionError: no such class; fewer than one to keep, or more than there are.

    Example:
        >>> import torch
        >>> import leftout as lo
        >>> train, _ = lo.load("digits", n_train=40, n_query=4)
        >>> thin = thin_class(train, "7", 1, generator=torch.Generator().manual_seed(0))
        >>> int((thin.examples.labels == 7).sum())
        1
    """
    labels = _labels(examples)
    assert examples.classes is not None
    members = (labels == class_number(examples.classes, cls)).nonzero().flatten()
    spared = members[_drawn_rows(len(members), keep, generator, name="keep")]
    stays = torch.ones(len(labels), dtype=torch.bool, device="cpu")
    stays[members] = False
    stays[spared] = True
    thinner = examples.select(stays.nonzero().flatten())
    rows = (stays.cumsum(0) - 1)[spared]
    worse = _with_record(thinner, thin_class=str(cls), keep=keep)
    return Corruption(worse, rows, _labels(thinner).clone())


def _labels(examples: Examples) -> Tensor:
    if examples.labels is None:
        raise OptionError("`examples` must have classes for labels to be changed; these are for regression.")
    return examples.labels


def _drawn_rows(n: int, count: int, generator: Generator, *, name: str) -> Tensor:
    """Return `count` different numbers below n, ascending."""
    if not 1 <= count <= n:
        raise OptionError(f"`{name}` must choose from 1 to {n} examples; got {count}.")
    return torch.randperm(n, generator=generator, device="cpu")[:count].sort().values


def _changed_classes(labels: Tensor, examples: Examples, generator: Generator) -> Tensor:
    """Return another class for each label, drawn uniformly from the other classes."""
    assert examples.classes is not None
    shift = torch.randint(1, len(examples.classes), labels.shape, generator=generator, device="cpu")
    return (labels + shift) % len(examples.classes)


def _noise_images(images: np.ndarray, inputs: Tensor, rows: Tensor) -> np.ndarray:
    noise = inputs[rows].numpy()
    if images.ndim == 4:
        noise = noise.transpose(0, 2, 3, 1)  # (count, h, w, 3)
    axes = tuple(range(1, noise.ndim))
    low, high = noise.min(axes, keepdims=True), noise.max(axes, keepdims=True)
    replaced = images.copy()
    replaced[rows.numpy()] = np.rint(255 * (noise - low) / (high - low)).astype(np.uint8)
    return replaced


def _with_record(examples: Examples, **corruption: Any) -> Examples:
    """Return the examples with the corruption added to what their preparation records."""
    planted = [*examples.preparation.get("planted", []), corruption]
    return replace(examples, preparation=examples.preparation | {"planted": planted})
