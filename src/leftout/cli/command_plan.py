"""`leftout plan`: memory, time and method of an audit, before anything is allocated."""

from time import time as now

import psutil
from rich.console import Console
from rich.table import Table

from leftout.cli.commands import PlanArguments
from leftout.cli.model import kernel_and_examples, rule_for, solver_of
from leftout.core.blocks import memory_budget
from leftout.dynamics.rules import Logistic
from leftout.kernels.base import Kernel
from leftout.planning.plan import plan

SAMPLE = 16
"""Examples whose diagonal of the kernel is looked at for a ridge."""


def plan_command(arguments: PlanArguments) -> None:
    """Print the steps of an audit, and raise where it would not fit."""
    kernel, train, query = kernel_and_examples(arguments)
    if isinstance(kernel, Kernel):
        kernel.within(memory_budget(arguments.memory)).feature_bytes(train.inputs)  # looks at it, once
    began = now()
    rule = rule_for(arguments, kernel, train, sample=SAMPLE)
    # An audit starts and loads too, and that takes as long as it took just now; the diagonal that its ridge
    # is a share of is made of all examples there.
    others = max(0, len(train) - SAMPLE) / SAMPLE
    diagonal = others * (now() - began) if isinstance(rule, Logistic) else 0.0
    started = now() - psutil.Process().create_time() + diagonal
    expected = plan(
        kernel,
        train,
        query,
        rule=rule,
        at=arguments.times,
        refit_examples=arguments.refit_examples,
        started=started,
        **solver_of(arguments),
        device=arguments.device,
        memory=arguments.memory,
    )
    console = Console()
    table = Table("step", "seconds", "memory", "method", title="leftout audit would take")
    for step in expected.steps:
        table.add_row(step.name, f"{step.seconds:.1f}", step.memory_text, step.method)
    console.print(table)
    console.print(expected.summary)
    expected.check()
