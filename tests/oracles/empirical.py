"""The tangent kernel once more, from its definition: one derivative a time, dense, in double.

Shares no code with the package. `jacobian` asks autograd for each output of each input alone;
`jacobian_by_differences` asks nobody: it moves every weight by h, both ways.
"""

import copy

import numpy as np
import torch


def trained(module):
    """Return names and parameters that are trained, each once."""
    return {name: one for name, one in module.named_parameters() if one.requires_grad}


def jacobian(module, inputs, names=None):
    """Return (n k, p): row i·k + o holds the derivatives of output o of input i."""
    module = copy.deepcopy(module)
    kept = [one for name, one in trained(module).items() if names is None or name in names]
    rows = []
    for x in inputs:
        for o in range(module(x[None]).shape[1]):
            found = torch.autograd.grad(module(x[None])[0, o], kept, allow_unused=True)
            filled = [
                torch.zeros_like(one) if got is None else got for one, got in zip(kept, found, strict=True)
            ]
            rows.append(torch.cat([one.flatten() for one in filled]).double())
    return torch.stack(rows).detach().numpy()


def jacobian_by_differences(module, inputs, h=1e-5):
    """Return the same by central differences, off by O(h²) + O(eps / h)."""
    module = copy.deepcopy(module)
    columns = []
    with torch.no_grad():
        for one in trained(module).values():
            numbers = one.view(-1)
            for i in range(len(numbers)):
                before = numbers[i].item()
                numbers[i] = before + h
                up = module(inputs).clone()
                numbers[i] = before - h
                down = module(inputs).clone()
                numbers[i] = before
                columns.append(((up - down) / (2 * h)).flatten())
    return torch.stack(columns, dim=1).numpy()


def full(rows, others=None):
    """Return J J'ᵀ."""
    return rows @ (rows if others is None else others).T


def summed(rows, k, others=None):
    """Return the kernel of Σ_o f_o / √k."""
    one = rows.reshape(-1, k, rows.shape[1]).sum(1) / np.sqrt(k)
    return full(one, None if others is None else others.reshape(-1, k, others.shape[1]).sum(1) / np.sqrt(k))


def traced(rows, k):
    """Return Σ_o J_o J_oᵀ / k."""
    by_output = rows.reshape(-1, k, rows.shape[1])
    return sum(by_output[:, o] @ by_output[:, o].T for o in range(k)) / k
