"""What is the Jacobian of a network's outputs in its weights, input by input?

J_i = ∂f(x_i; w)/∂w, one row for each output or for each combination of outputs that is asked for: row r
is Σ_o C_ro ∂f_o/∂w. By reverse mode, vectorised over inputs and rows (vmap); modules that cannot be
vectorised are differentiated one input and one row at a time, with the same numbers to rounding.
"""

import copy
import warnings
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import vjp, vmap

from leftout.core.errors import LoopWarning
from leftout.core.modules import Parameters, call

Jacobian = Callable[[nn.Module, Parameters, Tensor, Tensor], Parameters]
"""Module, weights, combinations (r, k), inputs (c, …) → for each parameter (c, r, *its shape)."""

FAILURES = (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError)
"""What torch raises where it cannot vectorise a module."""


@torch.no_grad()  # of everything but the weights: vjp differentiates all the same
def by_vmap(
    module: nn.Module,
    weights: Parameters,
    combinations: Float[Tensor, "r k"],
    inputs: Tensor,
) -> Parameters:
    """Return the Jacobians of all inputs at once."""

    def one(x: Tensor) -> Parameters:
        found = vjp(lambda w: call(module, w, x[None])[0], weights)
        pulled: Parameters = vmap(found[1])(combinations.to(found[0].dtype))[0]
        return pulled

    rows: Parameters = vmap(one)(inputs)
    return rows


def by_loop(
    module: nn.Module,
    weights: Parameters,
    combinations: Float[Tensor, "r k"],
    inputs: Tensor,
) -> Parameters:
    """Return the same, one input and one combination after the other."""
    rest = {name: one.detach() for name, one in module.named_parameters()}
    leaves = {name: one.detach().requires_grad_() for name, one in weights.items()}
    found = {
        name: one.new_empty(len(inputs), len(combinations), *one.shape)
        for name, one in weights.items()
    }
    for i, x in enumerate(inputs):
        with torch.enable_grad():
            outputs = call(module, rest | leaves, x[None])[0]
        for r, row in enumerate(combinations.to(outputs.dtype)):
            for to, value in zip(found.values(), _gradients(outputs, leaves, row), strict=True):
                to[i, r] = value
    return found


def _gradients(outputs: Tensor, leaves: Parameters, row: Tensor) -> tuple[Tensor, ...]:
    if not outputs.requires_grad:  # outputs that the weights have no part in
        return tuple(torch.zeros_like(one) for one in leaves.values())
    return torch.autograd.grad(
        outputs, list(leaves.values()), row, retain_graph=True, materialize_grads=True
    )


def fitting_jacobian(
    module: nn.Module, weights: Parameters, few: Tensor, *, outputs: int
) -> Jacobian:
    """Return the faster way that this module allows.

    Args:
        few: an input or two to try it on.

    Warns:
        LoopWarning: it is the slow one, and why.
    """
    # One combination in which no outputs cancel: enough to compare, at the least memory.
    like = next(iter(weights.values()))
    tried = torch.linspace(1, 2, outputs, dtype=like.dtype, device=like.device)[None]
    try:
        by_vmap(module, weights, tried, few)
    except FAILURES as error:
        why = f"torch.func.vmap refuses it ({type(error).__name__}: {_first_line(error)})"
    else:
        if _same_numbers(module, weights, tried, few):
            return by_vmap
        why = "torch.func.vmap gives other numbers for it"
    warnings.warn(
        f"{type(module).__name__} is differentiated one input at a time, which is many times slower: "
        f"{why}.",
        LoopWarning,
        stacklevel=2,
    )
    return by_loop


def _same_numbers(module: nn.Module, weights: Parameters, tried: Tensor, few: Tensor) -> bool:
    """Return whether both ways agree: in double precision, where the module is able to.

    In single precision sums are rounded otherwise by either, and a gate next to its kink opens in one
    and not in the other: a few weights of a deep network then have gradients that differ by percents.
    """
    double = copy.deepcopy(module).double()
    given = few.double() if few.is_floating_point() else few
    named = {name: one.double() for name, one in weights.items()}
    try:
        both = [way(double, named, tried.double(), given) for way in (by_vmap, by_loop)]
    except FAILURES:  # a module that insists on its precision
        both = [way(module, weights, tried, few) for way in (by_vmap, by_loop)]
    return _agree(*both)


def _agree(fast: Parameters, slow: Parameters) -> bool:
    """Return whether two Jacobians are the same up to rounding."""
    for one, other in zip(fast.values(), slow.values(), strict=True):
        allowed = torch.finfo(one.dtype).eps ** 0.5 * float(other.nan_to_num().abs().max())
        same = (one - other).abs() <= allowed
        if not bool((same | (one.isnan() & other.isnan()) | (one == other)).all()):
            return False
    return True


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200].rstrip(".")
