"""Is an audit solved dense, or in tiles? Dense where all of its steps fit the memory."""

from dataclasses import replace

import torch

from leftout.core.checks import check_choice
from leftout.dynamics.options import SolverName
from leftout.dynamics.solver_choice import SOLVERS, choose_solver
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
    choice = choose_solver(
        kernel,
        audit.rule,
        audit.n,
        audit.budget,
        solver=solver,
        tile_dtype=tile_dtype,
        dense_bytes=memory_of(audit, kernel).peak if audit.row_numbers is None else 0,
    )
    tiled = replace(audit, tile_dtype=choice.tile_dtype, why=choice.why)
    if solver != "auto" or tile_dtype is not None or choice.tile_dtype != torch.float64:
        return tiled
    # Steps beside the model may leave room for tiles of half the size only.
    halved = replace(tiled, tile_dtype=torch.float32)
    return tiled if memory_of(tiled, kernel).fits or not memory_of(halved, kernel).fits else halved
