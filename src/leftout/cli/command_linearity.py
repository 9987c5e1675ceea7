"""leftout linearity: does the kernel speak for a network of one's own? Both trained, side by side."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from leftout.cli.arguments import Choices
from leftout.cli.options import MODEL, Device, Memory, with_choices
from leftout.core.errors import OptionError
from leftout.core.wording import count, number, percent
from leftout.diagnostics.linearity.linearity_test import LinearityTest, linearity_test
from leftout.dynamics.rules import GradientFlow, Ridge, Rule
from leftout.kernels.network.empirical import Empirical
from leftout.storage.csv_table import check_free, save_csv


@with_choices
def linearity_command(
    *,
    choices: Choices,
    steps: Annotated[
        int | None, typer.Option(help="Steps to take; to convergence if not said.", rich_help_panel=MODEL)
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            help="Gradient, relative to the first, at which training has converged.", rich_help_panel=MODEL
        ),
    ] = 1e-4,
    sample: Annotated[
        int, typer.Option(help="Training examples on which the kernel is compared.", rich_help_panel=MODEL)
    ] = 100,
    out: Annotated[Path | None, typer.Option(help="Save what was seen along the way: FILE.csv.")] = None,
    memory: Memory = None,
    device: Device = None,
) -> None:
    """Train a network beside its linearisation, and say whether the kernel speaks for it."""
    _check(choices)
    if out is not None:
        check_free(out, ".csv")
    kernel = choices.fixed_kernel()
    assert isinstance(kernel, Empirical)
    train, query = choices.examples(kernel)
    found = linearity_test(
        kernel.module,
        train,
        query,
        rule=_rule(choices),
        steps=steps,
        tolerance=tolerance,
        parameters=choices.parameters or None,
        sample=sample,
        seed=choices.seed,
        memory=memory,
        device=device,
    )
    if out is not None:
        rows = [asdict(one) for one in found.path]
        save_csv(out, list(rows[0]), [[repr(value) for value in row.values()] for row in rows])
    console = Console()
    console.print(_table(found))
    console.print(Text(f"Training {found.status}"), soft_wrap=True)
    console.print(Text(sentence(found)), soft_wrap=True)


def sentence(found: LinearityTest) -> str:
    """Return the verdict in a sentence or two."""
    numbers = (
        f"at the queries they part by at most {percent(found.relative_gap)} of what training moves, and "
        f"the kernel changes by {percent(found.kernel_learned, 0)} in the modes that are learned"
    )
    if found.diverged:
        return (
            "The kernel does not speak for this network: by this rule the network diverges, and its "
            "linearisation does not. Take a lower --rate, or a wider network."
        )
    if found.verdict == "yes":
        return f"The kernel speaks for this network: {numbers}."
    if found.verdict == "with care":
        return (
            f"Take care: {numbers}. Its influence mostly agrees with training again, not in every "
            "number; leftout audit --verify N compares."
        )
    return (
        f"The kernel does not speak for this network: {numbers}. Train less long, with a larger --ridge, "
        "or fewer of the --parameters."
    )


def _check(choices: Choices) -> None:
    """Raise where a flag is missing, or would have to be ignored."""
    if choices.model is None:
        raise OptionError("leftout linearity needs --model, the network that is to be trained.")
    if choices.outputs != "full" or choices.projection is not None:
        raise OptionError(
            "--outputs and --projection approximate the kernel; a linearised network has the whole of "
            "it. Leave them out."
        )
    if choices.at:
        raise OptionError("--at asks about a time; the whole training is compared here. Give --steps.")


def _rule(choices: Choices) -> Rule | None:
    """Return the rule that was asked for; None where none was."""
    if choices.rule is not None or choices.rate is not None:
        return choices.made_rule()
    if choices.ridge is not None or choices.loss != "sum":
        return Ridge(choices.ridge or 0.0, loss=choices.loss)
    return None


def _table(found: LinearityTest) -> Table:
    rule = found.rule
    kind = "flow" if isinstance(rule, GradientFlow) else "descent"
    title = f"{count(found.path[-1].step, 'step')} of {kind} at rate {number(rule.rate)}"
    if rule.ridge:
        title += f", ridge {number(rule.ridge)}"
    table = Table("largest on the way", "", "relative to", "", title=title, title_justify="left")
    moved = "the move of outputs"
    rows = [
        ("gap at queries", number(found.gap), moved, percent(found.relative_gap)),
        ("gap at training examples", number(found.gap_train), moved, percent(found.relative_gap_train)),
        ("change of weights", number(found.weights * found.weights_norm), "weights", percent(found.weights)),
        (
            f"change of the kernel of {found.sample}",
            number(found.kernel * found.kernel_norm),
            "kernel",
            percent(found.kernel),
        ),
        ("", "", "in modes learned by then", percent(found.kernel_learned)),
        ("critical rate", number(found.critical_rate), "2 / (s_max + ridge)", ""),
        ("", number(found.lee_rate), "2 / (s_min + s_max + 2 ridge)", ""),
    ]
    if kind == "flow":
        rows.append(("error of the steps", number(found.step_error), "training examples", ""))
    for row in (*rows, ("the kernel speaks for it", found.verdict, "", "")):
        table.add_row(*row)
    return table
