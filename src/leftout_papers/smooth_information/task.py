"""The data of this paper: pictures scaled as its networks expect them, with 0 or 1 to predict.

Grey pictures are (x − 0.456) / 0.224 on 28 × 28 pixels; colour pictures are scaled as those of ImageNet.
Two classes are one number, 0 or 1, of which one half is taken off here, as it is of the network
(`networks.readout`): f − y is the paper's, and a class is f ≥ 0 as everywhere else. More are one-hot.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Float64
from torch import Tensor

import leftout as lo
from leftout.data import encoding_of_numbers
from leftout_papers.material import Material, Size

Counts = dict[Size, tuple[int, int]]
"""Training examples and queries, by size."""

THOUSAND: Counts = {Size.QUICK: (48, 40), Size.USUAL: (1000, 1000), Size.PAPER: (1000, 1000)}
"""The sizes of most of the paper's experiments."""

PAIRS = {"mnist": ("4", "9"), "digits": ("4", "9"), "cifar10": ("cat", "dog")}
"""The two classes of a binary exhibit."""

OTHER_DIGITS = ("0", "1", "2", "3", "5", "6", "7", "8")
"""What stands in for the letters of EMNIST in pretraining for 4 v 9."""

OTHER_FIVE = ("5", "6", "7", "8", "9")
FIVE = {
    "mnist": ("0", "1", "2", "3", "4"),
    "digits": ("0", "1", "2", "3", "4"),
    "cifar10": ("airplane", "automobile", "bird", "horse", "ship"),
}
"""Five classes, as iCassava has, and what digits are pretrained on for them."""

SIDE, COLOURED = 28, 32
"""Pixels on a side, grey and in colour."""

GREY = ((0.456,), (0.224,))
COLOUR = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation by channel."""


def pair(material: Material, counts: Counts) -> tuple[lo.Examples, lo.Examples]:
    """Return the two classes of a binary exhibit, with the targets of the paper."""
    train, query = pictures(material, counts[material.size], PAIRS[material.name])
    return halves(train), halves(query)


def pictures(
    material: Material, counts: tuple[int, int], classes: Sequence[str] | None
) -> tuple[lo.Examples, lo.Examples]:
    """Return training examples and queries, scaled; of the embedded digits as many as there are."""
    train, query = map(_scale_pictures, _load_pictures(material, counts, classes))
    return train, query


def halves(examples: lo.Examples) -> lo.Examples:
    """Return the same examples with the targets ∓½ for the first and second class: 0 and 1, less ½."""
    assert examples.labels is not None
    targets = examples.labels.double()[:, None] - 0.5
    return replace(examples, targets=targets, encoding=encoding_of_numbers(targets, centre="none"))


def accuracy(examples: lo.Examples, predictions: Float64[Tensor, "m k"]) -> float:
    """Return the share of examples that predictions put into the right class."""
    share = examples.accuracy(predictions.cpu())
    assert share is not None, "exhibits have classes"
    return share


def standard(pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Return pixels in [0, 1] as the networks take them."""
    mean, spread = _channel_scale(pixels)
    return (pixels - mean) / spread


def pixels_of(inputs: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Return the pixels in [0, 1] of the networks' inputs: the inverse of `standard`."""
    mean, spread = _channel_scale(inputs)
    return inputs * spread + mean


def resize_pictures(pixels: Float[Tensor, "n c h w"], side: int) -> Float[Tensor, "n c side side"]:
    """Return pictures of another size, interpolated linearly."""
    if pixels.shape[-2:] == (side, side):
        return pixels
    return torch.nn.functional.interpolate(pixels, (side, side), mode="bilinear")


def _load_pictures(
    material: Material, counts: tuple[int, int], classes: Sequence[str] | None
) -> tuple[lo.Examples, lo.Examples]:
    n_train, n_query = counts
    if material.name == "digits":
        everything = lo.load("digits", classes=classes, seed=material.seed, normalise=None)
        n_train, n_query = min(n_train, len(everything[0])), min(n_query, len(everything[1]))
    return lo.load(
        material.source, classes=classes, n_train=n_train, n_query=n_query, seed=material.seed, normalise=None
    )


def _scale_pictures(examples: lo.Examples) -> lo.Examples:
    inputs = examples.inputs
    if inputs.ndim == 3:
        inputs = resize_pictures(inputs[:, None], SIDE)  # (n, 1, 28, 28)
    return replace(examples, inputs=standard(inputs))


def _channel_scale(pixels: Tensor) -> tuple[Tensor, Tensor]:
    chosen = GREY if pixels.shape[1] == 1 else COLOUR
    mean, spread = (pixels.new_tensor(values)[:, None, None] for values in chosen)
    return mean, spread
