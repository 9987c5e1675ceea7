"""Bytes of the steps of an audit, beyond those that the process held before: counted before anything is made.

8n² bytes for each matrix of training pairs that is alive at once, and the blocks of queries beside them.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

from leftout.attribution.certify import certificate_bytes
from leftout.attribution.engine.cross_entropy_minimum import left_out_bytes
from leftout.attribution.engine.edit_engines import nodes_bytes
from leftout.attribution.engine.finite_time import coordinates_bytes
from leftout.attribution.engine.single_changes import block_bytes
from leftout.attribution.trajectory import COUNT, trajectory_bytes
from leftout.core.errors import MemoryBudgetError
from leftout.core.wording import byte_size
from leftout.curation.label_model import label_model_bytes
from leftout.curation.reduced_model import SQUARES
from leftout.curation.redundant import redundant_bytes
from leftout.diagnostics.learning_curve.subsamples import backtest_bytes
from leftout.diagnostics.trust.architecture_model import architecture_model_bytes
from leftout.dynamics.fitted import KEPT
from leftout.kernels.assemble import gram_bytes
from leftout.kernels.base import Kernel
from leftout.kernels.label_dependent import LabelDependentKernel
from leftout.planning.label_fit_memory import label_fit_bytes
from leftout.planning.planned_audit import PlannedAudit
from leftout.report.ranking import BLOCK_BYTES, LENGTH
from leftout.solvers.logistic import ARRAYS
from leftout.solvers.two_level import SIDE
from leftout.storage import score_store as store

MEGABYTE = 10**6

LIBRARIES = 50 * MEGABYTE
"""Bytes of libraries that are loaded when first used, and of the report while it is made."""

PAGE = 200
"""Bytes for each example named beside a query, from its rank to the text of the page."""


@dataclass(frozen=True)
class AuditMemory:
    """Bytes of each step of one audit."""

    audit: PlannedAudit
    kernel: Kernel | LabelDependentKernel

    @property
    def steps(self) -> dict[str, int]:
        """Return the bytes held while each step is done, by its name.

        Temporaries of neighbours were measured: an n × n matrix.
        """
        audit, solving = self.audit, self.while_solving
        steps = {
            "kernel": self.kernel_matrix + audit.feature_bytes,
            "factorisation": self.factorisation,
            "scores": self.scoring,
            "predictions": solving,
            "labels": solving + label_model_bytes(audit.label_rows),
            "redundant": self.scoring + self.redundant,
            "rare, outliers": solving + self.neighbours,
            "learning curve": self.learning_curve,
            "certificate": solving + self.certificate,
            "report": self.scoring + self.report,
        }
        if audit.has_training_curve:
            times = COUNT + len(audit.times)
            steps["training curve"] = self.scoring + trajectory_bytes(audit.n, audit.k, times)
        if audit.has_verdict:
            sizes = audit.architecture_sizes
            steps["verdict"] = self.scoring + architecture_model_bytes(*sizes, memory=audit.budget)
        if isinstance(self.kernel, LabelDependentKernel):
            steps["fitting to labels"] = label_fit_bytes(self.kernel, audit)
        return steps

    @property
    def peak(self) -> int:
        """Return the bytes of the step that needs most."""
        return max(self.steps.values())

    def check(self) -> None:
        """Raise unless the budget holds the peak.

        Raises:
            MemoryBudgetError: it does not; says how many training examples or queries it would hold, and
                which budget would hold all.
        """
        peak, audit = self.peak, self.audit
        if self.fits:
            return
        most, outputs = self.most_examples, audit.outputs_per_example
        advice = [f"take `n_train` ≤ {most}"] * (most > 1)
        if not advice and (queries := self._most("m") // outputs) > 0:
            advice = [f"take `n_query` ≤ {queries}"]
        advice += ["pass `out=` to keep the scores on disk"] * (not audit.on_disk)
        advice += [f"raise `memory` to {self.least_budget // MEGABYTE} MB"]
        raise MemoryBudgetError(
            f"{audit.sizes_text} need {byte_size(peak)}, more than the budget of "
            f"{byte_size(audit.budget)}: {', or '.join(advice)}."
        )

    @property
    def most_examples(self) -> int:
        """Return the largest number of training examples that the budget holds, 0 if none does."""
        return self._most("n") // self.audit.outputs_per_example

    def _most(self, field: Literal["n", "m"]) -> int:
        """Return the largest number of rows of the kernel matrix, of examples or queries, that fits."""
        low, high = 0, getattr(self.audit, field) + 1
        while high - low > 1:
            middle = (low + high) // 2
            fits = self._with(**{field: middle}).fits
            low, high = (middle, high) if fits else (low, middle)
        return low

    @property
    def fits(self) -> bool:
        """Return whether the budget holds the peak."""
        return self.peak <= self.audit.budget

    @property
    def least_budget(self) -> int:
        """Return a budget, in whole megabytes, that holds the peak: blocks, and so the peak, grow with it."""
        larger = self
        while not larger.fits:
            larger = self._with(budget=MEGABYTE * math.ceil(larger.peak / MEGABYTE))
        return larger.audit.budget

    def _with(self, **changes: int) -> "AuditMemory":
        """Return the memory of an audit that is the same but for this."""
        return replace(self, audit=replace(self.audit, **changes))  # type: ignore[arg-type]

    # --- held together in several steps -------------------------------------------------------------

    @property
    def square(self) -> int:
        """Return the bytes of an n × n matrix, or of the rows that it is kept as."""
        return self.audit.matrix_bytes

    @property
    def redundant(self) -> int:
        """Return the bytes of the order of removal, or of a group that goes if these are more."""
        audit = self.audit
        if audit.is_cross_entropy:  # groups are solved for together
            return 8 * audit.n * audit.k * ARRAYS * len(audit.groups)
        redundant = redundant_bytes(*audit.removals, memory=audit.budget)
        if audit.row_numbers is not None:  # the order of removal makes numbers of the inverse
            redundant += SQUARES * 8 * audit.n**2
        return redundant

    @property
    def certificate(self) -> int:
        """Return the bytes of the evidence."""
        audit = self.audit
        if audit.is_cross_entropy:  # eigenvalues, and a fit of a part of the matrix
            return 3 * self.square
        return certificate_bytes(audit.n, audit.rule.effective_ridge(audit.n))

    @property
    def neighbours(self) -> int:
        """Return the bytes of comparing training examples with each other."""
        audit = self.audit
        return self.square if audit.row_numbers is None else 8 * audit.examples**2

    @property
    def kernel_matrix(self) -> int:
        """Return the bytes of the kernel matrix while it is made."""
        if self.audit.row_numbers is None:
            return gram_bytes(self.audit.n)
        return self.square

    @property
    def model(self) -> int:
        """Return the bytes of what stays: kernel matrix; factor and inverse; eigenvectors."""
        if self.audit.row_numbers is not None:
            # The leading directions of the matrix are no smaller than its rows.
            return self.square + 2 * 8 * self.audit.n * min(SIDE, self.audit.row_numbers)
        if self.audit.is_cross_entropy:
            return self.square + self.square // 2  # once more in single precision
        return self.square * (1 + 2 * self.audit.reaches_end + self.audit.takes_spectrum)

    @property
    def factorisation(self) -> int:
        """Return bytes while factoring: LAPACK's workspace for eigenvectors is twice as large."""
        if self.audit.is_cross_entropy:
            return self.model + 8 * self.audit.n * self.audit.k * ARRAYS
        factored = 3 * self.square if self.audit.reaches_end else 0
        if self.audit.takes_spectrum:
            factored = max(factored, self.model + 3 * self.square)
        return factored + self.audit.feature_bytes

    @property
    def blocks(self) -> int:
        """Return the bytes of blocks of queries and of resolvents, which the allocator keeps."""
        audit = self.audit
        n, times = audit.n, audit.finite_times
        block = block_bytes(min(audit.m, store.BLOCK), n, len(audit.times))
        if audit.is_cross_entropy:
            return block + left_out_bytes(n, audit.k, audit.examples, memory=audit.budget)
        if not times:
            return block
        # Left-out predictions of a time are kept beside its resolvents.
        node_sets = (times, *audit.further_node_sets[: KEPT // 2])
        nodes = sum(nodes_bytes(n, audit.k, times) for times in node_sets)
        return block + nodes + coordinates_bytes(n)

    @property
    def scoring(self) -> int:
        """Return bytes of what stays and of the blocks; scores that go to no folder are held twice once."""
        audit = self.audit
        tables = audit.keeps_comparison + 2 * len(audit.times) * (not audit.on_disk)
        tables_bytes = 8 * audit.m * audit.n * tables
        return LIBRARIES + self.model + tables_bytes + self.blocks + audit.feature_bytes

    @property
    def while_solving(self) -> int:
        """Return bytes while predicting: solves copy the factor; all queries are predicted at once."""
        audit = self.audit
        copies = audit.reaches_end and not audit.is_cross_entropy
        return self.scoring + self.square * copies + 8 * audit.m * audit.n

    @property
    def report(self) -> int:
        """Return bytes of ranking scores, and of the page, which names the strongest for every query."""
        audit = self.audit
        ranked = 4 * min(BLOCK_BYTES, 8 * audit.m * audit.n)
        return ranked + PAGE * 2 * min(LENGTH, audit.n) * audit.m * len(audit.times)

    @property
    def learning_curve(self) -> int:
        """Return bytes of the largest spectrum made for it, and of errors along the ridge."""
        if self.audit.is_cross_entropy:
            return self.scoring
        rows, has_spectrum = self.audit.learning_curve_rows, self.audit.has_training_curve
        return self.scoring + backtest_bytes(rows, has_spectrum=has_spectrum)
