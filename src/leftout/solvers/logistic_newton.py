"""Newton's method with conjugate gradients for many problems of cross-entropy that share a kernel matrix.

    gradient   g = ω (p − y) + λ u            its square in the weights is gᵀ K g
    curvature  H Φᵀ d = Φᵀ (λ d + ω P K d)    P_i = diag p_i − p_i p_iᵀ

A step δ = Φᵀ d solves H δ = −∇ in the weights by products with K alone. Duals of many problems are (n, b, k):
example, problem, output; each product serves all of them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from leftout.core.errors import NotPositiveError, SolveError
from leftout.solvers.cross_entropy import (
    cross_entropy,
    cross_entropy_gradient,
    curvature_product,
    probabilities,
)
from leftout.solvers.krylov import norm_by_powers
from leftout.solvers.two_level import LeadingDirections, TwoLevel, all_directions, leading_directions

TOLERANCE = 1e-12
"""|K g| / (λ |f − f_0|) at which a problem is solved: f is then right to that, H being at least λ."""

STEP_TOLERANCE = 1e-3
"""|H δ + ∇| / |∇| of a single Newton step: 2e-4 to 6e-4 of the largest change, where the step itself leaves
1e-2 of it (MNIST, n = 1000, ridge .1 to 1e-4 of the diagonal)."""

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

FLAT, NEGATIVE = 1e-13, 1e-6
"""Curvatures, relative to what they are summed from: below the first they are rounding, below minus the
second the kernel is not positive."""

MOST_NEWTON_STEPS = 100
MOST_PRODUCTS = 2000
HALVINGS = 40


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


@final
class Newton:
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
        # Sums of steps drift from K u by a rounding each, which costs digits at ridges of 1e-6.
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
