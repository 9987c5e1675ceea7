"""`leftout influence`: which training examples helped or harmed a prediction?"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import xarray as xr
from rich.console import Console
from rich.table import Table
from rich.text import Text

from leftout.attribution.engine.labelled_result import SIGN, Of
from leftout.attribution.first_order import first_order
from leftout.attribution.leave_one_out import leave_one_out
from leftout.cli.arguments import Choices, KernelName, RuleName
from leftout.cli.kernel_choice import named
from leftout.cli.options import Device, Memory, with_choices
from leftout.core.atomic_files import atomic_write
from leftout.core.errors import OptionError
from leftout.core.wording import plain, time_label
from leftout.data.examples import Examples
from leftout.dynamics.fit import fit
from leftout.dynamics.fitted import Fitted
from leftout.kernels.base import Kernel
from leftout.kernels.label_dependent import LabelDependentKernel
from leftout.storage.csv_table import check_free


@with_choices
def influence_command(
    *,
    choices: Choices,
    of_query: Annotated[
        list[str] | None,
        typer.Option(help="Id of a query, again for each; the mean over all queries if not said."),
    ] = None,
    top: Annotated[int, typer.Option(help="Most helpful and most harmful examples shown.")] = 5,
    out: Annotated[
        Path | None, typer.Option(help="Save all scores: FILE.csv, or FILE.zarr for any size.")
    ] = None,
    of: Annotated[Literal["loss", "prediction"], typer.Option(help="What is saved with --out.")] = "loss",
    method: Annotated[
        Literal["leave-one-out", "first-order"],
        typer.Option(help="Exactly, or as the classical influence function has it (at the end)."),
    ] = "leave-one-out",
    spread: Annotated[
        bool,
        typer.Option(
            "--spread", help="With its mean and standard deviation over initial weights (of a deep kernel)."
        ),
    ] = False,
    memory: Memory = None,
    device: Device = None,
) -> None:
    """Show which training examples helped or harmed a prediction, exactly."""
    _check_labels_frozen(choices, method, spread)
    found = named(choices, memory=memory, device=device)
    kernel, train, query = found.kernel, found.train, found.query
    wanted = _selected(query, of_query)
    if not 1 <= top <= len(train):
        raise OptionError(f"--top must lie in 1 … {len(train)}, the training examples; got {top}.")
    if out is not None:
        check_free(out, ".csv", ".zarr")
    elif of != "loss":
        raise OptionError("--of says what --out saves; give a file with --out, or leave it out.")
    if method == "first-order" and of != "loss":
        raise OptionError("--of prediction goes with --method leave-one-out; leave one of them out.")
    if spread:
        _check_spread(kernel, method, of_query, out)
    fitted = fit(kernel, train, rule=choices.made_rule(), device=device, memory=memory)
    if out is not None:
        whole = (
            leave_one_out(fitted, wanted, at=choices.times(), of=of, spread=True)
            if spread
            else _influence(fitted, wanted, choices, method, of=of, mean=False)
        )
        _save(whole, out)
    times = fitted.times(choices.times())
    scores = _influence(fitted, wanted, choices, method, of="loss", mean=of_query is None)
    spreads = (
        leave_one_out(fitted, wanted, at=choices.times(), spread=True)["spread"].values
        if spread and of_query
        else None
    )
    console = Console()
    for position, time in enumerate(times):
        rows = scores.values[position].reshape(-1, len(train))
        names = wanted.ids if of_query else (f"mean over {len(wanted)} queries",)
        about = [None] * len(rows) if spreads is None else spreads[position]
        for name, row, wide in zip(names, rows, about, strict=True):
            when = time_label(time, "step" if choices.rule == RuleName.DESCENT else "time")
            console.print(_ranking(f"{plain(name)}, {when}", row, train, top, spread=wide))
    first = " To first order in its weight." if method == "first-order" else ""
    console.print(f"Influence in loss units: {SIGN['loss']}.{first}", style="dim")
    if spreads is not None:
        console.print("± is the standard deviation over initial weights.", style="dim")


def _influence(
    fitted: Fitted, query: Examples, choices: Choices, method: str, *, of: Of, mean: bool
) -> xr.DataArray:
    """Return influence at the times asked for, on a leading axis `at`."""
    if method == "leave-one-out":
        return leave_one_out(fitted, query, at=choices.times(), of=of, mean=mean)
    ended = [time for time in choices.times() if time is not None and time != math.inf]
    found = first_order(fitted, query, at=ended[0] if ended else None, mean=mean)
    return found.expand_dims(at=[math.inf])


def _selected(query: Examples, ids: Sequence[str] | None) -> Examples:
    if ids is None:
        return query
    where = {name: i for i, name in enumerate(query.ids)}
    missing = [name for name in ids if name not in where]
    if missing:
        raise OptionError(
            f"--of-query {missing[0]!r} is no query; there are {len(query)}, such as "
            f"{', '.join(map(repr, query.ids[:3]))}."
        )
    return query.select([where[name] for name in ids])


def _check_labels_frozen(choices: Choices, method: str, spread: bool) -> None:
    """Raise where an answer is not known of kernels that are taught again, before one is."""
    taught = choices.label_aware is not None or choices.kernel == KernelName.HIERARCHY
    if not taught:
        return
    if spread:
        raise OptionError("--spread is not known of kernels that see labels; leave one of them out.")
    if method == "first-order" and not choices.labels_frozen:
        raise OptionError(
            "--method first-order takes the kernel as it is: add --labels-frozen, or leave it out."
        )


def _check_spread(
    kernel: Kernel | LabelDependentKernel, method: str, of_query: Sequence[str] | None, out: Path | None
) -> None:
    """Raise unless there is a spread, and a place to show it."""
    if method != "leave-one-out":
        raise OptionError("--spread goes with --method leave-one-out; leave one of them out.")
    if not isinstance(kernel, Kernel) or kernel.prior() is None:
        raise OptionError(
            "--spread needs networks that start from random weights known from the kernel: --kernel relu, "
            "erf, tanh or conv-relu."
        )
    if of_query is None and out is None:
        raise OptionError("--spread is of single queries: name them with --of-query, or save all with --out.")


def _ranking(title: str, row: Any, train: Examples, top: int, *, spread: Any = None) -> Table:
    """Return the most helpful and most harmful examples of one query, as a table."""
    # As Text: an id such as "[bold]" is no markup.
    table = Table("most helpful", "influence", "most harmful", "influence", title=Text(title))
    order = row.argsort(kind="stable")
    for low, high in zip(order[:top], order[::-1][:top], strict=True):
        ends = [f"{row[i]:+.3e}" + ("" if spread is None else f" ± {spread[i]:.1e}") for i in (high, low)]
        table.add_row(Text(_named(train, int(high))), ends[0], Text(_named(train, int(low))), ends[1])
    return table


def _named(train: Examples, row: int) -> str:
    if train.labels is None or train.classes is None:
        return plain(train.ids[row])
    return f"{plain(train.ids[row])} ({plain(train.classes[int(train.labels[row])])})"


def _save(scores: xr.DataArray | xr.Dataset, out: Path) -> None:
    """Write all scores, whole or not at all."""
    whole = scores if isinstance(scores, xr.Dataset) else scores.to_dataset(name="influence")
    with atomic_write(out) as part:
        if out.suffix == ".zarr":
            whole.to_zarr(part, mode="w", zarr_format=2, consolidated=False)
        else:
            whole.to_dataframe().to_csv(part)
