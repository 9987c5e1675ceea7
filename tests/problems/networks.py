"""Small networks and data that several tests train."""

import numpy as np
import torch
from torch import nn

from leftout.dynamics.two_layer import TwoLayerNetwork


def seeded(seed=0):
    """Return a generator."""
    return torch.Generator().manual_seed(seed)


def sphere(n, d, k=1, *, seed=0):
    """Return unit inputs (n, d) and smooth targets (n, k)."""
    draw = np.random.default_rng(seed)
    inputs = draw.standard_normal((n, d))
    inputs /= np.linalg.norm(inputs, axis=1, keepdims=True)
    targets = np.sin(3 * inputs @ draw.standard_normal((d, k))) + 0.1 * draw.standard_normal((n, k))
    return torch.from_numpy(inputs), torch.from_numpy(targets)


def network(width, inputs, outputs=1, *, seed=0, scale=1.0, antisymmetric=True, **options):
    """Return a two-layer network."""
    return TwoLayerNetwork(
        width, inputs, outputs, scale=scale, antisymmetric=antisymmetric, generator=seeded(seed), **options
    )


def arrays(net):
    """Return weights and signs as arrays."""
    return net.weights.detach().double().numpy().copy(), net.signs.double().numpy().copy()


def linear(d, k=1, *, seed=0):
    """A linear module with weights of its own, without bias."""
    module = nn.Linear(d, k, bias=False, dtype=torch.float64)
    module.weight.data = torch.randn(k, d, generator=seeded(seed), dtype=torch.float64)
    return module


def small_tanh(d, k=1, *, seed=0):
    """A smooth network of two trained layers, with biases."""
    module = nn.Sequential(nn.Linear(d, 9), nn.Tanh(), nn.Linear(9, k)).double()
    with torch.no_grad():
        for one in module.parameters():
            one.copy_(0.5 * torch.randn(one.shape, generator=seeded(seed), dtype=torch.float64))
    return module


def numpy_of(*tensors):
    """Return tensors as arrays."""
    return [tensor.numpy() for tensor in tensors]
