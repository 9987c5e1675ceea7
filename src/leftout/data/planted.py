"""Planted corruption: examples made worse on purpose, with the truth of what was done.

Whoever claims to find wrong labels, duplicates, outliers or neglected classes is measured on data
where the answer is known. Every function leaves the examples it was given as they are.
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
class Planted:
    """Corrupted examples and what was done to them.

    Attributes:
        examples: as a method is given them.
        rows: the row numbers, in `examples`, of what was planted, ascending.
        truth: the class number every row of `examples` had before; None for regression.
        originals: for duplicates, the row that each of `rows` is a copy of.
    """

    examples: Examples
    rows: Int64[Tensor, " planted"]
    truth: Int64[Tensor, " n"] | None
    originals: Int64[Tensor, " planted"] | None = None


def flip_labels(examples: Examples, fraction: float, *, generator: Generator) -> Planted:
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
    rows = _some(len(labels), count, generator, name="fraction")
    flipped = labels.clone()
    flipped[rows] = _other(labels[rows], examples, generator)
    worse = _noted(examples.relabelled(flipped), flip_labels=fraction)
    return Planted(worse, rows, labels.clone())


def plant_duplicates(examples: Examples, count: int, *, conflicting: bool, generator: Generator) -> Planted:
    """Return the examples with copies of `count` of them at the end, ids marked "(copy)".

    Args:
        conflicting: the copies have another label than their originals, drawn uniformly.

    Raises:
        OptionError: a count below 1 or above n; conflicting labels without classes.
    """
    originals = _some(len(examples), count, generator, name="count")
    n = len(examples)
    longer = examples.select(torch.cat([torch.arange(n), originals]))
    rows = torch.arange(n, n + count)
    ids = longer.ids[:n] + tuple(f"{name} (copy)" for name in longer.ids[n:])
    longer = replace(longer, ids=ids)
    truth = None if longer.labels is None else longer.labels.clone()
    if conflicting:
        labels = _labels(longer).clone()
        labels[rows] = _other(labels[rows], longer, generator)
        longer = longer.relabelled(labels)
    longer = _noted(longer, plant_duplicates=count, conflicting=conflicting)
    return Planted(longer, rows, truth, originals)


def plant_outliers(examples: Examples, count: int, *, generator: Generator) -> Planted:
    """Return the examples with `count` inputs replaced by Gaussian noise of the same norm.

    What a person looks at is replaced too: pictures by the noise scaled to 0 … 255, rows of a table
    by the mean plus the noise in standard deviations of each column.

    Raises:
        OptionError: a count below 1 or above n.
    """
    rows = _some(len(examples), count, generator, name="count")
    inputs = examples.inputs.clone()
    shape = inputs[rows].shape
    noise = torch.randn(shape, generator=generator, dtype=torch.float64).flatten(1)
    norms = inputs[rows].flatten(1).norm(dim=1, keepdim=True)
    inputs[rows] = (noise * norms / noise.norm(dim=1, keepdim=True)).reshape(shape)
    looks: dict[str, Any] = {}
    if examples.images is not None:
        looks["images"] = _noise_images(examples.images, inputs, rows)
    if examples.table is not None:
        values = examples.table.copy()
        values[rows.numpy()] = values.mean(0) + values.std(0) * noise.numpy()
        looks["table"] = values
    truth = None if examples.labels is None else examples.labels.clone()
    worse = _noted(replace(examples, inputs=inputs, **looks), plant_outliers=count)
    return Planted(worse, rows, truth)


def thin_class(examples: Examples, cls: str | int, keep: int, *, generator: Generator) -> Planted:
    """Return the examples with only `keep` left of one class; `rows` are those left.

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
    kept = members[_some(len(members), keep, generator, name="keep")]
    stays = torch.ones(len(labels), dtype=torch.bool)
    stays[members] = False
    stays[kept] = True
    thinner = examples.select(stays.nonzero().flatten())
    rows = (stays.cumsum(0) - 1)[kept]
    worse = _noted(thinner, thin_class=str(cls), keep=keep)
    return Planted(worse, rows, _labels(thinner).clone())


def _labels(examples: Examples) -> Tensor:
    if examples.labels is None:
        raise OptionError("`examples` must have classes for labels to be changed; these are for regression.")
    return examples.labels


def _some(n: int, count: int, generator: Generator, *, name: str) -> Tensor:
    """Return `count` different numbers below n, ascending."""
    if not 1 <= count <= n:
        raise OptionError(f"`{name}` must choose from 1 to {n} examples; got {count}.")
    return torch.randperm(n, generator=generator)[:count].sort().values


def _other(labels: Tensor, examples: Examples, generator: Generator) -> Tensor:
    """Return another class for each label, every other one with the same chance."""
    assert examples.classes is not None
    shift = torch.randint(1, len(examples.classes), labels.shape, generator=generator)
    return (labels + shift) % len(examples.classes)


def _noise_images(images: np.ndarray, inputs: Tensor, rows: Tensor) -> np.ndarray:
    noise = inputs[rows].numpy()
    if images.ndim == 4:
        noise = noise.transpose(0, 2, 3, 1)  # (count, h, w, 3)
    axes = tuple(range(1, noise.ndim))
    low, high = noise.min(axes, keepdims=True), noise.max(axes, keepdims=True)
    result = images.copy()
    result[rows.numpy()] = np.rint(255 * (noise - low) / (high - low)).astype(np.uint8)
    return result


def _noted(examples: Examples, **what: Any) -> Examples:
    """Return the examples with the corruption added to what their preparation records."""
    planted = [*examples.preparation.get("planted", []), what]
    return replace(examples, preparation=examples.preparation | {"planted": planted})
