"""The paper's two-layer networks: without biases, both layers trained, f(x) = Σ a_r relu(w_r·x) / √m.

Weights start as PyTorch draws them, uniform on ±1/√fan-in, so E a² / E w² = d / m: of a network that is
much wider than its input is long, the tangent kernel

    k(x, z) = Σ_r [relu(w_r·x) relu(w_r·z) + a_r² 1{w_r·x > 0} 1{w_r·z > 0} x·z] / m

is nearly its first term alone, that of the readout, until training has moved the a_r. One that is narrower
starts from another kernel. So m units that stand for a network of M are m of its units:

    f(x) = √M mean_r a_r relu(w_r·x),    a_r uniform on ±1/√M,

a mean over m units where the other has M, so that all that follows is the same up to that mean's error,
of relative size 1/√m. Gradients and kernel are M/m times as large, but Adam's steps, with its ε as many
times as large, and RR do not depend on scale: each unit takes the path it takes in company of M, at the
paper's rate. Only f at the start is √(M/m) times as large; its deviation |x| / √(18 d m) is small beside
labels 0 and 1. (With 1/√m before the sum, and the rate raised by √(M/m) for f to move as fast, each unit
would go √(M/m) times as far: the kernel would change as a narrow network's does.)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor, nn

import leftout as lo
from leftout.data import encoding_of_classes
from leftout_papers.material import Material

BATCH, RATE, EPSILON = 128, 3e-4, 1e-8
WIDTH = 40_960
"""The paper's."""

STEPS = 790
"""Ten epochs of 10,000 images; the same number of steps where there are fewer images."""


@final
class Shallow(nn.Module):
    """f(x) = Σ a_r relu(w_r·x) / √m, weights uniform on ±1/√fan-in.

    Args:
        stands_for: the width M of the network that this one has `width` units of; `width` if None.
    """

    def __init__(
        self, width: int, features: int, *, generator: Generator, stands_for: int | None = None
    ) -> None:
        super().__init__()
        full_width = stands_for or width
        self.hidden = nn.Linear(features, width, bias=False)
        self.readout = nn.Linear(width, 1, bias=False)
        self.share = width / full_width
        self.scale = 1 / (self.share * math.sqrt(full_width))
        with torch.no_grad():
            for layer, fan_in in ((self.hidden, features), (self.readout, full_width)):
                reach = 1 / math.sqrt(fan_in)
                layer.weight.uniform_(-reach, reach, generator=generator)

    def forward(self, inputs: Float[Tensor, "n d"]) -> Float[Tensor, "n 1"]:
        """Return the outputs."""
        outputs: Tensor = self.readout(torch.relu(self.hidden(inputs))) * self.scale
        return outputs


@dataclass(frozen=True)
class Task:
    """Images of two classes of a data set; the first is labelled 0."""

    names: tuple[str, str]
    train: lo.Examples
    query: lo.Examples

    @property
    def title(self) -> str:
        """Return "frog vs ship"."""
        return " vs ".join(self.names)


def flatten_images(examples: lo.Examples) -> lo.Examples:
    """Return the examples with pixels from −1 to 1 in one row each, and a constant 1 appended."""
    pixels = examples.inputs.flatten(1)
    inputs = pixels.new_ones(len(pixels), pixels.shape[1] + 1)
    # In place: all of CIFAR-10 takes a gigabyte, and out of place three more copies would be needed.
    torch.sub(pixels, 0.5, out=inputs[:, :-1])
    inputs[:, :-1] /= 0.5
    assert examples.labels is not None
    assert examples.classes is not None
    coding = encoding_of_classes(examples.labels, examples.classes)
    return lo.Examples(
        inputs=inputs,
        targets=coding.encode(examples.labels),
        encoding=coding,
        labels=examples.labels,
        ids=examples.ids,
    )


def images(
    material: Material, n_train: int, n_query: int, classes: Sequence[str] | None = None
) -> tuple[lo.Examples, lo.Examples]:
    """Return at most `n_train` and `n_query` flattened images, classes in their proportions."""
    counts = [n_train, n_query]
    if material.name == "digits":
        # There are fewer digits than the thousands of images that the paper takes.
        digits = lo.load("digits", classes=classes, seed=material.seed)
        counts = [min(count, len(split)) for count, split in zip(counts, digits, strict=True)]
    train, query = lo.load(
        material.source,
        classes=classes,
        n_train=counts[0],
        n_query=counts[1],
        seed=material.seed,
        normalise=None,
    )
    return flatten_images(train), flatten_images(query)


def task(material: Material, names: tuple[str, str], n_train: int, n_query: int) -> Task:
    """Return images of two classes."""
    return Task(names, *images(material, n_train, n_query, names))


def select_pair(examples: lo.Examples, names: tuple[str, str]) -> lo.Examples:
    """Return the examples of two classes, labelled 0 and 1."""
    assert examples.labels is not None
    assert examples.classes is not None
    first, second = (examples.classes.index(name) for name in names)
    rows = ((examples.labels == first) | (examples.labels == second)).nonzero().flatten()
    labels = (examples.labels[rows] == second).long()
    coding = encoding_of_classes(labels, names)
    return lo.Examples(
        inputs=examples.inputs[rows],
        targets=coding.encode(labels),
        encoding=coding,
        labels=labels,
        ids=tuple(examples.ids[row] for row in rows),
    )


def batches(n: int, generator: Generator) -> list[Int64[Tensor, " b"]]:
    """Return all rows in random order, in batches."""
    return list(torch.split(torch.randperm(n, generator=generator), BATCH))


def train_network(network: Shallow, train: lo.Examples, *, steps: int, generator: Generator) -> None:
    """Train a network as the paper does: Adam, batches, mean squares to labels 0 and 1."""
    assert train.labels is not None
    like = network.hidden.weight
    inputs, targets = train.inputs.to(like), train.labels.to(like)
    # The plain implementation makes eight passes over the weights, more than half of a step.
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE, eps=EPSILON / network.share, fused=True)
    order: list[Tensor] = []
    for _ in range(steps):
        if not order:
            order = batches(len(inputs), generator)
        rows = order.pop()
        loss = (network(inputs[rows])[:, 0] - targets[rows]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
