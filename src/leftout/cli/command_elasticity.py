"""`leftout elasticity`: whether what is learned of an example stays with its class, by pair of classes."""

import math
from dataclasses import dataclass, replace
from itertools import combinations

import xarray as xr
from rich.console import Console
from rich.table import Table
from rich.text import Text

from leftout.cli.commands import ElasticityArguments
from leftout.cli.model import kernel_of, load_examples
from leftout.core.wording import count, number, plain
from leftout.diagnostics.locality.elasticity import elasticity
from leftout.storage.csv_table import save_csv

PAIRS_SHOWN = 50
"""Pairs of classes that are printed, those least told apart; all are saved."""

COLUMNS = (
    "class",
    "other",
    "ratio",
    "query_ratio",
    "within_class",
    "within_other",
    "between",
    "ratio_as_built",
    "query_ratio_as_built",
)


@dataclass(frozen=True)
class ClassPair:
    """Local elasticity of two classes; `built` are the ratios of the network before its weights were read."""

    names: tuple[str, str]
    ratio: float
    query_ratio: float
    within: tuple[float, float]
    between: float
    built: tuple[float, float] | None


def elasticity_command(arguments: ElasticityArguments) -> None:
    """Print local elasticity by pair of classes, and save all pairs where asked."""
    if arguments.model is not None and "outputs" not in arguments.explicit:
        arguments = replace(arguments, outputs="trace")
    kernel = kernel_of(arguments)
    train, query = load_examples(arguments, kernel)
    machine = {"memory": arguments.memory, "device": arguments.device}
    measured, built = elasticity(kernel, train, query, **machine), None
    if arguments.weights is not None:
        before_weights = kernel_of(replace(arguments, weights=None))
        built = elasticity(before_weights, train, query, **machine)
    pairs = class_pairs(measured, built)
    if arguments.out is not None:
        save_csv(arguments.out, COLUMNS, [_cells(pair) for pair in pairs])
    console = Console()
    console.print(_table(pairs))
    for line in sentences(pairs):
        console.print(Text(line), soft_wrap=True)


def class_pairs(measured: xr.Dataset, built: xr.Dataset | None) -> list[ClassPair]:
    """Return all pairs of classes, those least told apart first."""
    similarity = measured["similarity"].values
    pairs = [
        ClassPair(
            names=(names[0], names[1]),
            ratio=float(measured["ratio"][a, b]),
            query_ratio=float(measured["query_ratio"][a, b]),
            within=(float(similarity[a, a]), float(similarity[b, b])),
            between=float(similarity[a, b]),
            built=None if built is None else (float(built["ratio"][a, b]), float(built["query_ratio"][a, b])),
        )
        for (a, b), names in zip(
            combinations(range(len(similarity)), 2),
            combinations(measured["class"].values.tolist(), 2),
            strict=True,
        )
    ]
    return sorted(pairs, key=lambda pair: (not math.isnan(pair.ratio), pair.ratio))


def sentences(pairs: list[ClassPair]) -> list[str]:
    """Return what the table says, in words."""
    with_ratio = [pair for pair in pairs if not math.isnan(pair.ratio)]
    undefined = len(pairs) - len(with_ratio)
    lines = [
        f"{count(undefined, 'pair')} of classes {'has' if undefined == 1 else 'have'} no ratio: examples of "
        "one class are not alike to this kernel, or less than those of the two are unlike."
    ] * (undefined > 0)
    if not with_ratio:
        return lines
    least, most = with_ratio[0], with_ratio[-1]
    lines.append(
        f"Told apart least: {_pair_name(least)}, {number(least.ratio)}. Most: {_pair_name(most)}, "
        f"{number(most.ratio)}. At 0.5 a step on an example of one class moves the other class as much as "
        "its own; at 1 it leaves the other alone."
    )
    before = [pair.built[0] for pair in with_ratio if pair.built is not None]
    if before:
        higher = sum(pair.built is not None and pair.ratio > pair.built[0] for pair in with_ratio)
        lines.append(
            f"With its weights the network is more local than as it is built for {higher} of "
            f"{len(with_ratio)} pairs; on average {number(sum(before) / len(before))} → "
            f"{number(sum(pair.ratio for pair in with_ratio) / len(with_ratio))}."
        )
    return lines


def _pair_name(pair: ClassPair) -> str:
    return " and ".join(plain(name, 40) for name in pair.names)


def _table(pairs: list[ClassPair]) -> Table:
    title = "Local elasticity by pair of classes"
    if len(pairs) > PAIRS_SHOWN:
        title += f": the {PAIRS_SHOWN} of {len(pairs)} told apart least"
    table = Table(
        "classes",
        "relative ratio",
        "of a query and an example",
        "similarity within",
        "between",
        title=title,
        title_justify="left",
    )
    if pairs[0].built is not None:
        table.add_column("ratio as built")
    for pair in pairs[:PAIRS_SHOWN]:
        cells = [
            number(pair.ratio),
            number(pair.query_ratio),
            " / ".join(map(number, pair.within)),
            number(pair.between),
        ]
        if pair.built is not None:
            cells.append(number(pair.built[0]))
        table.add_row(Text(_pair_name(pair)), *cells)
    return table


def _cells(pair: ClassPair) -> list[object]:
    built = ("", "") if pair.built is None else map(repr, pair.built)
    numbers = (pair.ratio, pair.query_ratio, *pair.within, pair.between)
    return [*pair.names, *map(repr, numbers), *built]
