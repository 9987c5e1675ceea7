"""A x = b from products with A alone: conjugate gradients, for each column separately.

The iterate after j steps is the best in span{b, Ab, …, A^{j−1} b} in the norm of A: the error falls
at least like 2 ((√c − 1) / (√c + 1))^j, c the condition number, and a matrix of j distinct eigenvalues
is solved in j steps. A must be positive definite: a direction p with pᵀAp ≤ 0 is reported, because x is
then no minimum of ½ xᵀAx − bᵀx and the iterates are meaningless.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import final

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from leftout.core.checks import check_between, check_count
from leftout.core.errors import SolveError
from leftout.solvers.solution import EPS, Apply, Solution, Solver, Status, relative_residual

FRESH = 25
"""Steps after which the residual is taken from b − A x: the recurrence drifts a rounding a step."""


@final
@dataclass(frozen=True, kw_only=True)
class ConjugateGradients(Solver):
    """Conjugate gradients.

    Args:
        rtol: |b − A x| / |b| at which a column is solved.
        max_steps: most products; p + 1 are enough but for rounding.

    Example:
        >>> matrix = torch.diag(torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64))
        >>> solution = ConjugateGradients().solve(lambda x: matrix @ x, torch.ones(3, 1, dtype=torch.float64))
        >>> solution.is_solved, solution.steps.tolist()
        (True, [3])

    Cost:
        a product a step for all unsolved columns, one more in 25 steps and one at the end.
    """

    rtol: float = 1e-10
    max_steps: int = 1000

    def __post_init__(self) -> None:
        check_between("rtol", self.rtol, 0, 1)
        check_count("max_steps", self.max_steps)

    def prepare(
        self,
        apply: Apply,
        side: int,
        *,
        device: torch.device,
        examples: int | None = None,
        memory: int | None = None,
    ) -> Callable[[Float64[Tensor, "p b"]], Solution]:
        return partial(self._solution, apply)

    def _solution(self, apply: Apply, rhs: Float64[Tensor, "p b"]) -> Solution:
        run = _Run(apply, rhs, self.rtol)
        for step in range(1, self.max_steps + 1):
            if not len(run.going):
                break
            run.step(fresh=step % FRESH == 0)
        x = run.x.T
        return Solution(
            value=x,
            status=tuple(run.status),
            residual=relative_residual(rhs - apply(x), rhs),
            steps=run.steps,
            note="" if run.lowest > 0 else f"A direction had curvature {run.lowest:.3g}.",
        )


class _Run:
    """The state of all columns, and residual, its square, direction, largest curvature of those `going`.

    A column is kept as a row, so that it lies together in memory and can be dropped.
    """

    def __init__(self, apply: Apply, rhs: Float64[Tensor, "p b"], rtol: float) -> None:
        self.apply = apply
        self.rhs = rhs.T.contiguous()  # (b, p)
        self.x = torch.zeros_like(self.rhs)
        self.steps = torch.zeros(len(self.rhs), dtype=torch.long, device=rhs.device)
        size = self.rhs.norm(dim=1)
        self.wanted = rtol * size
        self.status = [Status.STEP_LIMIT if norm > 0 else Status.SOLVED for norm in size.tolist()]
        self.lowest = float("inf")
        self.going = size.nonzero().flatten()
        self.residual = self.rhs[self.going]  # (g, p)
        self.direction = self.residual.clone()
        self.square = size[self.going].square()
        self.top = torch.zeros_like(self.square)
        self.verified = torch.full_like(self.square, torch.inf)

    def step(self, *, fresh: bool) -> None:
        """Go one step along the direction, and turn to the next."""
        image = self.apply(self.direction.T).T
        self.steps[self.going] += 1
        bend = torch.einsum("gp,gp->g", self.direction, image)
        positive = self._positive(bend)
        if not bool(positive.all()):
            image, bend = image[positive], bend[positive]
            self._keep(positive)
        if not len(self.going):
            return
        length = (self.square / bend)[:, None]
        self.x[self.going] += length * self.direction
        self.residual -= length * image
        floor = self.wanted[self.going]
        if fresh:
            believed, self.residual = self.residual, self._true_residual(self.going)
            # The residual may be all rounding: that of 25 products, or of one with ‖A‖ |x|.
            drift = (self.residual - believed).norm(dim=1)
            rounding = 10 * EPS * self.top * self.x[self.going].norm(dim=1)
            floor = torch.stack([floor, 2 * drift, rounding]).amax(0)
        before, self.square = self.square, self.residual.norm(dim=1).square()
        self.direction.mul_((self.square / before)[:, None]).add_(self.residual)
        small = self.square.sqrt() <= floor
        if bool(small.any()):
            self._verify(small)

    def _true_residual(self, columns: Int64[Tensor, " c"]) -> Float64[Tensor, "c p"]:
        return self.rhs[columns] - self.apply(self.x[columns].T).T

    def _positive(self, bend: Float64[Tensor, " g"]) -> Bool[Tensor, " g"]:
        """Return where the direction has positive curvature, and give the others their status."""
        bend = bend / self.direction.norm(dim=1).square()
        if not bool(torch.isfinite(bend).all()):
            raise SolveError("A product with the matrix is not finite: it overflows, or holds NaN.")
        self.lowest = min(self.lowest, float(bend.min()))
        self.top = torch.maximum(self.top, bend.abs())
        # Each entry of a product carries a rounding of eps·‖A‖, at random over p of them.
        noise = 10 * self.rhs.shape[1] ** 0.5 * EPS * self.top
        positive = bend > noise
        for j in (~positive).nonzero().flatten().tolist():
            flat = abs(float(bend[j])) <= float(noise[j])
            self.status[int(self.going[j])] = Status.SINGULAR if flat else Status.INDEFINITE
        return positive

    def _verify(self, small: Bool[Tensor, " g"]) -> None:
        """End the columns whose true residual is as small as that of the recurrence; restart the others."""
        columns = self.going[small]
        true = self._true_residual(columns)
        size = true.norm(dim=1)
        done = size <= self.wanted[columns]
        # A restart that does not halve the residual has met the rounding of the products, which may
        # be more than that of double precision.
        stuck = ~done & ~(size <= self.verified[small] / 2)
        for j, solved, ended in zip(columns.tolist(), done.tolist(), stuck.tolist(), strict=True):
            if solved or ended:
                self.status[j] = Status.SOLVED if solved else Status.ROUNDING
        self.residual[small], self.direction[small] = true, true
        self.square[small], self.verified[small] = size.square(), size
        keep = torch.ones_like(small)
        keep[small] = ~(done | stuck)
        if not bool(keep.all()):
            self._keep(keep)

    def _keep(self, rows: Bool[Tensor, " g"]) -> None:
        """Go on with some columns only."""
        self.going, self.square = self.going[rows], self.square[rows]
        self.top, self.verified = self.top[rows], self.verified[rows]
        self.residual, self.direction = self.residual[rows], self.direction[rows]
