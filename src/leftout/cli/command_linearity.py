"""`leftout linearity`: whether the kernel speaks for a user's network; both are trained, side by side."""

from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from leftout.cli.commands import LinearityArguments
from leftout.cli.model import kernel_of, load_examples, rule_of
from leftout.core.wording import count, number, percent
from leftout.diagnostics.linearity.linearity_test import LinearityTest, linearity_test
from leftout.dynamics.rules import GradientFlow, Ridge, Rule
from leftout.kernels.network.empirical import Empirical
from leftout.storage.csv_table import save_csv


def linearity_command(arguments: LinearityArguments) -> None:
    """Print how far network and linearisation part, and save the way where asked."""
    kernel = kernel_of(arguments)
    assert isinstance(kernel, Empirical)
    train, query = load_examples(arguments, kernel)
    test = linearity_test(
        kernel.module,
        train,
        query,
        rule=_rule(arguments),
        steps=arguments.steps,
        tolerance=arguments.tolerance,
        parameters=arguments.parameters or None,
        sample=arguments.sample,
        seed=arguments.seed,
        memory=arguments.memory,
        device=arguments.device,
    )
    if arguments.out is not None:
        rows = [asdict(snapshot) for snapshot in test.path]
        save_csv(arguments.out, list(rows[0]), [list(map(repr, row.values())) for row in rows])
    console = Console()
    console.print(_table(test))
    console.print(Text(f"Training {test.status}"), soft_wrap=True)
    console.print(Text(verdict_sentence(test)), soft_wrap=True)


def verdict_sentence(test: LinearityTest) -> str:
    """Return the verdict in a sentence or two."""
    numbers = (
        f"at the queries they part by at most {percent(test.relative_gap)} of what training moves, and "
        f"the kernel changes by {percent(test.kernel_learned, 0)} in the modes that are learned"
    )
    if test.diverged:
        return (
            "The kernel does not speak for this network: by this rule the network diverges, and its "
            "linearisation does not. Take a lower --rate, or a wider network."
        )
    if test.verdict == "yes":
        return f"The kernel speaks for this network: {numbers}."
    if test.verdict == "with care":
        return (
            f"Take care: {numbers}. Its influence mostly agrees with training again, not in every "
            "number; leftout audit --retrain-examples N compares."
        )
    return (
        f"The kernel does not speak for this network: {numbers}. Train less long, with a larger --ridge, "
        "or fewer of the --parameters."
    )


def _rule(arguments: LinearityArguments) -> Rule | None:
    """Return the rule that is asked for; None where none is."""
    if arguments.rule is not None or arguments.rate is not None:
        return rule_of(arguments)
    if arguments.explicit & {"ridge", "loss"}:
        return Ridge(arguments.ridge_number or 0.0, loss=arguments.reduction)
    return None


def _table(test: LinearityTest) -> Table:
    rule = test.rule
    kind = "flow" if isinstance(rule, GradientFlow) else "descent"
    title = f"{count(test.path[-1].step, 'step')} of {kind} at rate {number(rule.rate)}"
    if rule.ridge:
        title += f", ridge {number(rule.ridge)}"
    table = Table("largest on the way", "", "relative to", "", title=title, title_justify="left")
    movement = "the move of outputs"
    rows = [
        ("gap at queries", number(test.gap), movement, percent(test.relative_gap)),
        ("gap at training examples", number(test.gap_train), movement, percent(test.relative_gap_train)),
        ("change of weights", number(test.weights * test.weights_norm), "weights", percent(test.weights)),
        (
            f"change of the kernel of {test.sample}",
            number(test.kernel * test.kernel_norm),
            "kernel",
            percent(test.kernel),
        ),
        ("", "", "in modes learned by then", percent(test.kernel_learned)),
        ("critical rate", number(test.critical_rate), "2 / (s_max + ridge)", ""),
        ("", number(test.lee_rate), "2 / (s_min + s_max + 2 ridge)", ""),
    ]
    if kind == "flow":
        rows.append(("error of the steps", number(test.step_error), "training examples", ""))
    for row in (*rows, ("the kernel speaks for it", test.verdict, "", "")):
        table.add_row(*row)
    return table
