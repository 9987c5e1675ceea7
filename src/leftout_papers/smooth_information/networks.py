"""The networks that the paper linearises: one wide layer, four convolutions, a pretrained ResNet.

All start from the defaults of PyTorch. A network is pretrained where its features come from another
task: a ResNet-20 of CIFAR-10 stands in for those of ImageNet, and four convolutional layers that told
other digits apart for those that learned letters. Only the last layer is then new.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import TypeVar, cast, final

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from leftout.core import OptionError
from leftout_papers.material import Material, Size
from leftout_papers.smooth_information.task import OTHER_DIGITS, pictures

WIDTH = {Size.QUICK: 128, Size.USUAL: 1024, Size.PAPER: 1024}
"""Units of a hidden layer."""

Built = TypeVar("Built", bound=nn.Module)

WEIGHTS = ("resnet20-cifar10/resnet20.safetensors", "resnet20.safetensors")
"""Where the ResNet's weights lie, beside the data or in its folder."""

PRETRAINING = {Size.QUICK: (160, 4), Size.USUAL: (4000, 4), Size.PAPER: (40_000, 4)}
"""Pictures and epochs."""


def perceptron(material: Material, shape: Sequence[int], *, outputs: int = 1, hidden: int = 1) -> nn.Module:
    """Return a network of `hidden` wide layers of ReLU units, with biases."""
    width = WIDTH[material.size]

    def build() -> nn.Module:
        sizes = [int(torch.Size(shape).numel()), *[width] * hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for ins, outs in pairwise(sizes):
            layers += [nn.Linear(ins, outs), nn.ReLU()]
        return nn.Sequential(*layers, readout(sizes[-1], outputs))

    return build_with_seed(build, material.seed)


def convolutional(shape: Sequence[int], *, outputs: int = 1, seed: int = 0) -> nn.Module:
    """Return the paper's four convolutional layers, as its table has them (stride 1 in the third)."""

    def build() -> nn.Module:
        features = nn.Sequential(
            nn.Conv2d(shape[0], 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3),
            nn.ReLU(),
            nn.Conv2d(64, 256, 3),
            nn.ReLU(),
            nn.Flatten(),
        )
        with torch.no_grad():
            count = features(torch.zeros(1, *shape)).shape[1]
        return nn.Sequential(features, nn.Linear(count, 256), nn.ReLU(), readout(256, outputs))

    return build_with_seed(build, seed)


def pretrained_network(
    material: Material, *, outputs: int = 1, seed: int = 0, without: Sequence[str] = OTHER_DIGITS
) -> nn.Module:
    """Return a network with features of another task and a new last layer, in eval mode.

    Args:
        without: the digits it is pretrained on, where the pictures are digits.

    Raises:
        OptionError: no weights of the ResNet beside CIFAR-10.
    """
    if material.name == "cifar10":
        return resnet20(resnet_weights(material), outputs=outputs, seed=seed)
    learned = _of_digits(material.source, material.size, material.seed, tuple(without))
    network = convolutional((1, 28, 28), outputs=len(without))
    network.load_state_dict(learned)
    assert isinstance(network, nn.Sequential)
    network[-1] = build_with_seed(partial(readout, 256, outputs), seed)
    return network.eval()


def resnet_weights(material: Material) -> Path:
    """Return the file of the ResNet's weights, in the folder of the data or beside it."""
    path = weights_beside(material)
    if path is None:
        folder = material.source.partition(":")[2]
        raise OptionError(
            f"`data` must have the pretrained ResNet-20 beside it for this exhibit, as {WEIGHTS[0]}; "
            f"there is none in {folder!r} or the folder that holds it."
        )
    return path


def weights_beside(material: Material) -> Path | None:
    """Return the file of the ResNet's weights, if there is one."""
    named = material.source.partition(":")[2]
    data = Path(named).expanduser()
    places = [folder / name for folder in (data, data.parent) for name in WEIGHTS]
    return next((path for path in places if named and path.is_file()), None)


def resnet20(weights: Path, *, outputs: int = 1, seed: int = 0) -> nn.Module:
    """Return the pretrained network with a new last layer, its batch statistics fixed."""
    network = ResNet20()
    network.load_state_dict(load_file(weights), strict=False)
    network.linear = build_with_seed(partial(readout, 64, outputs), seed)
    return network.eval()


@final
class ResNet20(nn.Module):
    """He et al.'s residual network of 20 layers for pictures of 32 × 32 pixels."""

    def __init__(self, outputs: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16)
        self.layer2 = _stage(16, 32)
        self.layer3 = _stage(32, 64)
        self.linear = nn.Linear(64, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))  # (n, 64, 8, 8)
        return cast(Tensor, self.linear(x.mean((2, 3))))


@final
class Block(nn.Module):
    """Two convolutions beside a shortcut without parameters."""

    def __init__(self, ins: int, outs: int) -> None:
        super().__init__()
        self.stride = 1 if ins == outs else 2
        self.more = outs - ins
        self.conv1 = nn.Conv2d(ins, outs, 3, stride=self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outs)
        self.conv2 = nn.Conv2d(outs, outs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outs)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self.more:
            half = self.more // 2
            x = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, half))
        return torch.relu(x + y)


def readout(ins: int, outputs: int) -> nn.Linear:
    """Return a last layer; the bias of a single output starts ½ lower, as its targets are ½ lower."""
    layer = nn.Linear(ins, outputs)
    if outputs == 1:
        with torch.no_grad():
            layer.bias.sub_(0.5)
    return layer


def build_with_seed(build: Callable[[], Built], seed: int) -> Built:
    """Return what `build` makes with torch's generator seeded, and put its state back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def _stage(ins: int, outs: int) -> nn.Sequential:
    return nn.Sequential(Block(ins, outs), Block(outs, outs), Block(outs, outs))


@lru_cache(maxsize=4)
def _of_digits(source: str, size: Size, seed: int, digits: tuple[str, ...]) -> dict[str, Tensor]:
    """Return the weights of the four-layer network that tells these digits apart."""
    count, epochs = PRETRAINING[size]
    examples, _ = pictures(Material(source, size, seed), (count, 40), digits)
    assert examples.labels is not None
    inputs = examples.inputs.float()
    network = convolutional(tuple(inputs.shape[1:]), outputs=len(digits), seed=seed)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(inputs), generator=generator), 100):
            loss = nn.functional.cross_entropy(network(inputs[rows]), examples.labels[rows])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
    return network.state_dict()
