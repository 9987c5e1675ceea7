"""Shared flags: one for every choice, with the same default, beside those of the command."""

import dataclasses
import inspect
import math
from typing import Annotated, get_args, get_type_hints

import pytest
import typer
from typer.testing import CliRunner

from leftout.cli.arguments import Choices, KernelName, RuleName
from leftout.cli.main import app
from leftout.cli.options import DATA, MODEL, NETWORK, _flags, with_choices

FLAGS = inspect.signature(_flags).parameters


def asked(*words):
    """Return what a command gets for these words, and the outcome."""
    small = typer.Typer()
    got = {}

    @small.command()
    @with_choices
    def show(*, choices: Choices, deep: Annotated[int, typer.Option(help="A flag of its own.")] = 7) -> None:
        """Show."""
        got.update(choices=choices, deep=deep)

    return got, CliRunner().invoke(small, list(words))


def test_every_choice_has_a_flag_and_every_flag_is_a_choice():
    # Sources are asked for by `audit` and `sources` alone, with flags of their own.
    assert {*FLAGS, "source"} == {field.name for field in dataclasses.fields(Choices)}


def test_a_flag_has_the_default_of_its_choice():
    plain = Choices()
    for name, flag in FLAGS.items():
        # Times and patterns are lists to typer, and none of them is nothing.
        assert (flag.default or None) == (getattr(plain, name) or None), name
        assert type(flag.default) is type(getattr(plain, name)) or name in ("at", "kernel", "parameters")


def test_words_that_a_flag_takes_are_those_that_a_record_may_hold():
    kinds = get_type_hints(Choices)
    for name in ("normalise", "centre", "kind", "loss", "outputs"):
        flag = get_args(FLAGS[name].annotation)[0]
        assert _words(flag) == _words(kinds[name]), name


def _words(kind):
    """Return the words of a Literal, however deep it stands in a union."""
    return {kind} if isinstance(kind, str) else {w for part in get_args(kind) for w in _words(part)}


def test_every_flag_says_what_it_does_and_where_it_belongs():
    for name, flag in FLAGS.items():
        option = get_args(flag.annotation)[1]
        assert option.help, name
        if name != "data":  # an argument
            assert option.rich_help_panel in (DATA, MODEL, NETWORK), name


def test_a_command_gets_its_choices_and_its_own_flags():
    got, done = asked()
    assert done.exit_code == 0, done.output
    assert got == {"choices": Choices(), "deep": 7}
    got, done = asked(
        "mnist:data",
        "--classes",
        "7,9",
        "--n-train",
        "5",
        "--n-query",
        "3",
        "--seed",
        "2",
        "--normalise",
        "none",
        "--centre",
        "mean",
        "--target",
        "price",
        "--kernel",
        "relu",
        "--depth",
        "4",
        "--weight-variance",
        "1.5",
        "--bias-variance",
        "0.1",
        "--kind",
        "nngp",
        "--rule",
        "descent",
        "--ridge",
        "0.5",
        "--rate",
        "0.1",
        "--loss",
        "mean",
        "--at",
        "1",
        "--at",
        "inf",
        "--deep",
        "8",
    )
    assert done.exit_code == 0, done.output
    assert got["deep"] == 8
    assert got["choices"] == Choices(
        data="mnist:data",
        classes="7,9",
        n_train=5,
        n_query=3,
        seed=2,
        normalise="none",
        centre="mean",
        target="price",
        kernel="relu",
        depth=4,
        weight_variance=1.5,
        bias_variance=0.1,
        kind="nngp",
        rule="descent",
        ridge=0.5,
        rate=0.1,
        loss="mean",
        at=(1.0, math.inf),
    )


def test_names_reach_the_choices_as_plain_text():
    got, _ = asked("--kernel", "erf", "--rule", "flow")
    assert type(got["choices"].kernel) is str
    assert type(got["choices"].rule) is str


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--kernel", "svm"), [str(name) for name in KernelName]),
        (("--rule", "adam"), [str(name) for name in RuleName]),
        (("--kind", "both"), ["ntk", "nngp"]),
        (("--loss", "median"), ["sum", "mean"]),
        (("--normalise", "maybe"), ["unit", "sphere", "standard", "none"]),
        (("--centre", "left"), ["uniform", "mean", "none"]),
        (("--depth", "deep"), ["--depth"]),
        (("--at", "soon"), ["--at"]),
        (("--depht", "3"), ["No such option"]),
    ],
)
def test_what_a_flag_cannot_be_is_refused_with_what_it_can(words, said):
    got, done = asked(*words)
    assert done.exit_code == 2
    assert not got
    for word in said:
        assert word in done.output


def test_a_wrapped_command_keeps_its_name_and_its_help():
    @with_choices
    def shown(*, choices: Choices) -> None:
        """Show something."""

    assert shown.__name__ == "shown"
    assert shown.__doc__ == "Show something."
    assert list(inspect.signature(shown).parameters) == list(FLAGS)


@pytest.mark.parametrize("command", ["audit", "influence", "plan"])
def test_every_command_on_data_has_all_shared_flags(command):
    done = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert done.exit_code == 0
    for name in set(FLAGS) - {"data"}:
        assert f"--{name.replace('_', '-')}" in done.output, name
    assert "Example: leftout" in done.output
