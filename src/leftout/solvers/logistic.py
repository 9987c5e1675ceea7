"""Cross-entropy with a ridge: the minimum, and the minima of many problems next to it.

    minimise  Σ_i ω_i ce(f_i, y_i) + ½ λ |θ|²,        f = f_0 + Φ θ,    K = Φ Φᵀ

At the minimum θ = Φᵀ u with u_i = ω_i (y_i − p_i) / λ: f = f_0 + K u, one number u for each example and
output, so that the n k × n k matrix is never formed. Problems next to each other differ in weights, targets
and ridge; they share K, and `logistic_newton` solves many of them together.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeVar

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.core.blocks import blocks
from leftout.core.errors import NotPositiveError, SolveError
from leftout.core.work import Operation, WorkCount, operations, passes, product, thin_product
from leftout.solvers.cross_entropy import cross_entropy_gradient, probabilities
from leftout.solvers.logistic_newton import Newton
from leftout.solvers.newton_equation import LogisticProblem
from leftout.solvers.two_level import SIDE, LeadingDirections, TwoLevel, two_level

Answer = TypeVar("Answer")

SETTLED = 2.0
"""Change of the logits in a Newton step below which the next one keeps its preconditioner."""

DERIVATIVE_TOLERANCE = 1e-6
"""|H δ + ∇| / |∇| of a derivative, which has no other error."""

ARRAYS = 14
"""Arrays (n, b, k) that are held at a time."""

FIT_PRODUCTS, FIT_STEPS, STEP_PRODUCTS = 200, 12, 15
"""Products with K of a fit, its Newton steps, and products of one further step: where the work is counted."""


@dataclass(frozen=True, eq=False)
class LogisticFit:
    """The minimum of one problem, and what further problems next to it start from.

    Attributes:
        dual: u.
        logits: f.
        gradient: |K g| / (λ |f − f_0|) at it.
        newton_steps, products: that were taken.
    """

    problem: LogisticProblem
    dual: Float64[Tensor, "n k"]
    logits: Float64[Tensor, "n k"]
    gradient: float
    newton_steps: int
    products: int

    @cached_property
    def preconditioner(self) -> TwoLevel:
        """Return the curvature on the leading directions of the kernel, at the minimum."""
        problem = self.problem
        return two_level(problem.leading, probabilities(self.logits), problem.ridge)


def fit_logistic(problem: LogisticProblem, *, start: Float64[Tensor, "n k"] | None = None) -> LogisticFit:
    """Return the minimum.

    Args:
        start: a dual (n, k) from which to begin; 0 if None. The minimum does not depend on it.

    Raises:
        NotPositiveError: K has a negative eigenvalue that the ridge does not outweigh.
        SolveError: the minimum was not reached to the tolerance.

    Cost:
        Newton steps, each n (r k)² flops for the leading directions and 9 to 16 products of 2 n² k flops: 88
        products in 10 steps at a ridge of .1 of the diagonal, 170 in 11 at .001 (MNIST, n = 2000, k = 10).

    Example:
        >>> import torch
        >>> eye = torch.eye(2, dtype=torch.float64)
        >>> fit = fit_logistic(LogisticProblem(eye, torch.zeros_like(eye), eye, ridge=1.0))
        >>> p = fit.logits.softmax(1)
        >>> bool(torch.allclose(fit.dual, eye - p))  # u = (y − p) / λ
        True
    """
    n, k = problem.targets.shape
    ones = problem.targets.new_ones(n)
    begin = problem.offset.new_zeros(n, 1, k) if start is None else start[:, None]

    def minimise(seen: LeadingDirections | None) -> tuple[Newton, float]:
        run = Newton(problem, ones[:, None], problem.targets[:, None], begin, seen=seen)
        latest: TwoLevel | None = None

        def precondition() -> TwoLevel:
            nonlocal latest
            if latest is None or run.moved > SETTLED:
                latest = two_level(problem.leading, probabilities(run.logits[:, 0]), problem.ridge)
            return latest

        return run, run.minimise(precondition)

    run, gradient = _among_seen(problem, minimise)
    dual, logits = run.dual[:, 0], run.logits[:, 0]
    return LogisticFit(problem, dual, logits, gradient, run.newton_steps, run.products)


def refit_logistic(
    fit: LogisticFit,
    *,
    weights: Float64[Tensor, "n b"] | None = None,
    targets: Float64[Tensor, "n b k"] | None = None,
    ridge: float | None = None,
    newton_steps: int | None = None,
    memory: int | None = None,
) -> Float64[Tensor, "n b k"]:
    """Return the duals of problems next to one that is solved, from its minimum.

    Args:
        weights: ω of each problem; 1 if None.
        targets: y of each problem; those of the fit if None.
        ridge: λ of them; that of the fit if None.
        newton_steps: whole Newton steps from the minimum of `fit`; to convergence if None.
        memory: bytes for the temporaries of problems that are solved together.

    Cost:
        10 to 20 products with K a Newton step, 2 n² k flops each for every problem.
    """
    n, k = fit.dual.shape
    source = weights if weights is not None else targets
    assert source is not None, "problems differ in weights or targets"
    count = source.shape[1]
    size = count if memory is None else max(1, memory // (ARRAYS * 8 * n * k))
    problem = fit.problem if ridge is None else fit.problem.with_ridge(ridge)
    duals = fit.dual.new_empty(n, count, k)
    for part in blocks(count, size):
        b = part.stop - part.start
        omega = fit.dual.new_ones(n, b) if weights is None else weights[:, part]
        wanted = problem.targets[:, None].expand(n, b, k) if targets is None else targets[:, part]
        start = fit.dual[:, None].expand(n, b, k)
        logits = fit.logits[:, None].expand(n, b, k)
        near = fit.preconditioner.with_share(float(omega.mean()), problem.ridge)
        go_on = partial(_go_on, problem, omega, wanted, start, logits, near, newton_steps)
        duals[:, part] = _among_seen(problem, go_on)
    return duals


def _go_on(
    problem: LogisticProblem,
    weights: Tensor,
    targets: Tensor,
    dual: Tensor,
    logits: Tensor,
    preconditioner: TwoLevel,
    newton_steps: int | None,
    seen: LeadingDirections | None,
) -> Float64[Tensor, "n b k"]:
    """Return the duals after so many steps, or at the minima."""
    run = Newton(problem, weights, targets, dual.clone(), logits=logits.clone(), seen=seen)
    if newton_steps is None:
        run.minimise(preconditioner)
    else:
        for _ in range(newton_steps):
            run.step(preconditioner)
    return run.dual


def _among_seen(problem: LogisticProblem, solve: Callable[[LeadingDirections | None], Answer]) -> Answer:
    """Return what `solve` does; where that fails, what it does among the directions that K sees.

    What K maps to zero, as between repeated inputs, is invisible to conjugate gradients in the weights, and
    may grow until K u is rounding. Where the leading directions are all that there is, it is taken out from
    the start; else an eigendecomposition of K is made, once it is needed.
    """
    if problem.leading.complete:
        return solve(problem.leading)
    try:
        return solve(None)
    except (SolveError, NotPositiveError):
        return solve(problem.complete)


def first_order_logistic(
    fit: LogisticFit, examples: Int64[Tensor, " b"], *, memory: int | None = None
) -> Float64[Tensor, "n b k"]:
    """Return H⁻¹ Φ_iᵀ (p_i − y_i) as a change of the dual: the derivative of the minimum by leaving i out.

    Cost:
        some 20 to 40 products with K, 2 n² k flops each for every example.
    """
    n, k = fit.dual.shape
    problem = fit.problem
    slope = cross_entropy_gradient(fit.logits, problem.targets)
    size = len(examples) if memory is None else max(1, memory // (ARRAYS * 8 * n * k))
    changes = fit.dual.new_empty(n, len(examples), k)
    for part in blocks(len(examples), size):
        rows = examples[part]
        columns = torch.arange(len(rows), device=rows.device)
        gradient = fit.dual.new_zeros(n, len(rows), k)
        gradient[rows, columns] = -slope[rows]
        changes[:, part] = _among_seen(problem, partial(_derivative, fit, gradient))
    return changes


def _derivative(
    fit: LogisticFit, gradient: Float64[Tensor, "n b k"], seen: LeadingDirections | None
) -> Float64[Tensor, "n b k"]:
    """Return −H⁻¹ of gradients at the minimum, as changes of the dual."""
    problem = fit.problem
    targets, dual, logits = (x[:, None].expand_as(gradient) for x in (problem.targets, fit.dual, fit.logits))
    run = Newton(problem, torch.ones_like(gradient[:, :, 0]), targets, dual, logits=logits, seen=seen)
    return run.solve(gradient, problem.product(gradient), fit.preconditioner, DERIVATIVE_TOLERANCE)[0]


def fit_logistic_work(n: int, k: int, row_numbers: int | None = None) -> WorkCount:
    """Return the work of `fit_logistic` with n rows of a kernel matrix and k columns of a dual.

    Products and steps as they were on MNIST at ridges of 1e-3 of the diagonal: fewer for larger ones.

    Args:
        row_numbers: of a matrix that is kept as a product of rows of so many numbers.
    """
    inner = min(n * k, SIDE)
    preconditioner = product(n, inner, inner) + operations(Operation.FLOP, inner**3)
    once = _columns(n, row_numbers) / n * thin_product(n) + passes(n * k, ARRAYS)
    return FIT_PRODUCTS * once + FIT_STEPS * preconditioner


def newton_step_work(n: int, k: int, problems: int, row_numbers: int | None = None) -> WorkCount:
    """Return the work of one Newton step of so many problems next to one that is solved."""
    columns = _columns(n, row_numbers)
    return STEP_PRODUCTS * (product(n, columns, problems * k) + passes(n * k * problems, 2 * ARRAYS))


def _columns(n: int, row_numbers: int | None) -> int:
    """Return columns of a matrix that takes as many operations."""
    return n if row_numbers is None else 2 * row_numbers
