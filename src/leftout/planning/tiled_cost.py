"""Seconds of the steps of an audit in tiles: the kernel is evaluated again whenever it is multiplied."""

from dataclasses import dataclass

import torch

from leftout.core.work import NO_WORK, Operation, WorkCount, operations, passes, product, total_work
from leftout.curation.rare import neighbours_work
from leftout.curation.subclasses import subclasses_work
from leftout.dynamics.fit import SAMPLE
from leftout.kernels.evaluated_matrix import evaluated_product_work, fill_work
from leftout.planning.cost import Cost
from leftout.planning.machine import Machine
from leftout.planning.planned_audit import PlannedAudit
from leftout.solvers.cholesky import cholesky_work
from leftout.solvers.krylov import EIGENVALUE_STEPS
from leftout.solvers.spectrum import spectrum_work
from leftout.solvers.tiled.invert import invert_work
from leftout.solvers.tiled.inverted_tiles import tiled_product_work
from leftout.solvers.tiled.tiled_factor import REFINEMENTS


def cost_of(audit: PlannedAudit, machine: Machine) -> Cost:
    """Return what an audit costs, the way it is solved."""
    return (Cost if audit.tile_dtype is None else TiledCost)(audit, machine)


@dataclass(frozen=True)
class TiledCost(Cost):
    """Seconds of the steps of one audit in tiles."""

    def kernel(self) -> float:
        return self.machine.seconds(fill_work(self.audit.n))

    def factorisations(self) -> float:
        """Return seconds of the choice of a ridge, of leading directions, inverse and solution."""
        audit = self.audit
        sample = spectrum_work(min(SAMPLE, audit.n)) if audit.chooses_ridge else NO_WORK
        products = (1 + REFINEMENTS) * evaluated_product_work(audit.n, audit.k)
        return self.machine.seconds(sample + invert_work(audit.n, single=self._single) + products)

    def predictions(self) -> float:
        return self.machine.seconds(self._cross + evaluated_product_work(self.audit.n, self.audit.k))

    def redundant(self) -> float:
        """Return seconds of joint effects; the order of removal comes with the scores."""
        audit = self.audit
        blocks = total_work(cholesky_work(size) for size in audit.groups)
        changes = product(audit.m, audit.n, audit.k * len(audit.groups))
        return self.machine.seconds(2 * self._cross + blocks + changes)

    def rare(self) -> float:
        n, largest = self.audit.n, self.audit.largest_class
        classes = max(1, n // max(1, largest))
        pairs = operations(Operation.CROSS_PAIR, n * n)
        return self.machine.seconds(neighbours_work(n) + pairs + classes * subclasses_work(largest))

    def learning_curve(self) -> float:
        return 0.0

    def certificate(self) -> float:
        """Return seconds of refits, solved for together, and of the ends of the spectrum."""
        audit = self.audit
        products = (REFINEMENTS + 1) * evaluated_product_work(audit.n, audit.refit_examples)
        ends = EIGENVALUE_STEPS * tiled_product_work(1, audit.n, single=self._single)
        return self.machine.seconds(self._cross + products + ends)

    @property
    def _changes(self) -> WorkCount:
        n, m = self.audit.n, self.audit.m
        return tiled_product_work(m, n, single=self._single) + self.audit.k * passes(m * n, 1)

    @property
    def _single(self) -> bool:
        """Return whether tiles are in single precision."""
        return self.audit.tile_dtype == torch.float32
