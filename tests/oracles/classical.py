"""The classical influence function once more, from its definition, sharing no code with the package.

It is −d/dω of the query loss at ω = 1, ω the weight of a training example in the objective

    Σ_j ω_j ½ |f(x_j) − y_j|²  (divided by Σ_j ω_j under "mean")  +  ½ ridge |w − w_0|².

A kernel model depends analytically on ω, so that a step along the imaginary axis gives the derivative
with no difference taken. A network is minimised again, by Newton's method on the dense Hessian.
"""

import numpy as np
import torch

STEP = 1e-30
"""Imaginary: the derivative of what is real on the real axis, exact to STEP² and to rounding."""


def query_losses(gram, cross, residual, wanted, *, ridge, loss, weights):
    """½ Σ (f − y)² at each query, of the weighted ridge regression; weights may be complex."""
    total = weights.sum() if loss == "mean" else 1.0
    system = weights[:, None] * gram + ridge * total * np.eye(len(gram))
    predicted = cross @ np.linalg.solve(system, weights[:, None] * residual)
    return 0.5 * ((predicted - wanted) ** 2).sum(1)


def first_order(gram, cross, residual, wanted, *, ridge, loss):
    """(m, n): −d/dω_i of the loss of each query, a complex step for each i."""
    columns = []
    for i in range(len(gram)):
        weights = np.ones(len(gram), dtype=complex)
        weights[i] += 1j * STEP
        losses = query_losses(gram, cross, residual, wanted, ridge=ridge, loss=loss, weights=weights)
        columns.append(-losses.imag / STEP)
    return np.stack(columns, axis=1)


def extrapolated(values, steps):
    """The limit at step 0 of values that are a power series in the square of the step (Neville)."""
    table = list(values)
    for level in range(1, len(table)):
        for j in range(len(table) - level):
            ratio = (steps[j] / steps[j + level]) ** 2
            table[j] = table[j + 1] + (table[j + 1] - table[j]) / (ratio - 1)
    return table[0]


class Network:
    """A module, data and ridge as one function of a flat vector of weights, all its matrices dense.

    objective(w) = Σ_j ω_j ½ |f(x_j) − y_j|² / total + ½ ridge |w − w_0|², total 1 or Σ_j ω_j.
    """

    def __init__(self, module, inputs, targets, *, ridge, loss="sum"):
        named = list(module.named_parameters())
        self.module = module
        self.names = [name for name, _ in named]
        self.shapes = [value.shape for _, value in named]
        self.start = torch.cat([value.detach().flatten() for _, value in named])
        self.inputs, self.targets = inputs, targets
        self.ridge, self.loss = ridge, loss

    def outputs(self, flat, inputs):
        parts = flat.split([shape.numel() for shape in self.shapes])
        weights = {
            name: part.view(shape) for name, part, shape in zip(self.names, parts, self.shapes, strict=True)
        }
        return torch.func.functional_call(self.module, weights, (inputs,))

    def objective(self, flat, weights=None, *, of_sum=False):
        """`of_sum` gives it times total, whose ridge is then total · ridge."""
        weights = torch.ones(len(self.inputs)).double() if weights is None else weights
        total = weights.sum() if self.loss == "mean" else torch.ones(()).double()
        missed = (self.outputs(flat, self.inputs) - self.targets).square().sum(1)
        data = (weights * missed).sum() / 2
        decay = self.ridge * (flat - self.start).square().sum() / 2
        return data + total * decay if of_sum else data / total + decay

    def loss_at(self, flat, inputs, targets):
        return (self.outputs(flat, inputs) - targets).square().sum() / 2

    def gradient(self, flat, weights=None):
        flat = flat.clone().requires_grad_()
        return torch.autograd.grad(self.objective(flat, weights), flat)[0]

    def hessian(self, flat, weights=None):
        return torch.autograd.functional.hessian(lambda w: self.objective(w, weights), flat)

    def minimised(self, flat, weights=None):
        """A minimum, by Newton's method to the last digit; how long it wanders depends on rounding."""
        for _ in range(500):
            gradient = self.gradient(flat, weights)
            hessian = self.hessian(flat, weights)
            values, vectors = torch.linalg.eigh(hessian)
            step = vectors @ ((vectors.T @ gradient) / values.abs())  # downhill at a saddle too
            longest = float(step.norm())
            flat = flat - step / max(1.0, longest)
            if longest <= 1e-9 * float(flat.norm()):
                return flat  # the step squared, which is what this one leaves, is below rounding
        raise AssertionError("Newton's method did not settle")

    def written(self, flat, module):
        """A copy of the weights into a module."""
        torch.nn.utils.vector_to_parameters(flat.clone(), module.parameters())
        return module


def influence_dense(network, flat, inputs, targets, *, damping=0.0, curvature="hessian"):
    """(m, n): eq. 12 with the Hessian of the sum written down, all gradients one by one."""
    n = len(network.inputs)
    total = n if network.loss == "mean" else 1
    eye = torch.eye(len(flat), dtype=flat.dtype)
    if curvature == "hessian":
        matrix = total * network.hessian(flat)
    else:
        jacobian = torch.autograd.functional.jacobian(
            lambda w: network.outputs(w, network.inputs), flat
        ).flatten(0, 1)
        matrix = jacobian.T @ jacobian + total * network.ridge * eye
    matrix = matrix + total * damping * eye

    def gradient(x, y):
        w = flat.clone().requires_grad_()
        return torch.autograd.grad(network.loss_at(w, x[None], y[None]), w)[0]

    ours = [gradient(x, y) for x, y in zip(network.inputs, network.targets, strict=True)]
    pull = network.ridge * (flat - network.start) if network.loss == "mean" else 0.0
    pulls = torch.stack([one + pull for one in ours])
    theirs = torch.stack([gradient(x, y) for x, y in zip(inputs, targets, strict=True)])
    return theirs @ torch.linalg.solve(matrix, pulls.T)


def influence_by_retraining(network, flat, inputs, targets, rows, steps):
    """(m, r): −d/dω of each query's loss, of networks minimised at weights 1 ± step, extrapolated."""
    columns = []
    for row in rows:
        slopes = []
        for step in steps:
            losses = []
            for sign in (1, -1):
                weights = torch.ones(len(network.inputs)).double()
                weights[row] += sign * step
                there = network.minimised(flat, weights)
                missed = (network.outputs(there, inputs) - targets).square().sum(1) / 2
                losses.append(missed.detach().numpy())
            slopes.append((losses[1] - losses[0]) / (2 * step))
        columns.append(extrapolated(slopes, steps))
    return np.stack(columns, axis=1)
