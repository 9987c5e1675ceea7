"""Networks that use a weight, a buffer or a submodule in more than one place, small, in double."""

import torch
from torch import nn
from torch.nn.utils import parametrizations

from problems.tangent_networks import settled

D = 5


class TiedParameter(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Linear(D, D), nn.Linear(D, D, bias=False), nn.Linear(D, 2)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.head(torch.tanh(self.b(torch.tanh(self.a(x)))))


class TiedTransposed(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.head = nn.Linear(D, 4), nn.Linear(D, 2)

    def forward(self, x):
        return self.head(torch.tanh(torch.tanh(self.a(x)) @ self.a.weight))


class TwoNames(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(D, 4)
        self.body = nn.Sequential(self.fc, nn.Tanh())
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.body(x))


class TwoNamesUsedTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(D, D)
        self.again = self.fc
        self.head = nn.Linear(D, 2)

    def forward(self, x):
        return self.head(torch.tanh(self.again(torch.tanh(self.fc(x)))))


class ThreeTimesInAList(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(D, D)] * 3)
        self.head = nn.Linear(D, 2)

    def forward(self, x):
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.head(x)


class PartlyShared(nn.Module):
    """One block is a part of another, which has a name of its own for it."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(D, 4), nn.Tanh())
        self.model = nn.ModuleDict({"encoder": self.encoder, "head": nn.Linear(4, 2)})
        self.parts = nn.ModuleList([self.model, nn.Sequential(self.encoder[0], nn.Tanh())])

    def forward(self, x):
        return self.model["head"](self.encoder(x) + self.parts[1](x))


class BatchNormTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(D, 4), nn.BatchNorm1d(4), nn.Linear(4, 4)
        self.also = nn.Sequential(self.norm)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(torch.tanh(self.also(self.b(torch.tanh(self.norm(self.a(x)))))))


class SharedBuffer(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(D, 4), nn.Linear(4, 2)
        self.a.register_buffer("scale", torch.ones(4))
        self.b.register_buffer("scale", self.a.scale)

    def forward(self, x):
        return self.b(torch.tanh(self.a(x) * self.a.scale) * self.b.scale)


class UnregisteredName(nn.Module):
    """The second name is in a plain list, and the third an attribute that torch does not see."""

    def __init__(self):
        super().__init__()
        self.fc, self.head = nn.Linear(D, D), nn.Linear(D, 2)
        self.layers = [self.fc]
        self.head.__dict__["below"] = self.fc

    def forward(self, x):
        return self.head(torch.tanh(self.head.below(torch.tanh(self.layers[0](x)))))


class ConvolutionTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.body = nn.Sequential(self.conv, nn.Tanh(), self.conv)
        self.head = nn.Linear(D, 2)

    def forward(self, x):
        return self.head(torch.tanh(self.body(x[:, None, None])).flatten(1))


class SharedParametrization(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = parametrizations.weight_norm(nn.Linear(D, D))
        self.body = nn.Sequential(self.fc, nn.Tanh(), self.fc)
        self.head = nn.Linear(D, 2)

    def forward(self, x):
        return self.head(self.body(x))


class Activations(nn.Module):
    """A layer under two names, whose outputs are kept, in an attribute and in containers."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(D, 4)
        self.body = nn.Sequential(self.fc, nn.Tanh())
        self.head = nn.Linear(4, 2)
        self.kept, self.history, self.by_layer = None, [], {"body": []}

    def forward(self, x):
        self.kept = self.body(x)
        self.history.append(self.kept)
        self.by_layer["body"].append(self.kept)
        return self.head(self.kept)


class Temperature(nn.Module):
    def __init__(self, temperature):
        super().__init__()
        self.temperature = temperature

    def forward(self, x):
        return x * self.temperature


class SharedScalar(nn.Module):
    """A temperature without axes, in two places; and a parameter without numbers."""

    def __init__(self):
        super().__init__()
        temperature = nn.Parameter(torch.tensor(1.5))
        self.a, self.b = nn.Linear(D, 4), nn.Linear(4, 2)
        self.below, self.above = Temperature(temperature), Temperature(temperature)
        self.empty = nn.Parameter(torch.zeros(0, 3))

    def forward(self, x):
        return self.above(self.b(torch.tanh(self.below(self.a(x)))))


SHARING = [
    TiedParameter,
    TiedTransposed,
    TwoNames,
    TwoNamesUsedTwice,
    ThreeTimesInAList,
    PartlyShared,
    BatchNormTwice,
    SharedBuffer,
    UnregisteredName,
    ConvolutionTwice,
    SharedParametrization,
    Activations,
    SharedScalar,
]


def shared_module(kind):
    """Return a module of this kind with weights of its own, once called so that what it keeps is kept."""
    module = settled(kind())
    module(torch.ones(1, D, dtype=torch.float64))
    return module
