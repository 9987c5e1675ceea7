"""Flags are made from the fields of records: one for every option, with its default, help and panel."""

import dataclasses
import importlib
import inspect
import math

import pytest
import typer
from typer.testing import CliRunner

from leftout.cli.arguments import Arguments, CommandRecord, flag_of
from leftout.cli.commands import COMMANDS, AuditArguments
from leftout.cli.flags import flags_of, record_command
from leftout.cli.main import app
from leftout.core.errors import LeftoutError
from leftout.core.options import option
from leftout.dynamics.rules import GradientDescent, GradientFlow, Ridge
from leftout.kernels.hierarchy.hierarchy import NeuralTangentHierarchy
from leftout.kernels.network.empirical import Empirical
from leftout.kernels.wide.conv_relu import ConvReLU
from leftout.kernels.wide.options import ConvolutionOptions, DeepOptions
from leftout.kernels.wide.relu import ReLU

RECORDS = {name: record for name, record in COMMANDS.items() if issubclass(record, Arguments)}
received: list[Arguments] = []


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShowArguments(Arguments):
    """Show."""

    home = f"{__name__}:received_by_show"
    kernel_use = "chosen"

    deep: int = option(7, "An option of this command.")


def received_by_show(arguments: ShowArguments) -> None:
    received.append(arguments)


def parsed(*words):
    """Return what a command gets for these words, and the outcome."""
    received.clear()
    small = typer.Typer(cls=type("Group", (typer.core.TyperGroup,), {"get_command": lambda *_: command}))
    small.callback()(lambda: None)
    command = record_command("show", ShowArguments)
    outcome = CliRunner().invoke(small, ["show", *words])
    return (received[0] if received else None), outcome


def test_a_command_gets_its_options_by_name():
    arguments, outcome = parsed()
    assert outcome.exit_code == 0, outcome.output
    assert arguments == ShowArguments()
    assert arguments.explicit == frozenset()


def test_every_flag_reaches_its_option():
    words = {
        "classes": "7,9",
        "n_train": 5,
        "n_query": 3,
        "seed": 2,
        "normalise": "none",
        "centre": "mean",
        "target": "price",
        "kernel": "relu",
        "depth": 4,
        "weight_variance": 1.5,
        "bias_variance": 0.1,
        "kind": "nngp",
        "rule": "descent",
        "ridge": 0.5,
        "rate": 0.1,
        "loss": "squared",
        "reduction": "mean",
        "deep": 8,
    }
    flags = [str(word) for name, value in words.items() for word in (flag_of(name), value)]
    arguments, outcome = parsed(*flags, "--at", "1", "--at", "inf")
    assert outcome.exit_code == 0, outcome.output
    assert arguments == ShowArguments(**words, at=(1.0, math.inf))
    assert arguments.explicit == {*words, "at"}


def test_an_option_counts_as_given_also_with_the_value_of_its_default():
    arguments, _ = parsed("--kernel", "relu", "--depth", "2")
    assert arguments == ShowArguments(kernel="relu")
    assert arguments.explicit == {"kernel", "depth"}
    arguments, outcome = parsed("--depth", "2")
    assert arguments is None
    assert isinstance(outcome.exception, LeftoutError)
    assert "--depth belongs to --kernel relu" in str(outcome.exception)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_flag_with_its_default_help_and_panel(name):
    record = COMMANDS[name]
    flags = {flag.name: flag for flag in flags_of(record)}
    fields = {field.name: field for field in dataclasses.fields(record) if "help" in field.metadata}
    assert flags.keys() == fields.keys()
    for name, flag in flags.items():
        assert (flag.default or None) == (fields[name].default or None), name
        assert flag.annotation.__metadata__[0].help == fields[name].metadata["help"]
        assert flag.annotation.__metadata__[0].help, name


def test_no_option_of_two_families_has_the_same_name():
    families = [family for family in Arguments.__mro__ if "panel" in vars(family)]
    names = [name for family in families for name in vars(family).get("__annotations__", {})]
    names.remove("panel")
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_home(name):
    module, _, function = COMMANDS[name].home.partition(":")
    (parameter,) = inspect.signature(getattr(importlib.import_module(module), function)).parameters.values()
    assert parameter.annotation is COMMANDS[name] or parameter.annotation == COMMANDS[name].__name__


