"""Data and training of every task: a data set and its network, and what its truth is made of."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from measure import data_folder
from networks import BUILD, kind
from safetensors.torch import load_file
from torch import Tensor, nn

import leftout as lo
from leftout_papers.smooth_information.networks import ResNet20

NETWORKS = 5
"""Networks trained on all examples, for methods that take several."""

RESNET = "resnet20-cifar10/resnet20.safetensors"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the networks of a task are trained, and what the truth is made of."""

    text: str
    """What the table says of it."""
    epochs: int
    learning_rate: float
    batch_size: int = 50
    momentum: float = 0.9
    weight_decay: float = 1e-3
    seeds: int = 2
    subsets: int = 48
    """Random halves, or single examples that are left out."""
    at_once: int | None = None
    """Networks trained together; as many as pay if None."""
    singles: bool = False
    """Single examples are left out, and all others keep their batches: runs with orders of their own differ
    by far more than the example."""


_MLP = "MNIST, n = 1000, an MLP 784-128-128-10"
_CNN = "three classes of CIFAR-10, n = 600, a CNN of 12,131 weights"
_REGRESSION: dict[str, Any] = {
    "epochs": 20,
    "learning_rate": 0.01,
    "batch_size": 64,
    "momentum": 0.0,
    "weight_decay": 0.0,
}

TASKS: dict[str, Settings] = {
    "mnist-late": Settings(text=_MLP, epochs=40, learning_rate=0.01, seeds=3),
    "mnist-early": Settings(text=_MLP, epochs=4, learning_rate=0.01, seeds=3),
    "cifar-late": Settings(text=_CNN, epochs=20, learning_rate=0.005),
    "cifar-early": Settings(text=_CNN, epochs=5, learning_rate=0.005),
    "dattri-regression": Settings(
        text="MNIST, n = 5000, 500 queries, logistic regression as dattri trains it", **_REGRESSION
    ),
    "dattri-regression-singles": Settings(
        text="the same, 40 single examples left out one at a time, all others in the same batches",
        subsets=40,
        singles=True,
        **_REGRESSION,
    ),
    "dattri-mlp": Settings(
        text="MNIST, n = 5000, 500 queries, an MLP 784-128-64-10 with dropout as dattri trains it",
        epochs=50,
        learning_rate=0.01,
        batch_size=64,
        weight_decay=0.0,
        subsets=32,
    ),
    "resnet": Settings(
        text="cat v dog of CIFAR-10, n = 300, the last stage of a pretrained ResNet-20 (203,266 weights)",
        epochs=10,
        learning_rate=0.001,
        at_once=1,
        subsets=24,
    ),
}


@lru_cache(1)
def data(task: str) -> tuple[lo.Examples, lo.Examples]:
    """Return training examples and queries."""
    folder, about = data_folder(), kind(task)
    if about == "mnist":
        return lo.load(f"mnist:{folder}/mnist", n_train=1000, n_query=100, seed=0, normalise="sphere")
    if about == "cifar":
        classes = ["cat", "automobile", "ship"]
        return lo.load(
            f"{folder}/cifar10.zip", classes=classes, n_train=600, n_query=100, seed=0, normalise="sphere"
        )
    if about == "resnet":
        pair = lo.load(
            f"{folder}/cifar10.zip",
            classes=["cat", "dog"],
            n_train=300,
            n_query=100,
            seed=0,
            normalise=None,
            outputs=2,
        )
        return tuple(replace(examples, inputs=stage_inputs(examples.inputs)) for examples in pair)
    pair = lo.load(f"mnist:{folder}/mnist", n_train=5000, n_query=500, seed=0, normalise=None)
    return tuple(replace(examples, inputs=(examples.inputs - 0.1307) / 0.3081) for examples in pair)


@torch.no_grad()
def stage_inputs(pictures: Tensor) -> Tensor:
    """Return what the pretrained ResNet-20 makes of pictures before its last stage, (n, 32, 16, 16)."""
    network = ResNet20()
    network.load_state_dict(load_file(data_folder() / RESNET))
    network.eval()
    mean, deviation = (
        torch.tensor(row).view(3, 1, 1) for row in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )
    x = torch.relu(network.bn1(network.conv1((pictures.float() - mean) / deviation)))
    return network.layer2(network.layer1(x)).double()


def pretrained_stage() -> nn.Module:
    """Return the last stage with the weights that it was pretrained with, and a new readout."""
    module, weights = BUILD["resnet"](), load_file(data_folder() / RESNET)
    with torch.no_grad():
        for block in range(3):
            for i in (1, 2):
                conv, name = getattr(module[block], f"conv{i}"), f"layer3.{block}.bn{i}"
                scale = weights[f"{name}.weight"] / (weights[f"{name}.running_var"] + 1e-5).sqrt()
                conv.weight.copy_(weights[f"layer3.{block}.conv{i}.weight"] * scale.view(-1, 1, 1, 1))
                conv.bias.copy_(weights[f"{name}.bias"] - weights[f"{name}.running_mean"] * scale)
    return module


def build(task: str) -> nn.Module:
    """Return a network as its training starts."""
    return pretrained_stage() if kind(task) == "resnet" else BUILD[kind(task)]()


def recipe(task: str) -> lo.SGDTraining:
    """Return how the networks of a task are trained, by mean cross-entropy in shuffled batches."""
    settings = TASKS[task]
    return lo.SGDTraining(
        build=partial(build, task),
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )


def networks_in_training(task: str, train: Any, seed: int) -> Iterator[nn.Module]:
    """Yield one network before each of its steps, and at the end.

    An epoch takes *all* data of the task in an order of the seed, and an example that is not in `train`
    leaves its place empty: two runs of one seed differ by the examples that they lack, and by no other's
    batch.
    """
    training = recipe(task)
    module = training.network(seed)
    optimiser = training.optimizer_of(list(module.parameters()))
    inputs, labels, names = train.inputs.float(), train.labels, data(task)[0].ids
    rows = dict(zip(train.ids, range(len(labels)), strict=True))
    place = torch.tensor([rows.get(name, -1) for name in names])
    generator = torch.Generator().manual_seed(seed)
    for _ in range(training.epochs):
        for batch in place[torch.randperm(len(names), generator=generator)].split(training.batch_size):
            yield module
            batch = batch[batch >= 0]
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(module(inputs[batch]), labels[batch]).backward()
            optimiser.step()
    yield module


def train_with_gaps(task: str, train: Any, seed: int) -> nn.Module:
    """Return a network whose run differs from that on all data by the examples alone that `train` lacks."""
    return deque(networks_in_training(task, train, seed), maxlen=1)[0]


def subsets(task: str, n: int) -> np.ndarray:
    """Return which examples each retraining keeps: random halves; or all, and all but one."""
    count = TASKS[task].subsets
    if not TASKS[task].singles:
        return lo.random_subsets(n, count=count, seed=0)
    kept = np.ones((count + 1, n), dtype=bool)
    removed = np.random.default_rng(0).permutation(n)[:count]
    kept[np.arange(1, count + 1), removed] = False
    return kept


def ridge(task: str, n: int) -> float:
    """Return the ridge that stands for a run on n examples, in the units of the tangent kernel."""
    training = recipe(task)
    return lo.training_ridge(
        n=n,
        learning_rates=training.learning_rate,
        steps=training.steps(n),
        weight_decay=training.weight_decay,
        momentum=training.momentum,
    )
