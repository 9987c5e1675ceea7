"""Curation on the command line: what to drop, what there is too little of, where it should come from.

leftout information   what every training example tells the model
leftout prune         in which order they can go, predicted and trained again
leftout rare          under-sampled examples and kinds, and outliers
leftout sources       which source is worth more for each example
"""

from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from leftout.attribution.information import SIGN, information
from leftout.audit.retrained_curve import initial_network, retrained_removal_curve
from leftout.cli.commands import (
    FittedArguments,
    InformationArguments,
    PruneArguments,
    RareArguments,
    SourcesArguments,
)
from leftout.cli.model import fit_model, kernel_and_examples, rule_for
from leftout.cli.provenance_names import provenance_names
from leftout.core.checks import check_count
from leftout.core.wording import number, number_with_interval, percent, plain, signed_number
from leftout.curation.label_model import label_model
from leftout.curation.prune import Order, Pruned, prune
from leftout.curation.prune_check import PruneCheck
from leftout.curation.rare import outliers, rare
from leftout.curation.sources import IntervalEstimate, Sources, sources
from leftout.curation.subclasses import subclasses
from leftout.data.examples import Examples
from leftout.dynamics.fitted import Fitted
from leftout.report.wording import label_text
from leftout.storage.csv_table import save_csv

TITLES: dict[Order, str] = {
    "least": "least informative first",
    "most": "most informative first",
    "random": "in random order",
    "iterative": "least informative first, asked again after each round",
}


def information_command(arguments: InformationArguments) -> None:
    """Print the most and the least informative examples, and save all where asked."""
    check_count("--top", arguments.top)
    fitted, query, at = asked_model(arguments)
    nats = information(fitted, query, at=at)
    function, weights = nats["function"].values, nats["weights"].values
    order = np.argsort(-function, kind="stable").tolist()
    train, top = fitted.train, arguments.top
    if arguments.out is not None:
        rows = [(*_id_and_class(train, i), repr(float(function[i])), repr(float(weights[i]))) for i in order]
        save_csv(arguments.out, ("id", "label", "function", "weights"), rows)
    console = Console()
    for title, shown in (("most informative", order[:top]), ("least informative", order[::-1][:top])):
        table = Table("example", "label", "function", "weights", title=title, title_justify="left")
        for i in shown:
            table.add_row(*_id_and_label(train, i), number(function[i]), number(weights[i]))
        console.print(table)
    console.print(f"Nats at σ = 1. Information is {SIGN}.", style="dim")


def prune_command(arguments: PruneArguments) -> None:
    """Print the removal curve, and save the order where asked."""
    check_count("--top", arguments.top)
    fitted, query, at = asked_model(arguments)
    removal = prune(
        fitted,
        query,
        at=at,
        order=arguments.order,
        by=arguments.by,
        shares=arguments.share or None,
        seed=arguments.seed,
        tolerance=arguments.tolerance,
        class_tolerance=arguments.class_tolerance,
    )
    check = None
    if arguments.retrain:
        module = initial_network(fitted, width=arguments.width, seed=arguments.seed)
        check = retrained_removal_curve(fitted, query, removal, module, jobs=arguments.jobs)
    if arguments.out is not None:
        save_csv(arguments.out, *_order_table(fitted.train, removal, check))
    console = Console()
    console.print(_removal_table(removal, check))
    console.print(Text(removal.reason))
    first = ", ".join(plain(fitted.train.ids[i]) for i in removal.order[: arguments.top])
    console.print(Text(f"First to go: {first}."))


def rare_command(arguments: RareArguments) -> None:
    """Print under-sampled examples, outliers and kinds within classes, and save all where asked."""
    check_count("--top", arguments.top)
    fitted, query, at = asked_model(arguments)
    kinds = subclasses(fitted, query, at=at, by=arguments.by)
    unseen = label_model(fitted)
    under_sampled = () if unseen.fitted is None else rare(unseen.fitted, at=at)
    reasons_by_list: dict[str, list[tuple[int, str]]] = {
        "under-sampled": [(example.row, example.reason) for example in under_sampled],
        "outlier": [(example.row, example.reason) for example in outliers(fitted)],
    }
    for place, kind in enumerate(kinds, start=1):
        reasons_by_list[f"kind {place}"] = [(row, kind.reason) for row in kind.rows]
    train, top = fitted.train, arguments.top
    if arguments.out is not None:
        rows = [
            (name, *_id_and_class(train, row), reason)
            for name, reasons in reasons_by_list.items()
            for row, reason in reasons
        ]
        save_csv(arguments.out, ("what", "id", "label", "reason"), rows)
    console = Console()
    if unseen.note:
        console.print(Text(unseen.note), soft_wrap=True)
    for name in ("under-sampled", "outlier"):
        reasons = reasons_by_list[name]
        console.print(f"{name}: {len(reasons)}")
        for row, reason in reasons[:top]:
            id_text, label_text = _id_and_label(train, row)
            line = Text("  ") + id_text + f" ({label_text}): {plain(reason, 400)}"
            console.print(line, soft_wrap=True)
    console.print(f"kinds within classes: {len(kinds)}")
    for kind in kinds:
        console.print(Text(f"  {plain(kind.reason, 600)}"), soft_wrap=True)
        examples = ", ".join(plain(train.ids[row]) for row in kind.rows[:top])
        console.print(Text(f"    such as {examples}"), soft_wrap=True)


