"""Networks that treat some inputs otherwise, those whose first number exceeds 1: `odd`. Small, in double."""

import torch
from torch import nn

from problems.tangent_networks import settled

D = 4


def odd(x):
    return x[:, :1] > 1


class UsedAgain(nn.Module):
    """A weight that is used a second time for odd inputs, if there are any."""

    def __init__(self):
        super().__init__()
        self.a, self.head = nn.Linear(D, D), nn.Linear(D, 2)

    def forward(self, x):
        z = torch.tanh(self.a(x))
        if odd(x).any():
            z = torch.where(odd(x), torch.tanh(z @ self.a.weight.T), z)
        return self.head(z)


class CalledAgain(UsedAgain):
    """The same, by calling the layer."""

    def forward(self, x):
        z = torch.tanh(self.a(x))
        if odd(x).any():
            z = torch.where(odd(x), torch.tanh(self.a(z)), z)
        return self.head(z)


class UsedInstead(UsedAgain):
    """For odd inputs the layer is called in vain, and its weight used by itself."""

    def forward(self, x):
        z = torch.tanh(self.a(x))
        if bool(odd(x).all()):
            z = torch.tanh(nn.functional.linear(2 * x, self.a.weight))
        return self.head(torch.where(odd(x), torch.tanh(nn.functional.linear(2 * x, self.a.weight)), z))


class Experts(nn.Module):
    """Each input goes to one of two layers."""

    def __init__(self):
        super().__init__()
        self.experts, self.head = nn.ModuleList([nn.Linear(D, 3), nn.Linear(D, 3)]), nn.Linear(3, 2)

    def forward(self, x):
        z = x.new_zeros(len(x), 3)
        for number, expert in enumerate(self.experts):
            rows = (odd(x)[:, 0] == bool(number)).nonzero()[:, 0]
            if len(rows):
                z = z.index_copy(0, rows, torch.tanh(expert(x[rows])))
        return self.head(z)


class Sorted(nn.Module):
    """A layer gets all inputs once, the odd ones last."""

    def __init__(self):
        super().__init__()
        self.a, self.head = nn.Linear(D, 3), nn.Linear(3, 2)

    def forward(self, x):
        order = odd(x)[:, 0].int().argsort(stable=True)
        return self.head(torch.tanh(self.a(x[order]))[order.argsort()])


class MeanOfBatch(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(D, 2)

    def forward(self, x):
        return torch.tanh(self.a(x - x.mean(0)))


class MeanOfOdd(MeanOfBatch):
    """Odd inputs see each other, the others are alone."""

    def forward(self, x):
        if odd(x).any():
            x = torch.where(odd(x), x - x[odd(x)[:, 0]].mean(0), x)
        return torch.tanh(self.a(x))


class AttentionOverBatch(MeanOfBatch):
    def forward(self, x):
        return self.a(torch.softmax(x @ x.T, 1) @ x)


class LargestOfBatch(MeanOfBatch):
    def forward(self, x):
        return self.a(x / x.abs().amax(0).clamp_min(1e-3))


class BehindAGate(MeanOfBatch):
    """The mean of the batch, times a weight that is zero."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Parameter(torch.tensor(0.0))

    def forward(self, x):
        return self.a(x) + self.gate * x.mean(0)[:2]


UNEVEN = [UsedAgain, CalledAgain, UsedInstead, Experts, Sorted]
COUPLED = [MeanOfBatch, MeanOfOdd, AttentionOverBatch, LargestOfBatch, BehindAGate]


def uneven_module(kind):
    module = settled(kind())
    if hasattr(module, "gate"):
        module.gate.data.zero_()
    return module
