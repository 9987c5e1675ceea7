"""leftout learnability: what does the kernel learn of this target from n examples, mode by mode?

The training examples stand for the whole domain, and n different ones of them are learned from.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from leftout.cli.arguments import Choices
from leftout.cli.options import Device, Memory, with_choices
from leftout.core.errors import OptionError
from leftout.core.wording import number, percent
from leftout.diagnostics.eigenlearning.learnability import Learnability, learnability
from leftout.dynamics.fit import fit
from leftout.dynamics.rules import Ridge
from leftout.storage.csv_table import check_free, save_csv

BANDS = (1, 4, 16, 64, 256, 1024)
"""Last modes of the groups that are shown."""

COLUMNS = ("mode", "eigenvalue", "share_of_target")


@with_choices
def learnability_command(
    *,
    choices: Choices,
    n: Annotated[
        list[int] | None,
        typer.Option(help="Examples learned from, again for each; 1/10, 1/4, 1/2 of all if not said."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Save all modes: FILE.csv.")] = None,
    memory: Memory = None,
    device: Device = None,
) -> None:
    """Show which modes of the target the kernel learns from n of these examples, as theory predicts."""
    if out is not None:
        check_free(out, ".csv")
    rule = choices.made_rule()
    if not isinstance(rule, Ridge) or rule.loss != "sum":
        raise OptionError(
            "leftout learnability is for the end of training under --rule ridge and --loss sum."
        )
    kernel = choices.fixed_kernel()
    train, _ = choices.examples(kernel)
    fitted = fit(kernel, train, rule=rule, device=device, memory=memory)
    if fitted.outputs_per_example > 1:
        raise OptionError("leftout learnability needs one kernel for all outputs; add --outputs trace.")
    sizes = sorted(set(n or [max(1, len(train) // part) for part in (10, 4, 2)]))
    first = learnability(fitted.gram, fitted.residual, n=sizes[0], ridge=rule.ridge, without_replacement=True)
    found = [first, *(first.at(n=size) for size in sizes[1:])]
    if out is not None:
        save_csv(out, (*COLUMNS, *(f"learned_from_{size}" for size in sizes)), _rows(found))
    console = Console()
    console.print(_errors(found))
    console.print(_modes(found))
    console.print(
        f"The {len(train)} examples stand for the whole domain: n different ones of them are learned from, "
        "and errors, mean squares summed over outputs, are over all. What examples beyond these would "
        "bring, leftout curve says.",
        style="dim",
    )


def _errors(found: list[Learnability]) -> Table:
    table = Table(
        "examples",
        "κ",
        "test error",
        "training error",
        "over-fitting",
        "target learned",
        title="What is learned",
        title_justify="left",
    )
    for one in found:
        table.add_row(
            f"{one.n:g}",
            number(one.kappa),
            number(one.test_error),
            number(one.train_error),
            f"{one.overfitting_coefficient:.3g} ×",
            percent(one.target_learnability),
        )
    return table


def _modes(found: list[Learnability]) -> Table:
    """Return shares of the target, and of each what is learned, in groups of modes."""
    squares = found[0].coefficients.square().sum(1)
    whole, begin = float(squares.sum()), 0
    table = Table(
        "modes",
        "share of the target",
        *(f"learned from {one.n:g}" for one in found),
        title="Which modes",
        title_justify="left",
    )
    for end in (*(one for one in BANDS if one < len(squares)), len(squares)):
        part = squares[begin:end]
        # Of a group without any target there is nothing to be learned.
        told = [
            percent(float(one.learnability[begin:end] @ part / part.sum()), 0) if part.sum() else "–"
            for one in found
        ]
        name = str(end) if end == begin + 1 else f"{begin + 1}–{end}"
        table.add_row(name, percent(float(part.sum()) / whole if whole else 0.0), *told)
        begin = end
    return table


def _rows(found: list[Learnability]) -> list[list[object]]:
    squares = found[0].coefficients.square().sum(1)
    shares = (squares / squares.sum()).tolist()
    values = found[0].eigenvalues.tolist()
    learned = [one.learnability.tolist() for one in found]
    return [
        [mode + 1, values[mode], shares[mode], *(one[mode] for one in learned)] for mode in range(len(values))
    ]
