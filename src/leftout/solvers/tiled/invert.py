"""K + λI is factored and inverted where it stands, tile by tile; n³ operations in all, n³/3 a stage.

    L_ij = (K_ij − Σ_{k<j} L_ik L_jkᵀ) L_jj⁻ᵀ              column by column
    W_ij = −L_ii⁻¹ Σ_{j≤k<i} L_ik W_kj,  W_ii = L_ii⁻¹     row by row
    G_ij = Σ_{k≥i} W_kiᵀ W_kj                               row by row, the diagonal last

In this order nothing that is replaced is needed again, and each tile is replaced once a stage.
"""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from leftout.core.errors import NotPositiveError
from leftout.core.progress import with_progress
from leftout.core.wording import dtype_name
from leftout.core.work import Operation, WorkCount, operations
from leftout.solvers.tiled.triangle import SINGLE, Stage, Triangle

Step = tuple[Stage, int, int]


def fill(triangle: Triangle, kernel_tile: Callable[[int, int], Float[Tensor, "r c"]], ridge: float) -> None:
    """Put a matrix, and λ on its diagonal, into the tiles that are empty.

    Args:
        kernel_tile: returns tile (i, j) of the matrix, which is written to.
        ridge: λ.
    """
    missing = [place for place in triangle.places() if triangle.stage(*place) == Stage.NOTHING]
    for i, j in with_progress(missing, what=f"kernel of {triangle.n} × {triangle.n}, in tiles"):
        made = kernel_tile(i, j)
        if i == j:
            made.diagonal().add_(ridge)
        triangle.replace(i, j, Stage.KERNEL, made)


def invert(triangle: Triangle) -> None:
    """Bring tiles that hold K + λI to its inverse, from whatever stages they are in.

    Raises:
        NotPositiveError: a pivot is not positive, in the precision of the tiles.

    Cost:
        n³ operations; half of the matrix, and three tiles beside it.
    """
    steps = [step for step in _steps(len(triangle.spans)) if triangle.stage(*step[1:]) < step[0]]
    work = [_step_work(step, len(triangle.spans)) for step in steps]
    for stage, i, j in with_progress(steps, work=work, what=f"inverse of {triangle.n} × {triangle.n}"):
        triangle.replace(i, j, stage, MAKE[stage](triangle, i, j))


def _steps(rows: int) -> Iterator[Step]:
    """Yield stage and place of every tile, in the order in which they are made."""
    for j in range(rows):
        yield from ((Stage.FACTOR, i, j) for i in range(j, rows))
    for stage in (Stage.ROOT, Stage.INVERSE):
        for i in range(rows):
            yield from ((stage, i, j) for j in range(i + 1))


def _step_work(step: Step, rows: int) -> float:
    """Return the products of tiles that a step takes; what is done once a tile counts as one half."""
    stage, i, j = step
    return {Stage.FACTOR: j + 0.5, Stage.ROOT: i - j + 0.5, Stage.INVERSE: rows - i}[stage]


def _factor(triangle: Triangle, i: int, j: int) -> Tensor:
    made = triangle.tile(i, j).clone()
    for k in range(j):
        made.addmm_(triangle.tile(i, k), triangle.tile(j, k).T, alpha=-1)
    if i > j:
        # X Lᵀ = A
        return torch.linalg.solve_triangular(triangle.tile(j, j).T, made, upper=True, left=False)
    lower, pivot = torch.linalg.cholesky_ex(made)
    if int(pivot) or not bool(torch.isfinite(lower.diagonal()).all()):
        row = triangle.spans[i].start + int(pivot)
        raise NotPositiveError(
            f"K + ridge·I is not positive definite to the rounding of {dtype_name(triangle.dtype)}: pivot "
            f"{row} of {triangle.n} is not positive. Pass a larger `ridge`"
            + (", or tiles in float64." if triangle.dtype == torch.float32 else ".")
        )
    return lower


def _root(triangle: Triangle, i: int, j: int) -> Tensor:
    lower = triangle.tile(i, i)
    if i == j:
        unit = torch.eye(len(lower), dtype=lower.dtype, device=lower.device)
        return torch.linalg.solve_triangular(lower, unit, upper=False)
    made = triangle.tile(i, j) @ triangle.tile(j, j)
    for k in range(j + 1, i):
        made.addmm_(triangle.tile(i, k), triangle.tile(k, j))
    return torch.linalg.solve_triangular(lower, made, upper=False).neg_()


def _inverse(triangle: Triangle, i: int, j: int) -> Tensor:
    made = triangle.tile(i, i).T @ triangle.tile(i, j)
    for k in range(i + 1, len(triangle.spans)):
        made.addmm_(triangle.tile(k, i).T, triangle.tile(k, j))
    return (made + made.T) / 2 if i == j else made


MAKE = {Stage.FACTOR: _factor, Stage.ROOT: _root, Stage.INVERSE: _inverse}


def invert_work(n: int, *, single: bool) -> WorkCount:
    """Return the work of `invert`, beside the kernel."""
    return operations(Operation.FLOP, float(n) ** 3 * (SINGLE if single else 1.0))
