"""The networks that are judged. This file needs torch alone: every tool builds its networks from it."""

import torch
from torch import Tensor, nn


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


def dattri_regression() -> nn.Module:
    """Return the logistic regression of dattri's benchmark: 7,850 weights."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


def dattri_mlp() -> nn.Module:
    """Return the MLP of dattri's benchmark, 784-128-64-10 with dropout: 109,386 weights."""
    return nn.Sequential(
        nn.Flatten(),
        *(nn.Linear(784, 128), nn.ReLU(), nn.Dropout(0.1)),
        *(nn.Linear(128, 64), nn.ReLU(), nn.Dropout(0.1)),
        nn.Linear(64, 10),
    )


def last_stage() -> nn.Module:
    """Return the last stage of ResNet-20 with a readout of two classes: 203,266 weights.

    Its inputs are what the stages before it make of pictures, (32, 16, 16). Batch norm is folded into the
    convolutions, as for inference: they have biases.
    """
    return nn.Sequential(
        *(Block(32, 64), Block(64, 64), Block(64, 64)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 2)),
    )


class Block(nn.Module):
    """Two convolutions beside a shortcut without parameters."""

    def __init__(self, ins: int, outs: int) -> None:
        super().__init__()
        self.more = outs - ins
        self.conv1 = nn.Conv2d(ins, outs, 3, stride=2 if self.more else 1, padding=1)
        self.conv2 = nn.Conv2d(outs, outs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(torch.relu(self.conv1(x)))
        if self.more:
            x = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.more // 2, self.more // 2))
        return torch.relu(x + y)


BUILD = {
    "mnist": mlp,
    "cifar": cnn,
    "dattri-regression": dattri_regression,
    "dattri-mlp": dattri_mlp,
    "resnet": last_stage,
}


def kind(task: str) -> str:
    """Return the network of a task: its name without "-late", "-early" and "-singles"."""
    head, _, tail = task.rpartition("-")
    return head if tail in ("late", "early", "singles") else task


def trained(folder: str, count: int) -> list[nn.Module]:
    """Return networks of a task with the weights that `prepare.py` trained."""
    modules = []
    for seed in range(count):
        module = BUILD[kind(folder.rstrip("/").rpartition("/")[2])]()
        module.load_state_dict(torch.load(f"{folder}/network-{seed}.pt", weights_only=True))
        modules.append(module.eval())
    return modules
