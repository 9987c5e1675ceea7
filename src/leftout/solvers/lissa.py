"""A x = b by a power series, with all examples or a random batch of them at each step.

    x_{j+1} = b + (I − A_j / s) x_j,   x_0 = b,   x_j / s → A⁻¹ b

With A_j = A it is the Neumann series, and converges when and only when every eigenvalue of A lies in
(0, 2s): as (1 − s_min / s)^j, so that 2.3 s / s_min steps give a digit. With A_j estimated from a random
batch, x_j fluctuates about the solution, the less the larger s is; several repeats are averaged. A step
adds b − A x_j / s: with all examples that is the true residual.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, final

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from leftout.core.blocks import check_fits, memory_budget
from leftout.core.checks import check_between, check_count, check_positive
from leftout.core.errors import NotPositiveError, OptionError
from leftout.solvers.krylov import largest_eigenvalue
from leftout.solvers.solution import Apply, Solution, Solver, Status, relative_residual

LOOKED_AT = 8
"""Drawn batches whose largest eigenvalues decide the scale."""

EXPLODED = 1e6
"""Times (j + 1) |b|, which no x_j exceeds while |I − A_j / s| ≤ 1: a larger x_j means divergence."""

LANCZOS = 24
"""Vectors that a search for the largest eigenvalue usually holds."""


@final
@dataclass(frozen=True, kw_only=True)
class LiSSA(Solver):
    """The recursion of Agarwal et al., as Koh and Liang use it.

    Args:
        scale: s. None takes the largest eigenvalue of A, by Lanczos; with `batch` that of eight
            drawn batches if it is larger. Half of it is the critical value.
        depth: steps of a repeat at most; without `batch` it stops at the tolerance.
        batch: examples drawn for a step, without replacement; None takes all, a deterministic
            Neumann series.
        repeats: independent recursions to average; one without `batch`.
        generator: the caller's, for `batch`.
        rtol: |b − A x| / |b| at which a column counts as solved. With `batch` sampling leaves a
            residual that falls like 1 / √repeats.

    Example:
        >>> matrix = torch.diag(torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64))
        >>> solution = LiSSA().solve(lambda x: matrix @ x, torch.ones(3, 1, dtype=torch.float64))
        >>> solution.is_solved, bool(solution.residual.max() < 1e-6)
        (True, True)

    Cost:
        depth · repeats products, each of `batch` examples; two of all besides those of Lanczos.

    Source:
        Koh & Liang 2017, section 3; Agarwal, Bullins & Hazan 2017.
    """

    scale: float | None = None
    depth: int = 1000
    batch: int | None = None
    repeats: int = 1
    generator: torch.Generator | None = field(default=None, repr=False, compare=False)
    rtol: float = 1e-6

    def __post_init__(self) -> None:
        if self.scale is not None:
            check_positive("scale", self.scale)
        check_count("depth", self.depth)
        check_count("repeats", self.repeats)
        check_between("rtol", self.rtol, 0, 1)
        if self.batch is not None:
            check_count("batch", self.batch)
            if self.generator is None:
                raise OptionError(
                    "`generator` must be a torch.Generator where `batch` draws examples; got None."
                )
        elif self.repeats != 1:
            raise OptionError(f"`repeats` must be 1 without `batch`: all would be alike; got {self.repeats}.")

    @property
    def record(self) -> dict[str, Any]:
        options = {name: option for name, option in vars(self).items() if name != "generator"}
        seed = {} if self.generator is None else {"seed": self.generator.initial_seed()}
        return {"solver": "LiSSA", **options, **seed}

    def prepare(
        self,
        apply: Apply,
        side: int,
        *,
        device: torch.device,
        examples: int | None = None,
        memory: int | None = None,
    ) -> Callable[[Float64[Tensor, "p b"]], Solution]:
        if self.batch is not None and not (examples and self.batch <= examples):
            raise OptionError(
                "`batch` must be at most the number of examples that the matrix is a sum over, "
                f"{examples or 'which was not given'}; got {self.batch}."
            )
        matrix = _BatchedMatrix(apply, side, device, self.batch, examples, self.generator)
        scale = self.scale
        if scale is None:
            check_fits(
                f"Finding `scale` with {LANCZOS} vectors of {side} numbers",
                LANCZOS * 8 * side,
                memory_budget(memory, device=device),
                advice="Pass `scale`, above half the largest eigenvalue, or raise `memory`.",
            )
            scale = matrix.largest(rtol=1e-3)
            if not scale > 0:
                raise NotPositiveError(
                    f"The curvature matrix must have a positive eigenvalue; its largest is {scale:.3g}."
                )
        return partial(self._solution, matrix, scale)

    def _solution(self, matrix: "_BatchedMatrix", scale: float, rhs: Float64[Tensor, "p b"]) -> Solution:
        run = self._series if self.batch is None else self._average
        x, grew, steps = run(matrix, scale, rhs)
        residual = relative_residual(rhs - matrix.apply(x), rhs)
        solved = residual <= self.rtol
        why, note = Status.STEP_LIMIT, ""
        if bool((grew & ~solved).any()):
            why, note = matrix.diagnosis(scale)
        status = tuple(
            Status.SOLVED if good else why if bad else Status.STEP_LIMIT
            for good, bad in zip(solved.tolist(), grew.tolist(), strict=True)
        )
        products = torch.full((rhs.shape[1],), steps, dtype=torch.long, device=rhs.device)
        return Solution(x, status, residual, products, note)

    def _series(
        self, matrix: "_BatchedMatrix", scale: float, rhs: Float64[Tensor, "p b"]
    ) -> tuple[Float64[Tensor, "p b"], Bool[Tensor, " b"], int]:
        """Return x / s, which columns grew at the end, and the steps taken, with all examples."""
        size = rhs.norm(dim=0)
        last, going = size, size > 0
        grew = torch.zeros_like(going)
        x, steps = rhs.clone(), 0
        while bool(going.any()) and steps < self.depth:
            steps += 1
            residual = rhs - matrix.apply(x) / scale
            now = residual.norm(dim=0)
            # |Mʲb| is log-convex in j for a symmetric M: once it grows it will go on growing.
            grew = torch.where(going, ~(now <= last), grew)
            last = now
            going = going & (now > self.rtol * size) & (now <= 2 * size)
            x += torch.where(going, residual, 0)
        return x / scale, grew, steps

    def _average(
        self, matrix: "_BatchedMatrix", scale: float, rhs: Float64[Tensor, "p b"]
    ) -> tuple[Float64[Tensor, "p b"], Bool[Tensor, " b"], int]:
        """Return the mean of x / s over repeats, which columns exploded, and the steps of all."""
        size = rhs.norm(dim=0)
        together = torch.zeros_like(rhs)
        exploded = torch.zeros_like(size, dtype=torch.bool)
        for _ in range(self.repeats):
            x = rhs.clone()
            for step in range(1, self.depth + 1):
                x += torch.where(exploded, 0, rhs - matrix.sample(x) / scale)
                exploded |= ~(x.norm(dim=0) <= EXPLODED * (step + 1) * size)
            together += x
        return together / (scale * self.repeats), exploded, self.depth * self.repeats


@dataclass(frozen=True, eq=False)
class _BatchedMatrix:
    """A x with all examples or a random batch of them, and estimates of its extreme eigenvalues."""

    apply: Apply
    side: int
    device: torch.device
    batch: int | None
    examples: int | None
    generator: torch.Generator | None

    def rows(self) -> Int64[Tensor, " c"]:
        """Return the next draw, without replacement."""
        assert self.examples is not None
        assert self.generator is not None
        device = self.generator.device
        return torch.randperm(self.examples, generator=self.generator, device=device)[: self.batch]

    def sample(self, x: Float64[Tensor, "p b"]) -> Float64[Tensor, "p b"]:
        """Return A_j x for a fresh draw."""
        return self.apply(x, self.rows())

    def largest(self, *, rtol: float) -> float:
        """Return the largest eigenvalue: of A, and with batches of A_j for a few draws."""
        tops = [self._top(self.apply, rtol)]
        if self.batch is not None:
            for rows in [self.rows() for _ in range(LOOKED_AT)]:
                tops.append(self._top(partial(_of_rows, self.apply, rows), rtol))
        return max(tops)

    def diagnosis(self, scale: float) -> tuple[Status, str]:
        """Return why a recursion grows, and the number that shows it."""
        top = self.largest(rtol=1e-6)
        whose = "" if self.batch is None else f", the most of {LOOKED_AT} drawn batches"
        if scale <= top / 2:
            why = f"half the largest eigenvalue {top:.6g}{whose}."
            return Status.DIVERGED, f"`scale` must be above {top / 2:.6g}, {why}"
        lowest = top - self._top(lambda x: top * x - self.apply(x), 1e-6)
        if lowest < -1e-6 * top:
            return Status.INDEFINITE, f"The smallest eigenvalue is about {lowest:.3g}."
        if self.batch is None:
            return Status.STEP_LIMIT, ""
        return Status.DIVERGED, f"Some batch needs more than {top / 2:.6g}, enough for most."

    def _top(self, apply: Apply, rtol: float) -> float:
        return largest_eigenvalue(
            lambda x: apply(x[:, None])[:, 0],
            self.side,
            generator=torch.Generator().manual_seed(0),
            device=self.device,
            rtol=rtol,
        )


def _of_rows(apply: Apply, rows: Tensor, x: Float64[Tensor, "p b"]) -> Float64[Tensor, "p b"]:
    return apply(x, rows)
