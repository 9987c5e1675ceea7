"""Curation on the command line: what to drop, what there is too little of, where it should come from.

leftout information   what every training example tells the model
leftout prune         in which order they can go, predicted and trained again
leftout rare          under-sampled examples and kinds, and outliers
leftout sources       which source is worth more for each example
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from leftout.attribution.information import SIGN, information
from leftout.audit.retrained_curve import initial_network, retrained_removal_curve
from leftout.cli.arguments import Choices
from leftout.cli.options import MACHINE, Device, Memory, with_choices
from leftout.cli.source_labels import origins
from leftout.core.checks import check_count
from leftout.core.errors import OptionError
from leftout.core.wording import number, number_with_interval, percent, plain, signed_number
from leftout.curation.prune import Order, Pruned, prune
from leftout.curation.prune_check import PruneCheck
from leftout.curation.rare import outliers, rare
from leftout.curation.sources import IntervalEstimate, Sources, sources
from leftout.curation.subclasses import subclasses
from leftout.data.examples import Examples
from leftout.dynamics.fit import fit
from leftout.dynamics.fitted import Fitted
from leftout.report.wording import label_text
from leftout.storage.csv_table import check_free, save_csv

WIDTH = 4096
"""Neurons of the network that stands for the two-layer kernel, unless said otherwise."""

TOP = 5

TITLES: dict[Order, str] = {
    "least": "least informative first",
    "most": "most informative first",
    "random": "in random order",
    "iterative": "least informative first, asked again after each round",
}

By = Annotated[
    Literal["function", "weights"],
    typer.Option(help="Information about the answers at the queries, or about the weights."),
]
Top = Annotated[int, typer.Option(help="Examples shown.")]


@dataclass(frozen=True)
class Asked:
    """What every one of these commands fits first: a model, its queries, and one training time."""

    fitted: Fitted
    query: Examples
    at: float | None

    @property
    def train(self) -> Examples:
        """Return the training examples."""
        return self.fitted.train


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for name, command, example in (
        ("information", information_command, "digits --n-train 500 --top 10"),
        ("prune", prune_command, "digits --n-train 500 --order iterative"),
        ("rare", rare_command, "digits --n-train 500"),
        ("sources", sources_command, "digits --n-train 500"),
    ):
        app.command(name, epilog=f"Example: leftout {name} {example}")(command)


@with_choices
def information_command(
    *,
    choices: Choices,
    top: Top = TOP,
    out: Annotated[Path | None, typer.Option(help="Save all of them: FILE.csv.")] = None,
    memory: Memory = None,
    device: Device = None,
) -> None:
    """Say how much each training example tells the model that no other one does, in nats."""
    _check(top, out)
    asked = _asked(choices, device, memory)
    found = information(asked.fitted, asked.query, at=asked.at)
    function, weights = found["function"].values, found["weights"].values
    order = np.argsort(-function, kind="stable").tolist()
    if out is not None:
        rows = [(*_who(asked.train, i), repr(float(function[i])), repr(float(weights[i]))) for i in order]
        save_csv(out, ("id", "label", "function", "weights"), rows)
    console = Console()
    for title, some in (("most informative", order[:top]), ("least informative", order[::-1][:top])):
        table = Table("example", "label", "function", "weights", title=title, title_justify="left")
        for i in some:
            table.add_row(*_shown(asked.train, i), number(function[i]), number(weights[i]))
        console.print(table)
    console.print(f"Nats at σ = 1. Information is {SIGN}.", style="dim")


@with_choices
def prune_command(
    *,
    choices: Choices,
    order: Annotated[
        Literal["least", "most", "random", "iterative"],
        typer.Option(help="Least or most informative first; by chance; least, asked again after each round."),
    ] = "least",
    by: By = "function",
    share: Annotated[
        list[float] | None,
        typer.Option(help="Of the training examples to remove, again for each; up to 0.95."),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(help="Rise of the loss that is acceptable at the suggested stop.")
    ] = 0.01,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train a network again at every share, to compare.")
    ] = False,
    width: Annotated[int, typer.Option(help="Neurons of that network, without --model.")] = WIDTH,
    jobs: Annotated[int | None, typer.Option(help="Processes that train.", rich_help_panel=MACHINE)] = None,
    top: Top = TOP,
    out: Annotated[Path | None, typer.Option(help="Save the order: FILE.csv.")] = None,
    memory: Memory = None,
    device: Device = None,
) -> None:
    """Say which examples can go, and predict loss and accuracy without them, with no training."""
    _check(top, out)
    asked = _asked(choices, device, memory)
    found = prune(
        asked.fitted,
        asked.query,
        at=asked.at,
        order=order,
        by=by,
        shares=share,
        seed=choices.seed,
        tolerance=tolerance,
    )
    check = None
    if retrain:
        module = initial_network(asked.fitted, width=width, seed=choices.seed)
        check = retrained_removal_curve(asked.fitted, asked.query, found, module, jobs=jobs)
    if out is not None:
        save_csv(out, *_order_table(asked.train, found, check))
    console = Console()
    console.print(_curve(found, check))
    console.print(Text(found.reason))
    first = ", ".join(plain(asked.train.ids[i]) for i in found.order[:top])
    console.print(Text(f"First to go: {first}."))


@with_choices
def rare_command(
    *,
    choices: Choices,
    by: By = "function",
    top: Top = TOP,
    out: Annotated[Path | None, typer.Option(help="Save all of them: FILE.csv.")] = None,
    memory: Memory = None,
    device: Device = None,
) -> None:
    """Say what there is too little of, example by example and as whole kinds within classes."""
    _check(top, out)
    asked = _asked(choices, device, memory)
    kinds = subclasses(asked.fitted, asked.query, at=asked.at, by=by)
    lists: dict[str, list[tuple[int, str]]] = {
        "under-sampled": [(one.row, one.reason) for one in rare(asked.fitted, at=asked.at)],
        "outlier": [(one.row, one.reason) for one in outliers(asked.fitted)],
    }
    for place, kind in enumerate(kinds, start=1):
        lists[f"kind {place}"] = [(row, kind.reason) for row in kind.rows]
    if out is not None:
        rows = [
            (what, *_who(asked.train, row), reason) for what, some in lists.items() for row, reason in some
        ]
        save_csv(out, ("what", "id", "label", "reason"), rows)
    console = Console()
    for what in ("under-sampled", "outlier"):
        _print_list(console, f"{what}: {len(lists[what])}", asked.train, lists[what][:top])
    console.print(f"kinds within classes: {len(kinds)}")
    for kind in kinds:
        console.print(Text(f"  {plain(kind.reason, 600)}"), soft_wrap=True)
        some = ", ".join(plain(asked.train.ids[row]) for row in kind.rows[:top])
        console.print(Text(f"    such as {some}"), soft_wrap=True)


@with_choices
def sources_command(
    *,
    choices: Choices,
    source: Annotated[
        str | None,
        typer.Option(
            help="Column of the table, or FILE.csv with columns id and source; the class if not said."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Save the table: FILE.csv.")] = None,
    memory: Memory = None,
    device: Device = None,
) -> None:
    """Say which source of training examples is worth more: each example, and as a whole."""
    _check(1, out)
    asked = _asked(replace(choices, source=source), device, memory)
    names = origins(source, choices.data, asked.train)
    found = sources(asked.fitted, asked.query, names, at=asked.at)
    if out is not None:
        frame = found.to_frame()
        save_csv(out, list(frame.columns), frame.astype(object).values.tolist())
    console = Console()
    console.print(_sources_table(found))
    console.print(Text(plain(found.reason, 600)))
    console.print(
        "Information in nats at σ = 1, with 95 % intervals. Loss without the source minus loss with it: "
        "positive = it helped.",
        style="dim",
    )


def _check(top: int, out: Path | None) -> None:
    check_count("--top", top)
    if out is not None:
        check_free(out, ".csv")


def _asked(choices: Choices, device: str | None, memory: str | None) -> Asked:
    """Return the model that the flags ask for, its queries and the time."""
    if len(choices.times()) > 1:
        raise OptionError(
            f"--at must be given once here; got {', '.join(f'{time:g}' for time in choices.at)}."
        )
    (at,) = choices.times()
    kernel = choices.fixed_kernel()
    examples, query = choices.examples(kernel)
    fitted = fit(kernel, examples, rule=choices.made_rule(), device=device, memory=memory)
    return Asked(fitted, query, at)


def _who(examples: Examples, row: int) -> tuple[str, str]:
    """Return id and label as a table of numbers holds them."""
    if examples.labels is None or examples.classes is None:
        return examples.ids[row], ""
    return examples.ids[row], examples.classes[int(examples.labels[row])]


def _shown(examples: Examples, row: int) -> tuple[Text, Text]:
    """Return id and label as a person reads them; as Text, where "[bold]" is no markup."""
    return Text(plain(examples.ids[row])), Text(label_text(examples, row))


def _print_list(console: Console, title: str, examples: Examples, entries: list[tuple[int, str]]) -> None:
    console.print(title)
    for row, reason in entries:
        name, given = _shown(examples, row)
        console.print(Text("  ") + name + f" ({given}): {plain(reason, 400)}", soft_wrap=True)


def _curve(found: Pruned, check: PruneCheck | None) -> Table:
    """Return the removal curve, predicted and, where it was, trained again."""
    table = Table("removed", "examples", "loss", title=TITLES[found.kind], title_justify="left")
    columns: list[list[str]] = [
        [percent(share) for share in found.shares],
        [str(count) for count in found.counts],
        [number(loss, 4) for loss in found.loss],
    ]
    more: list[tuple[str, tuple[float, ...] | None]] = [("accuracy", found.accuracy)]
    if check is not None:
        more += [
            ("loss, trained again", check.retrained_loss),
            ("accuracy, trained again", check.retrained_accuracy),
        ]
    for heading, values in more:
        if values is not None:
            table.add_column(heading)
            loss = heading.startswith("loss")
            columns.append([number(one, 4) if loss else percent(one) for one in values])
    for row in zip(*columns, strict=True):
        table.add_row(*row)
    return table


def _order_table(
    examples: Examples, found: Pruned, check: PruneCheck | None
) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Return header and rows of the order; a curve stands where everything up to that row is gone."""
    curves = {"query_loss": found.loss, "query_accuracy": found.accuracy}
    if check is not None:
        curves |= {"retrained_loss": check.retrained_loss, "retrained_accuracy": check.retrained_accuracy}
    at = {count: j for j, count in enumerate(found.counts)}
    rows = []
    for rank, row in enumerate(found.order, start=1):
        j = at.get(rank)
        told = "" if found.information is None else repr(found.information[rank - 1])
        curve = ["" if j is None or one is None else repr(one[j]) for one in curves.values()]
        rows.append((rank, *_who(examples, row), told, repr(rank / len(examples)), *curve))
    return ("rank", "id", "label", "information", "share", *curves), rows


def _sources_table(found: Sources) -> Table:
    table = Table(
        "source",
        "examples",
        "function, each",
        "weights, each",
        "function, whole",
        "loss, whole",
        "loss, each",
    )
    for one in found.sources:
        table.add_row(
            Text(plain(one.name)),
            str(one.count),
            _interval(one.function),
            _interval(one.weights),
            number(one.whole_function),
            signed_number(one.loss),
            signed_number(one.loss_each),
        )
    return table


def _interval(estimate: IntervalEstimate) -> str:
    return number_with_interval(estimate.value, estimate.low, estimate.high)
