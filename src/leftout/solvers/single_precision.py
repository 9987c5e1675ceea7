"""A Newton step of many problems of cross-entropy: most of it in single precision, checked in double.

A step that need be right to 1e-3 of the gradient has use for three of the seven digits of single precision:
conjugate gradients go as far there in as many products, of half the price. In double precision stand the
gradient before, and after it what remains: d from single precision leaves

    r = −g − λ d − ω P K d,        √(rᵀ K r) in the weights,

and a problem in which that is too much goes on from there in double precision.
"""

import copy
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.core.errors import NotPositiveError, SolveError
from leftout.core.product_matrix import ProductMatrix
from leftout.solvers.newton_equation import NewtonEquation, kernel_lengths
from leftout.solvers.two_level import LeadingDirections, TwoLevel

ROUNDED = 1.2
"""Times the tolerance that may remain of a step from single precision: its own residuals are rounded."""

LEAST_ROWS = 512
"""Rows of a kernel matrix from which single precision is worth its copy."""

LEAST_RIDGE = 1e-5
"""Ridge, over the mean diagonal, from which it is tried."""


def solve_step(
    run: NewtonEquation,
    gradient: Float64[Tensor, "n b k"],
    image: Float64[Tensor, "n b k"],
    preconditioner: TwoLevel,
    tolerance: float,
) -> tuple[Float64[Tensor, "n b k"], Float64[Tensor, "n b k"]]:
    """Return a step d of every problem, and K d, as `NewtonEquation.solve` does."""
    if _is_worth_it(run):
        found = _solve_in_single(run, gradient, image, preconditioner, tolerance)
        if found is not None:
            return found
    return run.solve(gradient, image, preconditioner, tolerance)


def _is_worth_it(run: NewtonEquation) -> bool:
    problem = run.problem
    if run.seen is not None or isinstance(problem.gram, ProductMatrix) or len(problem.gram) < LEAST_ROWS:
        return False
    return 0 < LEAST_RIDGE * problem.scale <= problem.ridge


def _solve_in_single(
    run: NewtonEquation,
    gradient: Float64[Tensor, "n b k"],
    image: Float64[Tensor, "n b k"],
    preconditioner: TwoLevel,
    tolerance: float,
) -> tuple[Tensor, Tensor] | None:
    """Return a step and K times it, or None where single precision does not get there."""
    size, scale = kernel_lengths(gradient, image), run.problem.scale
    unit = torch.where(size > 0, size / scale**0.5, torch.ones_like(size))[None, :, None]
    low = NewtonEquation(run.problem.single, run.weights[:, :, 0].float(), run.logits.float())
    near = _in_single_precision(preconditioner, scale)
    try:
        rough, _ = low.conjugate_gradients(
            (gradient / unit).float(), (image / (unit * scale)).float(), near, tolerance
        )
    except (SolveError, NotPositiveError):
        return None
    run.products += low.products
    move = rough.double().mul_(unit / scale)
    change = run.product(move)
    rest = run.residual(gradient, move, change)
    rest_image = run.product(rest)
    left = kernel_lengths(rest, rest_image)
    far = ~(left <= ROUNDED * tolerance * size)  # NaN, too, is far
    if not bool(torch.isfinite(left).all()):
        return None
    if not bool(far.any()):
        return run.with_unseen(gradient, image, move, change, preconditioner, rest_image=rest_image)
    of_these = NewtonEquation(run.problem, run.weights[:, far, 0], run.logits[:, far])
    more, more_change = of_these.conjugate_gradients(
        -rest[:, far], -rest_image[:, far], preconditioner, (tolerance * size / left)[far]
    )
    run.products += of_these.products
    move[:, far] += more
    change[:, far] += more_change
    return run.with_unseen(gradient, image, move, change, preconditioner)


def _in_single_precision(preconditioner: TwoLevel, scale: float) -> TwoLevel:
    """Return a preconditioner of a problem in those units; what was inverted was so in double precision."""
    d = preconditioner.directions
    root = scale**0.5
    made: Any = copy.copy(preconditioner)
    made.directions = LeadingDirections(
        (d.z * root).float(), (d.kz / root).float(), d.smallest, d.outputs, d.outputs_per_example, d.complete
    )
    made.level = preconditioner.level / scale
    made.inverse = (preconditioner.inverse * scale).float()
    return made
