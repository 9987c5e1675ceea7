"""The kernel of a module's architecture: the right one, however its forward is written, or a refusal."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

import leftout as lo

relu = nn.ReLU


class Plain(nn.Module):
    """Two hidden layers, with a shape asked for in the forward."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(12, 256), nn.Linear(256, 256), nn.Linear(256, 4)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        x = x.view(x.size(0), -1)
        x = self.dropout(functional.relu(self.a(x)))
        return self.c(torch.relu(self.b(x)))


class Pictures(nn.Module):
    """Two convolutions and a mean over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 128, 3, padding=1), nn.Conv2d(128, 128, 3, padding="same")
        self.pool, self.c = nn.AvgPool2d(2), nn.Linear(128, 4)

    def forward(self, x):
        x = self.pool(self.a(x).relu())
        return self.c(functional.relu(self.b(x)).mean((2, 3)))


def sequential(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers)


WIDE = {
    "plain": (Plain(), lo.kernels.ReLU(2), (12,)),
    "sequential": (
        sequential(nn.Flatten(), nn.Linear(12, 512), relu(), nn.Identity(), nn.Linear(512, 4)),
        lo.kernels.ReLU(1),
        (3, 2, 2),
    ),
    "pictures": (
        Pictures(),
        lo.kernels.ConvReLU(2, padding="same", pooling="mean", average=(2, 1)),
        (3, 4, 4),
    ),
    "strides": (
        sequential(
            nn.Conv2d(3, 128, 3, stride=2),
            relu(),
            nn.Conv2d(128, 128, 2),
            relu(),
            nn.Flatten(),
            nn.Linear(512, 4),
        ),
        lo.kernels.ConvReLU(2, kernel_size=(3, 2), stride=(2, 1), padding="valid"),
        (3, 7, 7),
    ),
    "circle": (
        sequential(
            nn.Conv2d(3, 128, 3, padding=1, padding_mode="circular"),
            relu(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(128, 4),
        ),
        lo.kernels.ConvReLU(1, padding="circular", pooling="mean"),
        (3, 4, 4),
    ),
    "pixels": (
        sequential(nn.Conv2d(3, 256, 1), relu(), nn.Flatten(), nn.Linear(1024, 4)),
        lo.kernels.ConvReLU(1, kernel_size=1, padding="valid"),
        (3, 2, 2),
    ),
}


@pytest.mark.parametrize("name", WIDE)
def test_the_kernel_is_that_of_the_architecture(name):
    module, kernel, _ = WIDE[name]
    assert lo.kernels.of(module) == kernel


@pytest.mark.parametrize("name", WIDE)
def test_outputs_of_the_very_module_with_he_weights_have_the_covariance_of_its_prior(name):
    module, _, shape = WIDE[name]
    module = module.eval()
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn((3, *shape), generator=generator)
    draws = []
    for _ in range(200):
        for parameter in module.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
            scale = math.sqrt(2 / fan_in) if parameter.ndim > 1 else 0.0
            parameter.data = scale * torch.randn(parameter.shape, generator=generator)
        with torch.no_grad():
            draws.append(module(inputs).double())
    outputs = torch.stack(draws).transpose(1, 2).reshape(-1, 3)  # of independent outputs
    products = outputs[:, :, None] * outputs[:, None, :]
    expected = lo.kernels.of(module).prior().block(inputs.double(), inputs.double())
    error = products.std(0) / math.sqrt(len(products))
    # Outputs of a network share its hidden layers: of widths of 128 and more that adds a few percent.
    assert bool(((products.mean(0) - expected).abs() < 5 * error + 0.05 * expected.abs()).all())


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.b(x + functional.relu(self.a(x)))


class Chooses(Branches):
    def forward(self, x):
        return self.b(x) if x.sum() > 0 else self.b(-x)


class Doubles(Branches):
    def forward(self, x):
        return self.b(2 * functional.relu(self.a(x)))


REFUSED = {
    "branches": (Branches(), "branches"),
    "chooses": (Chooses(), "torch.fx can trace"),
    "doubles": (Doubles(), "mul"),
    "no hidden layer": (nn.Sequential(nn.Linear(3, 2)), "before its readout it has nothing"),
    "two readouts": (nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2)), "one Linear and one ReLU"),
    "another activation": (nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2)), "Tanh"),
    "a largest number": (
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3, 2)),
        "MaxPool2d",
    ),
    "normalised": (
        nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2)),
        "BatchNorm1d",
    ),
    "no readout": (nn.Sequential(nn.Linear(3, 3), nn.ReLU()), "ends with ReLU"),
    "padded at a stride": (
        nn.Sequential(nn.Conv2d(1, 2, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(3, 2)),
        "at stride 1",
    ),
    "layers behind": (
        nn.Sequential(
            nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2)
        ),
        "then one Linear",
    ),
    "in groups": (
        nn.Sequential(nn.Conv2d(2, 2, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(3, 2)),
        "groups",
    ),
    "not square": (
        nn.Sequential(nn.Conv2d(1, 2, (3, 1)), nn.ReLU(), nn.Flatten(), nn.Linear(3, 2)),
        "square",
    ),
    "paddings differ": (
        nn.Sequential(
            nn.Conv2d(1, 2, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(2, 2, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(8, 2),
        ),
        "alike",
    ),
    "overlapping": (
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AvgPool2d(3, 2), nn.Flatten(), nn.Linear(8, 2)),
        "overlap",
    ),
    "no flattening": (nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Linear(8, 2)), "then one Linear"),
    "no module": ("relu", "nn.Module"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_kernel_is_refused_by_name(name):
    module, words = REFUSED[name]
    with pytest.raises(lo.LeftoutError, match=words):
        lo.kernels.of(module)
