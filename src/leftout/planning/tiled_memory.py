"""Bytes of the steps of an audit in tiles: a triangle of the inverse, and what is made beside it."""

from dataclasses import dataclass

from leftout.curation.rare import ROWS
from leftout.curation.redundant import GROUP_ARRAYS
from leftout.curation.subclasses import compared_bytes
from leftout.dynamics.fit import SAMPLE
from leftout.dynamics.fitted import PREDICTED
from leftout.dynamics.solver_choice import tiled_bytes
from leftout.kernels.base import Kernel
from leftout.kernels.label_dependent import LabelDependentKernel
from leftout.planning.memory import AuditMemory
from leftout.planning.planned_audit import PlannedAudit
from leftout.solvers.krylov import EIGENVALUE_STEPS
from leftout.solvers.tiled.deflation import DIRECTIONS

ARRAYS = 8
"""Arrays of n numbers for each leading direction, beside tiles."""


def memory_of(audit: PlannedAudit, kernel: Kernel | LabelDependentKernel) -> AuditMemory:
    """Return what an audit holds, the way it is solved."""
    return (AuditMemory if audit.tile_dtype is None else TiledMemory)(audit, kernel)


@dataclass(frozen=True)
class TiledMemory(AuditMemory):
    """Bytes of each step of one audit in tiles."""

    @property
    def steps(self) -> dict[str, int]:
        return {**super().steps, "rare, outliers": self.scoring + self.neighbours}

    @property
    def square(self) -> int:
        """Return the bytes of the tiles, and of some beside them."""
        assert self.audit.tile_dtype is not None
        return tiled_bytes(self.audit.n, self.audit.tile_dtype)

    @property
    def kernel_matrix(self) -> int:
        return self.square

    @property
    def model(self) -> int:
        return self.square + ARRAYS * 8 * self.audit.n * DIRECTIONS

    @property
    def factorisation(self) -> int:
        """Return bytes while the inverse is made, or the ridge chosen before if that is more."""
        sample = 3 * 8 * SAMPLE**2 if self.audit.chooses_ridge else 0
        return max(self.model, sample) + self.audit.feature_bytes

    @property
    def while_solving(self) -> int:
        """Return bytes while predicting, a block of queries at a time."""
        return self.scoring + min(8 * self.audit.m * self.audit.n, self.audit.budget // PREDICTED)

    @property
    def redundant(self) -> int:
        return GROUP_ARRAYS * 8 * max(self.audit.groups, default=0) ** 2

    @property
    def certificate(self) -> int:
        return 8 * self.audit.n * (EIGENVALUE_STEPS + 6 * self.audit.refit_examples)

    @property
    def neighbours(self) -> int:
        kinds = compared_bytes(self.audit.largest_class)  # left out where that is more than there is
        return max(kinds if kinds <= self.audit.budget else 0, 3 * 8 * ROWS * self.audit.n)

    @property
    def learning_curve(self) -> int:
        return self.scoring
