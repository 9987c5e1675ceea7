"""leftout curve: what would more data bring? Sizes in, predicted errors out, as a table and FILE.csv."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from leftout.cli.arguments import Choices
from leftout.cli.kernel_choice import named
from leftout.cli.options import Device, Memory, with_choices
from leftout.core.checks import check_between
from leftout.core.errors import OptionError
from leftout.core.wording import number, percent, plain
from leftout.diagnostics.learning_curve.learning_curve import learning_curve
from leftout.diagnostics.learning_curve.record import LearningCurve
from leftout.dynamics.fit import fit
from leftout.storage.csv_table import check_free, save_csv
from leftout.storage.result_tables import CURVE_COLUMNS, curve_rows

FACTORS = (2, 5, 10)
"""Times the examples at hand, where no size is asked for."""

FROZEN = (
    "The kernel saw all labels and is kept as they made it: errors are those of examples that it knows, and "
    "may come out lower than those of new ones."
)


@with_choices
def curve_command(
    *,
    choices: Choices,
    n: Annotated[
        list[int] | None,
        typer.Option(help="Sample size, again for each; 2, 5 and 10 times what there is if not said."),
    ] = None,
    confidence: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    out: Annotated[Path | None, typer.Option(help="Save the curve: FILE.csv.")] = None,
    memory: Memory = None,
    device: Device = None,
) -> None:
    """Predict error and accuracy at sample sizes beyond the one at hand, with intervals."""
    check_between("--confidence", confidence, 0, 1)
    if out is not None:
        check_free(out, ".csv")
    if any(time is not None for time in choices.times()):
        raise OptionError("--at must be left out here: the learning curve is for the end of training.")
    asked = named(choices, memory=memory, device=device)
    train = asked.train
    whole = fit(asked.kernel, train, rule=choices.made_rule(), device=device, memory=memory)
    fitted = whole.freeze_labels()
    sizes = n or [factor * len(train) for factor in FACTORS]
    found = learning_curve(fitted, sizes, confidence=confidence, seed=choices.seed)
    if out is not None:
        save_csv(out, CURVE_COLUMNS, curve_rows(found))
    console = Console()
    console.print(_table(found))
    console.print(_modes(found))
    if found.classes:
        console.print(_classes(found))
    console.print(Text(plain(found.verdict, 600)))
    if whole.depends_on_labels:
        console.print(Text(FROZEN), style="yellow")
    console.print(
        f"Mean squared error: summed over outputs, twice the loss. Intervals {confidence:.0%}, of the "
        "error expected over samples. * carried beyond the examples at hand by a power law.",
        style="dim",
    )


def _table(found: LearningCurve) -> Table:
    table = Table(
        "examples",
        "mean squared error",
        "interval",
        title="What would more data bring?",
        title_justify="left",
    )
    right = found.accuracy is not None
    if right:
        table.add_column("accuracy")
        table.add_column("interval")
    for one in found.measured:
        told = [str(one.n), number(one.error), "measured"]
        if one.accuracy is not None:
            told += [percent(one.accuracy), "measured"]
        table.add_row(*told)
    for j, size in enumerate(found.n):
        mark = "*" if found.extrapolated[j] else ""
        told = [f"{size}{mark}", number(found.error[j])]
        told.append(f"{number(found.error_low[j])} … {number(found.error_high[j])}")
        if found.accuracy and found.accuracy_low and found.accuracy_high:
            told.append(percent(found.accuracy[j]))
            told.append(f"{percent(found.accuracy_low[j])} … {percent(found.accuracy_high[j])}")
        table.add_row(*told)
    return table


def _modes(found: LearningCurve) -> Table:
    last = f"learned at {found.n[-1]}"
    table = Table(
        "modes",
        "share of the target",
        "learned now",
        last,
        title="Learned and not yet learned",
        title_justify="left",
    )
    for one in found.modes:
        name = str(one.first) if one.first == one.last else f"{one.first}–{one.last}"
        table.add_row(name, percent(one.share), percent(one.now, 0), percent(one.later[-1], 0))
    rest = 1 - sum(one.share for one in found.modes)
    table.add_row("beyond", percent(rest), "not resolved", "")
    told = (f"{percent(1 - left, 0)} in all" for left in (found.left, found.left_later[-1]))
    table.add_row("all", percent(1.0), *told)
    return table


def _classes(found: LearningCurve) -> Table:
    table = Table(
        "class",
        "examples",
        "error now",
        f"error at {found.n[-1]}",
        "share of what is unlearned",
        title="Which classes carry the unlearned part",
        title_justify="left",
    )
    for one in sorted(found.classes, key=lambda one: -one.share):
        table.add_row(
            Text(plain(one.name)),
            str(one.count),
            number(one.error),
            number(one.later[-1]),
            percent(one.share),
        )
    return table
