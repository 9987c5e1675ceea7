"""By which method is K + λI solved? Dense where three matrices fit, else one triangle of tiles."""

from dataclasses import dataclass

import torch

from leftout.core.checks import check_choice
from leftout.core.errors import OptionError
from leftout.core.wording import byte_size
from leftout.dynamics.options import SolverName
from leftout.dynamics.rules import Ridge, Rule
from leftout.kernels.base import Kernel
from leftout.kernels.label_dependent import AnyKernel
from leftout.solvers.tiled.triangle import tile_side, triangle_bytes

SOLVERS: tuple[SolverName, ...] = ("auto", "dense", "tiled", "features")
TILE_DTYPES = (torch.float64, torch.float32)

MATRICES = 3
"""Matrices of the size of the kernel's that a dense model takes: it, a factor, an inverse."""

TILES_BESIDE = 6
"""Tiles held beside the triangle: one that is made, its operands, and their copies."""


@dataclass(frozen=True)
class SolverChoice:
    """How a model is solved.

    Attributes:
        tile_dtype: of the tiles; None where it is dense.
        why: to stand after what is kept; "" where nothing had to be chosen.
    """

    tile_dtype: torch.dtype | None
    why: str = ""

    @property
    def is_tiled(self) -> bool:
        """Return whether K + λI is inverted in tiles."""
        return self.tile_dtype is not None


def choose_solver(
    kernel: AnyKernel,
    rule: Rule,
    n: int,
    budget: int,
    *,
    solver: SolverName = "auto",
    tile_dtype: torch.dtype | None = None,
    dense_bytes: int | None = None,
) -> SolverChoice:
    """Return how a model of n rows is solved.

    Args:
        solver: "auto" takes dense where it fits, then tiles in float64, then tiles in float32.
        tile_dtype: of tiles; that of the two that fits if None.
        dense_bytes: what dense takes; that of a model alone if None.

    Raises:
        OptionError: tiles were asked for, and this model has none.
    """
    check_choice("solver", solver, SOLVERS)
    if tile_dtype is not None:
        check_choice("tile_dtype", tile_dtype, TILE_DTYPES)
        if solver not in ("auto", "tiled"):
            raise OptionError(f'`tile_dtype` is of solver="tiled": leave it out for a {solver} one.')
    if solver == "features":
        return SolverChoice(None)
    needed = MATRICES * 8 * n * n if dense_bytes is None else dense_bytes
    refusal = no_tiles(kernel, rule)
    if solver == "tiled" and refusal:
        raise OptionError(f'`solver` cannot be "tiled" here: {refusal}')
    tiles_asked = solver == "tiled" or tile_dtype is not None
    if not tiles_asked and (solver == "dense" or refusal or needed <= budget):
        return SolverChoice(None)
    if tile_dtype is None:
        sizes = {dtype: tiled_bytes(n, dtype) for dtype in TILE_DTYPES}
        fitting = [dtype for dtype in TILE_DTYPES if sizes[dtype] <= budget]
        if not fitting and solver == "auto":
            return SolverChoice(None)  # nothing fits
        tile_dtype = fitting[0] if fitting else torch.float32
    if tiles_asked:
        return SolverChoice(tile_dtype, "as asked")
    return SolverChoice(tile_dtype, too_large(needed, budget))


def too_large(needed: int, budget: int) -> str:
    """Return why whole matrices are not taken, to stand after what is."""
    return f"as whole matrices take {byte_size(needed)}, more than the budget of {byte_size(budget)}"


def no_tiles(kernel: AnyKernel, rule: Rule) -> str:
    """Return why a model cannot be solved in tiles; empty where it can."""
    if not isinstance(kernel, Kernel) or kernel.depends_on_labels or not kernel.definite:
        return "a kernel that sees labels is another one without an example."
    if kernel.outputs is not None or kernel.is_trained:
        return (
            "tiles are of kernels with one value for each pair of examples, and this one tells outputs apart."
        )
    if not isinstance(rule, Ridge):
        return f"tiles are of the end of training by squared loss with a ridge, and the rule is {rule!r}."
    if not rule.is_auto and not rule.ridge_number > 0:
        return "without a ridge the inverse has no digits to spare: pass a `ridge` > 0."
    return ""


def tiled_bytes(n: int, dtype: torch.dtype) -> int:
    """Return the bytes of a model in tiles: the triangle, and a few tiles beside it."""
    side = min(n, tile_side(n))
    return triangle_bytes(n, dtype.itemsize) + TILES_BESIDE * 8 * side * side
