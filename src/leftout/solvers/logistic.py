"""Cross-entropy with a ridge, minimised by Newton's method with conjugate gradients, many problems at once.

    minimise  Σ_i ω_i ce(f_i, y_i) + ½ λ |θ|²,        f = f_0 + Φ θ,    K = Φ Φᵀ

At the minimum θ = Φᵀ u with u_i = ω_i (y_i − p_i) / λ: f = f_0 + K u, one number u for each example and
output. Newton's step solves H δ = −∇ in the weights; written as δ = Φᵀ d, everything is a product with K:

    gradient   g = ω (p − y) + λ u            its square in the weights is gᵀ K g
    curvature  H Φᵀ d = Φᵀ (λ d + ω P K d)    P_i = diag p_i − p_i p_iᵀ

so that the n k × n k matrix is never formed. Problems differ in weights, targets and start; they share K, and
each product with K serves all. The duals of many problems are (n, b, k): example, problem, output.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeVar

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from leftout.core.blocks import blocks
from leftout.core.errors import NotPositiveError, SolveError
from leftout.core.work import Operation, WorkCount, operations, passes, product, thin_product
from leftout.solvers.cross_entropy import (
    cross_entropy,
    cross_entropy_gradient,
    curvature_product,
    probabilities,
)
from leftout.solvers.krylov import norm_by_powers
from leftout.solvers.two_level import (
    SIDE,
    LeadingDirections,
    TwoLevel,
    all_directions,
    leading_directions,
    two_level,
)

Answer = TypeVar("Answer")

TOLERANCE = 1e-12
"""|K g| / (λ |f − f_0|) at which a problem is solved: f is then right to that, H being at least λ."""

STEP_TOLERANCE = 1e-3
"""|H δ + ∇| / |∇| of a single Newton step: an error of some 4e-4, where the step leaves 1e-2 (MNIST)."""

FORCING = 0.1
"""The same of Newton's first steps to the minimum; later ones follow the gradient, which makes them
superlinear."""

ROUNDED = 1e-11
"""The same, times the condition number, at which a step that gains nothing ends the search: K u is a sum of
terms that cancel, and its rounding is not that of f, which the curvature damps."""

UNSEEN = 0.03
"""Error of the unseen part of a step, relative to the gradient, up to which it is taken."""

KEPT_SHARE = 0.75
"""Share of problems still unsolved at which the others are dropped: that copies all arrays."""

SAFE = 0.2
"""Change of the logits up to which a Newton step is taken whole."""

SETTLED = 2.0
"""Change of the logits in a Newton step below which the next one keeps its preconditioner."""

FLAT, NEGATIVE = 1e-13, 1e-6
"""Curvatures, relative to what they are summed from: below the first they are rounding, below minus the
second the kernel is not positive."""

MOST_NEWTON_STEPS = 100
MOST_PRODUCTS = 2000
HALVINGS = 40
ARRAYS = 14
"""Arrays (n, b, k) that are held at a time."""

FIT_PRODUCTS, FIT_STEPS, STEP_PRODUCTS = 200, 12, 15
"""Products with K of a fit, its Newton steps, and products of one further step: where the work is counted."""


@dataclass(frozen=True, eq=False)
class LogisticProblem:
    """What the problems share.

    Attributes:
        gram: K, with `outputs_per_example` rows an example, side by side: k or 1.
        offset: f_0 at the examples.
        targets: y, probabilities.
        ridge: λ > 0, of a sum of losses.
    """

    gram: Float64[Tensor, "rows rows"]
    offset: Float64[Tensor, "n k"]
    targets: Float64[Tensor, "n k"]
    ridge: float
    outputs_per_example: int = 1

    @cached_property
    def leading(self) -> LeadingDirections:
        """Return the leading directions of K."""
        outputs, rows = self.targets.shape[1], self.outputs_per_example
        return leading_directions(self.gram, outputs=outputs, outputs_per_example=rows)

    @cached_property
    def complete(self) -> LeadingDirections:
        """Return all directions that K does not map to zero."""
        if self.leading.complete:
            return self.leading
        outputs, rows = self.targets.shape[1], self.outputs_per_example
        return all_directions(self.gram, outputs=outputs, outputs_per_example=rows)

    @cached_property
    def largest(self) -> float:
        """Return the largest eigenvalue of K, from above within a factor of about 1."""
        return float(norm_by_powers(self.gram.mv, self.gram, powers=8))

    def product(self, dual: Float64[Tensor, "n b k"]) -> Float64[Tensor, "n b k"]:
        """Return K times the dual of each problem."""
        n, b, k = dual.shape
        if self.outputs_per_example > 1:
            rows = self.gram @ dual.permute(0, 2, 1).reshape(n * k, b)
            return rows.view(n, k, b).permute(0, 2, 1).contiguous()
        return (self.gram @ dual.reshape(n, b * k)).view(n, b, k)


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
        ones = torch.ones_like(self.dual[:, 0])
        return two_level(problem.leading, probabilities(self.logits), ones, problem.ridge)


def fit_logistic(
    problem: LogisticProblem, weights: Float64[Tensor, " n"] | None = None, *, start: Tensor | None = None
) -> LogisticFit:
    """Return the minimum.

    Args:
        weights: ω ≥ 0 of the examples; 1 if None.
        start: a dual (n, k) from which to begin; 0 if None. The minimum does not depend on it.

    Raises:
        NotPositiveError: K has a negative eigenvalue that the ridge does not outweigh.
        SolveError: the minimum was not reached to the tolerance.

    Cost:
        5 to 8 Newton steps, each n (r k)² / 2 flops for the leading directions and some 10 products of
        2 n² k flops, more for small ridges.

    Example:
        >>> import torch
        >>> eye = torch.eye(2, dtype=torch.float64)
        >>> fit = fit_logistic(LogisticProblem(eye, torch.zeros_like(eye), eye, ridge=1.0))
        >>> p = fit.logits.softmax(1)
        >>> bool(torch.allclose(fit.dual, eye - p))  # u = (y − p) / λ
        True
    """
    n, k = problem.targets.shape
    omega = problem.targets.new_ones(n) if weights is None else weights
    begin = problem.offset.new_zeros(n, 1, k) if start is None else start[:, None]

    def minimise(seen: LeadingDirections | None) -> tuple[_Newton, float]:
        run = _Newton(problem, omega[:, None], problem.targets[:, None], begin, seen=seen)
        latest: TwoLevel | None = None

        def precondition() -> TwoLevel:
            nonlocal latest
            if latest is None or run.moved > SETTLED:
                latest = two_level(problem.leading, probabilities(run.logits[:, 0]), omega, problem.ridge)
            return latest

        return run, run.minimise(precondition)

    run, gradient = _in_what_is_seen(problem, minimise)
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
    progress: Callable[[range], object] | None = None,
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
    problem = fit.problem
    if ridge is not None and ridge != problem.ridge:
        problem = LogisticProblem(
            problem.gram, problem.offset, problem.targets, ridge, problem.outputs_per_example
        )
    duals = fit.dual.new_empty(n, count, k)
    for part in blocks(count, size):
        b = part.stop - part.start
        omega = fit.dual.new_ones(n, b) if weights is None else weights[:, part]
        wanted = problem.targets[:, None].expand(n, b, k) if targets is None else targets[:, part]
        start = fit.dual[:, None].expand(n, b, k)
        logits = fit.logits[:, None].expand(n, b, k)
        near = fit.preconditioner.with_share(float(omega.mean()), problem.ridge)
        go_on = partial(_go_on, problem, omega, wanted, start, logits, near, newton_steps)
        duals[:, part] = _in_what_is_seen(problem, go_on)
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
    run = _Newton(problem, weights, targets, dual.clone(), logits=logits.clone(), seen=seen)
    if newton_steps is None:
        run.minimise(preconditioner)
    else:
        for _ in range(newton_steps):
            run.step(preconditioner)
    return run.dual


def _in_what_is_seen(problem: LogisticProblem, solve: Callable[[LeadingDirections | None], Answer]) -> Answer:
    """Return what `solve` does, and where that fails do it once more among the directions that K sees.

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
        10 to 20 products with K, 2 n² k flops each for every example.
    """
    n, k = fit.dual.shape
    problem = fit.problem
    slope = cross_entropy_gradient(fit.logits, problem.targets)
    size = len(examples) if memory is None else max(1, memory // (ARRAYS * 8 * n * k))
    changes = fit.dual.new_empty(n, len(examples), k)
    for part in blocks(len(examples), size):
        rows = examples[part]
        columns = torch.arange(len(rows), device=rows.device)
        run = _Newton(
            problem,
            fit.dual.new_ones(n, len(rows)),
            problem.targets[:, None].expand(n, len(rows), k),
            fit.dual[:, None].expand(n, len(rows), k),
            logits=fit.logits[:, None].expand(n, len(rows), k),
        )
        gradient = fit.dual.new_zeros(n, len(rows), k)
        gradient[rows, columns] = -slope[rows]
        changes[:, part], _ = run.solve(
            gradient, problem.product(gradient), fit.preconditioner, STEP_TOLERANCE
        )
    return changes


def fit_logistic_work(n: int, k: int) -> WorkCount:
    """Return the work of `fit_logistic` with n rows of a kernel matrix and k columns of a dual.

    Products and steps as they were on MNIST at ridges of 1e-3 of the diagonal: fewer for larger ones.
    """
    inner = min(n * k, SIDE)
    preconditioner = product(n, inner, inner) + operations(Operation.FLOP, inner**3)
    return FIT_PRODUCTS * (thin_product(n) + passes(n * k, ARRAYS)) + FIT_STEPS * preconditioner


def newton_step_work(n: int, k: int, problems: int) -> WorkCount:
    """Return the work of one Newton step of so many problems next to one that is solved."""
    return STEP_PRODUCTS * (product(n, n, problems * k) + passes(n * k * problems, 2 * ARRAYS))


class _Newton:
    """Newton's method on b problems: duals and logits (n, b, k)."""

    def __init__(
        self,
        problem: LogisticProblem,
        weights: Float64[Tensor, "n b"],
        targets: Float64[Tensor, "n b k"],
        dual: Float64[Tensor, "n b k"],
        *,
        logits: Float64[Tensor, "n b k"] | None = None,
        seen: LeadingDirections | None = None,
    ) -> None:
        self.seen = seen
        self.problem = problem
        self.weights = weights[:, :, None]
        self.targets = targets
        self.dual = dual
        self.products = 0
        self.newton_steps = 0
        self.moved = math.inf
        self.logits = self._fresh_logits() if logits is None else logits

    def _product(self, dual: Tensor) -> Tensor:
        self.products += 1
        return self.problem.product(dual)

    def _fresh_logits(self) -> Float64[Tensor, "n b k"]:
        return self.problem.offset[:, None] + self._product(self.dual)

    def gradient(self) -> Float64[Tensor, "n b k"]:
        """Return ω (p − y) + λ u."""
        return (
            self.weights * cross_entropy_gradient(self.logits, self.targets) + self.problem.ridge * self.dual
        )

    def step(self, preconditioner: TwoLevel) -> None:
        """Take one whole Newton step for every problem."""
        gradient = self.gradient()
        move, image = self.solve(gradient, self._product(gradient), preconditioner, STEP_TOLERANCE)
        self.dual = self.dual + move
        self.logits = self.logits + image
        self.newton_steps += 1

    def minimise(self, preconditioner: TwoLevel | Callable[[], TwoLevel]) -> float:
        """Go to the minima; return the largest |K g| / (λ |f − f_0|) at them."""
        b = self.dual.shape[1]
        going = torch.arange(b, device=self.dual.device)
        reached = self.dual.new_zeros(b)
        last = self.dual.new_full((b,), math.inf)
        first: Tensor | None = None
        rounded = min(ROUNDED * max(1.0, self.problem.largest / self.problem.ridge), 1e-3)
        duals, logits = self.dual, self.logits
        for _ in range(MOST_NEWTON_STEPS):
            gradient = self.gradient()
            image = self._product(gradient)
            # By its image: gᵀ K g has lost half its digits where K maps most of g to zero.
            size = _lengths(image)
            first = size.clone() if first is None else first
            # A tilted start is far from where it ends: what is right relative to that need not be.
            learned = torch.minimum(
                _lengths(self.logits - self.problem.offset[:, None]), _lengths(self.logits)
            )
            relative = size / (self.problem.ridge * learned).clamp(min=1e-300)
            # Next to the minimum Newton's steps are quadratic: one that gains nothing has met rounding.
            done = (relative <= TOLERANCE) | ((size >= last / 2) & (relative <= rounded)) | (size == 0)
            reached[going] = relative
            if bool(done.any()):
                finished = going[done]
                # At the minimum the gradient vanishes row by row, not only through K; a gradient that is
                # rounding would be blown up by 1 / λ.
                last_step = (relative <= TOLERANCE).to(gradient)[None, :, None] / self.problem.ridge
                duals[:, finished] = (self.dual - last_step * gradient)[:, done]
                logits[:, finished] = (self.logits - last_step * image)[:, done]
                keep = ~done
                if not bool(keep.any()):
                    self.dual, self.logits = duals, logits
                    return float(reached.max())
                if duals is self.dual:
                    duals, logits = duals.clone(), logits.clone()
                self._keep(keep)
                going, last, first = going[keep], last[keep], first[keep]
                gradient, image, size = gradient[:, keep], image[:, keep], size[keep]
            elif duals is self.dual:
                duals, logits = duals.clone(), logits.clone()
            forcing = (size / first).sqrt().clamp(max=FORCING)
            near = preconditioner if isinstance(preconditioner, TwoLevel) else preconditioner()
            move, change = self.solve(gradient, image, near, forcing.clamp(min=1e-6))
            self._search(gradient, move, change)
            self.newton_steps += 1
            last = size
        worst = float(reached[going].max())
        raise SolveError(
            f"Cross-entropy was not minimised in {MOST_NEWTON_STEPS} Newton steps: the gradient is "
            f"{worst:.2g} of the ridge's. Take a larger `ridge`."
        )

    def _keep(self, keep: Bool[Tensor, " b"]) -> None:
        self.dual, self.logits = self.dual[:, keep], self.logits[:, keep]
        self.targets = self.targets[:, keep]
        self.weights = self.weights[:, keep]

    def _search(self, gradient: Tensor, move: Tensor, change: Tensor) -> None:
        """Go along the step, half of it where the objective would not fall, and so on."""
        slope = (gradient * change).sum((0, 2))
        before = self._objective(self.dual, self.logits)
        # The curvature changes by at most exp(2 |change|) on the way: small steps need no search, and the
        # objective, a sum, could not tell.
        safe = change.abs().amax((0, 2)) <= SAFE
        length = torch.ones_like(slope)
        for _ in range(HALVINGS):
            at = length[None, :, None]
            after = self._objective(self.dual + at * move, self.logits + at * change)
            rises = ~safe & ~(after <= before + 1e-4 * length * slope)
            if not bool(rises.any()):
                break
            length = torch.where(rises, length / 2, length)
        at = length[None, :, None]
        self.dual = self.dual + at * move
        self.logits = self.logits + at * change
        self.moved = float((at * change).abs().max())
        # Sums of steps drift from K u by a rounding each, which matters near the minimum.
        if self.moved <= SAFE:
            self.logits = self._fresh_logits()

    def _objective(self, dual: Tensor, logits: Tensor) -> Float64[Tensor, " b"]:
        data = (self.weights[:, :, 0] * cross_entropy(logits, self.targets)).sum(0)
        theta = (dual * (logits - self.problem.offset[:, None])).sum((0, 2))
        return data + self.problem.ridge / 2 * theta

    def solve(
        self,
        gradient: Float64[Tensor, "n b k"],
        image: Float64[Tensor, "n b k"],
        preconditioner: TwoLevel,
        tolerance: float | Float64[Tensor, " b"],
    ) -> tuple[Float64[Tensor, "n b k"], Float64[Tensor, "n b k"]]:
        """Return d with H Φᵀ d = −Φᵀ g, and K d, by conjugate gradients in the weights.

        Args:
            image: K g.
            tolerance: |H δ + ∇| / |∇|.
        """
        # In place wherever it can be: fresh memory for arrays of this size costs more than the arithmetic.
        p = probabilities(self.logits)
        weights, ridge = self.weights, self.problem.ridge
        rest, rest_image = self._visible(-gradient), -image
        size_of_gradient = _dots(gradient, image).clamp(min=0).sqrt()
        wanted = tolerance * size_of_gradient
        move, change = torch.zeros_like(rest), torch.zeros_like(rest)
        out_move, out_change = move, change
        going: Int64[Tensor, " g"] = torch.arange(rest.shape[1], device=rest.device)
        active = torch.ones_like(going, dtype=torch.bool)
        along, along_image = preconditioner.apply(rest, rest_image)
        power = _dots(rest, along_image)
        for _ in range(MOST_PRODUCTS):
            bent = self._visible(curvature_product(p, along_image).mul_(weights).add_(along, alpha=ridge))
            bent_image = self._product(bent)
            bend = _dots(along, bent_image)
            # A direction that K maps to rounding says nothing; of the others the curvature must be positive.
            scale = _lengths(along) * _lengths(bent_image)
            if bool((active & (bend < -NEGATIVE * scale)).any()):
                raise NotPositiveError(
                    f"The kernel has a direction of curvature {float(bend.min()):.2g}: cross-entropy has no "
                    "minimum there. Take a larger `ridge`, a smaller `strength` of the labels, or Ridge."
                )
            active &= bend > FLAT * scale
            # Problems that are solved stay where they are until enough of them are, to be dropped together.
            length = torch.where(active, power / bend, torch.zeros_like(bend))[None, :, None]
            move.addcmul_(length, along)
            change.addcmul_(length, along_image)
            rest.addcmul_(length, bent, value=-1)
            rest_image.addcmul_(length, bent_image, value=-1)
            size = _dots(rest, rest_image).clamp(min=0).sqrt()
            active &= (size > wanted) & (power > 0)
            left = int(active.sum())
            if left <= KEPT_SHARE * len(going):
                if out_move is not move:
                    out_move[:, going], out_change[:, going] = move, change
                if not left:
                    return self._with_unseen(gradient, size_of_gradient, out_move, out_change, preconditioner)
                if out_move is move:
                    out_move, out_change = move.clone(), change.clone()
                going, wanted, power = going[active], wanted[active], power[active]
                move, change = move[:, active], change[:, active]
                rest, rest_image = rest[:, active], rest_image[:, active]
                along, along_image = along[:, active], along_image[:, active]
                p, weights = p[:, active], weights[:, active]
                active = active[active]
            z, z_image = preconditioner.apply(rest, rest_image)
            after = _dots(rest, z_image)
            turn = torch.where(active, after / power, torch.zeros_like(after))[None, :, None]
            power = after
            along = z.addcmul_(turn, along)
            along_image = z_image.addcmul_(turn, along_image)
        raise SolveError(
            f"Conjugate gradients did not solve Newton's step in {MOST_PRODUCTS} products. Take a larger "
            f"`ridge`."
        )

    def _visible(self, dual: Float64[Tensor, "n b k"]) -> Float64[Tensor, "n b k"]:
        """Return the dual without what K maps to zero, where that is known; its image is the same."""
        return dual if self.seen is None else self.seen.project(dual)

    def _with_unseen(
        self,
        gradient: Float64[Tensor, "n b k"],
        size: Float64[Tensor, " b"],
        move: Float64[Tensor, "n b k"],
        change: Float64[Tensor, "n b k"],
        preconditioner: TwoLevel,
    ) -> tuple[Float64[Tensor, "n b k"], Float64[Tensor, "n b k"]]:
        """Return the same step with what K maps to zero, which conjugate gradients in the weights do not see.

        There λ d = −g. Where K is small but not zero that is a step too far: it is taken where its error is
        small besides the gradient.
        """
        ridge = self.problem.ridge
        p = probabilities(self.logits)
        if self.seen is not None:  # exactly: of λ d = −(g + ω P K d) the part that K maps to zero
            whole = (-gradient - self.weights * curvature_product(p, change)) / ridge
            return self._visible(move) + whole - self._visible(whole), change
        rest = -gradient - ridge * move - self.weights * curvature_product(p, change)
        more, more_image = preconditioner.apply(rest, self._product(rest), level=ridge)
        error = rest - ridge * more - self.weights * curvature_product(p, more_image)
        harmless = self.problem.largest**0.5 * _lengths(error) <= UNSEEN * size
        factor = harmless.to(rest)[None, :, None]
        return move + factor * more, change + factor * more_image


def _dots(first: Float64[Tensor, "n b k"], second: Float64[Tensor, "n b k"]) -> Float64[Tensor, " b"]:
    """Return the inner product of each problem's numbers."""
    products: Tensor = torch.linalg.vecdot(first, second, dim=-1).sum(0)
    return products


def _lengths(columns: Float64[Tensor, "n b k"]) -> Float64[Tensor, " b"]:
    """Return the norm of each problem's numbers."""
    return torch.linalg.vector_norm(columns, dim=(0, 2))
