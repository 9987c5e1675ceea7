"""Solutions of (K + λI) x = b by an inverse of a few digits, and products with K itself.

With G near (K + λI)⁻¹, the steps

    x ← x + G (b − (K + λI) x)

become smaller by the same factor each, ‖I − G (K + λI)‖: with tiles in single precision by 10⁴ or so. What
they end at solves the equations of the kernel in float64, whatever G was rounded to.

Without an example the inverse is G − G e_i e_iᵀ G / G_ii, and its system is solved in the same way.

Source: mixed-precision iterative refinement, Higham, Accuracy and stability of numerical algorithms, ch. 12.
"""

from typing import final

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from leftout.core.checks import check_rows
from leftout.core.errors import SolveError
from leftout.core.progress import with_progress
from leftout.core.structured_matrix import ALL
from leftout.core.wording import dtype_name
from leftout.solvers.factor import Factor
from leftout.solvers.tiled.tiled_inverse import TiledInverse

STEPS = 12
"""Most steps: where each is a quarter of the one before, as is accepted, they go from 1 to 1e-7."""

REFINEMENTS = 2
"""Steps that it usually takes."""

TINY = torch.finfo(torch.float64).tiny

FALL = 4.0
"""A step that is not smaller than the one before by this has met rounding, or never gets there."""

WANTED = 1e-11
"""The step after the last would be this part of the solution, or less."""

ACCEPTED = 1e-9
"""Largest step, as a part of the solution, that may be taken for rounding."""


@final
class TiledFactor(Factor):
    """K + λI as the tiles of its inverse.

    Args:
        matrix: K, of which only products are taken.
        ridge: λ.
        near: (K + λI)⁻¹, to the precision of its tiles.
        largest: the largest eigenvalue of K.
    """

    def __init__(self, matrix: Tensor, ridge: float, near: TiledInverse, largest: float) -> None:
        self.matrix, self.ridge, self.near, self.largest = matrix, ridge, near, largest
        self.steps: list[float] = []

    def inverse(self) -> TiledInverse:
        """Return (K + λI)⁻¹, in tiles; nothing is computed."""
        return self.near

    def solve(
        self, rhs: Float64[Tensor, "n c"], *, without: Int64[Tensor, " c"] | None = None
    ) -> Float64[Tensor, "n c"]:
        """Return the solutions, refined until a step would change nothing.

        Args:
            without: for each column a row that its system does not have: the solution is 0 there.

        Raises:
            SolveError: the steps do not become small: the tiles have too few digits for this matrix.

        Cost:
            a product with K and one with the inverse a step, two steps or so; their sizes are in `steps`.
        """
        check_rows("rhs", rhs, self.near.tiles.triangle.n)
        keep = torch.ones_like(rhs)
        if without is not None:
            keep[without, torch.arange(len(without), device=rhs.device)] = 0
        rhs = rhs * keep
        solution = self._near(rhs, without)
        before, self.steps = 1.0, []
        for _ in with_progress(range(STEPS), what="refinement"):
            step = self._near(keep * (rhs - self.matrix @ solution - self.ridge * solution), without)
            solution = solution + step
            size = float((step.norm(dim=0) / solution.norm(dim=0).clamp(min=TINY)).max())
            self.steps.append(size)
            if not size <= before / FALL or size * size / before <= WANTED:
                break
            before = size
        if not self.steps[-1] <= max(ACCEPTED, before / FALL):
            raise SolveError(
                f"With tiles in {dtype_name(self.near.tiles.triangle.dtype)} the solution does "
                f"not settle: the last step was {self.steps[-1]:.1g} of it, after one of {before:.1g}. They "
                f"have too few digits for ridge {self.ridge:g} beside an eigenvalue of {self.largest:.3g}: "
                "take tiles in float64 (tile_dtype), or a larger `ridge`."
            )
        return solution

    def _near(self, rhs: Tensor, without: Tensor | None) -> Tensor:
        """Return the inverse, of the system without a row each, times the columns."""
        solved = self.near @ rhs
        if without is None:
            return solved
        column = torch.arange(len(without), device=rhs.device)
        directions = self.near.part(ALL, without).numbers  # (n, c)
        solved -= directions * (solved[without, column] / directions[without, column])
        solved[without, column] = 0
        return solved
