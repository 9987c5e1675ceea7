"""Time and memory of an audit, before it is run: its operations, counted and priced by measured speeds.

Of time, what grows fastest decides: n³ for factor and inverse at the end of training, 9n³ for the
eigendecomposition at finite times and about as much again for the joint effects of removals, 2mn² for
each training time and output of the scores. A rule with training time is followed over it, which takes
the eigendecomposition whatever times were asked for. Of memory: 8n² bytes for each matrix of training
pairs that is alive at once, and the blocks of queries beside them. The algorithms count their own work,
`cost` adds it up, and `machine` measures the speeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import psutil
import torch

from leftout.attribution.trajectory import COUNT
from leftout.core.blocks import memory_budget
from leftout.core.checks import check_whole
from leftout.core.device import usable_device
from leftout.core.wording import byte_size, dtype_name, duration
from leftout.curation.mislabelled import DOUBTED
from leftout.data.examples import Examples
from leftout.dynamics.fit import SAMPLE, coded_for
from leftout.dynamics.fit_features import feature_count
from leftout.dynamics.options import SolverName
from leftout.dynamics.rules import At, Rule
from leftout.kernels.base import Kernel
from leftout.kernels.label_dependent import LabelDependentKernel
from leftout.planning.audit_solver import with_solver
from leftout.planning.cost import Cost
from leftout.planning.label_aware_cost import label_fit_cost
from leftout.planning.machine import measure_machine
from leftout.planning.memory import AuditMemory
from leftout.planning.planned_audit import PlannedAudit, planned_audit
from leftout.planning.tiled_cost import cost_of
from leftout.planning.tiled_memory import memory_of
from leftout.solvers.logistic import STEP_PRODUCTS


@dataclass(frozen=True)
class Step:
    """A step of an audit.

    Attributes:
        seconds: how long it takes.
        memory: bytes held at its peak, those of the process before included.
        method: how it is done.
    """

    name: str
    seconds: float
    memory: int
    method: str

    @property
    def memory_text(self) -> str:
        """Return the memory as a person reads it."""
        return byte_size(self.memory)


@dataclass(frozen=True)
class Plan:
    """What an audit takes.

    Attributes:
        audit: what was asked for.
        steps: in the order in which they are done.
        before: bytes that the process holds before it begins: libraries and data.
        memory: bytes of the steps.
    """

    audit: PlannedAudit
    steps: tuple[Step, ...]
    before: int
    memory: AuditMemory

    @property
    def seconds(self) -> float:
        """Return the seconds of all steps."""
        return sum(step.seconds for step in self.steps)

    @property
    def peak(self) -> int:
        """Return the bytes of the process at its peak."""
        return max(step.memory for step in self.steps)

    @property
    def fits(self) -> bool:
        """Return whether what the audit allocates stays within the budget."""
        return self.memory.peak <= self.audit.budget

    @property
    def summary(self) -> str:
        """Return time and memory in two sentences."""
        return (
            f"{self.audit.sizes_text} take about {duration(self.seconds)} and {byte_size(self.peak)} at the "
            f"peak, of which {byte_size(self.before)} are libraries and data. The budget for the rest "
            f"is {byte_size(self.audit.budget)}: it {'fits' if self.fits else 'does not fit'}."
        )

    def check(self) -> None:
        """Raise unless it fits.

        Raises:
            MemoryBudgetError: it does not; says how many training examples would.
        """
        self.memory.check()


def plan(
    kernel: Kernel | LabelDependentKernel,
    train: Examples,
    query: Examples,
    *,
    rule: Rule,
    at: At | Sequence[At] = None,
    refit_examples: int = 3,
    started: float = 0.0,
    solver: SolverName = "auto",
    tile_dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    memory: int | float | str | None = None,
) -> Plan:
    """Return what `audit` will take with the same arguments, before it allocates anything.

    Args:
        started: seconds that starting the process and loading the data took, which an audit spends
            as well.

    Raises:
        OptionError: a training time that the rule does not have, or `refit_examples` < 0.
        LeftoutError: examples that the kernel is not defined on, or to whose labels it cannot be fitted.

    Cost:
        a second or two to measure the speeds of this machine, and 200 MB; a second more for a kernel that is
        fitted to labels, five for a hierarchy.

    Accuracy:
        total time and peak memory within a factor of 2, if the machine is as busy then as now.
    """
    check_whole("refit_examples", refit_examples, 0)
    usable = usable_device(device) if device is not None else train.inputs.device
    # Before anything is tried here: what the process holds now it will hold then.
    before = 0 if usable.type == "cuda" else int(psutil.Process().memory_info().rss)
    budget = memory_budget(memory, device=usable)
    kernel = kernel.within(budget)
    train = coded_for(kernel, rule, train)
    audit = planned_audit(
        kernel, train, query, rule=rule, at=at, refit_examples=refit_examples, budget=budget
    )
    audit = with_solver(
        audit, kernel, solver=solver, tile_dtype=tile_dtype, features=feature_count(kernel, train.inputs)
    )
    cost = cost_of(audit, measure_machine(kernel, train, device=usable))
    bytes_of = memory_of(audit, kernel)
    steps = (
        Step("start and load", started, before, "measured just now"),
        *_steps(cost, bytes_of, before, pictures=train.images is not None),
    )
    return Plan(audit, steps, before, bytes_of)


def _steps(cost: Cost, memory: AuditMemory, before: int, *, pictures: bool) -> list[Step]:
    audit, bytes_of = cost.audit, memory.steps
    refits = audit.refitted_groups if audit.last_time > 0 else 0
    rows = [
        ("kernel", cost.kernel(), _kernel_method(audit)),
        ("factorisation", cost.factorisations(), _factorisation_method(audit)),
        ("scores", cost.scores(), _scores_method(audit)),
        ("predictions", cost.predictions(), _prediction_method(audit)),
        ("labels", cost.labels(), _label_method(audit)),
        ("redundant", cost.redundant(), f"{len(audit.groups)} removals, {refits} by fitting the rest again"),
        ("rare, outliers", cost.rare(), "nearest neighbours"),
        (
            "learning curve",
            cost.learning_curve(),
            "none: a theorem about squared loss"
            if audit.is_cross_entropy
            else "none: it takes a spectrum"
            if audit.tile_dtype is not None
            else f"from {audit.learning_curve_rows} × {audit.learning_curve_rows}, its halves and quarters",
        ),
        (
            "certificate",
            cost.certificate(),
            f"{audit.refit_examples} refits"
            + ("" if audit.is_cross_entropy or audit.tile_dtype is not None else " by Lanczos"),
        ),
        ("report", cost.report(pictures=pictures), "tables and one page"),
    ]
    if audit.has_training_curve:
        method = f"left out at {COUNT} times from the first mode to the last"
        rows.insert(-3, ("training curve", cost.training_curve(), method))
    if audit.has_verdict:
        n_examples, _, outputs = audit.architecture_sizes
        method = f"a second model to agree with: {n_examples} × {n_examples}, {outputs} outputs"
        rows.insert(-1, ("verdict", cost.verdict(), method))
    if isinstance(memory.kernel, LabelDependentKernel):
        of_labels = label_fit_cost(memory.kernel, cost)
        rows.append(("fitting to labels", of_labels.seconds, of_labels.method))
    return [Step(name, seconds, before + bytes_of[name], method) for name, seconds, method in rows]


def _kernel_method(audit: PlannedAudit) -> str:
    """Return what is kept of the kernel."""
    if audit.tile_dtype is not None:
        return f"{audit.n} × {audit.n}, one triangle of tiles in {dtype_name(audit.tile_dtype)}, {audit.why}"
    if audit.row_numbers is None:
        return f"{audit.n} × {audit.n}, one triangle"
    return f"{audit.n} rows of {audit.row_numbers} features, kept in place of their products"


def _prediction_method(audit: PlannedAudit) -> str:
    """Return what is predicted by the model itself."""
    return "at queries" if audit.has_label_model else "at queries, and of each example without itself"


def _label_method(audit: PlannedAudit) -> str:
    """Return by which kernel labels are doubted."""
    rows = audit.label_rows
    other = f"by a kernel that has not seen them, {rows} × {rows}, " if audit.has_label_model else ""
    return f"{other}if {DOUBTED:.0%} of them are doubted"


def _scores_method(audit: PlannedAudit) -> str:
    """Return the products that scores take."""
    n, m, k = audit.n, audit.m, audit.k
    if audit.is_cross_entropy:
        columns = audit.examples * k
        kept = n if audit.row_numbers is None else audit.row_numbers
        return f"a Newton step without each, {STEP_PRODUCTS} products of ({n} × {kept})({kept} × {columns})"
    if audit.tile_dtype is not None:
        return f"a product of ({m} × {n})({n} × {n}) in {dtype_name(audit.tile_dtype)}, to disk"
    return f"{len(audit.times)} × {k} products of ({m} × {n})({n} × {n}), to disk"


def _factorisation_method(audit: PlannedAudit) -> str:
    """Return which factorisations are made."""
    if audit.is_cross_entropy:
        return "cross-entropy, by Newton's method"
    if audit.row_numbers is not None:
        return f"singular values of {audit.row_numbers} features"
    if audit.tile_dtype is not None:
        chosen = f", the ridge chosen from {min(SAMPLE, audit.n)} examples" if audit.chooses_ridge else ""
        return f"inverse in tiles in {dtype_name(audit.tile_dtype)}, solutions refined in float64{chosen}"
    methods = []
    if audit.reaches_end:
        methods.append("Cholesky and inverse" + (", again and again" if audit.ridge_changes else ""))
    if audit.takes_spectrum:
        methods.append("eigendecomposition" + (" for the choice of the ridge" if audit.chooses_ridge else ""))
    return " and ".join(methods) or "none"
