"""A x = b for an A small enough for its p × p entries to be stored.

Products with the columns of the identity give A; Cholesky then solves at p³/3. Where A is indefinite
that fails; the eigenvalues, at 9p³, then solve, and their smallest is reported.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor

from leftout.core.blocks import blocks, check_fits, memory_budget
from leftout.core.errors import SolveError
from leftout.solvers.solution import EPS, Apply, Solution, Solver, Status, relative_residual

WIDEST = 256
"""Columns of the identity that are multiplied at a time, at most."""

MATRICES = 4
"""p × p matrices held at once: A, its eigenvectors, and what finding them takes."""


@final
@dataclass(frozen=True, kw_only=True)
class Exact(Solver):
    """A direct solve.

    Example:
        >>> matrix = torch.diag(torch.tensor([1.0, 4.0, 16.0], dtype=torch.float64))
        >>> solution = Exact().solve(lambda x: matrix @ x, torch.ones(3, 1, dtype=torch.float64))
        >>> solution.is_solved, solution.value.flatten().tolist()
        (True, [1.0, 0.25, 0.0625])

    Cost:
        p products, p³/3 flops and four p × p matrices, once; then 4p² a column. An indefinite matrix
        takes 9p³.

    Accuracy:
        backward stable: x is that of a matrix which differs from A by 10·eps of its norm.
    """

    def prepare(
        self,
        apply: Apply,
        side: int,
        *,
        device: torch.device,
        examples: int | None = None,
        memory: int | None = None,
    ) -> Callable[[Float64[Tensor, "p b"]], Solution]:
        budget = memory_budget(memory, device=device)
        held = MATRICES * 8 * side**2
        largest = int((budget / (MATRICES * 8)) ** 0.5)
        check_fits(
            f"The {side} × {side} curvature matrix of {side} parameters",
            held,
            budget,
            advice=f"Up to {largest} parameters fit; ConjugateGradients() and LiSSA() need only "
            "products. Or raise `memory`.",
        )
        matrix = dense(apply, side, device=device, room=budget - held)
        lower, pivot = torch.linalg.cholesky_ex(matrix)
        if not int(pivot):
            return partial(_by_cholesky, matrix, lower)
        return partial(_by_modes, matrix, *torch.linalg.eigh(matrix))


def dense(apply: Apply, side: int, *, device: torch.device, room: int) -> Float64[Tensor, "p p"]:
    """Return A, made symmetric, from products with blocks of the identity.

    Args:
        room: bytes for a block, its product, and what the product takes.

    Raises:
        SolveError: an entry is not finite.
    """
    matrix = torch.empty(side, side, dtype=torch.float64, device=device)
    width = max(1, min(WIDEST, room // (4 * 8 * side)))
    for columns in blocks(side, width):
        # Rows of the transpose, so that a block is written where it lies together.
        unit = matrix.new_zeros(side, columns.stop - columns.start)
        unit[columns].fill_diagonal_(1)
        matrix[columns] = apply(unit).T
    if not bool(torch.isfinite(matrix).all()):
        raise SolveError("The curvature matrix is not finite: a product overflows, or holds NaN.")
    # A product is symmetric to rounding only, and Cholesky reads one half: take the mean of both.
    for rows in blocks(side, width):
        both = (matrix[rows, rows.start :] + matrix[rows.start :, rows].T) / 2
        matrix[rows, rows.start :] = both
        matrix[rows.start :, rows] = both.T
    return matrix


def _by_cholesky(
    matrix: Float64[Tensor, "p p"], lower: Float64[Tensor, "p p"], rhs: Float64[Tensor, "p b"]
) -> Solution:
    """Return x from A = L Lᵀ."""
    x = torch.cholesky_solve(rhs, lower)
    # Rounding may leave a singular matrix a small positive pivot. Then x is meaningless where it is so
    # large that A times it, at one rounding of A, is as large as b.
    lost = 10 * EPS * matrix.norm() * x.norm(dim=0) >= rhs.norm(dim=0)
    lost &= rhs.norm(dim=0) > 0
    status = tuple(Status.SINGULAR if is_lost else Status.SOLVED for is_lost in lost.tolist())
    note = "Its smallest pivot is at rounding level." if bool(lost.any()) else ""
    return _solution(matrix, x, rhs, status, note)


def _by_modes(
    matrix: Float64[Tensor, "p p"],
    values: Float64[Tensor, " p"],
    vectors: Float64[Tensor, "p p"],
    rhs: Float64[Tensor, "p b"],
) -> Solution:
    """Return x from the eigenvalues of a matrix that is not positive definite."""
    note = f"The smallest eigenvalue is {float(values[0]):.3g}, the largest {float(values[-1]):.3g}."
    size = values.abs()
    if float(size.min()) <= len(values) * EPS * float(size.max()):
        # There is no solution: NaN cannot be mistaken for one.
        return _solution(
            matrix, torch.full_like(rhs, torch.nan), rhs, (Status.SINGULAR,) * rhs.shape[1], note
        )
    x = vectors @ ((vectors.T @ rhs) / values[:, None])
    return _solution(matrix, x, rhs, (Status.SADDLE,) * rhs.shape[1], note)


def _solution(
    matrix: Float64[Tensor, "p p"],
    x: Float64[Tensor, "p b"],
    rhs: Float64[Tensor, "p b"],
    status: tuple[Status, ...],
    note: str,
) -> Solution:
    residual = relative_residual(rhs - matrix @ x, rhs)
    steps = torch.zeros(rhs.shape[1], dtype=torch.long, device=rhs.device)
    return Solution(x, status, residual, steps, note)
