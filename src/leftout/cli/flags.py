"""Flags from the fields of option records, and commands from records; no other file knows the parser."""

from collections.abc import Callable
from dataclasses import fields
from importlib import import_module
from inspect import Parameter, Signature
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand

from leftout.cli.arguments import Arguments, CommandRecord, flag_of
from leftout.cli.start import end_loading
from leftout.core.wording import did_you_mean

STYLE: dict[str, Any] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
    "rich_markup_mode": "rich",
}
POSITIONAL = ("data", "run")
"""Options without a flag: what a command is about."""


HELP_ALL = "leftout.help_all"
"""Whether all of the options are asked for, among what a context of the parser carries."""


class CommandOfManyOptions(TyperCommand):
    """A command whose --help shows what a person needs on the first day, and --help-all the rest."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help; options in panels stand in --help-all alone."""
        rest: list[Any] = (
            [] if ctx.meta.get(HELP_ALL) else [flag for flag in self.params if is_of_a_panel(flag)]
        )
        before = [flag.hidden for flag in rest]
        for flag in rest:
            flag.hidden = True
        try:
            super().format_help(ctx, formatter)
        finally:
            for flag, hidden in zip(rest, before, strict=True):
                flag.hidden = hidden


def is_of_a_panel(flag: Any) -> bool:
    """Return whether an option stands under a heading of its own in the help."""
    return getattr(flag, "rich_help_panel", None) is not None


def _show_all(ctx: Any, wanted: bool) -> bool:
    if wanted:
        ctx.meta[HELP_ALL] = True
        typer.echo(ctx.get_help(), nl=False)
        raise typer.Exit
    return wanted


ALL_OPTIONS = Parameter(
    "help_all",
    Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[
        bool, typer.Option("--help-all", help="Show all options and exit.", is_eager=True, callback=_show_all)
    ],
)


def command_of(name: str, function: Callable[..., Any], **texts: Any) -> Any:
    """Return the parser's command of a function whose signature says its flags."""
    app = typer.Typer(**STYLE)
    app.command(name, **texts)(function)
    return typer.main.get_command(app)


def record_command(name: str, record: type[CommandRecord]) -> Any:
    """Return a command that fills a record, checks it, and only then loads and calls what runs it."""

    def check_and_run(ctx: Any, help_all: bool = False, **options: Any) -> None:
        arguments = parse_record(record, ctx, options)
        arguments.check()
        module, _, function = record.home.partition(":")
        run = getattr(import_module(module), function)
        end_loading()
        run(arguments)

    context = Parameter("ctx", Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    flags = flags_of(record)
    has_panels = any(is_of_a_panel(flag.annotation.__metadata__[0]) for flag in flags)
    parameters = [context, *flags, *([ALL_OPTIONS] if has_panels else [])]
    check_and_run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    check_and_run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command_of(
        name,
        check_and_run,
        cls=CommandOfManyOptions,
        help=record.__doc__,
        epilog=f"Example: leftout {name} {record.example}",
    )


def parse_record(record: type[CommandRecord], ctx: Any, options: dict[str, Any]) -> CommandRecord:
    """Return the record of what the parser read, with the names of the options that it found."""
    types = get_type_hints(record)
    lists = {name: tuple(options[name] or ()) for name in options if get_origin(types[name]) is tuple}
    # Compared by name, as versions of the parser keep this enumeration in different modules.
    sources = {name: ctx.get_parameter_source(name) for name in options}
    explicit = {name for name, source in sources.items() if source and source.name == "COMMANDLINE"}
    return record(**options | lists, explicit=frozenset(explicit))


def flags_of(record: type[CommandRecord]) -> list[Parameter]:
    """Return the parameters of a command, in the order of its help: what most people need first."""
    types = get_type_hints(record, include_extras=True)
    families: dict[str, Any] = {
        name: family
        for family in reversed(record.__mro__)
        for name in vars(family).get("__annotations__", ())
    }
    hidden = record.refused if issubclass(record, Arguments) else {}
    parameters = []
    for option in fields(record):
        if "help" not in option.metadata:
            continue
        first = option.metadata["common"] or families[option.name] is record
        panel = None if first else families[option.name].panel
        about = {"help": option.metadata["help"], "hidden": option.name in hidden}
        kind, default = types[option.name], option.default
        if get_origin(kind) is tuple:
            kind, default = list[get_args(kind)[0]] | None, None  # type: ignore[misc]
        words = _words_beside_a_number(kind)
        if words:
            kind = str | None
            about |= {"parser": _number_or_word(words), "metavar": f"<{'|'.join(['float', *words])}>"}
        choices = _choices(kind)
        if choices:
            kind = str | None if default is None else str
            about |= {"parser": _one_of(choices), "metavar": f"<{'|'.join(choices)}>"}
            about |= {"autocompletion": _completion(choices)}
        if option.name in POSITIONAL:
            marker = typer.Argument(**about)
        else:
            marker = typer.Option(flag_of(option.name), rich_help_panel=panel, **about)
        parameters.append(
            Parameter(
                option.name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, marker]
            )
        )
    return sorted(parameters, key=lambda flag: flag.annotation.__metadata__[0].rich_help_panel is not None)


def _words_beside_a_number(kind: Any) -> tuple[str, ...]:
    """Return the words that an option takes instead of a number, as of `float | Literal["auto"]`."""
    members = get_args(kind)
    if float not in members:
        return ()
    return tuple(word for member in members if get_origin(member) is Literal for word in get_args(member))


def _choices(kind: Any) -> tuple[str, ...]:
    """Return the words that an option takes, and nothing else, as of `Literal["yes", "no"] | None`."""
    members = [member for member in get_args(kind) or () if member is not type(None)]
    if get_origin(kind) is Literal:
        members = [kind]
    if len(members) != 1 or get_origin(members[0]) is not Literal:
        return ()
    words = get_args(members[0])
    return words if all(isinstance(word, str) for word in words) else ()


def _one_of(words: tuple[str, ...]) -> Callable[[str], str]:
    """Return what checks the text of such an option."""

    def parse(text: str) -> str:
        if text in words:
            return text
        raise typer.BadParameter(
            f"it must be one of {', '.join(words)}; got {text!r}.{did_you_mean(text, words)}"
        )

    return parse


def _completion(words: tuple[str, ...]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete


def _number_or_word(words: tuple[str, ...]) -> Callable[[str], float | str]:
    """Return what turns the text of such an option into its value."""

    def parse(text: str) -> float | str:
        if text in words:
            return text
        try:
            return float(text)
        except ValueError:
            raise typer.BadParameter(f"it must be a number, or {' or '.join(words)}; got {text!r}") from None

    return parse
