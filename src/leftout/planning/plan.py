"""Time and memory of an audit, before it is run: its operations, counted and priced by measured speeds.

Of time, what grows fastest decides: n³ for factor and inverse at the end of training, 9n³ for the
eigendecomposition at finite times and about as much again for the joint effects of removals, 2mn² for
each training time and output of the scores. A rule with training time is followed over it, which takes
the eigendecomposition whatever times were asked for. Of memory: 8n² bytes for each matrix of training
pairs that is alive at once, and the blocks of queries beside them. The algorithms count their own work,
`cost` adds it up, and `machine` measures the speeds.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import psutil
import torch

from leftout.attribution.trajectory import COUNT
from leftout.core.blocks import memory_budget
from leftout.core.checks import check_at_least
from leftout.core.device import usable_device
from leftout.core.errors import MemoryBudgetError
from leftout.core.wording import byte_size, duration
from leftout.curation.mislabelled import DOUBTED
from leftout.data.examples import Examples
from leftout.dynamics.rules import At, Rule
from leftout.kernels.base import Kernel
from leftout.kernels.label_dependent import LabelDependentKernel
from leftout.planning.cost import Cost, PlannedAudit, ascending_times
from leftout.planning.label_aware_cost import label_fit_cost
from leftout.planning.machine import measure_machine


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
        most: training examples that would fit the budget.
    """

    audit: PlannedAudit
    steps: tuple[Step, ...]
    before: int
    most: int

    @property
    def seconds(self) -> float:
        """Return the seconds of all steps."""
        return sum(step.seconds for step in self.steps)

    @property
    def memory(self) -> int:
        """Return the bytes of the process at its peak."""
        return max(step.memory for step in self.steps)

    @property
    def fits(self) -> bool:
        """Return whether what the audit allocates stays within the budget."""
        return self.memory - self.before <= self.audit.budget

    @property
    def summary(self) -> str:
        """Return time and memory in two sentences."""
        return (
            f"{self._sizes} take about {duration(self.seconds)} and {byte_size(self.memory)} at the "
            f"peak, of which {byte_size(self.before)} are libraries and data. The budget for the rest "
            f"is {byte_size(self.audit.budget)}: it {'fits' if self.fits else 'does not fit'}."
        )

    def check(self) -> None:
        """Raise unless it fits.

        Raises:
            MemoryBudgetError: it does not; says how many training examples would.
        """
        if self.fits:
            return
        less = f"take `n_train` ≤ {self.most}, or " if self.most > 1 else ""
        raise MemoryBudgetError(
            f"{self._sizes} need {byte_size(self.memory - self.before)}, more than the budget of "
            f"{byte_size(self.audit.budget)}: {less}raise `memory`."
        )

    @property
    def _sizes(self) -> str:
        outputs = self.audit.outputs_per_example
        n, m = self.audit.n // outputs, self.audit.m // outputs
        return f"{n} training examples and {m} queries"