def sources_command(arguments: SourcesArguments) -> None:
    """Print what each source is worth, and save the table where asked."""
    fitted, query, at = asked_model(arguments)
    names = provenance_names(arguments.provenance, arguments.data, fitted.train, arguments.yes_no("header"))
    comparison = sources(fitted, query, names, at=at)
    if arguments.out is not None:
        frame = comparison.to_frame()
        save_csv(arguments.out, list(frame.columns), frame.astype(object).values.tolist())
    console = Console()
    console.print(_sources_table(comparison))
    console.print(Text(plain(comparison.reason, 600)))
    console.print(
        "Information in nats at σ = 1, with 95 % intervals. Loss without the source minus loss with it: "
        "positive = it helped.",
        style="dim",
    )


def asked_model(arguments: FittedArguments) -> tuple[Fitted, Examples, float | None]:
    """Return the model that the options ask for, its queries and the training time."""
    kernel, train, query = kernel_and_examples(arguments)
    rule, (at,) = rule_for(arguments, kernel, train), arguments.times
    return fit_model(arguments, kernel, train, rule), query, at


def _id_and_class(examples: Examples, row: int) -> tuple[str, str]:
    """Return id and class as a table of numbers holds them."""
    if examples.labels is None or examples.classes is None:
        return examples.ids[row], ""
    return examples.ids[row], examples.classes[int(examples.labels[row])]


def _id_and_label(examples: Examples, row: int) -> tuple[Text, Text]:
    """Return id and label as a person reads them; as Text, where "[bold]" is no markup."""
    return Text(plain(examples.ids[row])), Text(label_text(examples, row))


def _removal_table(removal: Pruned, check: PruneCheck | None) -> Table:
    """Return the removal curve, predicted and, where there is a check, trained again."""
    table = Table("removed", "examples", "loss", title=TITLES[removal.kind], title_justify="left")
    columns: list[list[str]] = [
        [percent(share) for share in removal.shares],
        [str(count) for count in removal.counts],
        [number(loss, 4) for loss in removal.loss],
    ]
    curves: list[tuple[str, tuple[float, ...] | None]] = [("accuracy", removal.accuracy)]
    if check is not None:
        curves += [
            ("loss, trained again", check.retrained_loss),
            ("accuracy, trained again", check.retrained_accuracy),
        ]
    for heading, curve in curves:
        if curve is not None:
            table.add_column(heading)
            is_loss = heading.startswith("loss")
            columns.append([number(point, 4) if is_loss else percent(point) for point in curve])
    for row in zip(*columns, strict=True):
        table.add_row(*row)
    return table


def _order_table(
    examples: Examples, removal: Pruned, check: PruneCheck | None
) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Return header and rows of the order; a curve stands where everything up to that row is gone."""
    curves = {"query_loss": removal.loss, "query_accuracy": removal.accuracy}
    if check is not None:
        curves |= {"retrained_loss": check.retrained_loss, "retrained_accuracy": check.retrained_accuracy}
    points = {count: j for j, count in enumerate(removal.counts)}
    rows = []
    for rank, row in enumerate(removal.order, start=1):
        j = points.get(rank)
        nats = "" if removal.information is None else repr(removal.information[rank - 1])
        cells = ["" if j is None or curve is None else repr(curve[j]) for curve in curves.values()]
        rows.append((rank, *_id_and_class(examples, row), nats, repr(rank / len(examples)), *cells))
    return ("rank", "id", "label", "information", "share", *curves), rows


def _sources_table(comparison: Sources) -> Table:
    table = Table(
        "source",
        "examples",
        "function, each",
        "weights, each",
        "function, whole",
        "loss, whole",
        "loss, each",
    )
    for source in comparison.sources:
        table.add_row(
            Text(plain(source.name)),
            str(source.count),
            _interval(source.function),
            _interval(source.weights),
            number(source.whole_function),
            signed_number(source.loss),
            signed_number(source.loss_each),
        )
    return table


def _interval(estimate: IntervalEstimate) -> str:
    return number_with_interval(estimate.value, estimate.low, estimate.high)
