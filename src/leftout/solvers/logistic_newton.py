"""Newton's method for many problems of cross-entropy that share a kernel matrix."""

import math
from collections.abc import Callable
from typing import final

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from leftout.core.errors import SolveError
from leftout.solvers.cross_entropy import cross_entropy, cross_entropy_gradient
from leftout.solvers.newton_equation import LogisticProblem, NewtonEquation, image_lengths
from leftout.solvers.single_precision import solve_step
from leftout.solvers.two_level import LeadingDirections, TwoLevel

TOLERANCE = 1e-12
"""|K g| / (λ |f − f_0|) at which a problem is solved: f is then right to that, H being at least λ."""

FORCING = 0.1
"""The same of Newton's first steps to the minimum; later ones follow the gradient, which makes them
superlinear."""

ROUNDED = 1e-11
"""The same, times the condition number, at which a step that gains nothing ends the search: K u is a sum of
terms that cancel, and its rounding is not that of f, which the curvature damps."""

SAFE = 0.2
"""Change of the logits up to which a Newton step is taken whole."""

STEP_TOLERANCE = 1e-3
"""|H δ + ∇| / |∇| of a single Newton step: 2e-4 to 6e-4 of the largest change, where the step itself leaves
1e-2 of it (MNIST, n = 1000, ridge .1 to 1e-4 of the diagonal)."""

MOST_NEWTON_STEPS = 100
HALVINGS = 40


@final
class Newton(NewtonEquation):
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
        super().__init__(problem, weights, dual if logits is None else logits, seen=seen)
        self.targets = targets
        self.dual = dual
        self.newton_steps = 0
        self.moved = math.inf
        if logits is None:
            self.logits = self._fresh_logits()

    def _fresh_logits(self) -> Float64[Tensor, "n b k"]:
        return self.problem.offset[:, None] + self.product(self.dual)

    def gradient(self) -> Float64[Tensor, "n b k"]:
        """Return ω (p − y) + λ u."""
        return (
            self.weights * cross_entropy_gradient(self.logits, self.targets) + self.problem.ridge * self.dual
        )

    def step(self, preconditioner: TwoLevel) -> None:
        """Take one whole Newton step for every problem."""
        gradient = self.gradient()
        move, change = solve_step(self, gradient, self.product(gradient), preconditioner, STEP_TOLERANCE)
        self.dual = self.dual + move
        self.logits = self.logits + change
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
            image = self.product(gradient)
            # By its image: gᵀ K g has lost half its digits where K maps most of g to zero.
            size = image_lengths(image)
            first = size.clone() if first is None else first
            # A tilted start is far from where it ends: what is right relative to that need not be.
            learned = torch.minimum(
                image_lengths(self.logits - self.problem.offset[:, None]), image_lengths(self.logits)
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
