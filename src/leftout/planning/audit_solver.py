"""Is an audit solved dense, or in tiles? Dense where all of its steps fit the memory."""

from dataclasses import replace

import torch

from leftout.core.checks import check_choice
from leftout.dynamics.options import SolverName
from leftout.dynamics.solver_choice import SOLVERS, TILE_DTYPES, choose_solver, no_tiles, too_large
from leftout.kernels.base import Kernel
from leftout.kernels.label_dependent import LabelDependentKernel
from leftout.planning.planned_audit import PlannedAudit
from leftout.planning.tiled_memory import memory_of


def with_solver(
    audit: PlannedAudit,
    kernel: Kernel | LabelDependentKernel,
    *,
    solver: SolverName,
    tile_dtype: torch.dtype | None,
    features: int | None,
) -> PlannedAudit:
    """Return what is asked of an audit, with the way it is solved.

    Args:
        features: that the kernel makes of an input; None where it makes none.

    Raises:
        OptionError: tiles were asked for, and this model has none.
    """
    check_choice("solver", solver, SOLVERS)
    if solver == "features":
        audit = replace(audit, row_numbers=features)
    elif solver != "auto":
        audit = replace(audit, row_numbers=None)
    dense = memory_of(audit, kernel)
    choice = choose_solver(
        kernel,
        audit.rule,
        audit.n,
        audit.budget,
        solver=solver,
        tile_dtype=tile_dtype,
        dense_bytes=dense.peak if audit.row_numbers is None else 0,
    )
    is_open = solver == "auto" and tile_dtype is None and audit.row_numbers is None
    if not is_open or dense.fits or no_tiles(kernel, audit.rule):
        return replace(audit, tile_dtype=choice.tile_dtype, why=choice.why)
    # Steps beside the model count too. Where nothing fits it is said what the least would take.
    why = too_large(dense.peak, audit.budget)
    ways = [audit, *(replace(audit, tile_dtype=dtype, why=why) for dtype in TILE_DTYPES)]
    fitting = [way for way in ways if memory_of(way, kernel).fits]
    return fitting[0] if fitting else min(ways, key=lambda way: memory_of(way, kernel).peak)
