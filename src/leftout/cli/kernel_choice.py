"""Which kernel does a command use, where the user left that to leave-one-out?

`--kernel auto` tries the infinitely wide networks that a person would, and the best of them with labels seen;
`--strength auto` tries strengths of one. Of kernels, what would take longer than `--minutes` is skipped, and
the table says so: that is counted as `plan` counts, and priced by a try of each kernel on a few examples.
"""

import dataclasses
import json
import sys
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console

from leftout.audit.summary import describe_kernel
from leftout.cli.arguments import CONVOLUTIONAL, DEEP, LABELS, TRAINED, Choices, KernelName
from leftout.core.blocks import memory_budget
from leftout.core.checks import check_positive
from leftout.core.device import usable_device
from leftout.core.errors import LeftoutError, OptionError
from leftout.core.wording import duration
from leftout.data.examples import Examples
from leftout.diagnostics.model_selection import (
    Candidate,
    Selection,
    choose_strength,
    drop_duplicates,
    evaluate_kernel,
    sort_candidates,
)
from leftout.kernels.base import Kernel, Normalise
from leftout.kernels.label_dependent import LabelDependentKernel
from leftout.kernels.pairwise.estimates import Estimator
from leftout.kernels.pairwise.label_aware import LabelAware
from leftout.planning.cost import Cost
from leftout.planning.label_aware_cost import label_fit_cost
from leftout.planning.machine import Machine, bare_machine, with_kernel
from leftout.planning.plan import planned_audit
from leftout.report.kernel_choice_panel import selection_table, selection_verdict

TRIED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("two-layer-relu", {"kernel": "two-layer-relu"}),
    ("relu, 1 layer", {"kernel": "relu", "depth": 1}),
    ("relu, 2 layers", {"kernel": "relu", "depth": 2}),
    ("relu, 4 layers", {"kernel": "relu", "depth": 4}),
    ("erf, 2 layers", {"kernel": "erf", "depth": 2}),
    ("tanh, 2 layers", {"kernel": "tanh", "depth": 2}),
    ("conv-relu, 2 layers", {"kernel": "conv-relu", "depth": 2}),
    ("conv-relu, 4 layers", {"kernel": "conv-relu", "depth": 4}),
    ("conv-relu, 2 layers, mean", {"kernel": "conv-relu", "depth": 2, "pooling": "mean"}),
)
"""What `--kernel auto` tries, by name and flags."""

ESTIMATORS: tuple[Estimator, ...] = ("kr-v1", "fjlt-v1")
"""Estimators that it tries on the best of them."""

LONG = 60.0
"""Seconds from which a person is told beforehand."""


@dataclass(frozen=True, eq=False)
class Chosen:
    """A kernel with its data; `selection` is what it was chosen from, None where it was named."""

    kernel: Kernel | LabelDependentKernel
    train: Examples
    query: Examples
    selection: Selection | None = None


def chosen(choices: Choices, *, memory: str | None = None, device: str | None = None) -> Chosen:
    """Return the kernel that was named, or the best by exact leave-one-out loss, and its data.

    Raises:
        OptionError: flags that do not go together; nothing that could be tried.
    """
    check_positive("--minutes", choices.minutes)
    if choices.kernel == KernelName.AUTO:
        return _among(choices, memory, device)
    choices.check_limit_unsaid()
    kernel = choices.made_kernel()
    train, query = choices.examples(kernel)
    if not isinstance(kernel, LabelAware) or kernel.strength is not None:
        return Chosen(kernel, train, query)
    if sys.stderr.isatty():
        foreseen = _Judge(choices, memory, device, _machine(train, device)).seconds(kernel, train)
        if foreseen > LONG:
            _say(f"Choosing a strength will take about {duration(foreseen)}.")
    found = choose_strength(
        kernel, train, rule=choices.made_rule(), at=_judged(choices), memory=memory, device=device
    )
    return Chosen(found.kernel, train, query, found)


def named(choices: Choices, *, memory: str | None = None, device: str | None = None) -> Chosen:
    """Return the same, and show what was tried."""
    found = chosen(choices, memory=memory, device=device)
    if found.selection is not None:
        console = Console()
        console.print(selection_table(found.selection))
        console.print(selection_verdict(found.selection))
    return found


def _judged(choices: Choices) -> float | None:
    """Return the training time at which kernels are compared: the last asked for."""
    return max(choices.at) if choices.at else None


