"""`leftout curve`: predicted errors at sample sizes beyond the one at hand, as a table and FILE.csv."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from leftout.cli.commands import CurveArguments
from leftout.cli.kernel_choice import resolve_and_show
from leftout.cli.model import fit_model, rule_of
from leftout.core.checks import check_between
from leftout.core.wording import number, percent, plain
from leftout.diagnostics.learning_curve.learning_curve import learning_curve
from leftout.diagnostics.learning_curve.record import LearningCurve
from leftout.storage.csv_table import write_new
from leftout.storage.result_tables import curve_table, write_table

FACTORS = (2, 5, 10)
"""Multiples of the examples at hand that are predicted, where no size is given."""

FROZEN = (
    "The kernel saw all labels and is kept as they made it: errors are those of examples that it knows, and "
    "may come out lower than those of new ones."
)


def curve_command(arguments: CurveArguments) -> None:
    """Print the learning curve, its modes and its classes, and save the curve where asked."""
    check_between("--confidence", arguments.confidence, 0, 1)
    resolved = resolve_and_show(arguments)
    rule, train = rule_of(arguments), resolved.train
    fitted = fit_model(arguments, resolved.kernel, train, rule)
    sizes = arguments.n or [factor * len(train) for factor in FACTORS]
    curve = learning_curve(
        fitted.freeze_labels(), sizes, confidence=arguments.confidence, seed=arguments.seed
    )
    if arguments.out is not None:
        with write_new(arguments.out) as unfinished:
            write_table(unfinished, curve_table(curve))
    console = Console()
    console.print(_curve_table(curve))
    console.print(_modes_table(curve))
    if curve.classes:
        console.print(_classes_table(curve))
    console.print(Text(plain(curve.verdict, 600)))
    if fitted.depends_on_labels:
        console.print(Text(FROZEN), style="yellow")
    console.print(
        f"Mean squared error: summed over outputs, twice the loss. Intervals {arguments.confidence:.0%}, of "
        "the error expected over samples. * carried beyond the examples at hand by a power law.",
        style="dim",
    )


def _curve_table(curve: LearningCurve) -> Table:
    table = Table(
        "examples",
        "mean squared error",
        "interval",
        title="What would more data bring?",
        title_justify="left",
    )
    if curve.accuracy is not None:
        table.add_column("accuracy")
        table.add_column("interval")
    for point in curve.measured:
        cells = [str(point.n), number(point.error), "measured"]
        if point.accuracy is not None:
            cells += [percent(point.accuracy), "measured"]
        table.add_row(*cells)
    for j, size in enumerate(curve.n):
        mark = "*" if curve.extrapolated[j] else ""
        cells = [f"{size}{mark}", number(curve.error[j])]
        cells.append(f"{number(curve.error_low[j])} … {number(curve.error_high[j])}")
        if curve.accuracy and curve.accuracy_low and curve.accuracy_high:
            cells.append(percent(curve.accuracy[j]))
            cells.append(f"{percent(curve.accuracy_low[j])} … {percent(curve.accuracy_high[j])}")
        table.add_row(*cells)
    return table


def _modes_table(curve: LearningCurve) -> Table:
    table = Table(
        "modes",
        "share of the target",
        "learned now",
        f"learned at {curve.n[-1]}",
        title="Learned and not yet learned",
        title_justify="left",
    )
    for band in curve.modes:
        name = str(band.first) if band.first == band.last else f"{band.first}–{band.last}"
        table.add_row(name, percent(band.share), percent(band.now, 0), percent(band.later[-1], 0))
    rest = 1 - sum(band.share for band in curve.modes)
    table.add_row("beyond", percent(rest), "not resolved", "")
    cells = (f"{percent(1 - unlearned, 0)} in all" for unlearned in (curve.left, curve.left_later[-1]))
    table.add_row("all", percent(1.0), *cells)
    return table


def _classes_table(curve: LearningCurve) -> Table:
    table = Table(
        "class",
        "examples",
        "error now",
        f"error at {curve.n[-1]}",
        "share of what is unlearned",
        title="Which classes carry the unlearned part",
        title_justify="left",
    )
    for label in sorted(curve.classes, key=lambda label: -label.share):
        table.add_row(
            Text(plain(label.name)),
            str(label.count),
            number(label.error),
            number(label.later[-1]),
            percent(label.share),
        )
    return table
