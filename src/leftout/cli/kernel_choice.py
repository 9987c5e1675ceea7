"""The kernel that a command uses, where the user left the choice to exact leave-one-out.

`--kernel auto` tries infinitely wide networks of common shapes, and the best of them with labels seen;
`--strength auto` tries strengths of one kernel. A kernel that would take longer than `--minutes` is skipped,
and the table says so: its time is counted as `plan` counts it, and priced by a try on a few examples.
"""

import json
import sys
from dataclasses import dataclass, replace
from typing import Any

import torch
from rich.console import Console

from leftout.audit.summary import describe_kernel
from leftout.cli.arguments import Arguments
from leftout.cli.model import kernel_and_examples, kernel_of, load_examples, rule_of
from leftout.core.blocks import memory_budget
from leftout.core.checks import check_positive
from leftout.core.device import usable_device
from leftout.core.errors import LeftoutError
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
from leftout.dynamics.rules import Rule
from leftout.kernels.base import Kernel, Normalise
from leftout.kernels.label_dependent import LabelDependentKernel
from leftout.kernels.pairwise.label_aware import LabelAware
from leftout.kernels.pairwise.options import AUTO, Estimator
from leftout.planning.cost import Cost
from leftout.planning.label_aware_cost import label_fit_cost
from leftout.planning.machine import Machine, bare_machine, with_kernel
from leftout.planning.planned_audit import planned_audit
from leftout.report.kernel_choice_panel import selection_table, selection_verdict

