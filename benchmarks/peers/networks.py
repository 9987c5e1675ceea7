"""The networks that are judged. This file needs torch alone: every tool builds its networks from it."""

import torch
from torch import nn


def mlp() -> nn.Module:
    """Return an MLP 784-128-128-10: 118,282 weights."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )


def cnn() -> nn.Module:
    """Return a network of two strided convolutions and a readout of three classes: 12,131 weights."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(16, 40, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(40 * 7 * 7, 3),
    )


BUILD = {"mnist": mlp, "cifar": cnn}


def trained(folder: str, count: int) -> list[nn.Module]:
    """Return networks of a task with the weights that `prepare.py` trained."""
    modules = []
    for seed in range(count):
        module = BUILD[folder.rstrip("/").rpartition("/")[2].partition("-")[0]]()
        module.load_state_dict(torch.load(f"{folder}/network-{seed}.pt", weights_only=True))
        modules.append(module.eval())
    return modules
