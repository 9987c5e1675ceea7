"""leftout elasticity: does what a network learns of one example stay with its class? By pair of classes."""

import math
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Annotated

import typer
import xarray as xr
from rich.console import Console
from rich.table import Table
from rich.text import Text

from leftout.cli.arguments import Choices
from leftout.cli.options import Device, Memory, with_choices
from leftout.core.errors import OptionError
from leftout.core.wording import count, number, plain
from leftout.diagnostics.locality.elasticity import elasticity
from leftout.storage.csv_table import check_free, save_csv

SHOWN = 50
"""Pairs of classes that are printed, those told apart least; all are saved."""

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
class Pair:
    """What is found of two classes; `built` are the ratios of the network before its weights were read."""

    names: tuple[str, str]
    ratio: float
    query_ratio: float
    within: tuple[float, float]
    between: float
    built: tuple[float, float] | None


@with_choices
def elasticity_command(
    *,
    choices: Choices,
    out: Annotated[Path | None, typer.Option(help="Save all pairs: FILE.csv.")] = None,
    memory: Memory = None,
    device: Device = None,
) -> None:
    """Say how local a kernel or network is, for every pair of classes: 0.5 does not tell them apart."""
    _check(choices)
    if out is not None:
        check_free(out, ".csv")
    if choices.model is not None and choices.outputs == "full":
        choices = replace(choices, outputs="trace")
    asked = choices.made_kernel()
    train, query = choices.examples(asked)
    found = elasticity(asked, train, query, memory=memory, device=device)
    built = None
    if choices.weights is not None:
        before = replace(choices, weights=None).made_kernel()
        built = elasticity(before, train, query, memory=memory, device=device)
    pairs = pairs_of(found, built)
    if out is not None:
        save_csv(out, COLUMNS, [_cells(one) for one in pairs])
    console = Console()
    console.print(_table(pairs))
    for line in sentences(pairs):
        console.print(Text(line), soft_wrap=True)


def pairs_of(found: xr.Dataset, built: xr.Dataset | None) -> list[Pair]:
    """Return all pairs of classes, those told apart least first."""
    similar = found["similarity"].values
    pairs = [
        Pair(
            names=(names[0], names[1]),
            ratio=float(found["ratio"][a, b]),
            query_ratio=float(found["query_ratio"][a, b]),
            within=(float(similar[a, a]), float(similar[b, b])),
            between=float(similar[a, b]),
            built=None if built is None else (float(built["ratio"][a, b]), float(built["query_ratio"][a, b])),
        )
        for (a, b), names in zip(
            combinations(range(len(similar)), 2), combinations(found["class"].values.tolist(), 2), strict=True
        )
    ]
    return sorted(pairs, key=lambda one: (not math.isnan(one.ratio), one.ratio))


def sentences(pairs: list[Pair]) -> list[str]:
    """Return what the table says, in words."""
    told = [one for one in pairs if not math.isnan(one.ratio)]
    none = len(pairs) - len(told)
    without = [
        f"{count(none, 'pair')} of classes {'has' if none == 1 else 'have'} no ratio: examples of one class "
        "are not alike to this kernel, or less than those of the two are unlike."
    ] * (none > 0)
    if not told:
        return without
    least, most = told[0], told[-1]
    said = [
        *without,
        f"Told apart least: {_named(least)}, {number(least.ratio)}. Most: {_named(most)}, "
        f"{number(most.ratio)}. At 0.5 a step on an example of one class moves the other class as much as "
        "its own; at 1 it leaves the other alone.",
    ]
    before = [one.built[0] for one in told if one.built is not None]
    if before:
        up = sum(one.built is not None and one.ratio > one.built[0] for one in told)
        said.append(
            f"With its weights the network is more local than as it is built for {up} of {len(told)} pairs; "
            f"on average {number(sum(before) / len(before))} → "
            f"{number(sum(one.ratio for one in told) / len(told))}."
        )
    return said


def _check(choices: Choices) -> None:
    """Raise where a flag would have to be ignored."""
    said = {
        "--rule": choices.rule,
        "--ridge": choices.ridge,
        "--rate": choices.rate,
        "--at": choices.at or None,
        "--loss": None if choices.loss == "sum" else choices.loss,
    }
    given = [flag for flag, value in said.items() if value is not None]
    if given:
        raise OptionError(
            f"{given[0]} is about training; leftout elasticity looks at the kernel, before any. Leave it out."
        )
    choices.check_limit_unsaid()
    if choices.labels_frozen:
        raise OptionError("--labels-frozen is about leaving examples out; elasticity leaves none out.")
    if choices.label_aware is not None and choices.strength == "auto":
        raise OptionError("leftout elasticity needs --strength with --label-aware, a number such as 0.1.")


def _named(one: Pair) -> str:
    return " and ".join(plain(name, 40) for name in one.names)


def _table(pairs: list[Pair]) -> Table:
    title = "Local elasticity by pair of classes"
    if len(pairs) > SHOWN:
        title += f": the {SHOWN} of {len(pairs)} told apart least"
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
    for one in pairs[:SHOWN]:
        told = [
            number(one.ratio),
            number(one.query_ratio),
            " / ".join(map(number, one.within)),
            number(one.between),
        ]
        if one.built is not None:
            told.append(number(one.built[0]))
        table.add_row(Text(_named(one)), *told)
    return table


def _cells(one: Pair) -> list[object]:
    built = ("", "") if one.built is None else map(repr, one.built)
    return [
        *one.names,
        repr(one.ratio),
        repr(one.query_ratio),
        *map(repr, one.within),
        repr(one.between),
        *built,
    ]
