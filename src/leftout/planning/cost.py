"""Seconds and bytes of the steps of an audit: every algorithm counts its own work, `machine` prices it.

What stays with the model is paid for by the first step that needs it: the kernel matrix and its factor,
inverse or spectrum, the resolvents of each set of times, and the predictions of examples left out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from leftout.attribution.certify import certificate_work
from leftout.attribution.engine.edit_engines import finite_times, nodes_bytes, nodes_work
from leftout.attribution.engine.finite_time import coordinates_bytes
from leftout.attribution.engine.group_removal import refit_is_cheaper
from leftout.attribution.engine.single_changes import block_bytes, loss_changes_work
from leftout.attribution.leave_one_out import out_of_sample_work
from leftout.attribution.trajectory import COUNT, has_training_curve, trajectory_bytes, trajectory_work
from leftout.core.work import NO_WORK, Operation, WorkCount, operations, total_work
from leftout.curation.mislabelled import suspects_work
from leftout.curation.rare import neighbours_work
from leftout.curation.redundant import redundant_bytes, redundant_groups, redundant_work
from leftout.curation.subclasses import subclasses_work
from leftout.diagnostics.learning_curve.subsamples import backtest_bytes, backtest_work, takes_half
from leftout.dynamics.fitted import KEPT, dual_work
from leftout.dynamics.kernel_rows import comparison_is_kept
from leftout.dynamics.rules import At, Rule
from leftout.kernels.assemble import cross_work, gram_bytes, gram_work
from leftout.planning.machine import Machine
from leftout.report.ranking import BLOCK_BYTES, LENGTH
from leftout.solvers.cholesky import cholesky_work, inverse_work
from leftout.solvers.spectrum import spectrum_work
from leftout.storage import score_store as store

REFACTORED = 10
"""Further factorisations under `loss="mean"`, where those with n and n − 1 examples take turns."""

TEXT = 6e-5
"""Seconds of the report for each example that it shows."""

LIBRARIES = 50 * 10**6
"""Bytes of libraries that are loaded when first used, and of the report while it is made."""


@dataclass(frozen=True)
class PlannedAudit:
    """What an audit is asked for, and the decisions that follow from it.

    Attributes:
        n, m: rows of the kernel matrix of training examples and queries.
        k: columns of a dual.
        times: ascending, inf for the end.
        refit_examples: examples really left out, for the certificate.
        budget: bytes, which set the size of some blocks.
        outputs_per_example: rows of an example.
    """

    n: int
    m: int
    k: int
    rule: Rule
    times: tuple[float, ...]
    refit_examples: int
    budget: int
    outputs_per_example: int = 1

    @property
    def last_time(self) -> float:
        """Return the time at which the lists are made."""
        return self.times[-1]

    @cached_property
    def finite_times(self) -> tuple[float, ...]:
        """Return the times that need the spectrum."""
        return finite_times(self.times)

    @property
    def reaches_end(self) -> bool:
        """Return whether the end of training is among the times."""
        return self.last_time == math.inf

    @property
    def keeps_comparison(self) -> bool:
        """Return whether the kernel between queries and examples is kept."""
        return comparison_is_kept(8 * self.m * self.n, self.budget)

    @property
    def has_training_curve(self) -> bool:
        """Return whether training is followed over its time, which takes the spectrum too."""
        return has_training_curve(self.rule, self.last_time)

    @property
    def ridge_changes(self) -> bool:
        """Return whether the ridge on K changes with the number of examples."""
        return self.rule.effective_ridge(self.n) != self.rule.effective_ridge(self.n - 1)

    @property
    def groups(self) -> tuple[int, ...]:
        """Return the rows of each group whose joint removal is tried."""
        outputs = self.outputs_per_example
        return tuple(outputs * size for size in redundant_groups(self.n // outputs))

    @property
    def refitted_groups(self) -> int:
        """Return how many of these groups are removed by a fit of what remains."""
        times = (self.last_time,)
        return sum(refit_is_cheaper(self.rule, times, self.n, size) for size in self.groups)

    @property
    def learning_curve_rows(self) -> int:
        """Return the rows of the examples from which the learning curve is foretold."""
        outputs = self.outputs_per_example
        return (self.n + outputs) // 2 if takes_half(self.rule) else self.n


@dataclass(frozen=True)
class Cost:
    """Seconds and bytes of the steps of one audit on one machine."""

    audit: PlannedAudit
    machine: Machine

    # --- seconds -------------------------------------------------------------------------------

    def kernel(self) -> float:
        """Return seconds of the kernel matrix."""
        return self.machine.seconds(gram_work(self.audit.n))

    def factorisations(self) -> float:
        """Return seconds of Cholesky and inverse, and of the eigendecomposition."""
        return self._factorisations(REFACTORED, spectrum=self.audit.has_training_curve)

    def left_out(self) -> float:
        """Return seconds of a kernel's leave-one-out loss, and of nothing else."""
        audit = self.audit
        factorisations = self._factorisations(1, spectrum=bool(audit.finite_times))
        predictions = (
            nodes_work(audit.n, audit.k, (time,)) + out_of_sample_work(audit.n, audit.k, time)
            for time in audit.times
        )
        return self.kernel() + factorisations + self.machine.seconds(total_work(predictions))

    def scores(self) -> float:
        """Return seconds of influence at every query and time, written to the store."""
        audit = self.audit
        n, m, k = audit.n, audit.m, audit.k
        stored = operations(Operation.STORED_SCORE, len(audit.times) * m * n)
        nodes = nodes_work(n, k, audit.times)
        changes = loss_changes_work(m, n, k, audit.times, size=store.BLOCK)
        return self.machine.seconds(cross_work(m, n) + stored + nodes + changes)

    def predictions(self) -> float:
        """Return seconds of predictions at queries and, left out, at training examples."""
        audit = self.audit
        n, k = audit.n, audit.k
        nodes = total_work(nodes_work(n, k, times) for times in self._further_node_sets)
        predictions = total_work(
            self._cross + dual_work(n, time) + out_of_sample_work(n, k, time) for time in audit.times
        )
        return self.machine.seconds(nodes + predictions)

    def labels(self) -> float:
        """Return seconds of the reasons for the labels assumed to be doubted."""
        audit = self.audit
        return self.machine.seconds(suspects_work(audit.n, audit.k, audit.last_time))

    def redundant(self) -> float:
        """Return seconds of the order of removal and of the joint effects of its first shares."""
        work = redundant_work(*self._removals, memory=self.audit.budget)
        return self.machine.seconds(3 * self._cross + work)

    def rare(self) -> float:
        """Return seconds of under-sampled examples, kinds within classes, outliers and duplicates."""
        n = self.audit.n
        return self.machine.seconds(neighbours_work(n) + subclasses_work(n))

    def training_curve(self) -> float:
        """Return seconds of the curve of training."""
        audit = self.audit
        times = COUNT + len(audit.times)
        return self.machine.seconds(trajectory_work(audit.n, audit.k, times))

    def learning_curve(self) -> float:
        """Return seconds of the learning curve."""
        audit = self.audit
        has_spectrum = audit.has_training_curve
        work = backtest_work(audit.learning_curve_rows, audit.k, has_spectrum=has_spectrum)
        return self.machine.seconds(work)

    def certificate(self) -> float:
        """Return seconds of the evidence: examples really left out."""
        audit = self.audit
        refits = certificate_work(audit.n, audit.refit_examples)
        return self.machine.seconds(self._cross + dual_work(audit.n, audit.last_time) + refits)

    def report(self, *, pictures: bool) -> float:
        """Return seconds of ranking all scores, packing pictures and writing the page."""
        audit = self.audit
        scores = len(audit.times) * audit.m * audit.n
        shown = min(audit.n, 2 * LENGTH * audit.m * len(audit.times)) + audit.m
        text = operations(Operation.SECOND, 0.1 + TEXT * shown)
        ranked = operations(Operation.RANKED_SCORE, 4 * scores)
        stored = operations(Operation.STORED_SCORE, scores / 2)
        packed = operations(Operation.PICTURE, shown) if pictures else NO_WORK
        return self.machine.seconds(text + ranked + stored + packed)

    # --- bytes, beyond those of the process before ------------------------------------------------

    @property
    def square(self) -> int:
        """Return the bytes of an n × n matrix."""
        return 8 * self.audit.n**2

    @property
    def model_bytes(self) -> int:
        """Return the bytes of what stays: kernel matrix; factor and inverse; eigenvectors."""
        return self.square * (1 + 2 * self.audit.reaches_end + self.audit.has_training_curve)

    @property
    def block_bytes(self) -> int:
        """Return the bytes of blocks of queries and of resolvents, which the allocator keeps."""
        audit = self.audit
        n, times = audit.n, audit.finite_times
        block = block_bytes(min(audit.m, store.BLOCK), n, len(audit.times))
        if not times:
            return block
        # Left-out predictions of a time are kept beside its resolvents.
        node_sets = (times, *self._further_node_sets[: KEPT // 2])
        nodes = sum(nodes_bytes(n, audit.k, times) for times in node_sets)
        return block + nodes + coordinates_bytes(n)

    def kernel_bytes(self) -> int:
        """Return bytes of the kernel matrix and its temporaries."""
        return gram_bytes(self.audit.n)

    def factorisation_bytes(self) -> int:
        """Return bytes while factoring: LAPACK's workspace for eigenvectors is twice as large."""
        factored = 3 * self.square if self.audit.reaches_end else 0
        if self.audit.has_training_curve:
            return max(factored, self.model_bytes + 3 * self.square)
        return factored

    def scores_bytes(self) -> int:
        """Return bytes of what stays and of the blocks."""
        comparison = 8 * self.audit.m * self.audit.n * self.audit.keeps_comparison
        return LIBRARIES + self.model_bytes + comparison + self.block_bytes

    def solve_bytes(self) -> int:
        """Return bytes while predicting: solves copy the factor; all queries are predicted at once."""
        audit = self.audit
        return self.scores_bytes() + self.square * audit.reaches_end + 8 * audit.m * audit.n

    def redundant_bytes(self) -> int:
        """Return bytes of the changes of all predictions, or of the largest fit of what remains."""
        return self.scores_bytes() + redundant_bytes(*self._removals, memory=self.audit.budget)

    def training_curve_bytes(self) -> int:
        """Return bytes of predictions at all times of the curve of training."""
        audit = self.audit
        times = COUNT + len(audit.times)
        return self.scores_bytes() + trajectory_bytes(audit.n, audit.k, times)

    def learning_curve_bytes(self) -> int:
        """Return bytes of the largest spectrum made for it, and of errors along the ridge."""
        rows, has_spectrum = self.audit.learning_curve_rows, self.audit.has_training_curve
        return self.scores_bytes() + backtest_bytes(rows, has_spectrum=has_spectrum)

    def report_bytes(self) -> int:
        """Return bytes while scores are ranked."""
        scores = 8 * self.audit.m * self.audit.n
        return self.scores_bytes() + 4 * min(BLOCK_BYTES, scores)

    # --- common to several steps ---------------------------------------------------------------------

    @property
    def _cross(self) -> WorkCount:
        """Return the work of comparing the queries once more, which is kept where the memory holds it."""
        return NO_WORK if self.audit.keeps_comparison else cross_work(self.audit.m, self.audit.n)

    @property
    def _further_node_sets(self) -> list[tuple[float, ...]]:
        """Return the times whose resolvents are made beside those of all together: each by itself."""
        times = self.audit.finite_times
        return [(time,) for time in times] if len(times) > 1 else []

    @property
    def _removals(self) -> tuple[int, int, int, Rule, float, tuple[int, ...]]:
        """Return the arguments of `redundant_work` and `redundant_bytes`."""
        audit = self.audit
        return audit.m, audit.n, audit.k, audit.rule, audit.last_time, audit.groups

    def _factorisations(self, again: int, *, spectrum: bool) -> float:
        """Return seconds of factors, made again if the ridge changes, of an inverse and of a spectrum."""
        audit, work = self.audit, NO_WORK
        if audit.reaches_end:
            work = (1 + again * audit.ridge_changes) * cholesky_work(audit.n) + inverse_work(audit.n)
        return self.machine.seconds(work + spectrum_work(audit.n) if spectrum else work)


def ascending_times(rule: Rule, at: Sequence[At]) -> tuple[float, ...]:
    """Return the training times that were asked for, each once."""
    return tuple(sorted({rule.time(time) for time in at}))
