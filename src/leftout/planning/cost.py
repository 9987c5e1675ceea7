"""Seconds of the steps of an audit: every algorithm counts its own work, `machine` prices it.

What stays with the model is paid for by the first step that needs it: the kernel matrix and its factor,
inverse or spectrum, the resolvents of each set of times, and the predictions of examples left out.
"""

from dataclasses import dataclass

from leftout.attribution.certify import certificate_work
from leftout.attribution.engine.edit_engines import nodes_work
from leftout.attribution.engine.single_changes import loss_changes_work
from leftout.attribution.leave_one_out import out_of_sample_work
from leftout.attribution.trajectory import COUNT, trajectory_work
from leftout.core.work import NO_WORK, Operation, WorkCount, operations, passes, product, total_work
from leftout.curation.label_model import label_model_work
from leftout.curation.mislabelled import suspects_work
from leftout.curation.rare import neighbours_work
from leftout.curation.redundant import redundant_work
from leftout.curation.subclasses import subclasses_work
from leftout.diagnostics.learning_curve.subsamples import backtest_work
from leftout.diagnostics.trust.architecture_model import architecture_model_work
from leftout.dynamics.fitted import dual_work
from leftout.kernels.assemble import cross_work, gram_work
from leftout.planning.machine import Machine
from leftout.planning.planned_audit import PlannedAudit
from leftout.report.ranking import LENGTH
from leftout.solvers.cholesky import cholesky_work, inverse_work
from leftout.solvers.features import feature_work
from leftout.solvers.logistic import fit_logistic_work, newton_step_work
from leftout.solvers.spectrum import spectrum_work
from leftout.storage import score_store as store

REFACTORED = 10
"""Further factorisations under `loss="mean"`, where those with n and n − 1 examples take turns."""

TEXT = 6e-5
"""Seconds of the report for each example that it shows."""


@dataclass(frozen=True)
class Cost:
    """Seconds of the steps of one audit on one machine."""

    audit: PlannedAudit
    machine: Machine

    def kernel(self) -> float:
        """Return seconds of the kernel matrix."""
        audit = self.audit
        if audit.row_numbers is not None:
            return self.machine.seconds(operations(Operation.KERNEL_ROW, audit.n))
        again = operations(Operation.KERNEL_ROW, audit.passes[0] - audit.n)
        return self.machine.seconds(gram_work(audit.n) + again)

    def factorisations(self) -> float:
        """Return seconds of factors, inverse and eigenpairs, or of a fit of cross-entropy."""
        if self.audit.is_cross_entropy:
            return self.machine.seconds(fit_logistic_work(self.audit.n, self.audit.k, self.audit.row_numbers))
        return self._factorisations(REFACTORED, spectrum=self.audit.takes_spectrum)

    def left_out(self) -> float:
        """Return seconds of a kernel's leave-one-out loss, and of nothing else."""
        audit = self.audit
        factorisations = self._factorisations(1, spectrum=bool(audit.finite_times) or audit.chooses_ridge)
        predictions = (
            nodes_work(audit.n, audit.k, (time,)) + out_of_sample_work(audit.n, audit.k, time)
            for time in audit.times
        )
        return self.kernel() + factorisations + self.machine.seconds(total_work(predictions))

    def scores(self) -> float:
        """Return seconds of influence at every query and time, written to the store."""
        audit = self.audit
        stored = operations(Operation.STORED_SCORE, len(audit.times) * audit.m * audit.n)
        return self.machine.seconds(self._comparison + stored + self._changes)

    def predictions(self) -> float:
        """Return seconds of predictions at queries and, left out, at training examples."""
        audit = self.audit
        n, k = audit.n, audit.k
        if audit.is_cross_entropy:
            return self.machine.seconds(self._cross + 3 * passes(n * audit.examples * k))
        nodes = total_work(nodes_work(n, k, times) for times in self.audit.further_node_sets)
        left_out = 0 if audit.has_label_model else 1
        predictions = total_work(
            self._cross + dual_work(n, time) + left_out * out_of_sample_work(n, k, time)
            for time in audit.times
        )
        return self.machine.seconds(nodes + predictions)

    def labels(self) -> float:
        """Return seconds of the reasons for the labels assumed to be doubted, and of a model for that."""
        audit = self.audit
        other = label_model_work(audit.label_rows) if audit.label_rows else NO_WORK
        return self.machine.seconds(suspects_work(audit.n, audit.k, audit.last_time) + other)

    def verdict(self) -> float:
        """Return seconds of the kernel of a network's architecture, which the verdict asks."""
        if not self.audit.has_verdict:
            return 0.0
        return self.machine.seconds(architecture_model_work(*self.audit.architecture_sizes))

    def redundant(self) -> float:
        """Return seconds of the order of removal and of the joint effects of its first shares."""
        audit = self.audit
        if audit.is_cross_entropy:
            groups = 4 * newton_step_work(audit.n, audit.k, len(audit.groups), audit.row_numbers)
            changes = product(audit.m, audit.n, audit.examples * audit.k)
            return self.machine.seconds(3 * self._cross + groups + changes)
        work = redundant_work(*self.audit.removals, memory=self.audit.budget)
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
        if audit.is_cross_entropy:
            return 0.0
        has_spectrum = audit.has_training_curve
        work = backtest_work(audit.learning_curve_rows, audit.k, has_spectrum=has_spectrum)
        return self.machine.seconds(work)

    def certificate(self) -> float:
        """Return seconds of the evidence: examples really left out."""
        audit = self.audit
        if audit.is_cross_entropy:
            refits = audit.refit_examples * fit_logistic_work(audit.n, audit.k, audit.row_numbers)
            of_queries = operations(Operation.KERNEL_ROW, audit.m)  # for the size of their predictions
            return self.machine.seconds(self._cross + refits + of_queries)
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

    @property
    def _changes(self) -> WorkCount:
        """Return the work of what changes at all queries, once they are compared."""
        audit = self.audit
        n, m, k = audit.n, audit.m, audit.k
        if audit.is_cross_entropy:
            # The models without each example are made once, for scores, predictions and labels.
            nodes = newton_step_work(n, k, audit.examples, audit.row_numbers)
            return nodes + product(m, n, audit.examples * k) + passes(m * audit.examples * k, 20)
        return nodes_work(n, k, audit.times) + loss_changes_work(m, n, k, audit.times, size=store.BLOCK)

    @property
    def _cross(self) -> WorkCount:
        """Return the work of comparing the queries once more, which is kept where the memory holds it."""
        return NO_WORK if self.audit.keeps_comparison else self._comparison

    @property
    def _comparison(self) -> WorkCount:
        """Return the work of comparing the queries with the training examples."""
        again = operations(Operation.KERNEL_ROW, self.audit.passes[1] - self.audit.m)
        return cross_work(self.audit.m, self.audit.n) + again

    def _factorisations(self, again: int, *, spectrum: bool) -> float:
        """Return seconds of factors, made again if the ridge changes, of an inverse and of a spectrum."""
        audit, work = self.audit, NO_WORK
        if audit.row_numbers is not None:
            return self.machine.seconds(feature_work(audit.n, audit.row_numbers))
        if audit.reaches_end:
            work = (1 + again * audit.ridge_changes) * cholesky_work(audit.n) + inverse_work(audit.n)
        return self.machine.seconds(work + spectrum_work(audit.n) if spectrum else work)