def chosen_otherwise(found: Chosen, record: Any) -> str:
    """Return a sentence where leave-one-out chose another kernel than in a run; empty where it did not.

    Args:
        record: `run.json` of that run.
    """
    try:
        before = record["computation"]["fitted"]["kernel"]
    except (KeyError, TypeError):
        return ""
    if found.selection is None or not isinstance(before, dict) or "name" not in before:
        return ""
    now = json.loads(json.dumps(found.kernel.record))
    # What a run's kernel learned is beside what was asked of it.
    if all(name in before and before[name] == value for name, value in now.items()):
        return ""
    then = describe_kernel(before)
    return (
        f"leave-one-out chose another kernel than in the run to repeat, {describe_kernel(now)} and not "
        f"{then}: results will differ. The table says what was tried and what was skipped."
    )


def _among(choices: Choices, memory: str | None, device: str | None) -> Chosen:
    """Return the best of what `--kernel auto` tries."""
    _check_unsaid(choices)
    _say(f"Trying kernels, {choices.minutes:g} minutes at most for each.")
    made: dict[str, Chosen] = {}
    found: list[Candidate] = []
    loaded: dict[Normalise | None, tuple[Examples, Examples]] = {}
    judge: _Judge | None = None
    for name, flags in TRIED:
        some = dataclasses.replace(choices, **flags)
        kernel = some.made_kernel()
        # All else that loading depends on was said once, for all kernels.
        if kernel.normalise not in loaded:
            loaded[kernel.normalise] = some.examples(kernel)
        train, query = loaded[kernel.normalise]
        if flags["kernel"] == "conv-relu" and train.inputs.ndim < 3:
            continue  # rows of numbers are no images
        judge = judge or _Judge(choices, memory, device, _machine(train, device))
        found.append(judge.tried(name, kernel, train))
        made[found[-1].name] = Chosen(kernel, train, query)
    best_name = sort_candidates(found, name="--kernel auto").best.name
    best = made[best_name]
    if judge is not None and best.train.labels is not None:
        assert isinstance(best.kernel, Kernel)
        for estimator in ESTIMATORS:
            name, aware = f"{best_name}, {estimator}", LabelAware(best.kernel, estimator, None)
            found.append(judge.tried(name, aware, best.train))
            made[found[-1].name] = best  # its name says what strength was chosen
    selection = sort_candidates(drop_duplicates(found), name="--kernel auto")
    winner = made[selection.best.name]
    return Chosen(selection.kernel, winner.train, winner.query, selection)


def _check_unsaid(choices: Choices) -> None:
    """Raise where a flag is given that only one of the kernels could follow."""
    unsaid = {one.name: one.default for one in dataclasses.fields(Choices)}
    for name in (*DEEP, *CONVOLUTIONAL, *TRAINED, *LABELS, "model"):
        if getattr(choices, name) != unsaid[name]:
            raise OptionError(
                f"--{name.replace('_', '-')} must be left out with --kernel auto, which tries several "
                "kernels; name one to say more of it."
            )


@dataclass(frozen=True, eq=False)
class _Judge:
    """What is the same for all kernels that are tried; `machine` has tried none."""

    choices: Choices
    memory: str | None
    device: str | None
    machine: Machine

    def tried(self, name: str, kernel: Kernel | LabelDependentKernel, train: Examples) -> Candidate:
        """Return a candidate with its losses, or with why it has none."""
        choices = self.choices
        try:
            foreseen = self.seconds(kernel, train)
            if foreseen > 60 * choices.minutes:
                return Candidate(
                    name,
                    kernel,
                    skipped=(
                        f"would take about {duration(foreseen)}, more than --minutes {choices.minutes:g}"
                    ),
                )
        except LeftoutError as error:
            return Candidate(name, kernel, skipped=str(error))
        return evaluate_kernel(
            name,
            kernel,
            train,
            rule=choices.made_rule(),
            at=_judged(choices),
            memory=self.memory,
            device=self.device,
        )

    def seconds(self, kernel: Kernel | LabelDependentKernel, train: Examples) -> float:
        """Return about how long the leave-one-out loss of a kernel takes, or the choice of its strength."""
        where = _where(train, self.device)
        work = planned_audit(
            kernel,
            train,
            train,
            rule=self.choices.made_rule(),
            at=[_judged(self.choices)],
            refit_examples=0,
            budget=memory_budget(self.memory, device=where),
        )
        cost = Cost(work, with_kernel(self.machine, kernel, train, device=where))
        return (
            label_fit_cost(kernel, cost).choosing
            if isinstance(kernel, LabelDependentKernel)
            else cost.left_out()
        )


def _machine(train: Examples, device: str | None) -> Machine:
    return bare_machine(train, device=_where(train, device), most=len(train))


def _where(train: Examples, device: str | None) -> torch.device:
    return train.inputs.device if device is None else usable_device(device)


def _say(text: str) -> None:
    """Tell a person who waits; a file or a pipe is not told."""
    if sys.stderr.isatty():
        Console(stderr=True).print(text)
