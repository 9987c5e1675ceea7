"""Networks of every kind that a tangent kernel is asked of, small, in double, with fixed weights."""

import torch
from torch import nn


def drawn(*shape, seed=0):
    """Return fixed normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def settled(module, seed=0):
    """Return the module in double and eval mode, with weights and running statistics of its own."""
    module = module.double().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for one in [*module.parameters(), *module.buffers()]:
            if one.dtype.is_floating_point:
                value = 0.4 * torch.randn(one.shape, generator=generator, dtype=torch.float64)
                # Running variances are buffers, and positive.
                one.copy_(value if one.requires_grad else 0.5 + value.abs())
    return module


class Residual(nn.Module):
    """Convolutions with batch norms around a skip, and a pool: a residual network in small."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 3, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(3)
        self.second = nn.Conv2d(3, 3, 3, padding=1)
        self.last = nn.Linear(3, 2)

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x)))
        return self.last((x + torch.tanh(self.second(x))).mean((2, 3)))


class Tied(nn.Module):
    """One weight in two layers."""

    def __init__(self):
        super().__init__()
        self.into = nn.Linear(5, 4)
        self.back = nn.Linear(5, 4)
        self.out = nn.Linear(4, 2)
        self.back.weight = self.into.weight

    def forward(self, x):
        return self.out(torch.tanh(self.into(x)) * self.back(x.flip(1)))


class Twice(nn.Module):
    """One layer, called twice."""

    def __init__(self):
        super().__init__()
        self.again = nn.Linear(5, 5)
        self.out = nn.Linear(5, 2)

    def forward(self, x):
        return self.out(torch.tanh(self.again(torch.tanh(self.again(x)))))


class Outside(nn.Module):
    """A layer whose weight is used in its call and beside it."""

    def __init__(self):
        super().__init__()
        self.inside = nn.Linear(5, 5)
        self.scale = nn.Parameter(torch.ones(5))
        self.out = nn.Linear(5, 2)

    def forward(self, x):
        return self.out(torch.sigmoid(self.inside(x) * self.scale) + x @ self.inside.weight)


class Functional(nn.Module):
    """A layer that is never called: its weight is all that is used."""

    def __init__(self):
        super().__init__()
        self.inside = nn.Linear(5, 5)
        self.out = nn.Linear(5, 2)

    def forward(self, x):
        return self.out(torch.tanh(nn.functional.linear(x, self.inside.weight)))


class Tokens(nn.Module):
    """Linear layers on (n, t, d), a layer norm, and attention between positions."""

    def __init__(self):
        super().__init__()
        self.into = nn.Linear(3, 4)
        self.norm = nn.LayerNorm(4)
        self.key = nn.Linear(4, 4, bias=False)
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        x = self.norm(self.into(x))
        x = torch.softmax(self.key(x) @ x.mT, -1) @ x
        return self.out(x.mean(1))


class ByRow(nn.Module):
    """A layer that is called once for every input of a batch, under a condition on its numbers."""

    def __init__(self):
        super().__init__()
        self.inside = nn.Linear(5, 4)
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        rows = [torch.tanh(self.inside(r)) if r[0].item() > 0 else self.inside(r) for r in x]
        return self.out(torch.stack(rows))


class InPlace(nn.Module):
    """Outputs of layers that are changed in place at once."""

    def __init__(self):
        super().__init__()
        self.into = nn.Linear(5, 4)
        self.side = nn.Linear(4, 4)
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        x = self.into(x).relu_()
        y = self.side(x)
        return self.out(y.mul_(2).add_(x))


class Turned(nn.Module):
    """A layer that sees positions in its first axis, and inputs in its second."""

    def __init__(self):
        super().__init__()
        self.into = nn.Linear(3, 4)
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        return self.out(torch.tanh(self.into(x.transpose(0, 1))).sum(0))


def convolutional(**options):
    """Return a convolutional network with the given options of its second layer."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, 2, **options),
        nn.GELU(),
        nn.Flatten(),
        nn.LazyLinear(3),
    )


def frozen_first():
    """Return a network whose first weight and last bias are not trained."""
    module = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))
    module[0].weight.requires_grad_(False)
    module[2].bias.requires_grad_(False)
    return module


def made():
    """Return networks and inputs by name."""
    flat, image, tokens = drawn(9, 5), drawn(7, 2, 5, 5), drawn(8, 4, 3)
    mlp = nn.Sequential(nn.Linear(5, 8), nn.ReLU(inplace=True), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3))
    found = {
        "mlp": (mlp, flat),
        "linear": (nn.Linear(5, 1), flat),
        "residual, batch norm": (Residual(), image),
        "cnn, dilated": (convolutional(dilation=2), image),
        "cnn, groups": (convolutional(groups=2, padding=1), image),
        "cnn, same": (convolutional(padding="same", dilation=2, bias=False), image),
        "cnn, valid": (convolutional(padding="valid"), image),
        "cnn, reflected": (convolutional(padding=1, padding_mode="reflect"), image),
        "tied": (Tied(), flat),
        "twice": (Twice(), flat),
        "outside": (Outside(), flat),
        "functional": (Functional(), flat),
        "tokens": (Tokens(), tokens),
        "in place": (InPlace(), flat),
        "turned": (Turned(), drawn(4, 4, 3)),
        "frozen": (frozen_first(), flat),
        "dropout": (nn.Sequential(nn.Linear(5, 4), nn.Dropout(0.5), nn.Linear(4, 2)), flat),
        "weight norm": (
            nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(5, 4)), nn.Tanh(), nn.Linear(4, 2)),
            flat,
        ),
    }
    for module, inputs in found.values():
        module.double()
        with torch.no_grad():
            module.eval()(inputs)  # lazy layers learn their shapes
        settled(module)
    return found


NETWORKS = made()
