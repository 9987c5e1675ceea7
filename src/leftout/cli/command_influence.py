"""`leftout influence`: the training examples that helped or harmed a prediction."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import xarray as xr
from rich.console import Console
from rich.table import Table
from rich.text import Text

from leftout.attribution.engine.labelled_result import SIGN
from leftout.attribution.first_order import first_order
from leftout.attribution.leave_one_out import leave_one_out
from leftout.attribution.loss_influence import loss_influence
from leftout.cli.commands import InfluenceArguments
from leftout.cli.kernel_choice import resolve_and_show
from leftout.cli.model import fit_model, rule_for
from leftout.core.errors import OptionError
from leftout.core.wording import plain, time_label
from leftout.data.examples import Examples
from leftout.dynamics.fitted import Fitted
from leftout.dynamics.rules import Logistic
from leftout.kernels.base import Kernel
from leftout.kernels.label_dependent import LabelDependentKernel
from leftout.storage.csv_table import shown_cell, write_new


def _of_steps(fitted: Fitted) -> str:
    """Return what is said of cross-entropy, whose removals are approximate."""
    if not isinstance(fitted.rule, Logistic) or fitted.depends_on_labels:
        return ""
    return " Each removal is one Newton step, an approximation; leftout audit measures how far it is off."


def influence_command(arguments: InfluenceArguments) -> None:
    """Print the most helpful and most harmful examples of each query, and save all scores where asked."""
    resolved = resolve_and_show(arguments)
    kernel, train, query = resolved.kernel, resolved.train, resolved.query
    if arguments.of_query:
        query = select_queries(query, arguments.of_query)
    if not 1 <= arguments.top <= len(train):
        raise OptionError(f"--top must lie in 1 … {len(train)}, the training examples; got {arguments.top}.")
    if arguments.spread:
        _check_prior(kernel)
    fitted = fit_model(arguments, kernel, train, rule_for(arguments, kernel, train))
    scores = influence_scores(fitted, query, arguments)
    if arguments.out is not None:
        _save(scores, arguments.out)
    influence = scores["influence"]
    if arguments.of == "prediction":
        influence = loss_influence(fitted, query, influence)
    if not arguments.of_query and "query" in influence.dims:
        influence = influence.mean("query")
    spreads = scores["spread"].values if arguments.spread and arguments.of_query else None
    unit = "step" if arguments.rule == "descent" else "time"
    names = query.ids if arguments.of_query else (f"mean over {len(query)} queries",)
    console = Console()
    for position, time in enumerate(fitted.times(arguments.times)):
        rows = influence.values[position].reshape(-1, len(train))
        deviations = [None] * len(rows) if spreads is None else spreads[position]
        for name, row, deviation in zip(names, rows, deviations, strict=True):
            title = f"{plain(name)}, {time_label(time, unit)}"
            console.print(_influence_table(title, row, train, arguments.top, spread=deviation))
    first = " To first order in its weight." if arguments.method == "first-order" else ""
    console.print(f"Influence in loss units: {SIGN['loss']}.{first}{_of_steps(fitted)}", style="dim")
    if spreads is not None:
        console.print("± is the standard deviation over initial weights.", style="dim")


def influence_scores(fitted: Fitted, query: Examples, arguments: InfluenceArguments) -> xr.Dataset:
    """Return `influence` at the times asked for, on a leading axis `at`, and its `mean` and `spread`.

    Scores of single queries are made where they are saved or shown; the mean over queries else.
    """
    mean = arguments.out is None and not arguments.of_query
    times = arguments.times
    if arguments.method == "first-order":
        finite = [time for time in times if time is not None and not math.isinf(time)]
        influence = first_order(fitted, query, at=finite[0] if finite else None, mean=mean)
        return influence.expand_dims(at=[math.inf]).to_dataset(name="influence")
    if arguments.spread:
        return leave_one_out(fitted, query, at=times, of=arguments.of, spread=True)
    return leave_one_out(fitted, query, at=times, of=arguments.of, mean=mean).to_dataset(name="influence")


def select_queries(query: Examples, ids: Iterable[str]) -> Examples:
    """Return the queries of these ids.

    Raises:
        OptionError: an id that is none.
    """
    rows = {name: row for row, name in enumerate(query.ids)}
    missing = [name for name in ids if name not in rows]
    if missing:
        raise OptionError(
            f"--of-query {missing[0]!r} is no query; there are {len(query)}, such as "
            f"{', '.join(map(repr, query.ids[:3]))}."
        )
    return query.select([rows[name] for name in ids])


def _check_prior(kernel: Kernel | LabelDependentKernel) -> None:
    """Raise unless the kernel is of networks with random initial weights."""
    if not isinstance(kernel, Kernel) or kernel.prior() is None:
        raise OptionError(
            "--spread needs networks that start from random weights known from the kernel: --kernel relu, "
            "erf, tanh or conv-relu."
        )


def _influence_table(title: str, row: Any, train: Examples, top: int, *, spread: Any = None) -> Table:
    """Return the most helpful and most harmful examples of one query, as a table."""
    # As Text: an id such as "[bold]" is no markup.
    table = Table("most helpful", "influence", "most harmful", "influence", title=Text(title))
    order = row.argsort(kind="stable")
    for low, high in zip(order[:top], order[::-1][:top], strict=True):
        ends = [f"{row[i]:+.3e}" + ("" if spread is None else f" ± {spread[i]:.1e}") for i in (high, low)]
        table.add_row(Text(_name(train, int(high))), ends[0], Text(_name(train, int(low))), ends[1])
    return table


def _name(train: Examples, row: int) -> str:
    if train.labels is None or train.classes is None:
        return plain(train.ids[row])
    return f"{plain(train.ids[row])} ({plain(train.classes[int(train.labels[row])])})"


def _save(scores: xr.Dataset, out: Path) -> None:
    """Write all scores; the file appears only when it is whole."""
    with write_new(out) as unfinished:
        if out.suffix == ".zarr":
            scores.to_zarr(unfinished, mode="w", zarr_format=2, consolidated=False)
        else:
            frame = scores.to_dataframe()
            for axis in ("query", "train"):  # exact; beside them, for people, what no spreadsheet runs
                shown = {name: shown_cell(name) for name in scores[axis].values.tolist()}
                if any(shown[name] != name for name in shown):
                    frame[f"{axis}_shown"] = [shown[name] for name in frame.index.get_level_values(axis)]
            frame.to_csv(unfinished)