@pytest.mark.parametrize(
    ("family", "owner", "names"),
    [(ConvolutionOptions, ConvReLU, {}), (DeepOptions, ReLU, {}), (DeepOptions, ConvReLU, {})],
)
def test_defaults_are_those_of_the_classes(family, owner, names):
    parameters = inspect.signature(owner).parameters
    for field in dataclasses.fields(family):
        default = parameters[names.get(field.name, field.name)].default
        assert default in (field.default, inspect.Parameter.empty), field.name


def test_rules_have_the_defaults_that_the_help_gives():
    assert (Ridge().ridge, GradientFlow().rate, GradientFlow().ridge) == (1.0, 1.0, 0.0)
    assert GradientDescent(0.1).ridge == 0.0
    assert inspect.signature(Empirical.__init__).parameters["outputs"].default == "full"
    assert inspect.signature(NeuralTangentHierarchy).parameters["time"].default is None


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--kernel", "svm"), ["two-layer-relu", "relu", "erf", "tanh", "conv-relu", "hierarchy", "auto"]),
        (("--rule", "adam"), ["ridge", "flow", "descent"]),
        (("--kind", "both"), ["ntk", "nngp"]),
        (("--loss", "median"), ["squared", "cross-entropy"]),
        (("--reduction", "median"), ["sum", "mean"]),
        (("--normalise", "maybe"), ["unit", "sphere", "standard", "none"]),
        (("--centre", "left"), ["uniform", "mean", "none"]),
        (("--depth", "deep"), ["--depth"]),
        (("--at", "soon"), ["--at"]),
        (("--depht", "3"), ["No such option"]),
    ],
)
def test_what_a_flag_cannot_be_is_refused_with_what_it_can(words, expected):
    arguments, outcome = parsed(*words)
    assert outcome.exit_code == 2
    assert arguments is None
    for word in expected:
        assert word in outcome.output


def help_of(command, flag="--help-all"):
    outcome = CliRunner().invoke(app, [command, flag], env={"COLUMNS": "200", "TERM": "dumb"})
    assert outcome.exit_code == 0
    return outcome.output


@pytest.mark.parametrize("command", RECORDS)
def test_all_help_shows_every_flag_but_those_that_the_command_refuses(command):
    text = help_of(command)
    for flag in flags_of(RECORDS[command]):
        if flag.name == "data":  # an argument
            continue
        shown = f"│ {flag_of(flag.name)} " in text
        assert shown is (flag.name not in RECORDS[command].refused), flag.name
    assert "Example: leftout" in text


@pytest.mark.parametrize("command", RECORDS)
def test_help_fits_a_screen_and_leads_to_the_rest(command):
    text = help_of(command, "--help")
    assert "--help-all" in text
    assert len(text.splitlines()) <= 40
    for flag in flags_of(RECORDS[command]):
        marker = flag.annotation.__metadata__[0]
        shown = flag.name != "data" and f"│ {flag_of(flag.name)} " in text
        first = marker.rich_help_panel is None and not marker.hidden if flag.name != "data" else False
        assert shown is first, flag.name
    assert len(help_of(command).splitlines()) > len(text.splitlines())  # and once more all of them


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("--kernel", "rely"), "Did you mean 'relu'"),
        (("--rule", "flows"), "Did you mean 'flow'"),
        (("--normalise", "standart"), "Did you mean 'standard'"),
        (("--kernel", "xyz"), None),
    ],
)
def test_a_misspelt_word_is_asked_back(words, meant):
    _, outcome = parsed(*words)
    assert ("Did you mean" in outcome.output) is (meant is not None)
    assert meant is None or meant in " ".join(outcome.output.replace("│", " ").split())


def test_help_shows_first_what_most_people_need_and_the_rest_by_family():
    text = help_of("audit")
    first, rest = text[: text.index("─ Data ─")], text[text.index("─ Data ─") :]
    for flag in ("--n-train", "--target", "--labels", "--model", "--kernel", "--out", "--repeat"):
        assert f" {flag} " in first, flag
    assert first.count("│ --") <= 12
    panels = ("Kernel: conv-relu", "Kernel: with labels", "Network", "Training", "Machine", "Evidence")
    places = [rest.index(f"─ {panel} ─") for panel in panels]
    assert places == sorted(places)
    assert places[0] < rest.index("--stride") < places[1] < rest.index("--label-aware") < places[2]


def test_the_options_of_a_command_are_one_frozen_record():
    for record in COMMANDS.values():
        assert issubclass(record, CommandRecord)
        assert dataclasses.fields(record)
    with pytest.raises(dataclasses.FrozenInstanceError):
        AuditArguments().ridge = 1.0
