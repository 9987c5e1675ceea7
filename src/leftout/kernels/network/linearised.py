"""Products with the Jacobian of a network's outputs in its weights, J v and Jᵀ u, without forming it.

    push forward    J v = d/dh f(X; w + h v)        a change of weights to a change of outputs
    pull back       Jᵀ u = Σ_i Σ_o u_io ∂f_o(x_i)/∂w        and back: ⟨u, J v⟩ = ⟨Jᵀ u, v⟩

Both by reverse mode, on chunks of inputs; no Jacobian is formed.
"""

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from leftout.core.module_call import call, derivatives, gradients_recorded
from leftout.core.modules import Parameters


def pull_back(
    module: nn.Module, weights: Parameters, chunks: Iterable[tuple[Tensor, Float[Tensor, "c k"]]]
) -> Parameters:
    """Return Jᵀ u by parameter, in float64, from chunks of inputs and of u."""
    totals = {name: torch.zeros_like(weight).double() for name, weight in weights.items()}
    for inputs, along in chunks:
        leaves, outputs = _graph(module, weights, inputs)
        if outputs.requires_grad:
            with derivatives(module):
                pulled = torch.autograd.grad(
                    outputs, list(leaves.values()), along.to(outputs), materialize_grads=True
                )
            for total, gradient in zip(totals.values(), pulled, strict=True):
                total += gradient
    return totals


def push_forward(
    module: nn.Module, weights: Parameters, inputs: Tensor, tangents: Mapping[str, Tensor]
) -> Float64[Tensor, "c k"]:
    """Return J v for one chunk of inputs.

    Jᵀ u is linear in u, and its derivative along v is J v: backward twice, where forward mode would do
    it once, because more modules support it. Fused attention has no second derivative; the plain one has.
    """
    with sdpa_kernel(SDPBackend.MATH):
        leaves, outputs = _graph(module, weights, inputs)
    zero = torch.zeros_like(outputs).double().detach()
    if not outputs.requires_grad:
        return zero
    vector = torch.zeros_like(outputs, requires_grad=True)
    with derivatives(module):
        pulled = torch.autograd.grad(
            outputs, list(leaves.values()), vector, create_graph=True, materialize_grads=True
        )
    # Parameters that the outputs do not depend on have gradients that do not depend on u.
    gradients = {name: grad for name, grad in zip(weights, pulled, strict=True) if grad.requires_grad}
    if not gradients:
        return zero
    along = [tangents[name].to(grad) for name, grad in gradients.items()]
    with derivatives(module):
        return torch.autograd.grad(list(gradients.values()), vector, along)[0].double()


def _graph(module: nn.Module, weights: Parameters, inputs: Tensor) -> tuple[Parameters, Tensor]:
    """Return weights to differentiate in, and the outputs."""
    with gradients_recorded():
        leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
        return leaves, call(module, leaves, inputs)