def plan(
    kernel: Kernel | LabelDependentKernel,
    train: Examples,
    query: Examples,
    *,
    rule: Rule,
    at: Sequence[At] = (None,),
    refit_examples: int = 3,
    started: float = 0.0,
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
    check_at_least("refit_examples", refit_examples, 0)
    usable = usable_device(device) if device is not None else train.inputs.device
    # Before anything is tried here: what the process holds now it will hold then.
    before = 0 if usable.type == "cuda" else int(psutil.Process().memory_info().rss)
    kernel.check("inputs", train.inputs)
    budget = memory_budget(memory, device=usable)
    audit = planned_audit(
        kernel, train, query, rule=rule, at=at, refit_examples=refit_examples, budget=budget
    )
    cost = Cost(audit, measure_machine(kernel, train, device=usable))
    steps = (
        Step("start and load", started, before, "measured just now"),
        *_steps(cost, before, pictures=train.images is not None),
        *_label_steps(kernel, cost, before),
    )
    return Plan(audit, steps, before, _most(cost) // audit.outputs_per_example)


def planned_audit(
    kernel: Kernel | LabelDependentKernel,
    train: Examples,
    query: Examples,
    *,
    rule: Rule,
    at: Sequence[At],
    refit_examples: int,
    budget: int,
) -> PlannedAudit:
    """Return what is asked of a kernel; of one that is fitted to labels, of the one it builds on."""
    base = kernel.base if isinstance(kernel, LabelDependentKernel) else kernel
    outputs = base.outputs or 1
    return PlannedAudit(
        n=len(train) * outputs,
        m=len(query) * outputs,
        k=train.encoding.outputs // outputs,
        outputs_per_example=outputs,
        rule=rule,
        times=ascending_times(rule, at),
        refit_examples=refit_examples,
        budget=budget,
    )


def _steps(cost: Cost, before: int, *, pictures: bool) -> list[Step]:
    audit = cost.audit
    n, m, k = audit.n, audit.m, audit.k
    refits = audit.refitted_groups if audit.last_time > 0 else 0
    rows = [
        ("kernel", cost.kernel(), cost.kernel_bytes(), f"{n} × {n}, one triangle"),
        ("factorisation", cost.factorisations(), cost.factorisation_bytes(), _factorisation_method(audit)),
        (
            "scores",
            cost.scores(),
            cost.scores_bytes(),
            f"{len(audit.times)} × {k} products of ({m} × {n})({n} × {n}), to disk",
        ),
        (
            "predictions",
            cost.predictions(),
            cost.solve_bytes(),
            "at queries, and of each example without itself",
        ),
        ("labels", cost.labels(), cost.solve_bytes(), f"if {DOUBTED:.0%} of them are doubted"),
        (
            "redundant",
            cost.redundant(),
            cost.redundant_bytes(),
            f"{len(audit.groups)} removals, {refits} by fitting the rest again",
        ),
        ("rare, outliers", cost.rare(), cost.solve_bytes(), "nearest neighbours"),
        *_training_curve_rows(cost),
        (
            "learning curve",
            cost.learning_curve(),
            cost.learning_curve_bytes(),
            f"from {audit.learning_curve_rows} × {audit.learning_curve_rows}, its halves and quarters",
        ),
        ("certificate", cost.certificate(), cost.solve_bytes(), f"{audit.refit_examples} refits by Lanczos"),
        ("report", cost.report(pictures=pictures), cost.report_bytes(), "tables and one page"),
    ]
    return [Step(name, seconds, before + memory, method) for name, seconds, memory, method in rows]


def _label_steps(kernel: Kernel | LabelDependentKernel, cost: Cost, before: int) -> list[Step]:
    """Return the step of the labels to which a kernel is fitted."""
    if not isinstance(kernel, LabelDependentKernel):
        return []
    of_labels = label_fit_cost(kernel, cost)
    name = "fitting to labels" + (" again" if of_labels.fits else "")
    return [Step(name, of_labels.seconds, before + of_labels.memory, of_labels.method)]


def _training_curve_rows(cost: Cost) -> list[tuple[str, float, int, str]]:
    if not cost.audit.has_training_curve:
        return []
    method = f"left out at {COUNT} times from the first mode to the last"
    return [("training curve", cost.training_curve(), cost.training_curve_bytes(), method)]


def _factorisation_method(audit: PlannedAudit) -> str:
    """Return which factorisations are made."""
    methods = []
    if audit.reaches_end:
        methods.append("Cholesky and inverse" + (", again and again" if audit.ridge_changes else ""))
    if audit.has_training_curve:
        methods.append("eigendecomposition")
    return " and ".join(methods) or "none"


def _most(cost: Cost) -> int:
    """Return the largest number of training rows that fits the budget, 0 if none does."""
    low, high = 0, cost.audit.n + 1
    while high - low > 1:
        middle = (low + high) // 2
        smaller = dataclasses.replace(cost, audit=dataclasses.replace(cost.audit, n=middle))
        memory = max(step.memory for step in _steps(smaller, 0, pictures=False))
        low, high = (middle, high) if memory <= cost.audit.budget else (low, middle)
    return low
