"""Solutions of A x = b with their evidence: how each solve ended, its residual and its steps.

A is symmetric, (p, p), and known by its products; the columns of b are independent systems, and each
has its own status. The residual is always |b − A x| / |b|, computed from the definition at the end, never
that of a recurrence.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, final

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

Apply = Callable[..., Tensor]
"""x ↦ A x for columns x (p, b). Where A is a sum over examples, apply(x, rows) is what those rows
contribute: the mean over their draws is A x."""

EPS = torch.finfo(torch.float64).eps


class Status(StrEnum):
    """How one column ended; the sentence that the user reads."""

    SOLVED = "solved to tolerance"
    SADDLE = (
        "solved, but the Hessian is indefinite: the network is not at a minimum; train on, or use "
        'curvature="ggn" or a larger `damping`'
    )
    STEP_LIMIT = (
        "stopped at its limit of steps, before the tolerance: allow more of them (`max_steps`, or "
        "`depth` and `repeats`), pass a larger `rtol`, or add `damping`"
    )
    ROUNDING = "stopped where rounding ends it, before the tolerance: pass a larger `rtol`, or add `damping`"
    INDEFINITE = (
        'met negative curvature: the Hessian is indefinite; use curvature="ggn", or a larger `damping`'
    )
    SINGULAR = (
        "met a direction without curvature: the matrix is singular to rounding; add `damping`, or "
        "train with a `ridge` > 0"
    )
    DIVERGED = "diverged: `scale` is too small for the recursion; pass a larger one, or None"

    @property
    def is_solved(self) -> bool:
        """Return whether the value solves the system."""
        return self in (Status.SOLVED, Status.SADDLE)


@final
@dataclass(frozen=True, eq=False)
class Solution:
    """The solution, column by column.

    Attributes:
        value: x.
        status: how each column ended.
        residual: |b − A x| / |b|, from the definition; 0 where b is 0.
        steps: products that each column took, 0 for a direct solve.
        note: the number that explains a status, such as the smallest eigenvalue; or nothing.
    """

    value: Float64[Tensor, "p b"]
    status: tuple[Status, ...]
    residual: Float64[Tensor, " b"]
    steps: Int64[Tensor, " b"]
    note: str = ""

    @property
    def is_solved(self) -> bool:
        """Return whether every column was solved."""
        return all(status.is_solved for status in self.status)

    @property
    def advice(self) -> str:
        """Return one sentence on the columns that are not simply solved; empty if there are none."""
        unsolved = [j for j, status in enumerate(self.status) if status is not Status.SOLVED]
        if not unsolved:
            return ""
        # Failed solves before those at a saddle, the largest residual first.
        worst = max(unsolved, key=lambda j: (not self.status[j].is_solved, float(self.residual[j])))
        alike = sum(status is self.status[worst] for status in self.status)
        return (
            f"{alike} of {len(self.status)} right-hand sides {self.status[worst]}. Column {worst} has "
            f"relative residual {float(self.residual[worst]):.2g} after {int(self.steps[worst])} "
            f"steps.{self.note and ' ' + self.note}"
        )


class Solver(ABC):
    """A way of solving A x = b from products with A; its fields are its options."""

    @abstractmethod
    def prepare(
        self,
        apply: Apply,
        side: int,
        *,
        device: torch.device,
        examples: int | None = None,
        memory: int | None = None,
    ) -> Callable[[Float64[Tensor, "p b"]], Solution]:
        """Return b ↦ Solution, with all that does not depend on b done once.

        Args:
            apply: x ↦ A x.
            side: p.
            examples: of how many A is a sum, for a solver that draws from them.
            memory: bytes that the solver may take; 60 % of what is free if None.
        """

    @final
    def solve(
        self,
        apply: Apply,
        rhs: Float64[Tensor, "p b"],
        *,
        examples: int | None = None,
        memory: int | None = None,
    ) -> Solution:
        """Return x and how it was found, for each column of `rhs` by itself."""
        solve = self.prepare(apply, len(rhs), device=rhs.device, examples=examples, memory=memory)
        return solve(rhs)

    @property
    def record(self) -> dict[str, Any]:
        """Return name and options, JSON-like."""
        options = {option.name: getattr(self, option.name) for option in fields(self)}  # type: ignore[arg-type]
        return {"solver": type(self).__name__, **options}


def join_solutions(solutions: Sequence[Solution]) -> Solution:
    """Return solutions of the same matrix side by side; with the first note of any."""
    return Solution(
        value=torch.cat([solution.value for solution in solutions], dim=1),
        status=tuple(status for solution in solutions for status in solution.status),
        residual=torch.cat([solution.residual for solution in solutions]),
        steps=torch.cat([solution.steps for solution in solutions]),
        note=next((solution.note for solution in solutions if solution.note), ""),
    )


def relative_residual(residual: Float64[Tensor, "p b"], rhs: Float64[Tensor, "p b"]) -> Float64[Tensor, " b"]:
    """Return |residual| / |rhs| of each column; 0 where the right-hand side is 0."""
    size = rhs.norm(dim=0)
    return torch.where(size > 0, residual.norm(dim=0) / size, torch.zeros_like(size))
