"""`leftout learnability`: what the kernel learns of this target from n examples, mode by mode.

The training examples stand for the whole domain, and n different ones of them are learned from.
"""

from rich.console import Console
from rich.table import Table

from leftout.cli.commands import LearnabilityArguments
from leftout.cli.model import fit_model, kernel_of, load_examples, rule_of
from leftout.core.errors import OptionError
from leftout.core.wording import number, percent
from leftout.diagnostics.eigenlearning.learnability import Learnability, learnability
from leftout.storage.csv_table import save_csv

BANDS = (1, 4, 16, 64, 256, 1024)
"""Last modes of the groups that are shown."""

COLUMNS = ("mode", "eigenvalue", "share_of_target")


def learnability_command(arguments: LearnabilityArguments) -> None:
    """Print what is learned at each number of examples, by modes, and save all modes where asked."""
    kernel, rule = kernel_of(arguments), rule_of(arguments)
    train, _ = load_examples(arguments, kernel)
    fitted = fit_model(arguments, kernel, train, rule)
    if fitted.outputs_per_example > 1:
        raise OptionError("leftout learnability needs one kernel for all outputs; add --outputs trace.")
    sizes = sorted(set(arguments.n or [max(1, len(train) // divisor) for divisor in (10, 4, 2)]))
    first = learnability(
        fitted.gram, fitted.residual, n=sizes[0], ridge=fitted.rule.ridge_number, without_replacement=True
    )
    by_size = [first, *(first.at(n=size) for size in sizes[1:])]
    if arguments.out is not None:
        header = (*COLUMNS, *(f"learned_from_{size}" for size in sizes))
        save_csv(arguments.out, header, _mode_rows(by_size))
    console = Console()
    console.print(_errors_table(by_size))
    console.print(_modes_table(by_size))
    console.print(
        f"The {len(train)} examples stand for the whole domain: n different ones of them are learned from, "
        "and errors, mean squares summed over outputs, are over all. What examples beyond these would "
        "bring, leftout curve says.",
        style="dim",
    )


def _errors_table(by_size: list[Learnability]) -> Table:
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
    for learned in by_size:
        table.add_row(
            f"{learned.n:g}",
            number(learned.kappa),
            number(learned.test_error),
            number(learned.train_error),
            f"{learned.overfitting_coefficient:.3g} ×",
            percent(learned.target_learnability),
        )
    return table


def _modes_table(by_size: list[Learnability]) -> Table:
    """Return shares of the target, and how much of each is learned, in groups of modes."""
    squares = by_size[0].coefficients.square().sum(1)
    total, begin = float(squares.sum()), 0
    table = Table(
        "modes",
        "share of the target",
        *(f"learned from {learned.n:g}" for learned in by_size),
        title="Which modes",
        title_justify="left",
    )
    for end in (*(last for last in BANDS if last < len(squares)), len(squares)):
        band = squares[begin:end]
        # Of a group without any target there is nothing to be learned.
        cells = [
            percent(float(learned.learnability[begin:end] @ band / band.sum()), 0) if band.sum() else "–"
            for learned in by_size
        ]
        name = str(end) if end == begin + 1 else f"{begin + 1}–{end}"
        table.add_row(name, percent(float(band.sum()) / total if total else 0.0), *cells)
        begin = end
    return table


def _mode_rows(by_size: list[Learnability]) -> list[list[object]]:
    squares = by_size[0].coefficients.square().sum(1)
    shares = (squares / squares.sum()).tolist()
    eigenvalues = by_size[0].eigenvalues.tolist()
    learned = [at_size.learnability.tolist() for at_size in by_size]
    return [
        [mode + 1, eigenvalue, shares[mode], *(shares_learned[mode] for shares_learned in learned)]
        for mode, eigenvalue in enumerate(eigenvalues)
    ]
