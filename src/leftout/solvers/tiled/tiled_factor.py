"""Solutions of (K + λI) x = b by an inverse of a few digits, and products with K itself.

With G near (K + λI)⁻¹, the steps

    x ← x + G (b − (K + λI) x)

take the residual down by the same factor each, ‖I − (K + λI) G‖: with tiles in single precision by 10⁴ or so.
What is small in the end is the residual of the kernel in float64, whatever G was rounded to.

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
from leftout.solvers.factor import Factor
from leftout.solvers.tiled.tiled_inverse import TiledInverse

STEPS = 12
"""Most steps: at a fall by 4 each, the least that is accepted, a residual of 1e-7 would be left."""

REFINEMENTS = 2
"""Steps that it usually takes."""

FALL = 4.0
"""A residual that falls by less than this has met rounding."""

LAST = 1e-11
"""After a residual of this size one more step is taken, and what it leaves is not looked at: `certify` does."""

ACCEPTED = 1e-9
"""Largest residual of a solution, as a share of what is added up in it."""


@final
class TiledFactor(Factor):
    """K + λI as the tiles of its inverse.

    Args:
        matrix: K, of which only products are taken.
        ridge: λ.
        tiles: (K + λI)⁻¹, to the precision of its tiles.
        largest: the largest eigenvalue of K.
    """

    def __init__(self, matrix: Tensor, ridge: float, tiles: TiledInverse, largest: float) -> None:
        self.matrix, self.ridge, self.tiles, self.largest = matrix, ridge, tiles, largest
        self.residuals: list[float] = []

    def inverse(self) -> TiledInverse:
        """Return (K + λI)⁻¹, in tiles; nothing is computed."""
        return self.tiles

    def solve(
        self, rhs: Float64[Tensor, "n c"], *, without: Int64[Tensor, " c"] | None = None
    ) -> Float64[Tensor, "n c"]:
        """Return the solutions, refined until the residual falls no more.

        Args:
            without: for each column a row that its system does not have: the solution is 0 there.

        Raises:
            SolveError: the residual stays large: the tiles have too few digits for this matrix.

        Cost:
            a product with K and one with the inverse a step, three steps or so with tiles in float32; the
            residuals of each step are kept in `residuals`.
        """
        check_rows("rhs", rhs, self.tiles.triangle.n)
        keep = torch.ones_like(rhs)
        if without is not None:
            keep[without, torch.arange(len(without), device=rhs.device)] = 0
        rhs = rhs * keep
        solution = self._near(rhs, without)
        before, self.residuals = float("inf"), []
        for _ in with_progress(range(STEPS), what="refinement"):
            rest = keep * (rhs - self.matrix @ solution - self.ridge * solution)
            added = (self.largest + self.ridge) * solution.norm(dim=0) + rhs.norm(dim=0)
            share = float((rest.norm(dim=0) / added.clamp(min=torch.finfo(rhs.dtype).tiny)).max())
            self.residuals.append(share)
            if not share <= before / FALL:
                break
            before = share
            solution = solution + self._near(rest, without)
            if share <= LAST:
                break
        if not min(self.residuals) <= ACCEPTED:
            raise SolveError(
                f"With tiles in {str(self.tiles.triangle.dtype).removeprefix('torch.')} the residual of the "
                f"solution stays at {min(self.residuals):.1g} of what is added up: they have too few digits "
                f"for ridge {self.ridge:g} beside an eigenvalue of {self.largest:.3g}. Take tiles in float64 "
                "(tile_dtype), or a larger `ridge`."
            )
        return solution

    def _near(self, rhs: Tensor, without: Tensor | None) -> Tensor:
        """Return the inverse, of the system without a row each, times the columns."""
        solved = self.tiles @ rhs
        if without is None:
            return solved
        column = torch.arange(len(without), device=rhs.device)
        directions = self.tiles.part(ALL, without).numbers  # (n, c)
        solved -= directions * (solved[without, column] / directions[without, column])
        solved[without, column] = 0
        return solved