CANDIDATES: tuple[tuple[str, dict[str, Any]], ...] = (
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
"""What `--kernel auto` tries, by name and options."""

ESTIMATORS: tuple[Estimator, ...] = ("kr-v1", "fjlt-v1")
"""Estimators that it tries on the best of them."""

LONG_CHOICE = 60.0
"""Seconds from which a person is told beforehand how long the choice takes."""


@dataclass(frozen=True, eq=False)
class ResolvedKernel:
    """A kernel with its data; `selection` is what it was chosen from, None where it was named."""

    kernel: Kernel | LabelDependentKernel
    train: Examples
    query: Examples
    selection: Selection | None = None


def resolve_kernel(arguments: Arguments) -> ResolvedKernel:
    """Return the kernel that is named, or the best by exact leave-one-out loss, and its data.

    Raises:
        OptionError: options that do not go together; nothing that could be tried.
    """
    check_positive("--minutes", arguments.minutes)
    if arguments.kernel == AUTO:
        return _choose_kernel(arguments)
    kernel, train, query = kernel_and_examples(arguments)
    if not isinstance(kernel, LabelAware) or kernel.strength is not None:
        return ResolvedKernel(kernel, train, query)
    rule, at = rule_of(arguments), comparison_time(arguments)
    if sys.stderr.isatty():
        seconds = _Trial(arguments, rule, _machine(arguments, train)).seconds(kernel, train)
        if seconds > LONG_CHOICE:
            _tell(f"Choosing a strength will take about {duration(seconds)}.")
    selection = choose_strength(
        kernel, train, rule=rule, at=at, memory=arguments.memory, device=arguments.device
    )
    return ResolvedKernel(selection.kernel, train, query, selection)


def resolve_and_show(arguments: Arguments) -> ResolvedKernel:
    """Return the same as `resolve_kernel`, and print what was tried."""
    resolved = resolve_kernel(arguments)
    if resolved.selection is not None:
        console = Console()
        console.print(selection_table(resolved.selection))
        console.print(selection_verdict(resolved.selection))
    return resolved


def comparison_time(arguments: Arguments) -> float | None:
    """Return the training time at which kernels are compared: the last asked for."""
    return max(arguments.at) if arguments.at else None


def kernel_change(resolved: ResolvedKernel, record: Any) -> str:
    """Return a sentence where leave-one-out chose another kernel than in a run; empty where it did not.

    Args:
        record: `run.json` of that run.
    """
    try:
        before = record["computation"]["fitted"]["kernel"]
    except (KeyError, TypeError):
        return ""
    if resolved.selection is None or not isinstance(before, dict) or "name" not in before:
        return ""
    now = json.loads(json.dumps(resolved.kernel.record))
    # The record of a run's kernel holds what it learned beside its options.
    if all(name in before and before[name] == setting for name, setting in now.items()):
        return ""
    return (
        f"leave-one-out chose another kernel than in the run to repeat, {describe_kernel(now)} and not "
        f"{describe_kernel(before)}: results will differ. The table says what was tried and what was skipped."
    )


def _choose_kernel(arguments: Arguments) -> ResolvedKernel:
    """Return the best of what `--kernel auto` tries."""
    arguments.check_kernel()
    _tell(f"Trying kernels, {arguments.minutes:g} minutes at most for each.")
    resolved: dict[str, ResolvedKernel] = {}
    candidates: list[Candidate] = []
    examples: dict[Normalise | None, tuple[Examples, Examples]] = {}
    rule = rule_of(arguments)
    trial: _Trial | None = None
    for name, options in CANDIDATES:
        variant = replace(arguments, **options, explicit=frozenset(options))
        kernel = kernel_of(variant)
        # All other options of loading are the same for all kernels.
        if kernel.normalise not in examples:
            examples[kernel.normalise] = load_examples(variant, kernel)
        train, query = examples[kernel.normalise]
        if options["kernel"] == "conv-relu" and train.inputs.ndim < 3:
            continue  # rows of numbers are no images
        trial = trial or _Trial(arguments, rule, _machine(arguments, train))
        candidates.append(trial.candidate(name, kernel, train))
        resolved[candidates[-1].name] = ResolvedKernel(kernel, train, query)
    best_name = sort_candidates(candidates, name="--kernel auto").best.name
    best = resolved[best_name]
    if trial is not None and best.train.labels is not None:
        assert isinstance(best.kernel, Kernel)
        for estimator in ESTIMATORS:
            aware = LabelAware(best.kernel, estimator, None)
            candidates.append(trial.candidate(f"{best_name}, {estimator}", aware, best.train))
            resolved[candidates[-1].name] = best  # the name says what strength was chosen
    selection = sort_candidates(drop_duplicates(candidates), name="--kernel auto")
    winner = resolved[selection.best.name]
    return ResolvedKernel(selection.kernel, winner.train, winner.query, selection)


@dataclass(frozen=True, eq=False)
class _Trial:
    """What is the same for all kernels that are tried; `machine` has tried none."""

    arguments: Arguments
    rule: Rule
    machine: Machine

    def candidate(self, name: str, kernel: Kernel | LabelDependentKernel, train: Examples) -> Candidate:
        """Return a candidate with its losses, or with why it has none."""
        arguments = self.arguments
        try:
            seconds = self.seconds(kernel, train)
        except LeftoutError as error:
            return Candidate(name, kernel, skipped=str(error))
        if seconds > 60 * arguments.minutes:
            reason = f"would take about {duration(seconds)}, more than --minutes {arguments.minutes:g}"
            return Candidate(name, kernel, skipped=reason)
        return evaluate_kernel(
            name,
            kernel,
            train,
            rule=self.rule,
            at=comparison_time(arguments),
            memory=arguments.memory,
            device=arguments.device,
        )

    def seconds(self, kernel: Kernel | LabelDependentKernel, train: Examples) -> float:
        """Return about how long the leave-one-out loss of a kernel takes, or the choice of its strength."""
        device = _device(self.arguments, train)
        work = planned_audit(
            kernel,
            train,
            train,
            rule=self.rule,
            at=[comparison_time(self.arguments)],
            refit_examples=0,
            budget=memory_budget(self.arguments.memory, device=device),
        )
        cost = Cost(work, with_kernel(self.machine, kernel, train, device=device))
        return (
            label_fit_cost(kernel, cost).choosing
            if isinstance(kernel, LabelDependentKernel)
            else cost.left_out()
        )


def _machine(arguments: Arguments, train: Examples) -> Machine:
    return bare_machine(train, device=_device(arguments, train), most=len(train))


def _device(arguments: Arguments, train: Examples) -> torch.device:
    return train.inputs.device if arguments.device is None else usable_device(arguments.device)


def _tell(text: str) -> None:
    """Tell a person who waits; nothing is written to a file or a pipe."""
    if sys.stderr.isatty():
        Console(stderr=True).print(text)
