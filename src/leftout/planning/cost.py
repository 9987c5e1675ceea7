"""What does each step of an audit cost? Counted from what the step does, priced by `machine`.

Letters: n training examples, m queries, k outputs, q nodes of a quadrature, t training times; where
the kernel tells outputs apart, n and m are rows of its matrix and k is 1. A step
that calls another pays for it: nothing is shared between them but the Gram matrix and its factor,
inverse or spectrum.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from leftout.attribution.engine.query_blocks import COLUMNS
from leftout.attribution.trajectory import COUNT
from leftout.curation.model_change import QUERIES
from leftout.curation.redundant import FRACTIONS
from leftout.diagnostics.learning_curve.ridge_path import POINTS
from leftout.dynamics.rules import At, Ridge, Rule
from leftout.kernels.tiles import BLOCK, TEMPORARIES
from leftout.planning.machine import Machine
from leftout.report.ranking import BLOCK_BYTES, LENGTH
from leftout.solvers.quadrature import NODES, windows
from leftout.storage import score_store as store

DOUBTED = 0.05
"""Share of the labels that is assumed to be doubted; each suspect is given its reasons."""

LANCZOS = 100
"""Products with K until Lanczos has converged: 50 to 160 on pictures, whatever the ridge."""

REFACTORED = 15
"""Further factorisations under `loss="mean"`, where those with n and n − 1 examples take turns."""

DECADES = 7
"""Of training time on the curve of training: 5 to 8 on pictures, as the spectrum spreads."""

TEXT = 6e-5
"""Seconds of the report for each example that it shows."""

LIBRARIES = 50 * 10**6
"""Bytes of libraries that are loaded when first used, and of the report while it is made."""


@dataclass(frozen=True)
class Work:
    """An audit as it was asked for.

    Attributes:
        n, m: rows of the kernel matrix of training examples and queries.
        k: columns of a dual.
        each: rows of an example.
        times: ascending, inf for the end.
        budget: bytes, which set the size of some blocks.
    """

    n: int
    m: int
    k: int
    rule: Rule
    times: tuple[float, ...]
    refits: int
    budget: int
    each: int = 1

    @cached_property
    def finite(self) -> tuple[float, ...]:
        """Return the times that need the spectrum."""
        return tuple(time for time in self.times if 0 < time < math.inf)

    @property
    def remembers(self) -> bool:
        """Return whether the kernel between queries and examples is kept, as `Fitted.remember` decides."""
        return 8 * self.m * self.n <= self.budget // 8

    @property
    def curve(self) -> bool:
        """Return whether training has time, and is followed over it: that takes the spectrum too."""
        return not isinstance(self.rule, Ridge) and self.times[-1] > 0

    @property
    def ends(self) -> bool:
        """Return whether the end of training is among the times; the lists are made there then."""
        return self.times[-1] == math.inf

    @property
    def refactored(self) -> bool:
        """Return whether the ridge on K changes with the number of examples."""
        return self.rule.effective_ridge(self.n) != self.rule.effective_ridge(self.n - 1)

    @property
    def groups(self) -> tuple[int, ...]:
        """Return the sizes of the groups whose joint removal is tried."""
        return tuple(sorted({max(1, min(self.n - 1, round(f * self.n))) for f in FRACTIONS}))

    def afresh(self, gone: int) -> bool:
        """Return whether what remains without so many is fitted afresh, as `leave_out` decides."""
        if self.ends:
            return self.refactored
        return 9 * (self.n - gone) ** 3 < 160 * (gone**2 * self.n + gone**3)


@dataclass(frozen=True)
class Cost:
    """Seconds and bytes of the steps of one audit on one machine."""

    work: Work
    machine: Machine

    # --- seconds -------------------------------------------------------------------------------

    def kernel(self) -> float:
        """Return seconds of the Gram matrix: one triangle of blocks, written twice."""
        n = self.work.n
        pairs = n * (n + min(n, BLOCK["cpu"])) / 2
        return n * self.machine.example + pairs * self.machine.gram + self._fresh(n * n)

    def factorisations(self) -> float:
        """Return seconds of Cholesky and inverse, and of the eigendecomposition."""
        work = self.work
        ended = self._ended(1 + REFACTORED * work.refactored) if work.ends else 0.0
        return ended + (self._eigh(work.n) if work.curve else 0.0)

    def left_out(self) -> float:
        """Return seconds of a kernel's leave-one-out loss, and of nothing else."""
        work = self.work
        ended = self._ended(1 + work.refactored) if work.ends else 0.0
        spectrum = self._eigh(work.n) if work.finite else 0.0
        asked = sum(self._out_of_sample(time) for time in work.times)
        return self.kernel() + ended + spectrum + asked

    def scores(self) -> float:
        """Return seconds of influence at every query and time, written to the store."""
        work, machine = self.work, self.machine
        n, m, k = work.n, work.m, work.k
        blocks = math.ceil(m / store.BLOCK)
        seconds = self._between() + len(work.times) * m * n * machine.stored
        once = self._product(m, n, n)
        if work.finite:
            seconds += once + len(windows(work.finite)) * self._resolvents()
            coefficients = k * blocks * self._coefficients()
            seconds += len(work.finite) * (coefficients + k * (once + self._passes(m * n, 5)))
        return seconds + work.ends * (once + k * self._passes(m * n, 6))

    def predictions(self) -> float:
        """Return seconds of predictions at queries and, left out, at training examples."""
        return sum(self._cross() + self._dual(time) + self._out_of_sample(time) for time in self.work.times)

    def labels(self) -> float:
        """Return seconds of the margins, and of the reasons for those assumed to be doubted."""
        work, time = self.work, self.work.times[-1]
        seconds = self._out_of_sample(time) + self._instant(time)
        each = 100 * self.machine.call + 2e-4
        if work.finite and not work.ends:
            each += self._node_sums() + self._thin()
        return seconds + DOUBTED * work.n * each

    def redundant(self) -> float:
        """Return seconds of the order of removal and of the joint effects of its first shares."""
        work, time = self.work, self.work.times[-1]
        n, m, k = work.n, work.m, work.k
        seconds = 3 * self._cross() + self._instant(time) + 2 * self._dual(time)
        if 0 < time < math.inf:
            blocks = math.ceil(m / self.moved)
            seconds += self._product(m, n, n) + k * blocks * self._coefficients()
        if time > 0:
            products = 1 if time == math.inf else k
            seconds += products * self._product(m, n, n) + k * self._passes(m * n, 8)
            seconds += self._fresh(m * n * k)
            seconds += sum(self._group(gone) for gone in work.groups)
        return seconds + self._product(m, n, k * len(work.groups))

    def rare(self) -> float:
        """Return seconds of under-sampled examples, kinds within classes, outliers and duplicates."""
        n = self.work.n
        # Components of a class of c take 4c³/3; its distances and their clusters are looked at often.
        # Two classes take longest.
        kinds = self._product(n / 2, n / 2, 2 * n / 3) + self._passes(n * n / 2, 60)
        # Division and the search for the nearest ten and for the nearest: 30 passes over K.
        return self._out_of_sample(self.work.times[-1]) + self._passes(n * n, 30) + kinds

    def learned(self) -> float:
        """Return seconds of the curve of training: its decades share nodes, its times a product."""
        n, k = self.work.n, self.work.k
        of_a_decade = self._resolvents() + self._product(n, n, 2 * NODES)
        of_a_time = self._dual(1.0) + self._product(n, n, k) + self._passes(NODES * n * k, 2)
        return DECADES * of_a_decade + (COUNT + len(self.work.times)) * of_a_time

    @property
    def judged(self) -> int:
        """Return the rows from which the learning curve is foretold: half, where no spectrum is there."""
        return self.work.n if self.work.curve else (self.work.n + self.work.each) // 2

    def outlook(self) -> float:
        """Return seconds of the learning curve: spectra of parts, and errors along the ridge."""
        n, k = self.judged, self.work.k
        own = 0.0 if self.work.curve else self._eigh(n)
        spectra = own + 2 * self._eigh(n // 2) + 4 * self._eigh(n // 4)
        crossed = 2 * self._product(n / 2, n / 2, n / 2) + 4 * self._product(3 * n / 4, n / 4, n / 4)
        # Diagonals in complex numbers, twice; then a thin product for each ridge, of all and of the parts.
        along = self._product(n, n, 2 * (POINTS + 1)) + 2.25 * POINTS * n * n * self.machine.thin
        return spectra + crossed + along + self._passes(POINTS * n * k, 12)

    def certificate(self) -> float:
        """Return seconds of the evidence: examples really left out, by Lanczos."""
        work, time = self.work, self.work.times[-1]
        steps = min(LANCZOS, work.n)
        step = self._passes(work.n**2, 1) + 40 * self.machine.call
        step += self._passes(work.n * steps / 2, 6)
        each = steps * step + 4 * self.machine.eigh(steps)
        return self._cross() + self._instant(time) + self._dual(time) + (work.refits + 0.5) * each

    def report(self, *, pictures: bool) -> float:
        """Return seconds of ranking all scores, packing pictures and writing the page."""
        work, machine = self.work, self.machine
        scores = len(work.times) * work.m * work.n
        shown = min(work.n, 2 * LENGTH * work.m * len(work.times)) + work.m
        each = TEXT + (machine.picture if pictures else 0.0)
        return 0.1 + scores * (4 * machine.ranked + machine.stored / 2) + shown * each

    # --- bytes, beyond those of the process before ------------------------------------------------

    @property
    def square(self) -> int:
        """Return the bytes of an n × n matrix."""
        return 8 * self.work.n**2

    @property
    def kept(self) -> int:
        """Return the bytes of what stays: Gram matrix; factor and inverse; eigenvectors."""
        return self.square * (1 + 2 * self.work.ends + self.work.curve)

    @property
    def blocks(self) -> int:
        """Return the bytes of blocks of queries and of resolvents, which the allocator keeps."""
        n, m, k = self.work.n, self.work.m, self.work.k
        rows = min(m, store.BLOCK)
        block = 8 * rows * n * (6 + 2 * len(self.work.times))
        if not self.work.finite:
            return block
        nodes = len(windows(self.work.finite)) * 16 * NODES * n * (2 * k + 1)
        return block + nodes + 4 * 8 * n * min(n, COLUMNS)

    @property
    def moved(self) -> int:
        """Return the queries whose prediction changes are held at once."""
        fitting = self.work.budget // (64 * self.work.n * self.work.k)
        return max(1, min(QUERIES, self.work.m, fitting))

    def kernel_bytes(self) -> int:
        """Return bytes of the Gram matrix and its temporaries."""
        side = min(self.work.n, BLOCK["cpu"])
        return self.square + TEMPORARIES * 8 * side**2

    def factorisation_bytes(self) -> int:
        """Return bytes while factoring: LAPACK's workspace for eigenvectors is twice as large."""
        held = 0
        if self.work.ends:
            held = 3 * self.square
        if self.work.curve:
            held = max(held, self.kept + 3 * self.square)
        return held

    def scores_bytes(self) -> int:
        """Return bytes of what stays and of the blocks."""
        known = 8 * self.work.m * self.work.n * self.work.remembers
        return LIBRARIES + self.kept + known + self.blocks

    def solve_bytes(self) -> int:
        """Return bytes while predicting: solves copy the factor; all queries are met at once."""
        return self.scores_bytes() + self.square * self.work.ends + 8 * self.work.m * self.work.n

    def redundant_bytes(self) -> int:
        """Return bytes of the changes of all predictions, or of the largest fit afresh."""
        changes = 2 * 8 * self.moved * self.work.n * self.work.k
        again = [self.work.n - gone for gone in self.work.groups if self.work.afresh(gone)]
        copies = 3 if self.work.ends else 5
        return self.scores_bytes() + max(changes, copies * 8 * max(again, default=0) ** 2)

    def learned_bytes(self) -> int:
        """Return bytes of predictions at all times of the curve, and of the resolvents of a decade."""
        n, k = self.work.n, self.work.k
        times = COUNT + len(self.work.times)
        return self.scores_bytes() + 4 * 8 * times * n * k + 3 * 16 * NODES * n * (k + 1)

    def outlook_bytes(self) -> int:
        """Return bytes of the largest spectrum made for it, with workspace, and of errors along the ridge."""
        n = self.work.n // 2 if self.work.curve else self.judged
        return self.scores_bytes() + 6 * 8 * n * n + 3 * 8 * POINTS * self.judged

    def report_bytes(self) -> int:
        """Return bytes while scores are ranked."""
        scores = 8 * self.work.m * self.work.n
        return self.scores_bytes() + 4 * min(BLOCK_BYTES, scores)

    # --- pieces ------------------------------------------------------------------------------------

    def _product(self, m: float, n: float, p: float) -> float:
        """Return seconds of (m × n)(n × p)."""
        return 2 * m * n * p / self.machine.flops

    def _passes(self, numbers: float, count: float) -> float:
        return 8 * numbers * count / self.machine.streamed

    def _fresh(self, numbers: float) -> float:
        return 8 * numbers / self.machine.fresh

    def _thin(self) -> float:
        """Return seconds of (n × n)(n × k)."""
        return self.work.n**2 * self.machine.thin

    def _cross(self) -> float:
        """Return seconds of the kernel of queries, which is kept where the memory holds it."""
        return 0.0 if self.work.remembers else self._between()

    def _between(self) -> float:
        pairs = self.work.m * self.work.n
        # The passes of training examples are kept; those of queries are made each time.
        once = self.work.m * self.machine.example
        return once + pairs * self.machine.cross + self._fresh(pairs)

    def _eigh(self, n: int) -> float:
        """Return seconds of eigenpairs: result, workspace of twice that, and its order reversed."""
        return self.machine.eigh(n) + self._fresh(4 * n * n)

    def _ended(self, times: int) -> float:
        """Return seconds of so many Cholesky factors, and of an inverse."""
        n, machine = self.work.n, self.machine
        factors = times * (machine.cholesky(n) + self._fresh(2 * n * n))
        return factors + machine.inverse(n) + self._fresh(n * n)

    def _dual(self, time: float) -> float:
        if time == math.inf:
            return 2 * self._thin() + self._fresh(self.work.n**2)
        return 2 * self._thin() if time > 0 else 0.0

    def _resolvents(self) -> float:
        """Return seconds of R(z) y and diag R(z) at the nodes of a window."""
        n, k = self.work.n, self.work.k
        return self._product(n, n, 2 * NODES * (k + 1)) + self._passes(NODES * n * k, 12)

    def _coefficients(self) -> float:
        """Return seconds of H for all examples, one output."""
        n = self.work.n
        return self._product(n, 2 * NODES, n) + self._passes(n * n, 5)

    def _instant(self, time: float) -> float:
        return self._resolvents() if 0 < time < math.inf else 0.0

    def _out_of_sample(self, time: float) -> float:
        seconds = self._instant(time) + self._dual(time) + self._thin()
        if 0 < time < math.inf:
            seconds += self.work.k * (self._coefficients() + self._passes(self.work.n**2, 4))
        return seconds

    def _node_sums(self) -> float:
        """Return seconds of summing a group's change, (n, k) complex, over nodes."""
        return NODES * (15 * self.machine.call + self._passes(self.work.n * self.work.k, 10))

    def _group(self, gone: int) -> float:
        """Return seconds of leaving a group out, by the way that `leave_out` takes."""
        n, left = self.work.n, self.work.n - gone
        if self.work.afresh(gone):
            copies = self._fresh(2 * left * left)
            found = self.machine.cholesky(left) if self.work.ends else self._eigh(left)
            return copies + found + 4 * self._thin()
        if self.work.ends:
            return 2 * gone**3 / 3 / self.machine.flops + self._fresh(2 * gone * n) + self._thin()
        nodes = self._product(gone, n, 2 * gone) + 8 * gone**3 / 3 / self.machine.flops
        return self._resolvents() + NODES * nodes + self._node_sums() + self._thin()


def ascending(rule: Rule, at: Sequence[At]) -> tuple[float, ...]:
    """Return the training times that were asked for, each once."""
    return tuple(sorted({rule.time(one) for one in at}))
