"""What will an audit take? Its operations are counted, and priced by what this machine was seen to do.

Of time, what grows fastest decides: n³ for factor and inverse at the end of training, 9n³ for the
eigendecomposition at finite times and about as much again for the joint effects of removals, 2mn² for
each training time and output of the scores. A rule with training time is followed over it, which takes
the eigendecomposition whatever times were asked for. Of memory: 8n² bytes for each matrix of training
pairs that is alive at once, and the blocks of queries beside them. Counts and prices: `cost` and `machine`.
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
from leftout.data.examples import Examples
from leftout.dynamics.rules import At, Rule
from leftout.kernels.base import Kernel
from leftout.kernels.label_dependent import LabelDependentKernel
from leftout.planning.cost import DOUBTED, Cost, Work, ascending
from leftout.planning.label_aware_cost import teaching
from leftout.planning.machine import machine


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
        work: what was asked for.
        steps: in the order in which they are done.
        before: bytes that the process holds before it begins: libraries and data.
        most: training examples that would fit the budget.
    """

    work: Work
    steps: tuple[Step, ...]
    before: int
    most: int

    @property
    def seconds(self) -> float:
        """Return the seconds of the whole."""
        return sum(step.seconds for step in self.steps)

    @property
    def memory(self) -> int:
        """Return the bytes of the process at its peak."""
        return max(step.memory for step in self.steps)

    @property
    def fits(self) -> bool:
        """Return whether what the audit allocates stays within the budget."""
        return self.memory - self.before <= self.work.budget

    @property
    def summary(self) -> str:
        """Return the whole in two sentences."""
        return (
            f"{self._what} take about {duration(self.seconds)} and {byte_size(self.memory)} at the "
            f"peak, of which {byte_size(self.before)} are libraries and data. The budget for the rest "
            f"is {byte_size(self.work.budget)}: it {'fits' if self.fits else 'does not fit'}."
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
            f"{self._what} need {byte_size(self.memory - self.before)}, more than the budget of "
            f"{byte_size(self.work.budget)}: {less}raise `memory`."
        )

    @property
    def _what(self) -> str:
        n, m = self.work.n // self.work.each, self.work.m // self.work.each
        return f"{n} training examples and {m} queries"


def plan(
    kernel: Kernel | LabelDependentKernel,
    train: Examples,
    query: Examples,
    *,
    rule: Rule,
    at: Sequence[At] = (None,),
    refits: int = 3,
    started: float = 0.0,
    device: torch.device | str | None = None,
    memory: int | float | str | None = None,
) -> Plan:
    """Return what `audit` will take with the same arguments, before it allocates anything.

    Args:
        started: seconds that starting the process and loading the data took, which an audit spends
            as well.

    Raises:
        OptionError: a training time that the rule does not have, or `refits` < 0.
        LeftoutError: examples that the kernel is not defined on, or that cannot teach it.

    Cost:
        a second or two to see how fast this machine is, and 200 MB; a second more for a kernel that sees
        labels, five for a hierarchy.

    Accuracy:
        total time and peak memory within a factor of 2, if the machine is as busy then as now.
    """
    check_at_least("refits", refits, 0)
    where = usable_device(device) if device is not None else train.inputs.device
    # Before anything is tried here: what the process holds now it will hold then.
    before = 0 if where.type == "cuda" else int(psutil.Process().memory_info().rss)
    kernel.check("inputs", train.inputs)
    work = work_of(
        kernel, train, query, rule=rule, at=at, refits=refits, budget=memory_budget(memory, device=where)
    )
    cost = Cost(work, machine(kernel, train, device=where))
    steps = (
        Step("start and load", started, before, "measured just now"),
        *_steps(cost, before, pictures=train.images is not None),
        *_taught(kernel, cost, before),
    )
    return Plan(work, steps, before, _most(cost) // work.each)


def work_of(
    kernel: Kernel | LabelDependentKernel,
    train: Examples,
    query: Examples,
    *,
    rule: Rule,
    at: Sequence[At],
    refits: int,
    budget: int,
) -> Work:
    """Return what is asked of a kernel; of one that sees labels, as of the one it builds on."""
    base = kernel.base if isinstance(kernel, LabelDependentKernel) else kernel
    each = base.outputs or 1
    return Work(
        n=len(train) * each,
        m=len(query) * each,
        k=train.encoding.outputs // each,
        each=each,
        rule=rule,
        times=ascending(rule, at),
        refits=refits,
        budget=budget,
    )


def _steps(cost: Cost, before: int, *, pictures: bool) -> list[Step]:
    work = cost.work
    n, m, k = work.n, work.m, work.k
    joint = sum(work.afresh(gone) for gone in work.groups) if work.times[-1] > 0 else 0
    rows = [
        ("kernel", cost.kernel(), cost.kernel_bytes(), f"{n} × {n}, one triangle"),
        ("factorisation", cost.factorisations(), cost.factorisation_bytes(), _factored(work)),
        (
            "scores",
            cost.scores(),
            cost.scores_bytes(),
            f"{len(work.times)} × {k} products of ({m} × {n})({n} × {n}), to disk",
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
            f"{len(work.groups)} removals, {joint} by fitting the rest afresh",
        ),
        ("rare, outliers", cost.rare(), cost.solve_bytes(), "nearest neighbours"),
        *_curve(cost),
        (
            "learning curve",
            cost.outlook(),
            cost.outlook_bytes(),
            f"from {cost.judged} × {cost.judged}, its halves and quarters",
        ),
        ("certificate", cost.certificate(), cost.solve_bytes(), f"{work.refits} refits by Lanczos"),
        ("report", cost.report(pictures=pictures), cost.report_bytes(), "tables and one page"),
    ]
    return [Step(name, seconds, before + held, method) for name, seconds, held, method in rows]


def _taught(kernel: Kernel | LabelDependentKernel, cost: Cost, before: int) -> list[Step]:
    """Return what the labels that a kernel sees take."""
    if not isinstance(kernel, LabelDependentKernel):
        return []
    found = teaching(kernel, cost)
    name = "teaching again" if found.fits else "teaching"
    return [Step(name, found.seconds, before + found.held, found.method)]


def _curve(cost: Cost) -> list[tuple[str, float, int, str]]:
    if not cost.work.curve:
        return []
    method = f"left out at {COUNT} times from the first mode to the last"
    return [("training curve", cost.learned(), cost.learned_bytes(), method)]


def _factored(work: Work) -> str:
    done = []
    if work.ends:
        done.append("Cholesky and inverse" + (", again and again" if work.refactored else ""))
    if work.curve:
        done.append("eigendecomposition")
    return " and ".join(done) or "none"


def _most(cost: Cost) -> int:
    """Return the largest number of training examples that fits the budget, 0 if none does."""
    low, high = 0, cost.work.n + 1
    while high - low > 1:
        middle = (low + high) // 2
        tried = dataclasses.replace(cost, work=dataclasses.replace(cost.work, n=middle))
        steps = _steps(tried, 0, pictures=False)
        fits = max(step.memory for step in steps) <= cost.work.budget
        low, high = (middle, high) if fits else (low, middle)
    return low
