"""The equation of a Newton step of cross-entropy, for many problems that share a kernel matrix.

    gradient   g = ω (p − y) + λ u            its square in the weights is gᵀ K g
    curvature  H Φᵀ d = Φᵀ (λ d + ω P K d)    P_i = diag p_i − p_i p_iᵀ

A step δ = Φᵀ d solves H δ = −∇ in the weights by products with K alone. Duals of many problems are (n, b, k):
example, problem, output; each product serves all of them.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from leftout.core.blocks import blocks
from leftout.core.errors import NotPositiveError, SolveError
from leftout.solvers.cross_entropy import curvature_product, probabilities
from leftout.solvers.krylov import norm_by_powers
from leftout.solvers.two_level import LeadingDirections, TwoLevel, all_directions, leading_directions

KEPT_SHARE = 0.75
"""Share of problems still unsolved at which the others are dropped: that copies all arrays."""

UNSEEN = 0.03
"""Error of the unseen part of a step, relative to the gradient, up to which it is taken."""

FLAT, NEGATIVE = 1e-13, 1e-6
"""Curvatures, relative to what they are summed from: below the first they are rounding, below minus the
second the kernel is not positive."""

MOST_PRODUCTS = 2000

COPIED = 256
"""Rows of a kernel matrix that are brought to single precision at a time."""

OF_KERNEL = ("leading", "complete", "scale", "single_gram", "largest")
"""What a problem makes of its kernel matrix alone, once."""


@dataclass(frozen=True, eq=False)
class LogisticProblem:
    """What the problems share.

    Attributes:
        gram: K, with `outputs_per_example` rows an example, side by side: k or 1.
        offset: f_0 at the examples.
        targets: y, probabilities.
        ridge: λ > 0, of a sum of losses.
    """

    gram: Float[Tensor, "rows rows"]
    offset: Float[Tensor, "n k"]
    targets: Float[Tensor, "n k"]
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
    def scale(self) -> float:
        """Return the mean of the diagonal of K."""
        return float(self.gram.diagonal().mean())

    @property
    def single(self) -> "LogisticProblem":
        """Return the problem in single precision, in units of that mean."""
        offset, targets = self.offset.float(), self.targets.float()
        ridge = self.ridge / self.scale
        return LogisticProblem(self.single_gram, offset, targets, ridge, self.outputs_per_example)

    @cached_property
    def single_gram(self) -> Float32[Tensor, "rows rows"]:
        """Return K in single precision, in units of that mean; no more than its own memory is taken."""
        single = torch.empty_like(self.gram, dtype=torch.float32)
        for rows in blocks(len(single), COPIED):
            single[rows] = self.gram[rows] / self.scale
        return single

    @cached_property
    def largest(self) -> float:
        """Return the largest eigenvalue of K, from above within a factor of about 1."""
        return float(norm_by_powers(self.gram.mv, self.gram, powers=8))

    def with_ridge(self, ridge: float) -> "LogisticProblem":
        """Return the same at another ridge, with what was made of K already."""
        if ridge == self.ridge:
            return self
        other = replace(self, ridge=ridge)
        vars(other).update({name: made for name, made in vars(self).items() if name in OF_KERNEL})
        return other

    def product(self, dual: Float[Tensor, "n b k"]) -> Float[Tensor, "n b k"]:
        """Return K times the dual of each problem."""
        n, b, k = dual.shape
        if self.outputs_per_example > 1:
            rows = self.gram @ dual.permute(0, 2, 1).reshape(n * k, b)
            return rows.view(n, k, b).permute(0, 2, 1).contiguous()
        return (self.gram @ dual.reshape(n, b * k)).view(n, b, k)


class NewtonEquation:
    """The equation of b problems at their logits (n, b, k).

    Args:
        weights: ω.
        seen: all directions that K does not map to zero, where what it does is to be taken out.
    """

    def __init__(
        self,
        problem: LogisticProblem,
        weights: Float[Tensor, "n b"],
        logits: Float[Tensor, "n b k"],
        *,
        seen: LeadingDirections | None = None,
    ) -> None:
        self.problem = problem
        self.weights = weights[:, :, None]
        self.logits = logits
        self.seen = seen
        self.products = 0

    def product(self, dual: Tensor) -> Tensor:
        """Return K times a dual."""
        self.products += 1
        return self.problem.product(dual)

    def solve(
        self,
        gradient: Float[Tensor, "n b k"],
        image: Float[Tensor, "n b k"],
        preconditioner: TwoLevel,
        tolerance: float | Float[Tensor, " b"],
    ) -> tuple[Float[Tensor, "n b k"], Float[Tensor, "n b k"]]:
        """Return d with H Φᵀ d = −Φᵀ g, and K d.

        Args:
            image: K g.
            tolerance: |H δ + ∇| / |∇|.
        """
        move, change = self.conjugate_gradients(gradient, image, preconditioner, tolerance)
        return self.with_unseen(gradient, image, move, change, preconditioner)

    def conjugate_gradients(
        self,
        gradient: Float[Tensor, "n b k"],
        image: Float[Tensor, "n b k"],
        preconditioner: TwoLevel,
        tolerance: float | Float[Tensor, " b"],
    ) -> tuple[Float[Tensor, "n b k"], Float[Tensor, "n b k"]]:
        """Return the part of such a d that K does not map to zero, by conjugate gradients in the weights."""
        # In place wherever it can be: fresh memory for arrays of this size costs more than the arithmetic.
        p = probabilities(self.logits)
        weighted, ridge = self.weights * p, self.problem.ridge
        rest, rest_image = self._visible(-gradient), -image
        wanted = tolerance * kernel_lengths(gradient, image)
        move, change = torch.zeros_like(rest), torch.zeros_like(rest)
        out_move, out_change = move, change
        going: Int64[Tensor, " g"] = torch.arange(rest.shape[1], device=rest.device)
        active = torch.ones_like(going, dtype=torch.bool)
        along, along_image = preconditioner.apply(rest, rest_image)
        power = _dots(rest, along_image)
        for _ in range(MOST_PRODUCTS):
            bent = self._visible(curvature_product(p, along_image, weighted).add_(along, alpha=ridge))
            bent_image = self.product(bent)
            bend = _dots(along, bent_image)
            # A direction that K maps to rounding says nothing; of the others the curvature must be positive.
            scale = image_lengths(along) * image_lengths(bent_image)
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
            size = kernel_lengths(rest, rest_image)
            active &= (size > wanted) & (power > 0)
            left = int(active.sum())
            if left <= KEPT_SHARE * len(going):
                if out_move is not move:
                    out_move[:, going], out_change[:, going] = move, change
                if not left:
                    return out_move, out_change
                if out_move is move:
                    out_move, out_change = move.clone(), change.clone()
                going, wanted, power = going[active], wanted[active], power[active]
                move, change = move[:, active], change[:, active]
                rest, rest_image = rest[:, active], rest_image[:, active]
                along, along_image = along[:, active], along_image[:, active]
                p, weighted = p[:, active], weighted[:, active]
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

    def _visible(self, dual: Float[Tensor, "n b k"]) -> Float[Tensor, "n b k"]:
        """Return the dual without what K maps to zero, where that is known; its image is the same."""
        return dual if self.seen is None else self.seen.project(dual)

    def residual(
        self, gradient: Float[Tensor, "n b k"], move: Float[Tensor, "n b k"], change: Float[Tensor, "n b k"]
    ) -> Float[Tensor, "n b k"]:
        """Return −g − λ d − ω P K d, of a move d and its change K d."""
        bent = curvature_product(probabilities(self.logits), change).mul_(self.weights)
        return bent.add_(move, alpha=self.problem.ridge).add_(gradient).neg_()

    def with_unseen(
        self,
        gradient: Float[Tensor, "n b k"],
        image: Float[Tensor, "n b k"],
        move: Float[Tensor, "n b k"],
        change: Float[Tensor, "n b k"],
        preconditioner: TwoLevel,
        *,
        rest_image: Float[Tensor, "n b k"] | None = None,
    ) -> tuple[Float[Tensor, "n b k"], Float[Tensor, "n b k"]]:
        """Return the same step with what K maps to zero, which conjugate gradients in the weights do not see.

        There λ d = −g. Where K is small but not zero that is a step too far: it is taken where its error is
        small besides the gradient.

        Args:
            rest_image: K times its residual, where it is at hand.
        """
        ridge = self.problem.ridge
        rest = self.residual(gradient, move, change)
        if self.seen is not None:  # exactly: of λ d = −(g + ω P K d) the part that K maps to zero
            whole = move + rest / ridge
            return self._visible(move) + whole - self._visible(whole), change
        rest_image = self.product(rest) if rest_image is None else rest_image
        more, more_image = preconditioner.apply(rest, rest_image, level=ridge)
        error = self.residual(-rest, more, more_image)
        harmless = self.problem.largest**0.5 * image_lengths(error) <= UNSEEN * kernel_lengths(
            gradient, image
        )
        factor = harmless.to(rest)[None, :, None]
        return move + factor * more, change + factor * more_image


def _dots(first: Float[Tensor, "n b k"], second: Float[Tensor, "n b k"]) -> Float[Tensor, " b"]:
    """Return the inner product of each problem's numbers."""
    products: Tensor = torch.linalg.vecdot(first, second, dim=-1).sum(0)
    return products


def kernel_lengths(dual: Float[Tensor, "n b k"], image: Float[Tensor, "n b k"]) -> Float[Tensor, " b"]:
    """Return the length of each problem's weights Φᵀ d, √(dᵀ K d); the image is K d."""
    return _dots(dual, image).clamp(min=0).sqrt()


def image_lengths(columns: Float[Tensor, "n b k"]) -> Float[Tensor, " b"]:
    """Return the norm of each problem's numbers."""
    return torch.linalg.vector_norm(columns, dim=(0, 2))
