"""`leftout plan`: memory, time and method of an audit, before anything is allocated."""

from time import time as now

import psutil
from rich.console import Console
from rich.table import Table

from leftout.cli.commands import PlanArguments
from leftout.cli.model import kernel_of, load_examples, rule_for
from leftout.planning.plan import plan


def plan_command(arguments: PlanArguments) -> None:
    """Print the steps of an audit, and raise where it would not fit."""
    kernel = kernel_of(arguments)
    train, query = load_examples(arguments, kernel)
    # An audit starts and loads too, and that takes as long as it took just now.
    started = now() - psutil.Process().create_time()
    expected = plan(
        kernel,
        train,
        query,
        rule=rule_for(arguments, kernel, train),
        at=arguments.times,
        refit_examples=arguments.refit_examples,
        started=started,
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
