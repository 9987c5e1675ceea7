"""What is the Jacobian of a network's outputs in its weights, input by input?

J_i = ∂f(x_i; w)/∂w, one row for each output or for each combination of outputs that is asked for: row r
is Σ_o C_ro ∂f_o/∂w. By reverse mode, vectorised over inputs and rows (vmap); modules that cannot be
vectorised are differentiated one input and one row at a time, with the same numbers to rounding.
"""

import warnings
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import vjp, vmap

from leftout.core.errors import LoopWarning
from leftout.core.module_call import (
    as_ordinary,
    call,
    copy_module,
    derivatives,
    gradients_recorded,
    in_any_mode,
)
from leftout.core.modules import Parameters

Jacobian = Callable[[nn.Module, Parameters, Tensor, Tensor], Parameters]
"""Module, weights, combinations (r, k), inputs (c, …) → for each parameter (c, r, *its shape)."""

FAILURES = (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError)
"""What torch raises where it cannot vectorise a module."""


@in_any_mode
@torch.no_grad()  # of everything but the weights: vjp differentiates all the same
def by_vmap(
    module: nn.Module, weights: Parameters, combinations: Float[Tensor, "r k"], inputs: Tensor
) -> Parameters:
    """Return the Jacobians of all inputs at once."""

    def jacobian(x: Tensor) -> Parameters:
        outputs, pull_back, *_ = vjp(lambda w: call(module, w, x[None])[0], weights)
        rows: Parameters = vmap(pull_back)(combinations.to(outputs.dtype))[0]
        return rows

    jacobians: Parameters = vmap(jacobian)(as_ordinary(inputs))
    return jacobians


def by_loop(
    module: nn.Module, weights: Parameters, combinations: Float[Tensor, "r k"], inputs: Tensor
) -> Parameters:
    """Return the same, one input and one combination after the other."""
    constants = {name: weight.detach() for name, weight in module.named_parameters()}
    leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
    n, r = len(inputs), len(combinations)
    jacobians = {name: weight.new_empty(n, r, *weight.shape) for name, weight in weights.items()}
    for i, x in enumerate(inputs):
        with gradients_recorded():
            outputs = call(module, constants | leaves, x[None])[0]
        for r, row in enumerate(combinations.to(outputs.dtype)):
            with derivatives(module):
                gradients = _gradients(outputs, leaves, row)
            for jacobian, gradient in zip(jacobians.values(), gradients, strict=True):
                jacobian[i, r] = gradient
    return jacobians


def _gradients(outputs: Tensor, leaves: Parameters, row: Tensor) -> tuple[Tensor, ...]:
    if not outputs.requires_grad:  # outputs that the weights have no part in
        return tuple(torch.zeros_like(leaf) for leaf in leaves.values())
    gradients = torch.autograd.grad(
        outputs, list(leaves.values()), row, retain_graph=True, materialize_grads=True
    )
    # An embedding may ask for sparse ones.
    return tuple(gradient.to_dense() for gradient in gradients)


def fitting_jacobian(module: nn.Module, weights: Parameters, sample: Tensor, *, outputs: int) -> Jacobian:
    """Return the faster of the two functions that works for this module.

    Args:
        sample: an input or two to try it on.

    Warns:
        LoopWarning: it is the slower one; says why.
    """
    # One combination in which no outputs cancel: enough to compare, at the least memory.
    like = next(iter(weights.values()))
    combination = torch.linspace(1, 2, outputs, dtype=like.dtype, device=like.device)[None]
    try:
        by_vmap(module, weights, combination, sample)
    except FAILURES as error:
        cause = error.__cause__ or error
        why = f"torch.func.vmap refuses it ({type(cause).__name__}: {_first_line(cause)})"
    else:
        if _same_numbers(module, weights, combination, sample):
            return by_vmap
        why = "torch.func.vmap gives other numbers for it"
    warnings.warn(
        f"{type(module).__name__} is differentiated one input at a time, which is many times slower: {why}.",
        LoopWarning,
        stacklevel=2,
    )
    return by_loop


def _same_numbers(module: nn.Module, weights: Parameters, combination: Tensor, sample: Tensor) -> bool:
    """Return whether both functions agree: in double precision, where the module can be converted.

    In single precision sums are rounded otherwise by either, and a gate next to its kink opens in one
    and not in the other: a few weights of a deep network then have gradients that differ by percents.
    """
    double = copy_module(module).double()
    doubled = sample.double() if sample.is_floating_point() else sample
    named = {name: weight.double() for name, weight in weights.items()}
    try:
        both = [way(double, named, combination.double(), doubled) for way in (by_vmap, by_loop)]
    except FAILURES:  # a module that insists on its precision
        both = [way(module, weights, combination, sample) for way in (by_vmap, by_loop)]
    return _agree(*both)


def _agree(fast: Parameters, slow: Parameters) -> bool:
    """Return whether two Jacobians are the same up to rounding."""
    for a, b in zip(fast.values(), slow.values(), strict=True):
        allowed = torch.finfo(a.dtype).eps ** 0.5 * float(b.nan_to_num().abs().max())
        same = (a - b).abs() <= allowed
        if not bool((same | (a.isnan() & b.isnan()) | (a == b)).all()):
            return False
    return True


def _first_line(error: BaseException) -> str:
    line = (str(error).strip().splitlines() or [""])[0]
    return line.rstrip(".") if len(line) <= 200 else f"{line[:199]}…"
